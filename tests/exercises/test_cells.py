"""What happens around a check in a notebook: a syntax error, an endless loop that is interrupted, calls without numbers."""
import json
import linecache

import pytest

from minimaskformer import exercises
from minimaskformer.exercises import cells, core

RIGHT = "def query_of_target(queries, targets):\n    return queries[targets.argsort()]"
WRONG = "def query_of_target(queries, targets):\n    return queries[targets]"
BROKEN = "def query_of_target(queries, targets):\n    return queries[targets.argsort()"


@pytest.fixture
def notebook(monkeypatch):
    """Run cells as a notebook does; a cell that does not compile leaves what was there before."""
    run, names = [], {}
    monkeypatch.setattr(cells, "cells_run", lambda: run)

    def execute(source):
        run.append(source)
        file = f"cell {len(run)}"
        linecache.cache[file] = (len(source), None, source.splitlines(True), file)
        try:
            exec(compile(cells.without_magics(source), file, "exec"), names)
        except SyntaxError:
            pass
        return names.get("query_of_target")
    return execute


def test_after_a_syntax_error_the_old_function_is_not_judged(notebook, capsys, home):
    notebook(WRONG)
    exercises.check("02.5", notebook(BROKEN))
    told = capsys.readouterr().out
    assert "syntax error in line 2 (return queries[targets.argsort()" in told and "not judged" in told and "Looks like" not in told
    assert not (home / "progress.json").exists()  # not a try
    exercises.check("02.5", notebook(RIGHT))
    assert "✓" in capsys.readouterr().out


def test_a_broken_cell_before_the_last_one_and_one_of_another_function_do_no_harm(notebook, capsys):
    notebook(BROKEN)
    notebook("def another(:")
    exercises.check("02.5", notebook("%time\n" + RIGHT))
    assert "✓" in capsys.readouterr().out


def test_outside_a_notebook_there_are_no_cells():
    assert cells.cells_run() == [] and cells.newest_is_broken(core.find) == "" and cells.newest_is_broken(3) == ""


def test_interrupting_an_endless_loop_is_one_sentence(notebook, capsys, home, monkeypatch):
    def interrupt():
        raise KeyboardInterrupt
    loop = notebook("def query_of_target(queries, targets):\n    while True:\n        wait()")
    loop.__globals__["wait"] = interrupt
    exercises.check("02.5", loop)
    told = capsys.readouterr().out
    assert told.count("\n") == 1 and "stopped while it ran at your line `wait()`" in told and "loop" in told
    assert not (home / "progress.json").exists()


@pytest.mark.parametrize("function", ["check", "hint", "solution", "example"])
def test_without_a_number_it_says_what_to_give(function, capsys):
    assert getattr(exercises, function)() is None
    assert "Which exercise?" in capsys.readouterr().out


@pytest.mark.parametrize("n", [0, 99, "one", 1.0, None])
def test_hints_and_examples_that_there_are_not(n, capsys):
    assert exercises.hint("02.5", n) is None and "has hints 1 to 3" in capsys.readouterr().out
    assert exercises.example("02.5", n) is None and "has examples 1 to" in capsys.readouterr().out
    assert exercises.example("02.99", 1) is None and "There is no exercise '02.99'" in capsys.readouterr().out


def test_a_passed_exercise_stays_passed_after_a_syntax_error(notebook, home):
    exercises.check("02.5", notebook(RIGHT))
    exercises.check("02.5", notebook(BROKEN))
    assert json.loads((home / "progress.json").read_text())["02.5"] == {"passed": True, "tries": 1}
