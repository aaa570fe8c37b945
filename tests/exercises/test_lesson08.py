"""Lesson 08's exercises: right answers written differently, wrong ones that are no known mistake, and the library."""
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from exercises.banks import *  # noqa: F403

from minimaskformer import inference
from minimaskformer.exercises import core
from minimaskformer.exercises.lessons import lesson08
from minimaskformer.exercises.lessons.lesson08_map import _map
from minimaskformer.exercises.lessons.lesson08_panoptic import _ids, _survive
from minimaskformer.exercises.lessons.lesson08_pixels import _general, _semantic, upsample
from minimaskformer.exercises.lessons.lesson08_stack import _stack

BY_ID = {e.id: e for e in lesson08.EXERCISES}


# --- right answers, written differently -------------------------------------------------------------------------------

def general_loops(x, m):
    p, q = x.softmax(1).tolist(), m.sigmoid().tolist()
    K, (H, W) = len(p[0]) - 1, m.shape[1:]
    query_map, class_map = np.full((H, W), -1), np.full((H, W), -1)
    for h in range(H):
        for w in range(W):
            best = -1.0
            for i, row in enumerate(p):
                c = row.index(max(row))
                if c != K and max(row) * q[i][h][w] > best:
                    best, query_map[h, w], class_map[h, w] = max(row) * q[i][h][w], i, c
    return query_map, class_map


def general_masked(x, m):
    """All queries stay; those that see nothing get a score below zero."""
    scores, classes = x.softmax(-1).max(-1)
    scores = torch.where(classes == x.shape[-1] - 1, -1.0, scores)
    top, query_map = (scores[:, None, None] * m.sigmoid()).max(0)
    return [torch.where(top < 0, -1, query_map), torch.where(top < 0, -1, classes[query_map])]


def general_in_place(x, m):
    p = torch.softmax(x, 1)
    classes = p.argmax(1)
    m.sigmoid_().mul_(p.max(1).values[:, None, None])
    m[classes == p.shape[1] - 1] = -5
    query_map = m.argmax(0)
    query_map[m.amax(0) == -5] = -1
    class_map = torch.where(query_map >= 0, classes[query_map.clamp(min=0)], -1)
    return query_map.numpy(), class_map.to(torch.int32)


def general_log(x, m):
    log_p = x.log_softmax(-1)
    out = log_p.max(-1).values[:, None, None] + F.logsigmoid(m)
    none = log_p.argmax(-1) == x.shape[1] - 1
    out = out.masked_fill(none[:, None, None], float("-inf"))
    query_map = torch.where(none.all(), -1, out.argmax(0))
    return query_map, torch.where(query_map < 0, -1, log_p.argmax(-1)[query_map])


def scores_loops(x, m, size):
    big, p = F.interpolate(m.unsqueeze(0), size=list(size), mode="bilinear").squeeze(0).sigmoid(), x.softmax(-1)
    out = torch.zeros(x.shape[1] - 1, *size, dtype=torch.float64)
    for i in range(len(x)):
        for c in range(x.shape[1] - 1):
            out[c] += p[i, c] * big[i]
    return out


def scores_matmul(x, m, size):
    flat = torch.sigmoid(upsample(m.double(), size)).reshape(len(m), -1)
    return (x.double().softmax(1).T[:-1] @ flat).reshape(-1, *size).numpy()


def scores_by_hand(x, m, size):
    """Bilinear weights from the definition."""
    def weights(large, small):
        at = ((np.arange(large) + 0.5) * small / large - 0.5).clip(0, small - 1)
        return np.maximum(0, 1 - abs(at[:, None] - np.arange(small)))  # [large, small]
    rows, columns = weights(size[0], m.shape[1]), weights(size[1], m.shape[2])
    big = 1 / (1 + np.exp(-np.einsum("Hh,nhw,Ww->nHW", rows, m.double().numpy(), columns)))
    return np.einsum("nk,nhw->khw", x.double().softmax(1).numpy()[:, :-1], big).tolist()


def survive_loops(scores, probs, t):
    s, p, kept = scores.tolist(), probs.tolist(), []
    H, W = probs.shape[1:]
    won, own = [0] * len(s), [0] * len(s)
    for h in range(H):
        for w in range(W):
            column = [s[i] * p[i][h][w] for i in range(len(s))]
            won[column.index(max(column))] += 1
            for i in range(len(s)):
                own[i] += p[i][h][w] >= 0.5
    for a, b in zip(won, own):
        kept.append(a > 0 and b > 0 and not a / b < t)
    return kept


def survive_bincount(scores, probs, t):
    n = len(scores)
    won = torch.bincount(torch.einsum("n,nhw->nhw", scores, probs).argmax(0).flatten(), minlength=n).double()
    own = (~(probs < 0.5)).sum((1, 2))
    ratio = torch.where(own > 0, won / own.clamp(min=1), torch.zeros(()).double())
    return ((ratio >= t) & (ratio > 0)).numpy()


def survive_one_hot(scores, probs, t):
    winner = F.one_hot((scores.view(-1, 1, 1) * probs).max(0).indices, len(scores))  # [H, W, N]
    won, own = winner.sum((0, 1)), (probs >= 0.5).sum((1, 2))
    return ((won >= t * own) & (won * own > 0)).int()


def ids_dict(classes, things):
    out, of = [], {}
    for c in classes:
        key = (c, len(out)) if c in things else c
        of.setdefault(key, len(of) + 1)
        out.append(of[key])
    return out


def ids_tensor(classes, things):
    out = torch.zeros(len(classes), dtype=torch.int32)
    for i, c in enumerate(classes):
        earlier = [j for j in range(i) if classes[j] == c and c not in things]
        out[i] = out[earlier[0]] if earlier else out.max() + 1
    return out


def ids_two_passes(classes, things):
    first = [c in things or c not in classes[:i] for i, c in enumerate(classes)]
    number = np.cumsum(first)
    return np.array([number[i] if f else number[classes.index(c)] for i, (c, f) in enumerate(zip(classes, first))])


def map_library(x, m, *rest):
    return inference.panoptic_inference(x, m, *rest)[0]


def map_loops(x, m, things, score_threshold, overlap_threshold):
    p, q = x.double().softmax(1).numpy(), m.double().sigmoid().numpy()
    K, out = p.shape[1] - 1, np.zeros(m.shape[1:], int)
    kept = [i for i in range(len(p)) if p[i].argmax() < K and p[i].max() > score_threshold]
    if not kept:
        return out
    winner = np.array(kept)[np.stack([p[i].max() * q[i] for i in kept]).argmax(0)]
    known, count = {}, 0
    for i in kept:
        won, own, c = (winner == i).sum(), (q[i] >= 0.5).sum(), int(p[i].argmax())
        if not won or not own or won / own < overlap_threshold:
            continue
        if c not in known or c in things:
            count += 1
            known[c] = count
        out[winner == i] = known[c]
    return out.tolist()


def map_lookup(x, m, things, score_threshold, overlap_threshold):
    """All queries compete, those out of the game with -1."""
    score, c = x.softmax(-1).max(-1)
    game = (c < x.shape[1] - 1) & (score > score_threshold)
    top, winner = torch.where(game[:, None, None], score[:, None, None] * m.sigmoid(), -1.0).max(0)
    winner = torch.where(top < 0, len(x), winner)
    won, own = torch.bincount(winner.flatten(), minlength=len(x) + 1)[:-1], (m >= 0).flatten(1).sum(1)
    stays = game & (won > 0) & (own > 0) & (won / own.clamp(min=1) >= overlap_threshold)
    lut = torch.zeros(len(x) + 1, dtype=torch.int64)
    lut[:-1][stays] = torch.tensor(ids_dict(c[stays].tolist(), things), dtype=torch.int64)
    return lut[winner]


def stack_library(*args):
    result = inference.instance_inference(*args)
    return result["masks"], result["labels"], result["scores"]


def stack_loops(x, m, things, top_k):
    p, q = x.softmax(-1), m.sigmoid()
    pairs = sorted(((p[i, c].item(), i, c) for i in range(len(p)) for c in range(p.shape[1] - 1)), reverse=True)
    found = []
    for prob, i, c in pairs[:top_k]:
        inside = q[i] > 0.5
        if c in things and inside.any():
            found.append((prob * q[i][inside].mean().item(), c, inside.numpy()))
    found.sort(key=lambda f: -f[0])
    return [f[2] for f in found], [f[1] for f in found], [f[0] for f in found]


def stack_numpy(x, m, things, top_k):
    e = np.exp(x.double().numpy())
    p, q = (e / e.sum(1, keepdims=True))[:, :-1], 1 / (1 + np.exp(-m.double().numpy()))
    order = np.argsort(-p, axis=None)[:top_k]
    i, c = np.unravel_index(order, p.shape)
    masks = q > 0.5
    area = masks.sum((1, 2))
    score = p[i, c] * ((q * masks).sum((1, 2)) / np.maximum(area, 1))[i]
    keep = np.isin(c, list(things)) & (area[i] > 0)
    i, c, score = i[keep], c[keep], score[keep]
    by = np.argsort(-score)
    return masks[i[by]].astype(np.uint8), c[by], score[by].astype(np.float32)


def survive_in_place(scores, probs, t):
    own = (probs >= 0.5).sum((1, 2))
    probs *= scores[:, None, None]
    won = F.one_hot(probs.argmax(0), len(scores)).sum((0, 1))
    return (won >= t * own) * (won > 0) * (own > 0)


def ids_popping(classes, things):
    out, known, count = [], {}, 0
    while classes:
        c = classes.pop(0)
        if c not in known:
            count += 1
        out.append(known.get(c, count))
        if c not in things:
            known[c] = out[-1]
    return out


def map_in_place(x, m, things, score_threshold, overlap_threshold):
    """Maps and masks changed in place, ids given while walking over all N queries."""
    m.sigmoid_()
    scores, classes = x.softmax(-1).max(-1)
    scores[(classes == x.shape[1] - 1) | ~(scores > score_threshold)] = -1
    own = (m >= 0.5).sum((1, 2))
    m *= scores[:, None, None]
    winner = m.argmax(0)
    winner[m.amax(0) < 0] = -1
    out, known, count = torch.zeros_like(winner, dtype=torch.int32), {}, 0
    for i in range(len(x)):
        mine, c = winner == i, int(classes[i])
        if own[i] and mine.any() and mine.sum() >= overlap_threshold * own[i]:
            count += c not in known
            out[mine] = known.get(c, count)
            if c not in things:
                known[c] = known.get(c, count)
    return out


def stack_in_place(x, m, things, top_k):
    x.exp_()
    x /= x.sum(1, keepdim=True)
    flat, rows = x[:, :-1].reshape(-1), []
    for place in flat.argsort(descending=True)[:top_k].tolist():
        i, c = divmod(place, x.shape[1] - 1)
        if c in things and (m[i] > 0).any():
            rows.append((float(flat[place] * m[i][m[i] > 0].sigmoid().mean()), c, (m[i] > 0).int().tolist()))
    rows.sort(key=lambda row: -row[0])
    return [r[2] for r in rows], [r[1] for r in rows], [r[0] for r in rows]


RIGHT = {
    "08.1": [general_loops, general_masked, general_in_place, general_log,
             lambda x, m: general_masked(x.double(), m.double()), lambda x, m: torch.stack(general_masked(x, m)),
             lambda x, m: tuple(a.tolist() for a in general_loops(x, m))],
    "08.2": [scores_loops, scores_matmul, scores_by_hand, lambda x, m, s: scores_loops(x, m, s).tolist(),
             lambda x, m, s: inference.semantic_scores(x, upsample(m, s)),
             lambda x, m, s: torch.tensordot(x.softmax(-1)[:, :-1].T, upsample(m, s).sigmoid(), 1),
             lambda x, m, s: (x.softmax(-1)[:, :-1, None, None] * upsample(m, s).sigmoid()[:, None]).sum(0),
             lambda x, m, s: F.interpolate(m[:, None], s, mode="bilinear").sigmoid()[:, 0].permute(1, 2, 0)
             .matmul(x.softmax(1)).permute(2, 0, 1)[:-1]],
    "08.3": [survive_loops, survive_bincount, survive_one_hot, survive_in_place,
             lambda s, m, t: survive_one_hot(s.double(), m.double(), t),
             lambda s, m, t: torch.tensor(survive_loops(s, m, t)).tolist(),
             lambda s, m, t: np.array(survive_loops(s, m, t))],
    "08.4": [ids_dict, ids_tensor, ids_two_passes, ids_popping, lambda c, t: tuple(ids_dict(c, t)),
             lambda c, t: ids_tensor(torch.tensor(c).tolist(), set(t))],
    "08.5": [map_library, map_loops, map_lookup, map_in_place, lambda x, m, *rest: map_lookup(x.double(), m.double(), *rest),
             lambda *args: np.array(map_loops(*args), np.int16), lambda *args: map_library(*args).T.contiguous().T],
    "08.6": [stack_library, stack_loops, stack_numpy, stack_in_place, lambda x, m, *rest: stack_library(x.double(), m.double(), *rest),
             lambda *args: list(stack_library(*args)),
             lambda *args: tuple(torch.as_tensor(np.asarray(a)) for a in stack_loops(*args))],
}


# --- wrong answers that are no known mistake, and two mistakes at once ------------------------------------------------

def ids_stuff_first(classes, things):
    stuff = list(dict.fromkeys(c for c in classes if c not in things))
    return [stuff.index(c) + 1 if c in stuff else len(stuff) + sum(d in things for d in classes[i:])
            for i, c in enumerate(classes)]


def map_by_share(*args):  # the smaller area over the larger one: right wherever nobody wins more than it claims
    def share(won, own):
        areas = [part.flatten(1).sum(1) for part in (won, own)]
        return torch.minimum(*areas) / torch.maximum(*areas).clamp(min=1)
    return _map(*args, test={"left": share})


WRONG = {
    "08.1": [lambda x, m: _general(x, m, keep=lambda s, c, K: s > -1, weigh=lambda s, m: m.sigmoid() + 0 * s),
             lambda x, m: _general(x, m, number=False, weigh=lambda s, m: s + m.sigmoid()),
             lambda x, m: _general(x, m, weigh=lambda s, m: -s * m.sigmoid()),
             lambda x, m: _general(x, m, keep=lambda s, c, K: (c != K) & (s < 0.9)),
             lambda x, m: _general(x, m)[0], lambda x, m: _general(x, m, number=False, keep=lambda s, c, K: s > 0.5),
             lambda x, m: _general(x, m, number=False, weigh=lambda s, m: m.sigmoid() + 0 * s),
             lambda x, m: (torch.full(m.shape[1:], -1),) * 2,
             lambda x, m: tuple(a.T for a in _general(x, m)), lambda x, m: (_general(x, m)[0] + 1, _general(x, m)[1])],
    "08.2": [lambda x, m, s: _semantic(x, m, s, probs=lambda x: x.softmax(-1), masks=lambda m, s: upsample(m.sigmoid(), s)),
             lambda x, m, s: _semantic(x, m, s, probs=lambda x: x[:, :-1].softmax(-1), masks=upsample),
             lambda x, m, s: _semantic(x, m, s, masks=lambda m, s: upsample(m.sigmoid(), s, "bicubic")),
             lambda x, m, s: _semantic(x, m, s, masks=lambda m, s: upsample(m.sigmoid(), s, align_corners=True)),
             lambda x, m, s: _semantic(x, m, s).transpose(1, 2), lambda x, m, s: _semantic(x, m, s) * 2,
             lambda x, m, s: _semantic(x, m, s, masks=lambda m, s: upsample(m.sigmoid(), s, "nearest")) / len(x),
             lambda x, m, s: _semantic(x, m, m.shape[1:])],
    "08.3": [lambda s, m, t: _survive(s, m, t, own=lambda s, m: m > 0.5, passes=lambda r, t: r > t),
             lambda s, m, t: _survive(s, m, 0.5), lambda s, m, t: torch.ones(len(s)).bool(),
             lambda s, m, t: _survive(s, m, t, own=lambda s, m: m >= 0.3),
             lambda s, m, t: (_survive(s, m, t) & (s >= t)), lambda s, m, t: s > t,
             lambda s, m, t: _survive(s, m, t, weigh=lambda s, m: m, passes=lambda r, t: r > t),
             lambda s, m, t: _survive(s, m, t)[:-1], lambda s, m, t: _survive(s, m, t).float() / 2,
             lambda s, m, t: ~_survive(s, m, t, own=lambda s, m: s[:, None, None] * m >= 0.5)],
    "08.4": [lambda c, t: [i * 2 for i in ids_dict(c, t)], lambda c, t: ids_dict(c[::-1], t)[::-1],
             lambda c, t: _ids(c, t, start=0, merges=lambda c, t, p: False),
             lambda c, t: [i - 1 for i in _ids(c, t, step=lambda n, m: m)], ids_stuff_first,
             lambda c, t: _ids(c, t, start=2), lambda c, t: ids_dict(c, t)[:-1], lambda c, t: [1] * len(c),
             lambda c, t: _ids(c, t, merges=lambda c, t, p: True, step=lambda n, m: m)],
    "08.5": [lambda *a: _map(*a, runner_up=True, ids=lambda c, t: _ids(c, t, start=0)),
             lambda *a: _map(*a, test={"own": lambda s, m: s[:, None, None] * m >= 0.5}, floor=True),
             lambda x, m, t, s, o: _map(x, m, t, 0.5, 0.5), lambda *a: map_library(*a) * 2,
             lambda *a: map_library(*a).T, lambda *a: torch.zeros(a[1].shape[1:], dtype=torch.int64),
             lambda *a: _map(*a, keep=lambda s, c, K, t: c != K, void=-1),
             lambda *a: _map(*a, keep=lambda s, c, K, t: c != K, turn=torch.ones_like),
             lambda *a: _map(*a, runner_up=True, ids=lambda c, t: _ids(c, t, merges=lambda c, t, p: False)),
             lambda *a: (_map(*a) > 0).int(), inference.panoptic_inference,
             map_by_share],
    "08.6": [lambda *a: _stack(*a, sort=False, drop_empty=False), lambda *a: _stack(*a, single=True, stuff_first=True),
             lambda *a: _stack(*a, probs=lambda x: x[:, :-1].softmax(-1), stuff_first=True), lambda *a: _stack(*a)[1:],
             lambda *a: tuple(v[:0] for v in _stack(*a)),
             lambda x, m, t, k: _stack(x, m, t, k - 1),
             lambda *a: (_stack(*a)[0], _stack(*a)[1], _stack(*a)[2].sqrt()), inference.instance_inference],
}


# --- the references are the library's rules ---------------------------------------------------------------------------

def predictions(seed, N=9, K=4, H=6, W=7):
    rng = np.random.default_rng(seed)
    return (torch.tensor(rng.normal(0, 2, (N, K + 1)), dtype=torch.float32),
            torch.tensor(rng.normal(0, 2, (N, H, W)), dtype=torch.float32))


@pytest.mark.parametrize("seed", range(8))
def test_references_are_the_library(seed):
    x, m = predictions(seed)
    for a, b in zip(lesson08.general_inference(x, m), inference.general_inference(x, m)):
        assert torch.equal(a, b)
    torch.testing.assert_close(lesson08.semantic_scores_at(x, m, (13, 11)),
                               inference.semantic_scores(x, upsample(m, (13, 11))))
    for s, o in ((0.0, 0.0), (0.4, 0.3), (0.7, 0.8)):
        assert torch.equal(lesson08.panoptic_map(x, m, (1, 2), s, o), map_library(x, m, (1, 2), s, o))
        candidates = inference.panoptic_candidates(x, m, (1, 2), s, o)
        competed = [c for c in candidates if c.fate not in ("no object", "score")]
        if competed:
            queries = [c.query for c in competed]
            stays = lesson08.surviving(torch.tensor([c.score for c in competed]), m[queries].sigmoid(), o)
            assert stays.tolist() == [c.segment_id > 0 for c in competed]
            kept = [c for c in competed if c.segment_id]
            assert lesson08.segment_ids([c.category_id for c in kept], (1, 2)) == [c.segment_id for c in kept]
    for a, b in zip(lesson08.instances(x, m, (1, 2), 20), stack_library(x, m, (1, 2), 20)):
        torch.testing.assert_close(a, b)


def test_no_fixture_hangs_on_rounding():
    """Winners, ranks and thresholds are clear by far more than float32's rounding."""
    for exercise in (lesson08.general_exercise, lesson08.map_exercise):
        for fixture in exercise.fixtures:
            x, m = (a.double() for a in fixture.args[:2])
            scores, classes = x.softmax(-1).max(-1)
            kept = classes != x.shape[1] - 1
            if len(fixture.args) > 2:
                gaps = (scores - fixture.args[3]).abs()
                assert ((gaps > 1e-3) | (gaps == 0)).all()
                kept &= scores > fixture.args[3]
            if kept.sum() > 1:
                top = (scores[kept, None, None] * m[kept].sigmoid()).topk(2, 0).values
                assert (top[0] - top[1]).min() > 1e-3
    for fixture in lesson08.stack_exercise.fixtures:
        x, _, _, top_k = core.doubled(fixture.args)
        probs = x.softmax(-1)[:, :-1].flatten().sort(descending=True).values
        scores = lesson08.instances(*core.doubled(fixture.args))[2]
        assert (scores[:-1] - scores[1:] > 1e-3).all()
        assert top_k == len(probs) or probs[top_k - 1] - probs[top_k] > 1e-3


def test_a_stack_may_be_empty():
    assert len(lesson08.STACK_FIXTURES[-1].args[0]) == 4 and not len(lesson08.instances(*lesson08.STACK_FIXTURES[-1].args)[0])
    stacked = core.judge(core.find("08.6"), lambda *args: (torch.stack(list(lesson08.instances(*args)[0])), *lesson08.instances(*args)[1:]))
    assert stacked.kind == "exception"


def test_weighed_areas_are_no_cut_at_one_half():
    def weighed(s, m, t):
        won = (s[:, None, None] * m).argmax(0) == torch.arange(len(s))[:, None, None]
        ratio = (m * won).sum((1, 2)) / (m * (m >= 0.5)).sum((1, 2)).clamp(min=1e-9)
        return won.any(-1).any(-1) & (m >= 0.5).any(-1).any(-1) & (ratio >= t)
    assert core.judge(core.find("08.3"), weighed).mistake.name == "both areas as sums of probabilities"
