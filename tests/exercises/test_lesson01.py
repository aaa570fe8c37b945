"""Lesson 01's exercises: right answers written differently, wrong ones that are no known mistake, and the library."""
import numpy as np
import pytest
import torch
from exercises.banks import *  # noqa: F403

from minimaskformer import Lakeland, semantic_scores, targets
from minimaskformer.data.classes import ClassTable
from minimaskformer.exercises import core
from minimaskformer.exercises.lessons import lesson01

BY_ID = {e.id: e for e in lesson01.EXERCISES}


def stacked(pairs, *others):
    masks = [mask for _, mask in pairs]
    return torch.tensor([c for c, _ in pairs], dtype=torch.int64), torch.stack(masks) if masks else [], *others


def set_backwards(label_map, ignore=255):
    return stacked([(c, label_map == c) for c in reversed(range(300)) if c != ignore and (label_map == c).any()])


def set_numpy(label_map, ignore=255):
    a = label_map.numpy()
    labels = np.setdiff1d(a, [ignore])
    return labels, np.equal.outer(labels, a)


def set_lists(label_map, ignore=255):
    rows = label_map.tolist()
    labels = list({v: None for row in rows for v in row if v != ignore})
    return labels, [[[v == c for v in row] for row in rows] for c in labels]


def set_by_library(label_map, ignore=255):
    target = targets.semantic_to_target(label_map, 99, ignore=ignore)
    return target["labels"], target["masks"]


def remap_loop(file_labels, file_ids, ignore=255):
    out = torch.full(file_labels.shape, ignore)
    for k, i in enumerate(file_ids):
        out[file_labels == i] = k
    return out


def remap_lists(file_labels, file_ids, ignore=255):
    return [[file_ids.index(v) if v in file_ids else ignore for v in row] for row in file_labels.tolist()]


def remap_class_table(file_labels, file_ids, ignore=255):
    table = ClassTable(tuple(map(str, file_ids)), (False,) * len(file_ids), file_ids)
    out = file_labels.int()
    for v in torch.unique(file_labels).tolist():
        out[file_labels == v] = table.index(v) if v in file_ids else ignore
    return out


def panoptic_append(segment_map, segments_info):
    pairs, valid = [], segment_map != 0
    for s in segments_info[::-1]:
        mask = segment_map == s["id"]
        if s["iscrowd"]:
            valid[mask] = False
        elif mask.sum() > 0:
            pairs.append((s["category_id"], mask))
    return stacked(pairs, valid)


def panoptic_by_pixel(segment_map, segments_info):
    info = {s["id"]: s for s in segments_info if not s["iscrowd"]}
    ids = [i for i in torch.unique(segment_map).tolist() if i in info]
    return (np.array([info[i]["category_id"] for i in ids]), [segment_map.numpy() == i for i in ids],
            [[int(i in info) for i in row] for row in segment_map.tolist()])


def panoptic_by_library(segment_map, segments_info):
    target = targets.panoptic_to_target(segment_map, segments_info, 10)
    return target["labels"], target["masks"], target["valid"]


def maps_by_sum(labels, masks, ignore=255):
    ids = (masks * torch.arange(1, len(labels) + 1)[:, None, None]).sum(0)
    return ids, torch.where(masks.any(0), (masks * labels[:, None, None]).sum(0), ignore)


def maps_by_table(labels, masks, ignore=255):
    segment_map = maps_by_sum(labels, masks)[0]
    return segment_map.int(), torch.cat([torch.tensor([ignore]), labels])[segment_map]


def maps_by_library(labels, masks, ignore=255):
    segment_map, info = targets.target_to_panoptic({"labels": labels, "masks": masks}, ())
    return segment_map, targets.panoptic_to_semantic(segment_map, info, ignore)


def maps_by_pixel(labels, masks, ignore=255):
    height, width = masks.shape[1:]
    ids, classes = np.zeros((height, width), np.int64), np.full((height, width), ignore)
    for i in range(len(labels)):
        for h, w in masks[i].nonzero().tolist():
            ids[h, w], classes[h, w] = i + 1, labels[i]
    return ids, classes


def scores_loops(class_logits, mask_logits):
    p, m = class_logits.softmax(1), torch.sigmoid(mask_logits)
    out = torch.zeros(p.shape[1] - 1, *m.shape[1:])
    for i in range(len(p)):
        for c in range(len(out)):
            out[c] += p[i, c] * m[i]
    return out


def scores_in_place(class_logits, mask_logits):
    mask_logits.neg_().exp_().add_(1).reciprocal_()
    return (class_logits.softmax(-1).T @ mask_logits.flatten(1)).view(-1, *mask_logits.shape[1:])[:-1]


RIGHT = {
    "01.1": [set_backwards, set_numpy, set_lists, set_by_library, lambda x, ignore=255: set_numpy(x.int(), ignore),
             lambda x, ignore=255: tuple(torch.as_tensor(v, dtype=torch.int) for v in set_numpy(x, ignore)),
             lambda x, ignore=255: list(set_backwards(x, ignore))],
    "01.2": [remap_loop, remap_lists, remap_class_table, lambda x, ids, i: np.array(remap_lists(x, ids, i), np.int16),
             lambda x, ids, i: x.int().apply_(lambda v: ids.index(v) if v in ids else i),
             lambda x, ids, i: sum((x == v) * (k - i) for k, v in enumerate(ids)) + i],
    "01.3": [panoptic_append, panoptic_by_pixel, panoptic_by_library,
             lambda m, s: tuple(v.int() for v in panoptic_by_library(m, s)),
             lambda m, s: (*panoptic_append(m.long(), s)[:2], sum(panoptic_append(m, s)[1], 0 * m) > 0)],
    "01.4": [maps_by_sum, maps_by_table, maps_by_library, maps_by_pixel, lambda c, m, i: list(maps_by_sum(c, m, i)),
             lambda c, m, i: torch.stack(maps_by_sum(c, m, i)), lambda c, m, i: tuple(v.tolist() for v in maps_by_pixel(c, m, i))],
    "01.5": [scores_loops, scores_in_place, lambda x, m: scores_loops(x.double(), m.double()),
             lambda x, m: scores_loops(x, m).numpy(), lambda x, m: scores_loops(x, m).tolist(),
             lambda x, m: (x.softmax(-1)[:, :-1, None, None] * m.sigmoid()[:, None]).sum(0),
             lambda x, m: torch.einsum("qc,qhw->chw", x.requires_grad_().softmax(-1), m.sigmoid())[:-1],
             lambda x, m: torch.tensordot(torch.softmax(x, 1)[:, :-1].T, m.sigmoid(), 1)],
}
TWICE = BY_ID["01.5"].reference
WRONG = {
    "01.1": [lambda x, ignore=255: (torch.unique(x), torch.stack([x == c for c in torch.unique(x) if c != ignore])),
             lambda x, ignore=255: set_backwards(x + 1, ignore), lambda x, ignore=255: set_backwards(x, ignore)[::-1],
             lambda x, ignore=255: set_backwards(x, ignore)[1], lambda x, ignore=255: (x, x == x), lambda x, i=0: x,
             lambda x, ignore=255: (torch.unique(x)[1:] + 1, set_backwards(x, ignore)[1]),
             lambda x, ignore=255: [(c, x == c) for c in torch.unique(x)],
             lambda x, ignore=255: (set_backwards(x, ignore)[0], ~set_backwards(x, ignore)[1])],
    "01.2": [lambda x, ids, i: remap_loop(x, ids, i).float(), lambda x, ids, i: remap_loop(x, ids[::-1], i), lambda x, ids, i: ids,
             lambda x, ids, i: remap_loop(x, ids, 0) - 1, lambda x, ids, i: remap_loop(x - 1, ids, i),
             lambda x, ids, i: torch.tensor([ids[v] for v in x.flatten().tolist()]), lambda x, ids, i: x // 2, lambda x, ids, i: remap_loop(x, ids, 99),
             lambda x, ids, i: remap_loop(x, sorted(ids), 0) + 1],
    "01.3": [lambda m, s: (*panoptic_append(m, s)[:1], torch.stack([*panoptic_append(m, s)[1]]), panoptic_append(m, s)[2]),
             lambda m, s: panoptic_append(m, s)[:2], lambda m, s: (*panoptic_append(m, s)[:2], m),
             lambda m, s: stacked([(t["id"], m == t["id"]) for t in s], m != 0),  # ids, crowds and empty masks at once
             lambda m, s: stacked([(t["category_id"], m == t["id"]) for t in s], m != 0),  # crowds and empty masks
             lambda m, s: stacked([(t["category_id"] + 1, m == t["id"]) for t in s if not t["iscrowd"]], m != 0),
             lambda m, s: panoptic_append(m + 1, s), lambda m, s: {"labels": 1, "masks": 2, "valid": 3}],
    "01.4": [lambda c, m, i: maps_by_sum(c, m, i)[0], lambda c, m, i: maps_by_sum(c + 1, m.flip(0), i),
             lambda c, m, i: tuple(v + 1 for v in maps_by_sum(c, m, i)), lambda c, m, i: maps_by_sum(c, ~m, i),
             lambda c, m, i: (maps_by_sum(c, m, i)[0].T, maps_by_sum(c, m, i)[1].T)],
    "01.5": [lambda x, m: TWICE(x.softmax(-1), m.sigmoid()), lambda x, m: TWICE(x, m) * 2, lambda x, m: x @ m,
             lambda x, m: TWICE(x[:, :-1].sigmoid(), m), lambda x, m: TWICE(x.flip(0), m),
             lambda x, m: torch.einsum("nk,nhw->khw", x, m)[1:], lambda x, m: TWICE(x, m).flatten(1),
             lambda x, m: TWICE(x, m.sigmoid()) / len(x)],
}


def mistakes_of(exercise_id, fn):
    outcome = core.judge(BY_ID[exercise_id], fn)
    return outcome.mistake.name if outcome.mistake else outcome.text


def test_mistakes_as_people_write_them():
    """The code of a learner, not the mistake's own, is recognised too."""
    def minus_one(x, ids, ignore):
        x = x.long()
        x[x == 0] = ignore
        return x - 1

    def in_place(x, ids, ignore):
        for k, i in enumerate(ids):
            x[x == i] = k
        return x

    def dropped_first(x, ignore=255):
        labels = x.unique()[1:]
        return labels, x == labels[:, None, None]

    def crowd_skipped(m, info):
        kept = [s for s in info if not s["iscrowd"] and (m == s["id"]).any()]
        masks = [m == s["id"] for s in kept] or [torch.zeros_like(m, dtype=torch.bool)]
        return [s["category_id"] for s in kept], torch.stack(masks)[:len(kept)], m > 0

    assert mistakes_of("01.2", minus_one).startswith("0 set to 255, then 1 subtracted")
    assert mistakes_of("01.2", in_place).startswith("values changed while they are being read")
    assert mistakes_of("01.1", dropped_first).startswith("the smallest value left out")
    assert mistakes_of("01.3", crowd_skipped).startswith("crowds left out of the set, but their pixels valid")
    assert mistakes_of("01.4", lambda c, m, i: (m.int().argmax(0) + 1, c[m.int().argmax(0)])).startswith("void given to")
    assert mistakes_of("01.5", lambda x, m: torch.einsum("nk,nhw->khw", x[:, :-1].softmax(-1), m.sigmoid())) \
        .startswith("the class probabilities of each query made to add up to 1")


@pytest.mark.parametrize("difficulty", [0.2, 1.0])
def test_references_are_the_library_on_real_scenes(difficulty):
    data = Lakeland("val", size=64, difficulty=difficulty, length=15)
    for _, t in data:
        labels, masks, valid = BY_ID["01.3"].reference(t["segment_map"], t["segments_info"])
        assert torch.equal(labels, t["labels"]) and torch.equal(masks, t["masks"]) and torch.equal(valid, t["valid"])
        segment_map, label_map = BY_ID["01.4"].reference(labels, masks)
        assert torch.equal(segment_map, targets.target_to_panoptic(t, data.classes.things)[0])
        assert torch.equal(label_map, targets.panoptic_to_semantic(t["segment_map"], t["segments_info"]))
        semantic = targets.semantic_to_target(label_map, len(data.classes))
        labels, masks = BY_ID["01.1"].reference(label_map)
        assert torch.equal(labels, semantic["labels"]) and torch.equal(masks, semantic["masks"])
        files = torch.tensor([*data.classes.ids] + [0] * 245)[label_map.clamp(max=11)].to(torch.uint8)
        assert torch.equal(BY_ID["01.2"].reference(files, data.classes.ids), label_map)


def test_an_image_of_void_gives_an_empty_set():
    labels, masks, valid = BY_ID["01.3"].reference(torch.zeros(2, 3, dtype=torch.int32), [])
    assert labels.shape == (0,) and masks.shape == (0, 2, 3) and not valid.any()
    labels, masks = BY_ID["01.1"].reference(torch.full((2, 3), 255))
    assert labels.shape == (0,) and masks.shape == (0, 2, 3)


def test_scores_exercise_is_the_library_function():
    assert BY_ID["01.5"].reference is semantic_scores
