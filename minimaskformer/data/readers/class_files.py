"""Files that hold class names: classes.txt and classes.json of your own data, objectInfo150.txt of ADE20K."""
import re
from pathlib import Path

from ...system.text import parse_json, printable, read_text
from ..classes import ClassTable

KINDS = ("thing", "stuff", "void")
FORM = """one class per line, either just the names (the first line is label 0) or label, name and kind:
    0 unlabelled void
    1 road stuff
    2 traffic light thing"""
OTHER = re.compile(r"""  # lines in other formats, which would be read as odd names
    \d+\s*[:;,=|)]                              # 1: road, 1,road,stuff
    | \d+\s*[.-]\s                             # 1. road
    | (\d+\s+){3}                              # 1 128 64 128 road: a colour
    | .* [:;,=|] \s* (thing | stuff | void | \d+) $    # road, stuff and road: 1
    | .* : \s* \d+ , \s* \d+ , \s* \d+          # road:128,64,128::""", re.IGNORECASE | re.VERBOSE)


def find_class_file(folder):
    """classes.txt or classes.json of a folder, or None; ValueError if there are both."""
    found = [Path(folder) / name for name in ("classes.txt", "classes.json") if (Path(folder) / name).is_file()]
    if len(found) > 1:
        raise ValueError(f"{found[0]} and {found[1].name} both name the classes: remove one")
    return found[0] if found else None


def read_class_file(path):
    """(ClassTable, void values or None) of a classes.txt or classes.json.

    classes.txt: see FORM; lines that are empty or begin with # do not count. The kind is thing, stuff (the default) or
    void. classes.json: a list of names, or of {"id": label, "name": ..., "isthing": true or false} with "void": true
    for what is not to be learnt. A class named just "void" is void too, unless its kind follows. Kinds may be in
    capitals. Raises ValueError with file and line for anything else.
    """
    path = Path(path)
    text = read_text(path)
    rows = json_rows(parse_json(text, path), path) if path.suffix == ".json" else text_rows(text, path)
    known = [(label, name, kind) for label, name, kind in rows if kind != "void"]
    for what, column in (("labels", [row[0] for row in rows]), ("names", [row[1] for row in known])):
        twice = sorted({value for value in column if column.count(value) > 1})
        if twice:
            raise ValueError(f"{path}: the {what} {str(twice[:10])[1:-1]} occur more than once")
    if not known:
        raise ValueError(f"{path} names no class; it holds {FORM}")
    table = ClassTable(tuple(name for _, name, _ in known), tuple(kind == "thing" for *_, kind in known),
                       tuple(label for label, *_ in known))
    return table, tuple(label for label, _, kind in rows if kind == "void") or None


def text_rows(text, path):
    """[(label, name, kind)] of a classes.txt."""
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1)]
    lines = [(number, line) for number, line in lines if line and not line.startswith("#")]
    for number, line in lines:
        if OTHER.match(line):
            raise ValueError(f"{path}, line {number}: {line!r} has another format: label, name and kind are separated "
                             f"by spaces or tabs only. The file holds {FORM}")
    numbered = [bool(re.match(r"\d+\s+\S", line)) for _, line in lines]
    if any(numbered) and not all(numbered):
        number, line = lines[numbered.index(False)]
        raise ValueError(f"{path}, line {number}: {line!r} has no label in front, but other lines do; the file holds "
                         f"{FORM}")
    rows = []
    for index, (_, line) in enumerate(lines):
        label, name = re.match(r"(\d+)\s+(.*)", line).groups() if any(numbered) else (index, line)
        *words, kind = name.split()
        if not words or kind.lower() not in KINDS:  # no kind is written
            words, kind = [*words, kind], "void" if name.lower() == "void" else "stuff"
        rows.append((int(label), " ".join(words), kind.lower()))
    return rows


def json_rows(content, path):
    """[(label, name, kind)] of a classes.json."""
    if not isinstance(content, list):
        raise ValueError(f"{path}: expected a list of names or of objects with id and name")
    rows = []
    for index, entry in enumerate(content):
        if isinstance(entry, str):
            entry = {"id": index, "name": entry}
        if not isinstance(entry, dict) or not isinstance(entry.get("id"), int) or "name" not in entry:
            raise ValueError(f"{path}, entry {index}: {printable(repr(entry))} is not a name and has no \"id\" (whole "
                             "number) and \"name\"")
        nameless = str(entry["name"]).lower() == "void" and "isthing" not in entry
        kind = "void" if entry.get("void", nameless) else "thing" if entry.get("isthing") else "stuff"
        rows.append((entry["id"], str(entry["name"]), kind))
    return rows


def read_object_info(path, count=150):
    """The class table of ADE20K's objectInfo150.txt: labels 1 ... 150, the first of each list of synonyms as name.

    The file is tab-separated with a header that has the columns Idx and Name. Raises ValueError unless it holds every
    number from 1 to `count` once.
    """
    path = Path(path)
    header, *lines = [line.split("\t") for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    header = [column.strip() for column in header]
    try:
        name_at, label_at = header.index("Name"), header.index("Idx")
        names = {int(line[label_at]): line[name_at] for line in lines}
    except (ValueError, IndexError) as error:
        raise ValueError(f"{path} is not the table objectInfo150.txt: it has tab-separated columns Idx and Name "
                         f"({error})") from error
    if sorted(names) != list(range(1, count + 1)) or len(lines) != count:
        raise ValueError(f"{path} has {len(lines)} rows, expected one for each of the labels 1 ... {count}")
    full = [names[label].strip() for label in range(1, count + 1)]
    short = [name.split(",")[0].strip() for name in full]
    short = [name if short.count(name) == 1 else whole for name, whole in zip(short, full)]
    return ClassTable(tuple(short), (False,) * count, tuple(range(1, count + 1)))
