"""The house stays in order: imports go down, rooms stay small, one meaning for every name, a table of contents that is true."""
import ast
from collections import defaultdict
from importlib import import_module
from pathlib import Path

import pytest

import minimaskformer

PACKAGE = Path(minimaskformer.__file__).parent
# From the ground up. A file may import from a lower line, and from its own room; files of the root are named one by one.
FLOORS = ["system", "targets config swin transformer pixel_decoder inference", "data", "predict mask_ap matching backbone",
          "metrics model losses", "evaluation weights", "training", "studies train", "draw", "diagnosis", "exercises", "commands"]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms.split()}
FILES = {path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", "."): ast.parse(path.read_text(encoding="utf-8"))
         for path in PACKAGE.rglob("*.py")}
FILES = {name.removesuffix(".__init__"): tree for name, tree in FILES.items() if name not in ("__init__", "__main__")}
ROOMS = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
VAGUE = set("order blame evidence findings results seeds sheet sweep own sources layouts scan record values pieces".split())


def imports(name, whole=True):
    """The modules of the package that a file imports, absolute names; whole: those inside functions too."""
    inner = {id(n) for f in ast.walk(FILES[name]) if isinstance(f, ast.FunctionDef) for n in ast.walk(f)}
    place = (PACKAGE / name.replace(".", "/") / "__init__.py").is_file()
    for node in ast.walk(FILES[name]):
        if isinstance(node, (ast.Import, ast.ImportFrom)) and (whole or id(node) not in inner):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
                continue
            above = ["minimaskformer", *name.split(".")][:len(name.split(".")) + 1 + place - node.level] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inside = f"{module}.{alias.name}".removeprefix("minimaskformer.")
                yield f"minimaskformer.{inside}" if inside in FILES else module


def inside(name, whole=True):
    """The same, of the package alone and without its name; the root's own names count as the file that has them."""
    for module in imports(name, whole):
        if module.startswith("minimaskformer."):
            yield module.removeprefix("minimaskformer.")


def test_every_room_and_file_of_the_root_has_a_floor():
    assert set(FLOOR) == {name.split(".")[0] for name in FILES}


@pytest.mark.parametrize("name", sorted(FILES))
def test_imports_only_go_down(name):
    room = name.split(".")[0]
    for other in inside(name):
        there = other.split(".")[0]
        assert there == room or FLOOR[there] < FLOOR[room], f"{name} imports {other}"


def test_no_circle():
    below = {name: {other for other in inside(name, whole=False) if other in FILES and other != name} for name in FILES}
    while free := [name for name, others in below.items() if not others]:
        below = {name: others - set(free) for name, others in below.items() if name not in free}
    assert not below, f"in a circle, or above one: {sorted(below)}"


@pytest.mark.parametrize("name", sorted(n for n in FILES if FLOOR[n.split(".")[0]] < FLOOR["draw"]))
def test_nothing_below_the_pictures_draws(name):
    assert not [m for m in imports(name) if m.split(".")[0] == "matplotlib" or m.startswith("minimaskformer.draw")]


def test_the_root_is_the_table_of_contents():
    root = [name for name in FILES if "." not in name and name not in ROOMS]
    assert len(root) <= 15
    listed = [name for name in minimaskformer.CONTENTS if "." not in name]
    assert sorted(listed) == sorted(root)
    assert listed == [name for name in LESSONS if name in root], "in the order of the lessons"
    for module, names in minimaskformer.CONTENTS.items():
        for name in names:
            assert getattr(minimaskformer, name) is getattr(import_module(f"minimaskformer.{module}"), name)


LESSONS = """targets matching losses backbone swin pixel_decoder transformer model config inference predict metrics mask_ap
             evaluation train""".split()


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_rooms_are_small_and_names_need_no_opening(room):
    names = [path.stem for path in (PACKAGE / room).iterdir() if path.suffix == ".py" and path.stem != "__init__"]
    assert 1 <= len(names) <= 16
    assert not [name for name in names if name.split("_")[0] in VAGUE]


def test_one_meaning_for_every_name():
    homes = defaultdict(list)
    for name, tree in FILES.items():
        if not name.startswith("exercises.lessons"):
            for node in tree.body:
                if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                    homes[node.name].append(name)
    assert {name: files for name, files in homes.items() if len(files) > 1} == {}
