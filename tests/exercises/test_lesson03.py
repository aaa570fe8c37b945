"""Lesson 03's exercises: right answers written differently, wrong ones that are no known mistake, and the library."""
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from exercises.banks import *  # noqa: F403

from minimaskformer import losses
from minimaskformer.exercises import core
from minimaskformer.exercises.lessons import lesson03
from minimaskformer.exercises.lessons.lesson03_dice import dice_with
from minimaskformer.exercises.lessons.lesson03_masks import focal_with

BY_ID = {e.id: e for e in lesson03.EXERCISES}


# --- right answers, written differently -------------------------------------------------------------------------------

def entropy_by_hand(x, y):
    return x.clamp(min=0) - x * y + (-x.abs()).exp().log1p()


def entropy_loops(x, y):
    out = np.zeros(x.shape)
    for at in np.ndindex(*x.shape):
        z = float(-x[at] if y[at] else x[at])  # log(1 + e^z)
        out[at] = max(z, 0) + math.log1p(math.exp(-abs(z)))
    return out


def focal_loops(x, y, num_masks, alpha=0.25, gamma=2.0):
    total = 0.0
    for xs, ys in zip(x, y):
        mask = 0.0
        for a, b in zip(xs.flatten().tolist(), ys.flatten().tolist()):
            p = 1 / (1 + math.exp(-a))
            p_t, a_t = (p, alpha) if b else (1 - p, 1 - alpha)
            mask -= a_t * (1 - p_t) ** gamma * math.log(p_t)
        total += mask / xs.numel()
    return total / num_masks


def focal_from_entropy(x, y, num_masks, alpha=0.25, gamma=2.0):
    ce = F.binary_cross_entropy_with_logits(x, y, reduction="none")
    loss = torch.where(y == 1, alpha, 1 - alpha) * (1 - torch.exp(-ce)) ** gamma * ce
    return loss.mean(dim=(1, 2)).sum() / num_masks


def focal_in_place(x, y, num_masks, alpha=0.25, gamma=2.0):
    ce = F.binary_cross_entropy_with_logits(x, y, reduction="none")
    x.sigmoid_()
    x.sub_(y).abs_().pow_(gamma)  # |p - y| is 1 - p_t
    x.mul_(ce).mul_(y * alpha + (1 - y) * (1 - alpha))
    return x.sum() / (x.shape[1] * x.shape[2]) / num_masks


def focal_two_terms(x, y, n, alpha=0.25, gamma=2.0):
    p = torch.sigmoid(x)
    pos = -alpha * (1 - p) ** gamma * p.log() * y
    neg = -(1 - alpha) * p ** gamma * (1 - p).log() * (1 - y)
    return (pos + neg).flatten(1).mean(-1).sum() / n


def dice_loops(x, y, num_masks):
    total = 0.0
    for xs, ys in zip(x, y):
        p = torch.sigmoid(xs)
        total = total + 1 - (2 * (p * ys).sum() + 1) / (p.sum() + ys.sum() + 1)
    return total / num_masks


def dice_einsum(x, y, num_masks):
    p = x.double().sigmoid()
    top = 2 * torch.einsum("mhw,mhw->m", p, y.double()) + 1
    return torch.sum(1 - top / (p.sum(dim=[1, 2]) + y.sum(dim=[1, 2]) + 1)) / num_masks


def dice_by_difference(x, y, n):
    """1 - (2 I + 1) / (A + B + 1) = (A + B - 2 I) / (A + B + 1) = sum |p - y| / ... for binary y."""
    p = x.sigmoid()
    return ((p - y).abs().flatten(1).sum(1) / (p + y).flatten(1).sum(1).add(1)).div(n).sum()


def valid_loops(loss, valid, num_masks):
    total = 0.0
    for one, keep in zip(loss, valid):
        if keep.any():
            total += one[keep.bool()].mean().item()
    return total / num_masks


def total_loops(terms, weights):
    total = 0.0
    for name in terms:
        for kind in weights:
            if name.startswith(kind):
                total += float(terms[name]) * weights[kind]
    return total


RIGHT = {
    "03.1": [entropy_by_hand, entropy_loops, lambda x, y: F.binary_cross_entropy_with_logits(x, y, reduction="none"),
             lambda x, y: -F.logsigmoid(torch.where(y == 1, x, -x)), lambda x, y: F.softplus(x * (1 - 2 * y)),
             lambda x, y: torch.logaddexp(torch.zeros_like(x), (1 - 2 * y) * x), lambda x, y: F.softplus(x) - x * y,
             lambda x, y: entropy_by_hand(x.double(), y.double()), lambda x, y: entropy_loops(x, y).tolist(),
             lambda x, y: F.softplus(x.requires_grad_() * (1 - 2 * y)).transpose(1, 2).transpose(1, 2)],
    "03.2": [focal_loops, focal_from_entropy, focal_in_place, focal_two_terms,
             lambda x, y, *rest: losses.sigmoid_focal_loss(x, y.bool(), *rest),
             lambda *args: np.float32(focal_loops(*args)), lambda x, *rest: focal_from_entropy(x.double(), *core.doubled(rest)),
             lambda x, y, n, a=0.25, g=2.0: sum(focal_two_terms(x[i:i + 1], y[i:i + 1], n, a, g) for i in range(len(x)))],
    "03.3": [dice_loops, dice_einsum, dice_by_difference, lambda *args: float(dice_loops(*args)),
             lambda x, y, n: losses.dice_loss(x.flatten(1), y.flatten(1), n),
             lambda x, y, n: (len(x) - ((2 * (x.sigmoid() * y).sum((1, 2)) + 1)
                                        / ((x.sigmoid() + y).sum((1, 2)) + 1)).sum()) / n],
    "03.4": [lambda v: (1 - v) / (1 + v), lambda v: [(1 - t) / (1 + t) for t in v],
             lambda v: 1 - 2 * v / (1 + v), lambda v: (1 - v.numpy()) / (2 - (1 - v.numpy())),
             lambda v: 1 / (2 / (1 - v) - 1)],
    "03.5": [valid_loops, lambda x, v, n: ((x * v).sum((1, 2)) / v.sum((1, 2))).nan_to_num().sum() / n,
             lambda x, v, n: torch.where(v.sum((1, 2)) > 0, (x * v).sum((1, 2)) / v.sum((1, 2)), 0.0).sum() / n,
             lambda x, v, n: (x.masked_fill(v == 0, 0).sum((1, 2)) / (v.sum((1, 2)) + 1e-8)).sum() / n,
             lambda x, v, n: torch.einsum("mhw,mhw,m->", x, v, 1 / v.sum((1, 2)).clamp(1)) / n],
    "03.6": [total_loops, lambda t, w: sum(w[k.partition("_")[0]] * v for k, v in t.items()),
             lambda t, w: torch.stack([v.double() * w[k.rstrip("_0123456789")] for k, v in t.items()]).sum(),
             lambda t, w: sum(w[k] * sum(v for n, v in t.items() if n.split("_")[0] == k) for k in w)],
}
WRONG = {
    "03.1": [lambda x, y: F.softplus(x.sigmoid()), lambda x, y: F.softplus(-x) * y * 2 + F.softplus(x) * (1 - y),
             lambda x, y: x * y, lambda x, y: (x.sigmoid() - y) ** 2, lambda x, y: "loss", lambda x, y: x @ y,
             lambda x, y: F.binary_cross_entropy_with_logits(x, y, reduction="sum")],
    "03.2": [focal_with(alphas=lambda a: (1 - a, a), weight=lambda p_t, p, g: p_t ** g),  # two mistakes
             focal_with(alphas=lambda a: (1 - a, a), reduce=lambda loss, n: loss.sum() / n),
             lambda x, y, *rest: focal_with(alphas=lambda a: (1, 1))(x.sigmoid(), y, *rest),
             lambda *args: 20 * focal_from_entropy(*args), lambda x, y, n, a=0.25, g=2.0: focal_loops(x, y, n, a, g + 1),
             lambda x, y, n: focal_loops(x, y, n), lambda x, y, n, a=0.25, g=2.0: x,
             lambda x, y, n, a=0.25, g=2.0: torch.tensor(math.nan)],
    "03.3": [dice_with(above=0, below=0, power=2), dice_with(two=1, reduce=lambda v, n: v.mean()),
             dice_with(sigmoid=lambda t: t, pixels=(0, 1, 2)), lambda x, y, n: dice_loops(x, y, n) * 2,
             lambda x, y, n: dice_loops(x.softmax(0), y, n), lambda x, y, n: (x - y).abs().mean(), lambda x, y, n: None],
    "03.4": [lambda v: ((1 - v) / (1 + v)).flatten(), lambda v: v, lambda v: v.mean(), lambda v: 1 - v ** 2, lambda v: (1 - v) ** 2, lambda v: -v],
    "03.5": [lambda x, v, n: (x * v).mean(), lambda x, v, n: x[v.bool()].sum(), lambda x, v, n: x * v,
             lambda x, v, n: 2 * valid_loops(x, v, n), lambda x, v, n: x[v].mean()],
    "03.6": [lambda t, w: 20 * t["focal"], lambda t, w: total_loops(t, w) + 1, lambda t, w: t, lambda t, w: t["mask"],
             lambda t, w: sum(t.values()) * sum(w.values())],
}


def test_mistakes_written_in_float32_are_recognised_too(exercise_id):
    """`Mistake.fn` is run in float64 by the check; a learner's is run in float32."""
    exercise = BY_ID[exercise_id]
    for mistake in exercise.mistakes:
        assert core.judge(exercise, lambda *args: mistake.fn(*args)).mistake is mistake  # noqa: B023


# --- the references are the library's functions -----------------------------------------------------------------------

@pytest.mark.parametrize("seed", range(4))
def test_references_equal_the_library(seed):
    g = torch.Generator().manual_seed(seed)
    x = 3 * torch.randn(4, 5, 7, generator=g, dtype=torch.float64)
    masks, valid = torch.rand(4, 5, 7, generator=g) < 0.3, (torch.rand(4, 5, 7, generator=g) < 0.8).double()
    y, n = masks.double(), 3.5
    values = {}
    for name in ("mine", "library"):
        leaf = x.clone().requires_grad_()
        if name == "mine":
            focal, dice = BY_ID["03.2"].reference(leaf, y, n, 0.4, 1.5), BY_ID["03.3"].reference(leaf, y, n)
        else:
            focal, dice = losses.sigmoid_focal_loss(leaf, masks, n, 0.4, 1.5), losses.dice_loss(leaf, masks, n)
        (focal + dice).backward()
        values[name] = torch.stack([focal, dice]).detach(), leaf.grad
    for a, b in zip(values["mine"], values["library"]):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-14)

    entropy = BY_ID["03.1"].reference(x, y)
    assert torch.allclose(entropy, F.binary_cross_entropy_with_logits(x, y, reduction="none"), rtol=1e-7)
    p_t = torch.where(masks, x.sigmoid(), 1 - x.sigmoid())
    per_pixel = torch.where(masks, 0.25, 0.75) * (1 - p_t) ** 2 * entropy
    mine = BY_ID["03.5"].reference(per_pixel, valid, n)
    assert torch.allclose(mine, losses.sigmoid_focal_loss(x, masks, n, valid=valid), rtol=1e-6)


def test_iou_of_hard_masks():
    g = torch.Generator().manual_seed(0)
    for _ in range(20):
        a, b = torch.rand(2, 6, 6, generator=g) < 0.5
        overlap, union = (a & b).sum(), (a | b).sum()
        dice = 2 * overlap / (a.sum() + b.sum())
        assert torch.allclose(BY_ID["03.4"].reference(1 - dice), overlap / union)


def test_total_is_the_criterions():
    g = torch.Generator().manual_seed(0)

    class Output:
        class_logits, mask_logits = torch.randn(2, 5, 4, generator=g), torch.randn(2, 5, 4, 4, generator=g)
        aux = ()

    class Last(Output):
        aux = (Output,)

    targets = [{"labels": torch.tensor([0, 2]), "masks": torch.rand(2, 8, 8, generator=g) < 0.5}] * 2
    terms = losses.SetCriterion(3, class_weight=2.0, focal_weight=7.0, dice_weight=3.0)(Last, targets)
    loss = terms.pop("loss")
    assert torch.allclose(BY_ID["03.6"].reference(terms, {"class": 2.0, "focal": 7.0, "dice": 3.0}), loss)


def test_remarks_on_right_but_fragile_solutions():
    assert "03.1" in core.judge(BY_ID["03.2"], focal_two_terms).text
    for exercise in BY_ID.values():
        assert "Remark" not in core.judge(exercise, exercise.reference).text


@pytest.mark.parametrize(("number", "solution", "name"), [
    ("03.1", lambda x, y: F.cross_entropy(x, y), "F.cross_entropy"),
    ("03.1", lambda x, y: F.cross_entropy(x, y, reduction="none"), "F.cross_entropy"),
    ("03.1", lambda x, y: torch.log1p(torch.exp(x)) - x * y, "the right formula, but it breaks down at very sure pixels"),
    ("03.3", lambda x, y, n: dice_loops(x.softmax(0).logit(), y, n), "a softmax over the masks")])
def test_mistakes_as_a_learner_writes_them(number, solution, name):
    assert core.judge(BY_ID[number], solution).mistake.name == name


def test_a_log_of_a_sigmoid_is_named_however_it_is_hidden():
    for naive in (lambda x, y: -(y * x.sigmoid().log() + (1 - y) * (1 - x.sigmoid()).log()),
                  lambda x, y: torch.where(y == 1, -x.sigmoid().log(), -(1 - x.sigmoid()).log()),
                  lambda x, y: F.binary_cross_entropy(x.sigmoid(), y, reduction="none"),
                  lambda x, y: torch.log(1 + torch.exp(-x)) * y + torch.log(1 + torch.exp(x)) * (1 - y),
                  lambda x, y: torch.where(y == 1, torch.log(1 + torch.exp(-x)), torch.log(1 + torch.exp(x))),
                  lambda x, y: -(y * (x.sigmoid() + 1e-7).log() + (1 - y) * (1 - x.sigmoid() + 1e-7).log()),
                  lambda x, y: F.binary_cross_entropy(x.sigmoid().clamp(1e-7, 1 - 1e-7), y, reduction="none"),
                  lambda x, y: -torch.where(y == 1, x.sigmoid(), 1 - x.sigmoid()).clamp(1e-7, 1 - 1e-7).log()):
        outcome = core.judge(BY_ID["03.1"], naive)
        assert outcome.kind == "mistake" and "very sure" in outcome.mistake.name
