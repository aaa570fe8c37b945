"""A wrong function forced in with `use(..., anyway=True)`: the measurement at the end of its lesson shows the damage."""
from pathlib import Path

import pytest
import torch

from minimaskformer import Lakeland, load_checkpoint
from minimaskformer.config import get_config
from minimaskformer.exercises import core, lesson_calls, my_maskformer

from .notebook_cells import run_cells, typed_solution

MINI = Path(__file__).resolve().parents[2] / "data" / "mini.safetensors"
SMALL = get_config("mini", dim=32, mask_dim=32, hidden_dim=64, num_heads=2, decoder_layers=2, encoder_layers=1,
                   feedforward=64, num_queries=12)
WRONG = {  # exercise: (the known mistake, how a learner writes it)
    "02.1": ("+p instead of -p", """
def class_cost(class_logits, labels):
    return class_logits.softmax(-1)[:, labels]
"""),
    "02.2": ("the similarity instead of the cost (no 1 - ...)", """
def dice_cost(mask_logits, masks, valid):
    p, y = mask_logits.sigmoid() * valid, masks * valid
    return (2 * p @ y.T + 1) / (p.sum(1)[:, None] + y.sum(1) + 1)
"""),
    "02.4": ("query 0 with target 0, query 1 with target 1, ...", """
def assign(cost):
    n = min(cost.shape)
    return torch.arange(n), torch.arange(n)
"""),
    "03.2": ("alpha on the wrong side", """
def sigmoid_focal_loss(mask_logits, masks, num_masks, alpha=0.25, gamma=2.0):
    p = mask_logits.sigmoid()
    p_t = p * masks + (1 - p) * (1 - masks)
    alpha_t = (1 - alpha) * masks + alpha * (1 - masks)
    entropy = F.binary_cross_entropy_with_logits(mask_logits, masks.to(p.dtype), reduction="none")
    return (alpha_t * (1 - p_t) ** gamma * entropy).flatten(1).mean(1).sum() / num_masks
"""),
    "03.3": ("squared areas", """
def dice_loss(mask_logits, masks, num_masks):
    p, y = mask_logits.sigmoid().flatten(1), masks.flatten(1)
    return (1 - (2 * (p * y).sum(1) + 1) / ((p ** 2).sum(1) + (y ** 2).sum(1) + 1)).sum() / num_masks
"""),
    "04.1": ("the weight on class 0 instead of no-object", """
def classification_loss(class_logits, targets, matches, no_object_weight=0.1):
    classes = torch.full(class_logits.shape[:2], class_logits.shape[-1] - 1)
    for b, (queries, chosen) in enumerate(matches):
        classes[b, queries] = targets[b]["labels"][chosen]
    weight = torch.ones(class_logits.shape[-1])
    weight[0] = no_object_weight
    return F.cross_entropy(class_logits.flatten(0, 1), classes.flatten(), weight)
"""),
    "04.2": ("the masks by the inverse permutation", """
def matched_masks(mask_logits, targets, matches):
    return (torch.cat([mask_logits[b, q] for b, (q, _) in enumerate(matches)]),
            torch.cat([t["masks"][chosen.argsort()] for t, (_, chosen) in zip(targets, matches)]).to(mask_logits.dtype))
"""),
    "04.4": ("the last layer only", """
def set_criterion(layers, targets, weights, match, class_loss, mask_losses):
    class_logits, mask_logits = layers[-1]
    matches = match(class_logits, mask_logits, targets, weights)
    focal, dice = mask_losses(mask_logits, targets, matches)
    return (weights["class"] * class_loss(class_logits, targets, matches)
            + weights["focal"] * focal + weights["dice"] * dice)
"""),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIMASKFORMER_MINE", str(tmp_path / "my_lessons"))
    return tmp_path / "my_lessons"


@pytest.fixture(scope="module")
def answer():
    """The shipped model's answer to a scene without void, as in the cells of lessons 02 and 03: logits and truth."""
    model, (picture, truth) = load_checkpoint(MINI).eval(), Lakeland("val", size=128, difficulty=0.3)[159]
    assert truth["valid"].all()
    with torch.no_grad():
        output = model(model.normalize(picture[None]))
    return output.class_logits, output.mask_logits, truth


def measure(lesson, my, answer):
    """The figures of the last cells of a lesson."""
    class_logits, mask_logits, truth = answer
    if lesson == "02":
        return torch.stack(my.match_picture(class_logits[0], mask_logits[0], truth)).flatten().tolist()
    if lesson == "03":
        matches = my.match_batch(class_logits, mask_logits, [truth])
        return [float(loss) for loss in my.matched_losses(mask_logits, [truth], matches)]
    scenes = Lakeland("train", size=64, difficulty=0.3)
    return my.fit(my.draw_parameters(SMALL), [scenes[7], scenes[37]], 2, SMALL, batch_size=2, peak=2e-3, warmup=1)


@pytest.fixture(scope="module")
def right(answer):
    """What the lessons' last cells measure with every part borrowed."""
    my = my_maskformer.mine(Path("nowhere"))
    return {lesson: measure(lesson, my, answer) for lesson in ("02", "03", "04")}


@pytest.mark.parametrize("forced", WRONG)
def test_the_lessons_last_cell_shows_the_damage(forced, folder, answer, right):
    mistake, cell = WRONG[forced]
    exercise = core.find(forced)
    fn = run_cells(cell)[exercise.name]
    assert core.judge(exercise, fn).mistake.name == mistake
    lesson_calls.use(forced, fn)  # a check: it stays out
    assert not folder.exists()
    lesson_calls.use(forced, fn, anyway=True)
    my = my_maskformer.mine(folder)
    assert list(my.OWN) == [forced]
    assert measure(forced[:2], my, answer) != pytest.approx(right[forced[:2]], rel=1e-3)


@pytest.mark.parametrize("forced", ["02.4", "03.2", "04.4"])
def test_and_a_right_one_shows_none(forced, folder, answer, right):
    lesson_calls.use(forced, typed_solution(forced))
    my = my_maskformer.mine(folder)
    assert list(my.OWN) == [forced]
    assert measure(forced[:2], my, answer) == pytest.approx(right[forced[:2]], rel=1e-4)
