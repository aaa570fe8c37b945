"""Hunts: the solution finds everything within the rules, a careless example does not, and nothing ends in a traceback."""
import numpy as np
import pytest
import torch

from minimaskformer.exercises import hint, hunt, solution
from minimaskformer.exercises import progress_file as record
from minimaskformer.exercises.hunts import all_hunts, hidden_mistakes, read_example

HUNTS = all_hunts()
each = pytest.mark.parametrize("wanted", HUNTS.values(), ids=HUNTS)


@each
def test_the_solution_finds_every_mistake(wanted, home, capsys):
    assert not hidden_mistakes(wanted, read_example(wanted, wanted.solution))
    hunt(wanted.id, *wanted.solution)
    total = len(wanted.mistakes())
    assert f"{total} of {total}" in capsys.readouterr().out
    assert record.load()[wanted.id] == {"passed": True, "tries": 1, "said": f"{total} of {total}"}


@each
def test_every_hint_is_for_a_mistake_of_the_exercise(wanted):
    names = {mistake.name for mistake in wanted.exercise.mistakes}
    assert set(wanted.looks) <= names and len(wanted.mistakes()) == len(wanted.looks) >= 8
    assert all(len(text) > 10 for text in wanted.looks.values())


@each
def test_what_is_no_example_is_a_sentence(wanted, home, capsys):
    parts = len(wanted.solution)
    for nonsense in (("sheep",) * parts, (None,) * parts, ([],) * parts, ([[1e9] * 500] * 500,) * parts, (1,) * (parts + 1),
                     ([[float("nan")]],) * parts):
        hunt(wanted.id, *nonsense)
        assert capsys.readouterr().out.startswith(f"✗ {wanted.id}: "), nonsense
    assert not record.load()
    hunt(wanted.id)
    assert "hunt(" in capsys.readouterr().out


@each
def test_solution_prints_an_example_that_can_be_run(wanted, home, capsys):
    solution(wanted.id)
    code = capsys.readouterr().out.partition("\n\n")[2]
    exec(code, {"hunt": hunt, "torch": torch})
    assert "✓" in capsys.readouterr().out


@each
def test_examples_may_be_tensors_and_arrays(wanted, home, capsys, recwarn):
    for kind in (torch.tensor, np.array):
        hunt(wanted.id, *(kind(part) if isinstance(part, list) and is_table(part) else part for part in wanted.solution))
        assert capsys.readouterr().out.startswith("✓")
    assert not [w for w in recwarn if "copy construct" in str(w.message) or "requires_grad" in str(w.message)]


def is_table(part):
    try:
        return np.array(part).dtype.kind in "bif"
    except ValueError:  # rows of different lengths
        return False


def test_a_first_try_leaves_some_hidden_and_the_best_is_kept(home, capsys):
    hunt("2.h", [[1, 2], [1, 9]])
    out = capsys.readouterr().out
    assert "7 of 11" in out and out.count("\n  ?  ") == 4
    hunt("02.h", [[1, 2], [2, 1]])
    assert "two assignments" not in capsys.readouterr().out
    assert record.load()["02.h"]["said"] == "7 of 11" and record.load()["02.h"]["tries"] == 2


@pytest.mark.parametrize(("hunt_id", "example", "why"), [
    ("01.h", ([[1, 1]], [[1, 0, 0, 0]]), "at least one void pixel"),
    ("01.h", ([[1, 0]], [[2, 0, 0, 0]]), "every id but 0"),
    ("01.h", ([[1, 0]], [[1, 0, 2, 0]]), "thing and crowd are 0 or 1"),
    ("02.h", ([[1, 1], [1, 1]],), "two assignments have the smallest sum, 2"),
    ("02.h", ([[1.5]],), "whole numbers from 0 to 9"),
    ("03.h", ([[[1, 2, 3, 4, 5]]], [[[1, 0, 1, 0, 1]]], 1, 0.25, 2), "at most 2 masks of at most 4 pixels"),
    ("03.h", ([[[1]]], [[[1]]], 1, 0.25, 2.5), "gamma a whole number"),
    ("04.h", ([[0, 0], [0, 1]], [[], []], [[], []]), "each at most once"),
    ("04.h", ([[0, 1], [0, 2]], [[], []], [[], []]), "the targets 0 to T - 1"),
    ("04.h", ([[0, 1, 2], [0, 1, 2]], [[0, 1], [0, 1]], [[], []]), "at most 4 pairs"),
])
def test_what_the_rules_forbid(hunt_id, example, why, home, capsys):
    hunt(hunt_id, *example)
    out = " ".join(capsys.readouterr().out.split())
    assert out.startswith(f"✗ {hunt_id}: this example cannot be taken") and why in out


def test_the_hints_of_a_hunt_are_its_list(capsys):
    for hunt_id in ("01.h", "1.h"):
        hint(hunt_id)
        assert "is a hunt: run it; its hints are the list of what is still hidden" in capsys.readouterr().out
    hint("99.h")
    assert "There is no hunt '99.h'. There are: 01.h" in capsys.readouterr().out


def test_unknown_hunts_are_named(capsys):
    hunt()
    hunt("99.h")
    solution("99.h")
    assert capsys.readouterr().out.count("02.h") == 3
