"""A wrong part forced in with `use(..., anyway=True)`: the last cells of lessons 05 to 09 show the damage."""
from pathlib import Path

import pytest
import torch

from minimaskformer import Lakeland
from minimaskformer.exercises import core, lesson_calls, my_maskformer

from .notebook_cells import run_cells

MINI = Path(__file__).resolve().parents[2] / "data" / "mini.safetensors"
WRONG = {  # exercise: (the known mistake, what of the solution, becomes what)
    "05.6": ("bilinear upsampling", 'mode="nearest"', 'mode="bilinear"'),
    "06.2": ("x and y exchanged", "torch.cat([y, x])", "torch.cat([x, y])"),
    "07.1": ("no ReLU after the second layer", "F.relu(F.linear(x, w2, b2))", "F.linear(x, w2, b2)"),
    "08.5": ("the score threshold the wrong way round", "(scores > score_threshold)", "(scores <= score_threshold)"),
    "09.2": ("recall instead of IoU", "hits / union", "hits / total.sum(1)"),
    "09.5": ("false positives and misses not halved", "f / 2 + n / 2", "f + n"),
}


def measure(lesson, my):
    """What the last cell of a lesson measures: the logits of a scene, or the scores of a few."""
    parameters, scenes = my.read_parameters(MINI), Lakeland("val", size=64, difficulty=1.0, length=2)
    if lesson < "08":
        image = scenes[0][0][None] / 64 - 2
        return torch.cat([logits.flatten() for logits in my.last_answer(parameters, image)])
    scores = my.score_model(parameters, scenes, len(scenes))
    return torch.tensor([scores["pq"], scores["miou"], scores["ap50"]])


@pytest.fixture(scope="module")
def right():
    """The measurements with every part borrowed."""
    my = my_maskformer.mine(Path("nowhere"))
    return {lesson: measure(lesson, my) for lesson in ("05", "08")}


@pytest.mark.parametrize("forced", WRONG)
def test_the_lessons_last_cell_shows_the_damage(forced, tmp_path, monkeypatch, right):
    monkeypatch.setenv("MINIMASKFORMER_MINE", str(tmp_path / "my_lessons"))
    exercise, (mistake, part, becomes) = core.find(forced), WRONG[forced]
    source = exercise.solution_source()
    assert part in source
    fn = run_cells(source.replace(part, becomes))[exercise.name]
    assert core.judge(exercise, fn).mistake.name == mistake
    lesson_calls.use(forced, fn)  # a check: it stays out
    assert not (tmp_path / "my_lessons").exists()
    lesson_calls.use(forced, fn, anyway=True)
    my = my_maskformer.mine(tmp_path / "my_lessons")
    assert list(my.OWN) == [forced]
    found, expected = measure(forced[:2], my), right["05" if forced < "08" else "08"]
    assert (found - expected).abs().max() > 0.01
