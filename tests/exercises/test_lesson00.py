"""Lesson 00's exercises: right answers written differently, wrong ones that are no known mistake, and the library."""
import numpy as np
import pytest
import torch
from exercises.banks import *  # noqa: F403

from minimaskformer import Lakeland, general_inference
from minimaskformer.exercises import core
from minimaskformer.exercises.lessons import lesson00

BY_ID = {e.id: e for e in lesson00.EXERCISES}


def count_loop(segment_map, segments_info, category):
    n = 0
    for s in segments_info:
        if s["category_id"] == category:
            n += 1
    return n


def count_by_pixels(segment_map, segments_info, category):
    class_of = {s["id"]: s["category_id"] for s in segments_info}
    return sum(class_of.get(i, -1) == category for i in np.unique(segment_map.numpy()).tolist())


def no_object_by_comparing(class_logits):
    others, last = class_logits[:, :-1], class_logits[:, -1:]
    return (last > others).all(1)


def semantic_by_lookup(segment_map, segments_info, ignore=255):
    table = torch.full((int(segment_map.max()) + 1,), ignore)
    for s in segments_info:
        table[s["id"]] = s["category_id"]
    return table[segment_map.long()]


def semantic_by_pixel(segment_map, segments_info, ignore=255):
    class_of = {0: ignore} | {s["id"]: s["category_id"] for s in segments_info}
    return [[class_of[i] for i in row] for row in segment_map.tolist()]


def query_map_loops(class_logits, mask_logits):
    probs, masks = class_logits.softmax(-1).tolist(), mask_logits.sigmoid().tolist()
    best = [(max(p), p.index(max(p))) for p in probs]
    seers = [i for i, (_, c) in enumerate(best) if c < len(probs[0]) - 1]
    rows, columns = mask_logits.shape[1:]
    return [[max(seers, key=lambda i: best[i][0] * masks[i][r][c], default=-1) for c in range(columns)]
            for r in range(rows)]


def query_map_by_zeroing(class_logits, mask_logits):
    p = class_logits.softmax(-1)
    sees = p.argmax(-1) != p.shape[-1] - 1
    claims = torch.einsum("n,nhw->nhw", p.amax(-1) * sees, mask_logits.sigmoid())
    return claims.argmax(0) if sees.any() else torch.full(claims.shape[1:], -1)


RIGHT = {
    "00.1": [count_loop, count_by_pixels, lambda m, s, c: torch.tensor(count_loop(m, s, c)),
             lambda m, s, c: len([1 for t in s if t["category_id"] == c]),
             lambda m, s, c: np.bincount([t["category_id"] for t in s], minlength=c + 1)[c]],
    "00.2": [no_object_by_comparing, lambda x: (x.softmax(-1).argmax(-1) == len(x[0]) - 1).int(),
             lambda x: [row.index(max(row)) == len(row) - 1 for row in x.tolist()],
             lambda x: x.numpy().argmax(1) == x.shape[1] - 1,
             lambda x: x.softmax(-1)[:, -1] == x.softmax(-1).max(-1).values],
    "00.3": [semantic_by_lookup, semantic_by_pixel, lambda m, s, i: np.array(semantic_by_pixel(m, s, i), np.int16),
             lambda m, s, i: semantic_by_lookup(m, s, i).int(),
             lambda m, s, i: sum(((m == t["id"]).long() * (t["category_id"] - i) for t in s), 0 * m) + i],
    "00.4": [query_map_loops, query_map_by_zeroing, lambda x, m: query_map_by_zeroing(x.double(), m.double()).int(),
             lambda x, m: general_inference(x, m)[0], lambda x, m: query_map_by_zeroing(x, m).numpy()],
}
WRONG = {
    "00.1": [lambda m, s, c: len(s) - 1, lambda m, s, c: [t for t in s if t["category_id"] == c],
             lambda m, s, c: float(count_loop(m, s, c)), lambda m, s, c: s[c]["area"], lambda m, s, c: m.max()],
    "00.2": [lambda x: x, lambda x: x.argmax(0) == 3, lambda x: (x.argmax(-1) != 0).flip(0),
             lambda x: (x.argmax(-1) == x.shape[-1] - 1).float(), lambda x: x.softmax(-1)[:, -1]],
    "00.3": [lambda m, s, i: m.long() + 1, lambda m, s, i: semantic_by_lookup(m, s, 0) + 1,
             lambda m, s, i: semantic_by_lookup(m, s, i).T, lambda m, s, i: semantic_by_lookup(m, s, i).float(),
             lambda m, s, i: semantic_by_lookup(m, s, 100), lambda m, s, i: {t["id"]: t["category_id"] for t in s}],
    "00.4": [lambda x, m: general_inference(x, m), lambda x, m: general_inference(x, m)[0] + 1,
             lambda x, m: query_map_by_zeroing(x, m).T,
             lambda x, m: (x.softmax(0).amax(1)[:, None, None] * m).argmax(0), lambda x, m: x.argmax(-1)],
}


@pytest.mark.parametrize("seed", range(5))
def test_query_map_is_general_inference(seed):
    g = torch.Generator().manual_seed(seed)
    x, m = 2 * torch.randn(9, 6, generator=g), 3 * torch.randn(9, 8, 7, generator=g)
    assert torch.equal(BY_ID["00.4"].reference(x, m), general_inference(x, m)[0])
    silent = torch.tensor([[0.0, 1.0], [0.0, 3.0]])  # every query says no object
    assert torch.equal(BY_ID["00.4"].reference(silent, m[:2]), general_inference(silent, m[:2])[0])


def test_the_empty_case_costs_no_name():
    """A mistake is named for a learner who guards the case in which no query sees anything, and for one who does not."""
    def no_sigmoid(class_logits, mask_logits):
        p, c = class_logits.softmax(-1).max(-1)
        kept = (c < class_logits.shape[1] - 1).nonzero()[:, 0]
        return kept[(p[kept, None, None] * mask_logits[kept]).argmax(0)]

    def guarded(class_logits, mask_logits):
        silent = (class_logits.argmax(-1) == class_logits.shape[1] - 1).all()
        return torch.full(mask_logits.shape[1:], -1) if silent else no_sigmoid(class_logits, mask_logits)

    for fn in (no_sigmoid, guarded):
        assert core.judge(BY_ID["00.4"], fn).mistake.name == "mask logits without the sigmoid"


def test_counting_real_scenes():
    """The count from segments_info equals the number of true masks of the class; regions often disagree."""
    data, wrong = Lakeland("val", size=64, length=20), 0
    for _, target in (data[i] for i in range(20)):
        info = [s for s in target["segments_info"] if not s["iscrowd"]]
        for c in range(len(data.classes)):
            n = int((target["labels"] == c).sum())
            assert BY_ID["00.1"].reference(target["segment_map"], info, c) == n
            wrong += lesson00._regions(target["segment_map"], info, c) != n
    assert wrong > 20


def test_winners_on_the_fixtures_are_clear():
    """No claim of exercise 00.4 is so close to the next that rounding could decide."""
    for fixture in BY_ID["00.4"].fixtures:
        x, m = fixture.args
        p, c = x.softmax(-1).max(-1)
        best = (p[:, None, None] * m.sigmoid())[c != x.shape[1] - 1]
        if len(best):
            best = best.topk(2, 0).values
            assert (best[0] - best[1]).min() > 0.02
