"""The list of tools/mutants.py fits the source: every change can be made, in one place, and is one."""
import ast
import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
spec = importlib.util.spec_from_file_location("mutants", ROOT / "tools" / "mutants.py")
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)
MUTANTS = tool.mutants()
FILES = sorted({entry["file"] for entry in MUTANTS})


@pytest.mark.parametrize("file", FILES)
def test_every_change_can_be_made(file):
    source = (ROOT / "minimaskformer" / file).read_text(encoding="utf-8")
    for entry in (m for m in MUTANTS if m["file"] == file):
        assert entry["why"]
        before, after = ast.parse(source), ast.parse(tool.mutated(entry, source))
        assert ast.dump(before) != ast.dump(after), f"no change: {entry['old']}"


def test_there_are_enough_and_none_twice():
    assert len(MUTANTS) >= 150
    assert len({(m["file"], m["old"], m["new"]) for m in MUTANTS}) == len(MUTANTS)


def test_every_file_of_method_training_data_weights_and_metrics_has_some():
    package = ROOT / "minimaskformer"
    files = {str(path.relative_to(package)) for room in ("", "training", "data", "data/readers", "weights")
             for path in (package / room).glob("*.py") if path.name not in ("__init__.py", "__main__.py")}
    drawn = {"data/lakeland_land.py", "data/lakeland_sprites.py"}  # a picture of a lake: golden pixels hold it
    assert files - drawn == set(FILES) & files, sorted(files - drawn - set(FILES))
