"""Lesson 04's exercises: right answers written differently, wrong ones that are no known mistake, and the library."""
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from exercises.banks import *  # noqa: F403

from minimaskformer import Lakeland, SetCriterion, hungarian_match, matching
from minimaskformer.exercises import core
from minimaskformer.exercises.lessons import lesson04
from minimaskformer.losses import classification_loss, dice_loss, sigmoid_focal_loss
from minimaskformer.model import Output

BY_ID = {e.id: e for e in lesson04.EXERCISES}


# --- 04.1 -------------------------------------------------------------------------------------------------------------

def class_loss_loops(class_logits, targets, matches, no_object_weight=0.1):
    total = weights = 0.0
    for x, target, (queries, chosen) in zip(class_logits.tolist(), targets, matches):
        wanted = {int(q): int(target["labels"][t]) for q, t in zip(queries, chosen)}
        for i, row in enumerate(x):
            c, w = (wanted[i], 1.0) if i in wanted else (len(row) - 1, no_object_weight)
            total -= w * (row[c] - math.log(sum(math.exp(v) for v in row)))
            weights += w
    return total / weights


def class_loss_by_index_vectors(class_logits, targets, matches, no_object_weight=0.1):
    B, N, _ = class_logits.shape
    classes = torch.full((B * N,), class_logits.shape[-1] - 1)
    rows = torch.cat([b * N + queries for b, (queries, _) in enumerate(matches)])
    classes[rows] = torch.cat([t["labels"][chosen] for t, (_, chosen) in zip(targets, matches)])
    weight = torch.ones(class_logits.shape[-1])
    weight[-1] = no_object_weight
    return F.nll_loss(class_logits.reshape(B * N, -1).log_softmax(1), classes, weight)


def class_loss_one_hot(class_logits, targets, matches, no_object_weight=0.1):
    wanted = torch.zeros_like(class_logits)
    wanted[..., -1] = no_object_weight
    for b, (queries, chosen) in enumerate(matches):
        for q, t in zip(queries, chosen):
            wanted[b, q] = 0
            wanted[b, q, targets[b]["labels"][t]] = 1
    return -torch.einsum("bnk,bnk->", wanted, class_logits.log_softmax(-1)) / wanted.sum()


def class_loss_matched_and_rest(class_logits, targets, matches, no_object_weight=0.1):
    logs, rest, count = class_logits.double().log_softmax(-1), [], 0
    matched = [logs.sum() * 0]
    for b, (queries, chosen) in enumerate(matches):
        matched += [-logs[b, queries, targets[b]["labels"][chosen]].sum()]
        free = [i for i in range(logs.shape[1]) if i not in queries.tolist()]
        rest, count = [*rest, -logs[b, free, -1].sum()], count + len(queries)
    free = logs.shape[0] * logs.shape[1] - count
    return (sum(matched) + no_object_weight * sum(rest)) / (count + no_object_weight * free)


def wrong_mixture(class_logits, targets, matches, no_object_weight=0.1):
    """Weight on class 0 and softmax twice."""
    weight = torch.ones(class_logits.shape[-1])
    weight[0] = no_object_weight
    classes = torch.full(class_logits.shape[:2], class_logits.shape[-1] - 1)
    for b, (queries, chosen) in enumerate(matches):
        classes[b, queries] = targets[b]["labels"][chosen]
    return F.cross_entropy(class_logits.softmax(-1).mT, classes, weight)


# --- 04.2 -------------------------------------------------------------------------------------------------------------

def picked_by_index_vectors(mask_logits, targets, matches):
    image = torch.cat([torch.full_like(q, b) for b, (q, _) in enumerate(matches)])
    query = torch.cat([q for q, _ in matches])
    return mask_logits[image, query], torch.cat([t["masks"][j] for t, (_, j) in zip(targets, matches)])


def picked_by_loops(mask_logits, targets, matches):
    pairs = [(mask_logits[b, q].tolist(), targets[b]["masks"][t].tolist())
             for b in range(len(matches)) for q, t in zip(*matches[b])]
    return [p for p, _ in pairs], [m for _, m in pairs]


def picked_in_order_of_targets(mask_logits, targets, matches):
    x = [mask_logits[b, q[t.argsort()]] for b, (q, t) in enumerate(matches)]
    y = [targets[b]["masks"][t.sort().values] for b, (_, t) in enumerate(matches)]
    return torch.cat(x).numpy(), torch.cat(y).numpy()


def picked_as_they_come(mask_logits, targets, matches):
    pairs = [(mask_logits[b, q], targets[b]["masks"][t]) for b, match in enumerate(matches)
             for q, t in sorted(zip(*(v.tolist() for v in match)))]
    empty = mask_logits[:, :0].flatten(0, 1)
    return tuple(torch.stack(side) for side in zip(*pairs)) or (empty, empty)


def picked_by_yes_and_no(mask_logits, targets, matches):
    """Wrong: a boolean mask over the queries gives them in ascending order."""
    chosen = torch.zeros(mask_logits.shape[:2], dtype=torch.bool)
    for b, (q, _) in enumerate(matches):
        chosen[b, q] = True
    return mask_logits[chosen], torch.cat([t["masks"][j] for t, (_, j) in zip(targets, matches)])


def picked_backwards(mask_logits, targets, matches):
    """Wrong: the last image first."""
    pairs = [(mask_logits[b, q], targets[b]["masks"][t]) for b, (q, t) in enumerate(matches)][::-1]
    return torch.cat([x for x, _ in pairs]), torch.cat([y for _, y in pairs])


def picked_flat(mask_logits, targets, matches):
    n = mask_logits.shape[1]
    first = np.cumsum([0] + [len(t["masks"]) for t in targets])
    rows = torch.cat([q + b * n for b, (q, _) in enumerate(matches)])
    columns = torch.cat([t + first[b] for b, (_, t) in enumerate(matches)])
    return mask_logits.flatten(0, 1)[rows], torch.cat([t["masks"] for t in targets])[columns].double()


def picked_by_the_library(mask_logits, targets, matches):
    _, image, query, target = matching.flat_match([matches], [len(t["masks"]) for t in targets])
    return mask_logits[image, query], torch.cat([t["masks"] for t in targets])[target]


# --- 04.3, 04.4 -------------------------------------------------------------------------------------------------------

def mask_loss_loop(per_mask, targets):
    total, count = 0.0, 0
    for values, target in zip(per_mask, targets):
        for v in values:
            total += v.item()
        count += len(target["labels"])
    return total / count if count else 0.0


def criterion_by_the_library(layers, targets, weights, *given):
    outputs = [Output(*layer) for layer in layers]
    costs = (weights["class"], weights["focal"], weights["dice"])
    return SetCriterion(outputs[0].class_logits.shape[-1] - 1, *costs)(
        Output(*outputs[-1][:2], tuple(outputs[:-1])), targets)["loss"]


def criterion_by_parts(layers, targets, weights, *given):
    """With the other exercises' functions."""
    total = 0.0
    for class_logits, mask_logits in layers:
        matches = hungarian_match(class_logits, mask_logits, targets, *(weights[k] for k in ("class", "focal", "dice")))
        x, y = picked_flat(mask_logits, targets, matches)
        flat = [a.flatten(1) for a in (x, y, torch.ones_like(y))]
        focal, dice = void_loops(*flat) if len(x) else (torch.zeros(0), torch.zeros(0))
        n = [len(q) for q, _ in matches]
        total = total + weights["class"] * class_loss_loops(class_logits, targets, matches)
        total = total + weights["focal"] * mask_loss_loop(focal.split(n), targets)
        total = total + weights["dice"] * mask_loss_loop(dice.split(n), targets)
    return total


def criterion_by_terms(layers, targets, weights, match, class_loss, mask_losses):
    terms = {kind: 0.0 for kind in weights}
    for c, m in reversed(layers):
        matches = match(c, m, targets, weights)
        for kind, value in zip(("class", "focal", "dice"), (
                class_loss(c, targets, matches), *mask_losses(m, targets, matches))):
            terms[kind] += value
    return sum(weights[kind] * terms[kind] for kind in terms)


def criterion_in_one_line(layers, targets, weights, match, class_loss, mask_losses):
    every = [(c, m, match(c, m, targets, weights)) for c, m in layers]
    return sum(w * sum(values) for w, values in zip((weights["class"], weights["focal"], weights["dice"]), zip(
        *((class_loss(c, targets, s), *mask_losses(m, targets, s)) for c, m, s in every))))


# --- 04.5 -------------------------------------------------------------------------------------------------------------

def void_loops(mask_logits, masks, valid):
    focal, dice = [], []
    for x, y, v in zip(mask_logits, masks, valid):
        x, y = x[v == 1], y[v == 1]
        p = torch.sigmoid(x)
        p_t = torch.where(y == 1, p, 1 - p)
        focal.append((-torch.where(y == 1, 0.25, 0.75) * (1 - p_t) ** 2 * p_t.log()).mean())
        dice.append(1 - (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1))
    return torch.stack(focal), torch.stack(dice)


def void_by_the_library(mask_logits, masks, valid):
    rows = [(x[None], y[None], 1, v[None]) for x, y, v in zip(mask_logits, masks, valid)]
    return ([sigmoid_focal_loss(x, y, n, valid=v) for x, y, n, v in rows],
            [dice_loss(x, y, n, valid=v) for x, y, n, v in rows])


def void_filled(mask_logits, masks, valid):
    """Void pixels made certain negatives cost nothing, if the mean counts only valid pixels."""
    x, y = mask_logits.masked_fill(valid == 0, -1e4), masks.masked_fill(valid == 0, 0)
    ce = F.binary_cross_entropy_with_logits(x, y, reduction="none")
    focal = ((0.25 * y + 0.75 * (1 - y)) * (1 - (-ce).exp()) ** 2 * ce).sum(1) / valid.sum(1)
    return focal, 1 - (2 * (x.sigmoid() * y).sum(1) + 1) / ((x.sigmoid() + y).sum(1) + 1)


RIGHT = {
    "04.1": [class_loss_loops, class_loss_by_index_vectors, class_loss_one_hot, class_loss_matched_and_rest,
             lambda x, *a: classification_loss(x.double(), *a), lambda *a: torch.tensor([class_loss_loops(*a)])[0],
             lambda x, *a: class_loss_loops(x.requires_grad_(), *a), lambda *a: np.float32(class_loss_loops(*a))],
    "04.2": [picked_by_index_vectors, picked_by_loops, picked_in_order_of_targets, picked_flat, picked_by_the_library,
             picked_as_they_come],
    "04.3": [mask_loss_loop, lambda m, t: torch.cat(m).sum() / max(len(torch.cat([a["labels"] for a in t])), 1),
             lambda m, t: sum(a.sum() for a in m) / SetCriterion.num_masks(t, "cpu"),
             lambda m, t: np.concatenate([a.numpy() for a in m]).sum() / (sum(len(a["labels"]) for a in t) or 1)],
    "04.4": [criterion_by_the_library, criterion_by_parts, criterion_by_terms, criterion_in_one_line,
             lambda *a: float(criterion_by_terms(*a)),
             lambda x, *a: criterion_by_terms([(c.requires_grad_(), m.requires_grad_()) for c, m in x], *a)],
    "04.5": [void_loops, void_by_the_library, void_filled, lambda *a: torch.stack(void_loops(*a)),
             lambda x, y, v: void_loops(x.double(), y.double(), v), lambda *a: [f.tolist() for f in void_loops(*a)]],
}
WRONG = {
    "04.1": [wrong_mixture, lambda *a: 2 * class_loss_loops(*a), lambda x, *a: x.mean(), lambda *a: -class_loss_loops(*a),
             lambda x, t, m, w=0.1: class_loss_loops(x, t, m, w * 2), lambda x, t, m, w=0.1: class_loss_loops(x[:1], t, m, w),
             lambda x, t, m, w=0.1: class_loss_loops(x.sigmoid(), t, m, w)],
    "04.2": [lambda x, y, m: tuple(torch.stack([f(b, i, j) for b, (q, t) in enumerate(m) for i, j in zip(q, t)])
                                   for f in (lambda b, i, j: x[b, i], lambda b, i, j: y[b]["masks"][j])),
             lambda x, y, m: (picked_by_loops(x, y, m)[0], [t["masks"] for t in y]),
             lambda x, y, m: (picked_flat(x, y, m)[1], picked_flat(x, y, m)[1]), lambda x, y, m: picked_flat(-x, y, m),
             lambda x, y, m: (x.sigmoid()[0, torch.cat([q for q, _ in m])], picked_flat(x, y, m)[1]),
             lambda x, y, m: picked_flat(x, y, m)[0]],
    "04.3": [lambda m, t: torch.cat(m), lambda m, t: torch.cat(m).sum() / 4, lambda m, t: torch.stack(m).sum(),
             lambda m, t: 2 * mask_loss_loop(m, t), lambda m, t: torch.cat(m).mean() / len(t)],
    "04.4": [lambda *a: 2 * criterion_by_terms(*a), lambda *a: 0.0, lambda x, *a: x, lambda x, t, w, *a: w,
             lambda x, *a: criterion_by_terms(x[:1], *a), lambda *a: criterion_by_terms(*a) / 4],
    "04.5": [lambda x, y, v: void_loops(x.sigmoid(), y, v), lambda x, y, v: void_loops(x, 1 - y, v),
             lambda x, y, v: torch.stack(void_loops(x, y, v)).sum(), lambda x, y, v: (x, y),
             lambda x, y, v: tuple(a * v.mean() for a in void_loops(x, y, v))],
}


@pytest.mark.parametrize(("number", "solution", "name"), [
    ("04.2", picked_by_yes_and_no, "the queries in ascending order, the targets not"),
    ("04.2", picked_backwards, "the images in the reverse order"),
    ("04.5", lambda x, y, v: void_loops(x * v, y, torch.ones_like(v)), "valid applied to the logits"),
    ("04.5", lambda x, y, v: (void_loops(x, y, v)[0], void_loops(x * v, y, torch.ones_like(v))[1]), "logits times valid")])
def test_mistakes_as_a_learner_writes_them(number, solution, name):
    assert core.judge(BY_ID[number], solution).mistake.name.startswith(name)


# --- the references agree with the library ----------------------------------------------------------------------------

@pytest.mark.filterwarnings("ignore:an image has")
def test_the_references_together_are_the_criterion():
    """04.1 to 04.5, put together as the lesson does, give SetCriterion's total on Lakeland targets with void."""
    data, g = Lakeland("val", size=64, difficulty=0.3), torch.Generator().manual_seed(0)
    targets = [data[i][1] for i in (254, 120, 42)]
    layers = [Output(torch.randn(3, 9, 12, generator=g), torch.randn(3, 9, 64, 64, generator=g)) for _ in range(2)]
    output = Output(*layers[1][:2], (layers[0],))
    criterion, terms = SetCriterion(11), {}
    for layer, suffix in zip(layers, ("_0", "")):
        matches = hungarian_match(layer.class_logits, layer.mask_logits, targets)
        terms["class" + suffix] = BY_ID["04.1"].reference(layer.class_logits, targets, matches)
        predictions, masks = BY_ID["04.2"].reference(layer.mask_logits, targets, matches)
        valid = torch.cat([t["valid"].expand(len(q), -1, -1) for t, (q, _) in zip(targets, matches)]).float()
        per_mask = BY_ID["04.5"].reference(*(a.flatten(1) for a in (predictions, masks, valid)))
        for name, values in zip(("focal", "dice"), per_mask):
            split = values.split([len(q) for q, _ in matches])
            terms[name + suffix] = BY_ID["04.3"].reference(split, targets)
    losses = criterion(output, targets)
    for name, value in terms.items():
        torch.testing.assert_close(value, losses[name], rtol=1e-5, atol=1e-6)
    total = core.find("03.6").reference(terms, criterion.weights)
    torch.testing.assert_close(total, losses["loss"], rtol=1e-5, atol=1e-5)


def test_the_remark_about_a_mask_wholly_in_void():
    assert "wholly in void" in core.judge(BY_ID["04.5"], void_filled).text
    assert "Remark" not in core.judge(BY_ID["04.5"], void_by_the_library).text


def test_natural_fixtures_would_hide_these_mistakes():
    """What each fixture is for: without it a mistake would pass."""
    def hidden(exercise_id, name, fixtures):
        exercise = BY_ID[exercise_id]
        mistake = next(m for m in exercise.mistakes if m.name == name)
        return all(exercise.same(core.call(mistake.fn, core.doubled(exercise.fixtures[i].args)),
                                 core.call(exercise.reference, core.doubled(exercise.fixtures[i].args)))
                   for i in fixtures)
    assert hidden("04.1", "0.1 written into the code", (0, 2, 3))
    assert hidden("04.1", "the weight left out", (2, 3))
    assert hidden("04.3", "divided by the number of matches", (0, 1, 3))
    assert hidden("04.3", "the floor of 1 in every image", (0, 2))
    assert hidden("04.4", "the last layer only", (2,))
    assert hidden("04.5", "void as negatives", (1,))
