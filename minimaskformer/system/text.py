"""Text that others wrote: names to print or to put on a page, JSON to read, file names that must stay in a folder."""
import html
import json
import math
import os
import re
import unicodedata
from pathlib import Path, PurePosixPath, PureWindowsPath

LONGEST = 200  # characters of a name
MAY_BE_INFINITE = re.compile(r"[eE]\+?\d{3}|\d{300}")  # only such texts are parsed number by number, which is slow
UNSEEN = ("Cc", "Cf", "Zl", "Zp", "Cs")  # Unicode categories that control a terminal or the direction of a line
JOINERS = "\u200c\u200d"  # parts of words, in Persian and Hindi for example


def plain(text, keep=JOINERS):
    """A name on one line: line breaks, escape codes and marks that reverse text are written out, as in \\n."""
    return "".join(c if c in keep or unicodedata.category(c) not in UNSEEN
                   else c.encode("unicode_escape").decode() for c in str(text))


def markdown(text):
    """A name in a cell of a Markdown table, which may become a page: no | ends the cell, no <tag> is a tag."""
    return html.escape(plain(text), quote=False).replace("|", r"\|")


def printable(text, lines=False):
    """A text that is safe to show in a terminal: like `plain`, and long texts are cut.

    Escape codes could recolour the screen or rewrite what stands above; a newline could fake a line of ours. lines:
    newlines and tabs are ours and stay, and the text may be long.
    """
    if lines:
        return plain(text, JOINERS + "\n\t")
    shown = plain(text)
    return shown if len(shown) <= LONGEST else shown[:LONGEST - 3] + "..."


def read_text(path):
    """The text of a file in UTF-8, with or without a byte order mark; ValueError naming a file that is not."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text file in UTF-8 ({error.reason} at byte {error.start}): save it as "
                         "UTF-8") from None


def parse_json(text, where, finite=True):
    """The content of a JSON text; ValueError naming `where` if it is broken, nested too deeply or holds a bad number.

    finite: refuse NaN, Infinity and what is too large for a float, such as 1e400 (a training log may hold them).
    """
    hooks = {}
    if finite:
        hooks["parse_constant"] = refuse_constant
        if MAY_BE_INFINITE.search(text):
            hooks["parse_float"] = finite_float
    try:
        return json.loads(text, **hooks)
    except RecursionError:
        raise ValueError(f"{where}: lists in lists, nested too deeply to be read") from None
    except ValueError as error:
        raise ValueError(f"{where} is not valid JSON ({error})") from None


def refuse_constant(name):
    """For json: NaN and Infinity are not JSON, though Python reads them."""
    raise ValueError(f"it holds {name}, which is not a number")


def finite_float(text):
    """For json: the number that a text stands for, provided a float can hold it."""
    if not math.isfinite(value := float(text)):
        raise ValueError(f"it holds {text[:20]}, which is too large for a number")
    return value


def check_inside(name, where):
    """A file name from a JSON, if it can only mean a file inside the folder it belongs to; else ValueError."""
    parts = {*PurePosixPath(name).parts, *PureWindowsPath(name).parts}
    absolute = PurePosixPath(name).is_absolute() or PureWindowsPath(name).anchor
    if not parts or ".." in parts or absolute or "\0" in name:
        raise ValueError(f"{where}: the file name {printable(name)!r} leads out of the folder of the data: a name must "
                         f"be relative, without ..")
    return name


def check_links(path, *folders):
    """The path, if it lies in one of the folders when all links are followed; else ValueError."""
    real = os.path.realpath(path)
    if not any(Path(real).is_relative_to(os.path.realpath(folder)) for folder in folders):
        raise ValueError(f"{path} is a link to {real}, outside the data folder: put the file itself there, or "
                         f"move the annotations to where the files are")
    return path
