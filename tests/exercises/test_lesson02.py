"""Lesson 02's exercises: right answers written differently, wrong ones that are no known mistake, and the library."""
import itertools
import math

import numpy as np
import torch
import torch.nn.functional as F
from exercises.banks import *  # noqa: F403
from scipy.optimize import linear_sum_assignment

from minimaskformer import losses, matching
from minimaskformer.exercises import core
from minimaskformer.exercises.lessons import lesson02

BY_ID = {e.id: e for e in lesson02.EXERCISES}


def class_cost_loops(class_logits, labels):
    rows = class_logits.tolist()
    return [[-math.exp(row[c]) / sum(math.exp(v) for v in row) for c in labels.tolist()] for row in rows]


def class_cost_in_place(class_logits, labels):
    class_logits -= class_logits.max(1, keepdim=True).values
    class_logits.exp_()
    class_logits /= class_logits.sum(1, keepdim=True)
    return class_logits.neg_()[:, labels]


def dice_cost_loops(mask_logits, masks, valid):
    cost = torch.zeros(len(mask_logits), len(masks))
    for i, x in enumerate(mask_logits):
        for j, y in enumerate(masks):
            p, keep = torch.sigmoid(x), valid[0] == 1
            p, y = p[keep], y[keep]
            cost[i, j] = 1 - (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1)
    return cost


def focal_cost_loops(mask_logits, masks, valid, alpha=0.25, gamma=2.0):
    cost = np.zeros((len(mask_logits), len(masks)), np.float32)
    for i, x in enumerate(mask_logits.tolist()):
        for j, y in enumerate(masks.tolist()):
            pixels = [k for k in range(len(x)) if valid[0, k]]
            for k in pixels:
                p = 1 / (1 + math.exp(-x[k]))
                p_t, a_t = (p, alpha) if y[k] else (1 - p, 1 - alpha)
                cost[i, j] += a_t * (1 - p_t) ** gamma * -math.log(p_t) / len(pixels)
    return cost


def focal_cost_broadcast(mask_logits, masks, valid, alpha=0.25, gamma=2.0):
    x, y = torch.broadcast_tensors(mask_logits[:, None], masks[None])
    ce = F.binary_cross_entropy_with_logits(x, y, reduction="none")
    loss = torch.where(y == 1, alpha, 1 - alpha) * (1 - torch.exp(-ce)) ** gamma * ce
    return torch.einsum("ntp,p->nt", loss, valid[0]) / valid.sum()


def assign_brute_force(cost):
    if cost.shape[0] < cost.shape[1]:
        return assign_brute_force(cost.T)[::-1]
    n, t = cost.shape
    best = min(itertools.permutations(range(n), t), key=lambda p: sum(cost[i, j].item() for j, i in enumerate(p)))
    return list(best), list(range(t))


def assign_numpy(cost):
    return linear_sum_assignment(cost.numpy())


def assign_by_target(cost):
    targets, queries = linear_sum_assignment(cost.T)
    return torch.tensor(queries, dtype=torch.int32), torch.tensor(targets, dtype=torch.int32)


def query_of_target_loop(queries, targets):
    out = torch.empty_like(queries)
    for q, t in zip(queries, targets):
        out[t] = q
    return out


def query_classes_loop(labels, queries, targets, num_queries, num_classes):
    wanted = dict(zip(queries.tolist(), targets.tolist()))
    return [int(labels[wanted[i]]) if i in wanted else num_classes for i in range(num_queries)]


RIGHT = {
    "02.1": [class_cost_loops, class_cost_in_place,
             lambda x, c: -torch.exp(x.double() - x.double().logsumexp(1, keepdim=True))[:, c],
             lambda x, c: -torch.einsum("nk,tk->nt", x.softmax(1), F.one_hot(c, x.shape[1]).float()),
             lambda x, c: (-F.softmax(x.requires_grad_(), dim=1)).T[c].T,
             lambda x, c: x.softmax(-1).numpy()[:, c.numpy()] * -1.0],
    "02.2": [dice_cost_loops, lambda x, y, v: dice_cost_loops(x, y, v).double(),
             lambda x, y, v: dice_cost_loops(x, y, v).tolist(),
             lambda x, y, v: 1 - (2 * torch.einsum("np,tp,p->nt", x.sigmoid(), y, v[0]) + 1)
             / ((x.sigmoid() @ v.T) + (y @ v.T).T + 1),
             lambda x, y, v: torch.cat([dice_cost_loops(x, y[j:j + 1], v) for j in range(len(y))] + [x[:, :0]], 1),
             lambda x, y, v: matching.dice_cost(x[None], y[None], v[None])[0]],
    "02.3": [focal_cost_loops, focal_cost_broadcast,
             lambda x, y, v, a, g: focal_cost_broadcast(x.double(), y.double(), v.double(), a, g),
             lambda x, y, v, a, g: (a * ((1 - x.sigmoid()) ** g * -x.sigmoid().log() * v) @ y.T
                              + (1 - a) * (x.sigmoid() ** g * -(1 - x.sigmoid()).log() * v) @ (1 - y).T) / v.sum(),
             lambda x, y, v, a, g: [[losses.sigmoid_focal_loss(i[None], j[None], 1, a, g, v) for j in y] for i in x]],
    "02.4": [assign_brute_force, assign_numpy, assign_by_target, lambda c: torch.tensor(np.array(assign_numpy(c))),
             lambda c: [list(v) for v in assign_numpy(c)]],
    "02.5": [query_of_target_loop, lambda q, t: [b for _, b in sorted(zip(t.tolist(), q.tolist()))],
             lambda q, t: q.numpy()[np.argsort(t.numpy())], lambda q, t: q[torch.sort(t).indices],
             lambda q, t: q.scatter(0, t, q.clone())],
    "02.6": [query_classes_loop, lambda *args: np.array(query_classes_loop(*args)),
             lambda c, q, t, n, k: torch.full((n,), k).scatter(0, q, c[t]),
             lambda c, q, t, n, k: torch.full((n,), k, dtype=torch.int32).index_copy_(0, q, c[t].int())],
}
WRONG = {
    "02.1": [lambda x, c: x.softmax(0).softmax(-1)[:, c], lambda x, c: x[:, :-1].log_softmax(-1)[:, c],
             lambda x, c: -x.softmax(-1)[:, c] * 2, lambda x, c: torch.full((len(x), len(c)), torch.nan),
             lambda x, c: x @ x, lambda x, c: "cost", lambda x, c: [[1, 2], [3]]],
    "02.2": [lambda x, y, v: 1 - 2 * (x.sigmoid().sigmoid() @ y.T) / (x.sigmoid().sigmoid().sum(1)[:, None] + y.sum(1)),
             lambda x, y, v: (matching.dice_cost(x.sigmoid(), y, v) - 1).T, lambda x, y, v: x * y,
             lambda x, y, v: matching.dice_cost(x, y, v)[0]],
    "02.3": [lambda x, y, v, a, g: focal_cost_broadcast(x.sigmoid(), y, v, 1 - a, g),
             lambda x, y, v, a, g: focal_cost_broadcast(x, y, torch.ones_like(v), a, g).T,
             lambda x, y, v, a, g: focal_cost_broadcast(x, y, v, a, g) * 5,
             lambda x, y, v, a, g: focal_cost_broadcast(x, y, v, a, 3.0)],
    "02.4": [lambda c: linear_sum_assignment(c, maximize=True)[::-1], lambda c: assign_numpy(c.exp()), lambda c: (c.argmin(0), c.argmin(0)),
             lambda c: c, lambda c: 3, lambda c: ([0], [0]), lambda c: ([0.0], [0.0])],
    "02.5": [lambda q, t: t[q], lambda q, t: q[t].flip(0), lambda q, t: q[t.argsort()].float(),
             lambda q, t: dict(zip(t, q))],
    "02.6": [lambda c, q, t, n, k: torch.zeros(n), lambda c, q, t, n, k: query_classes_loop(c + 2, q, t, n, k),
             lambda c, q, t, n, k: query_classes_loop(c, q, t.argsort(), n, 0),
             lambda c, q, t, n, k: torch.tensor(query_classes_loop(c, q, t, n, k)).float()],
}


# --- the references agree with the library ----------------------------------------------------------------------------

def test_class_cost_is_the_class_part_of_the_library_cost():
    x, masks = torch.randn(5, 4, generator=torch.Generator().manual_seed(0)), torch.ones(3, 2, 2, dtype=torch.bool)
    labels = torch.tensor([2, 0, 2])
    library = matching.pairwise_cost(x, torch.zeros(5, 2, 2), {"labels": labels, "masks": masks}, 1.0, 0.0, 0.0)
    assert torch.allclose(BY_ID["02.1"].reference(x, labels), library)


def test_query_classes_are_what_the_classification_loss_trains():
    x = torch.randn(1, 5, 4, generator=torch.Generator().manual_seed(0))
    labels, match = torch.tensor([2, 0]), (torch.tensor([1, 4]), torch.tensor([1, 0]))
    classes = BY_ID["02.6"].reference(labels, *match, 5, 3)
    mine = F.cross_entropy(x[0], classes, torch.tensor([1.0, 1, 1, 0.1]))
    assert torch.allclose(mine, losses.classification_loss(x, [{"labels": labels}], [match]))


def test_remarks_on_right_but_fragile_solutions():
    text = core.judge(BY_ID["02.3"], RIGHT["02.3"][3]).text
    assert "F.softplus" in text
    for exercise in BY_ID.values():
        assert "Remark" not in core.judge(exercise, exercise.reference).text


