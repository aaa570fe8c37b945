"""Imports go down, rooms stay small, every name has one meaning, and the table of contents is true."""
import ast
from collections import defaultdict
from importlib import import_module
from pathlib import Path

import pytest

import minimaskformer

PACKAGE = Path(minimaskformer.__file__).parent
FLOORS = """system | fast | targets | config swin transformer pixel_decoder inference | data | predict mask_ap matching backbone |
    metrics model losses | evaluation weights | training | studies train | draw | diagnosis | exercises | commands"""
FLOOR = {room: i for i, floor in enumerate(FLOORS.split("|")) for room in floor.split()}  # lowest first
LESSONS = """targets matching losses backbone swin pixel_decoder transformer model config inference predict metrics mask_ap
    evaluation train""".split()  # the root, in the order of the lessons
VAGUE = set("order blame evidence findings results seeds sheet sweep own sources layouts scan record values pieces".split())
PATHS = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}
FILES = {name.removesuffix(".__init__"): ast.parse(path.read_text(encoding="utf-8")) for name, path in PATHS.items()
         if name not in ("__init__", "__main__")}  # "draw.curves" -> its syntax tree
ROOMS = [name.removesuffix(".__init__") for name in PATHS if name.endswith(".__init__")]


def imports(name, inside_functions=True):
    """What a file imports: "torch.nn", or of the package's own "minimaskformer.draw.curves", from wherever it stands."""
    package = ["minimaskformer", *name.split(".")][:None if name in ROOMS else -1]
    waiting = list(FILES[name].body)
    for node in waiting:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[:len(package) + 1 - node.level] if node.level else []
            module = ".".join(start + [node.module] * bool(node.module))
            for alias in node.names:
                whole = f"{module}.{alias.name}"
                yield whole if whole.removeprefix("minimaskformer.") in FILES else module
        elif inside_functions or not isinstance(node, ast.FunctionDef):
            waiting += ast.iter_child_nodes(node)


def own_imports(name, **options):
    """Those from the package, without its name; what is taken from the package itself is a public name of some file."""
    names = [other for other in imports(name, **options) if other.split(".")[0] == "minimaskformer"]
    assert "minimaskformer" not in names or name == "commands.cli", "from a file, not from the package"  # __version__
    return {other.removeprefix("minimaskformer.") for other in names if other != "minimaskformer"}


@pytest.mark.parametrize("name", FILES)
def test_imports_only_go_down(name):
    room = name.split(".")[0]
    for other in own_imports(name):
        there = other.split(".")[0]
        assert there == room or FLOOR[there] < FLOOR[room], f"{name} imports {other}"


def test_no_circle():
    below = {name: own_imports(name, inside_functions=False) & set(FILES) - {name} for name in FILES}
    while free := {name for name, others in below.items() if not others}:
        below = {name: others - free for name, others in below.items() if name not in free}
    assert not below, f"in a circle, or above one: {sorted(below)}"


@pytest.mark.parametrize("name", [name for name in FILES if FLOOR[name.split(".")[0]] < FLOOR["draw"]])
def test_nothing_below_the_pictures_draws(name):
    assert not [other for other in imports(name) if other.startswith(("matplotlib", "minimaskformer.draw"))]


def test_the_root_is_the_table_of_contents():
    root = {name for name in FILES if "." not in name and name not in ROOMS}
    assert len(root) <= 15 and root == set(LESSONS)
    assert [module for module in minimaskformer.CONTENTS if "." not in module] == LESSONS
    for module, names in minimaskformer.CONTENTS.items():
        for name in names:
            assert getattr(minimaskformer, name) is getattr(import_module(f"minimaskformer.{module}"), name)


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_are_small_and_file_names_need_no_opening(room):
    files = [name for name in FILES if name.rpartition(".")[0] == room and name not in ROOMS]
    assert 1 <= len(files) and (len(files) <= 16 or room == "exercises.lessons")
    assert not [name for name in files if name.split(".")[-1].split("_")[0] in VAGUE]


def test_every_name_has_one_meaning():
    homes = defaultdict(list)
    for name, tree in FILES.items():
        if not name.startswith("exercises.lessons"):
            for node in tree.body:
                if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                    homes[node.name].append(name)
    twice = [f"{name}: {' '.join(files)}" for name, files in homes.items() if len(files) > 1]
    assert not twice, "\n".join(twice)
