"""Which classes a folder of label pictures has: --classes, --colors, or the file that a tool leaves beside them."""
import re
from dataclasses import dataclass
from pathlib import Path

from ...system.text import read_text
from ..classes import ClassTable
from ..readers.class_files import find_class_file, read_class_file
from ..readers.colors import FORMS, color_table

COLOR_FILES = ("labelmap.txt", "class_dict.csv", "label_colors.txt", "colors.txt", "classes.txt", "classes.csv")
PIXEL_VALUES = "_classes.csv"


@dataclass(frozen=True)
class Table:
    """The classes of label files; with `colors`, label values are positions in this list of (r, g, b)."""
    classes: ClassTable | None = None
    void: tuple | None = None
    colors: tuple | None = None
    source: str = ""


def find_table(folder, layout):
    """The `Table` of a folder; an empty one if nothing names the classes (then they are the values that occur)."""
    folder = Path(folder)
    if layout.colors:
        path = place_of(folder, layout.colors, "--colors")
        rows = color_table(path)
        if rows is None:
            raise ValueError(f"--colors {path} holds no colours; it must have {FORMS}")
        return from_colors(rows, path)
    if layout.classes:
        path = Path(layout.classes) if Path(layout.classes).is_file() else folder / layout.classes
        return from_file(path) if path.is_file() else from_names(layout.classes)
    csv_files = [folder / PIXEL_VALUES, *sorted(folder.glob(f"*/{PIXEL_VALUES}"))]
    csv_files = [path for path in csv_files if path.is_file()]
    if csv_files:
        tables = [from_pixel_values(path) for path in csv_files]
        if any(table.classes != tables[0].classes for table in tables):
            raise ValueError(f"{', '.join(map(str, csv_files))} name different classes")
        return tables[0]
    for name in COLOR_FILES:
        if (folder / name).is_file() and (rows := color_table(folder / name)):
            return from_colors(rows, folder / name)
    found = find_class_file(folder)
    return from_file(found) if found else Table()


def place_of(folder, name, option):
    """A file that an option names: at that path, or in the data folder."""
    for path in (Path(name), folder / name):
        if path.is_file():
            return path
    raise FileNotFoundError(f"{option}: no such file {name}, neither here nor in {folder}")


def from_file(path):
    """The table of a classes.txt or classes.json, or of a file of colours."""
    rows = color_table(path) if path.suffix != ".json" else None
    return from_colors(rows, path) if rows else Table(*read_class_file(path), None, path.name)


def from_names(text):
    """The table of names separated by commas, for the label values 0, 1, 2 ...; a name void means void."""
    names = tuple(name.strip() for name in text.split(","))
    if not all(names) or "/" in text or re.search(r"\.(txt|json|csv)$", text):
        raise FileNotFoundError(f"--classes {text!r}: no such file, and not names separated by commas")
    known = [k for k, name in enumerate(names) if name.lower() != "void"]
    if not known or len(set(names)) < len(names):
        raise ValueError(f"--classes {text!r}: give the names of the label values 0, 1, 2 ..., each once, with commas")
    void = tuple(sorted(set(range(len(names))) - set(known))) or None
    table = ClassTable(tuple(names[k] for k in known), (False,) * len(known), tuple(known))
    return Table(table, void, None, "--classes")


def from_colors(rows, path):
    """The table of a file of colours; classes with the name or kind void are void."""
    known = [(k, name, kind) for k, (name, _, kind) in enumerate(rows) if (kind or name.lower()) != "void"]
    if not known:
        raise ValueError(f"{path}: every colour is void: there is nothing to learn")
    table = ClassTable(tuple(name for _, name, _ in known), tuple(kind == "thing" for *_, kind in known),
                       tuple(k for k, *_ in known))
    void = tuple(sorted(set(range(len(rows))) - set(table.ids)))
    return Table(table, void, tuple(color for _, color, _ in rows), Path(path).name)


def from_pixel_values(path):
    """The table of a `_classes.csv`, whose lines are a pixel value and a class."""
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        value, comma, name = (part.strip() for part in line.partition(","))
        if number == 1 and not value.isdecimal() or not line.strip():
            continue  # "Pixel Value, Class"
        if not value.isdecimal() or not name:
            raise ValueError(f"{path}, line {number}: {line!r} is not a pixel value and a name")
        rows.append((int(value), name))
    if not rows:
        raise ValueError(f"{path} names no class: its lines are a pixel value, a comma and a name")
    return Table(ClassTable(tuple(name for _, name in rows), (False,) * len(rows), tuple(v for v, _ in rows)), None,
                 None, path.name)
