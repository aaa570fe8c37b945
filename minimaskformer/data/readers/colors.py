"""Labels as colours: a table of colours and names, in the formats that tools write, and label pictures read by it."""
import csv
import re
from pathlib import Path

import numpy as np

from ...system.text import read_text
from ..images import open_image

FORMS = """a line for each class, in one of these forms:
    128,64,128 road        (or 128 64 128 road; thing, stuff or void may follow)
    road 128 64 128        (or road:128,64,128:: as in labelmap.txt)
    name,r,g,b             (a CSV with such a first line)"""
NUMBERS = r"(\d{1,3})[\s,;]+(\d{1,3})[\s,;]+(\d{1,3})"
LINE = re.compile(rf"(?:\d+[\s,;:]+)?{NUMBERS}[\s,;:]+(?P<behind>\D.*)"
                  rf"|(?=.*[^\W\d])(?P<front>.*?[^\s,;:])[\s,;:]+{NUMBERS}(?:\s*:.*|[\s,;]*)")
NAMED = 5


def color_table(path):
    """[(name, (r, g, b), kind)] of a file of colours, or None if it holds none; kind: thing, stuff, void or "".

    Raises ValueError with file and line for a line without a colour among lines with one, for numbers above 255, and
    for a colour or a name that occurs twice.
    """
    path, rows = Path(path), []
    lines = [(n, line.strip()) for n, line in enumerate(read_text(path).splitlines(), start=1)]
    lines = [(n, line) for n, line in lines if line and not line.startswith("#")]
    columns = header(lines[0][1]) if lines else None
    for number, line in lines[1:] if columns else lines:
        row = csv_row(line, columns) if columns else line_row(line)
        if row is None and not rows and not columns:
            return None  # a list of names
        if row is None or max(row[1]) > 255:
            raise ValueError(f"{path}, line {number}: {line!r} has no name and colour of three numbers 0 ... 255; the "
                             f"file holds {FORMS}")
        rows.append(row)
    for what, column in (("name", [row[0] for row in rows]), ("colour", [row[1] for row in rows])):
        twice = [value for value in column if column.count(value) > 1]
        if twice:
            raise ValueError(f"{path}: the {what} {twice[0]} occurs more than once")
    return rows or None


def header(line):
    """The columns {"name", "r", "g", "b"} of a CSV's first line, or None if it is not one."""
    cells = [cell.strip().lower() for cell in re.split(r"[,;\t]", line)]
    name = next((cells.index(word) for word in ("name", "class", "label", "class_name") if word in cells), None)
    colors = next((([cells.index(c) for c in words]) for words in (("r", "g", "b"), ("red", "green", "blue"))
                   if all(c in cells for c in words)), None)
    return None if name is None or colors is None else {"name": name, "colors": colors}


def csv_row(line, columns):
    """One row of a CSV, or None."""
    cells = next(csv.reader([line], delimiter=max(",;\t", key=line.count)))
    try:
        return cells[columns["name"]].strip(), tuple(int(cells[i]) for i in columns["colors"]), ""
    except (IndexError, ValueError):
        return None


def line_row(line):
    """One line with a name and a colour, or None."""
    match = LINE.fullmatch(line)
    if not match:
        return None
    name, *_ = (match["behind"] or match["front"]).split(":")
    color = tuple(int(n) for n in match.groups()[:3] if n) or tuple(int(n) for n in match.groups()[5:8])
    *words, last = re.split(r"[\s,;]+", name.strip(" ,;\t"))
    kind = last.lower() if words and last.lower() in ("thing", "stuff", "void") else ""
    return " ".join(words if kind else [*words, last]), color, kind


def read_colors(path, colors):
    """A coloured label file as int32 [H, W]: the position of each pixel's colour in the list of (r, g, b).

    Palette files are read by their colours, so palettes may differ in order; transparency is dropped. Raises
    ValueError with the most frequent colours that are not in the list.
    """
    rgb = np.asarray(open_image(path).convert("RGB")).astype(np.int32)  # [H, W, 3]
    codes = rgb @ np.array([65536, 256, 1], dtype=np.int32)  # [H, W]
    known = np.array([[r * 65536 + g * 256 + b for r, g, b in colors]], dtype=np.int32)[0]
    order = np.argsort(known)
    at = np.searchsorted(known[order], codes).clip(max=len(known) - 1)  # [H, W]
    labels = order[at].astype(np.int32)
    unknown = known[labels] != codes
    if unknown.any():
        values, counts = np.unique(codes[unknown], return_counts=True)
        told = ", ".join(f"{v >> 16},{v >> 8 & 255},{v & 255} ({n} pixels)" for n, v in
                         sorted(zip(counts.tolist(), values.tolist()), reverse=True)[:NAMED])
        hint = ("Many colours with few pixels: was it saved as JPEG, resized or smoothed? Go back to the original"
                if len(values) > 20 else "Add a line for each; pixels named void are not learnt")
        raise ValueError(f"{path} holds {len(values)} colours that are not in the table of colours: {told}. {hint}")
    return labels


def color_numbers(path):
    """A file that gives each instance a colour (or a number), as int32 [H, W]: one number per colour, black is 0."""
    picture = open_image(path)
    if picture.mode in ("1", "L") or picture.mode.startswith("I"):
        return np.asarray(picture).astype(np.int32)
    rgb = np.asarray(picture.convert("RGB")).astype(np.int32)  # [H, W, 3]
    found, numbers = np.unique(rgb @ np.array([65536, 256, 1], dtype=np.int32), return_inverse=True)
    return (numbers.reshape(rgb.shape[:2]) + (found[0] != 0)).astype(np.int32)
