"""Properties that hold for any input, on small random examples: definitions by brute force, round trips, batches.

The examples are drawn by hypothesis, the same in every run (derandomize), and a failing one is made as small as it can.
"""
import itertools
import math
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minimaskformer import (
    ClassTable,
    MeanIoU,
    PanopticQuality,
    build_model,
    general_inference,
    hungarian_match,
    instance_inference,
    pairwise_cost,
    panoptic_inference,
    panoptic_to_target,
    semantic_inference,
    semantic_scores,
    semantic_to_target,
    target_to_panoptic,
)
from minimaskformer.data.transforms import view
from minimaskformer.mask_ap import MaskAP
from minimaskformer.targets import on_one_canvas, panoptic_to_semantic

K, VOID = 4, 255
CLASSES = ClassTable(("sky", "sheep", "duck", "grass"), (False, True, True, False), (1, 2, 3, 4))
examples = settings(derandomize=True, max_examples=30, deadline=None, database=None)
sides = st.tuples(st.integers(1, 7), st.integers(1, 7))
seeds = st.integers(0, 2**31)


def drawn(seed):
    return np.random.default_rng(seed)


def label_map(rng, size, void=True):
    labels = rng.integers(0, K + void, size)
    return np.where(labels == K, VOID, labels)


def panoptic(rng, size, crowds=True, count=5):
    """A map of up to `count` segments and void, with its list; stuff may have several segments, things are often crowds."""
    segment_map = rng.integers(0, count + 1, size).astype(np.int32)
    ids = [i for i in np.unique(segment_map).tolist() if i]
    rng.shuffle(ids)
    return segment_map, [{"id": i, "category_id": int(rng.integers(0, K)), "isthing": False,
                          "iscrowd": int(crowds and rng.random() < 0.3)} for i in ids]


def logits(rng, n, size):
    g = torch.Generator().manual_seed(int(rng.integers(2**31)))
    return 3 * torch.randn(n, K + 1, generator=g), 3 * torch.randn(n, *size, generator=g)


# ---- metrics by brute force

@examples
@given(seeds, sides, st.integers(1, 3))
def test_mean_iou_is_its_definition(seed, size, images):
    rng = drawn(seed)
    pairs = [(label_map(rng, size), label_map(rng, size)) for _ in range(images)]
    metric = MeanIoU(K)
    for pred, truth in pairs:
        metric.update(pred, truth)
    pred, truth = ([int(v) for pair in pairs for v in pair[i].ravel()] for i in (0, 1))
    known = [(p, t) for p, t in zip(pred, truth) if t != VOID]
    expected = []
    for c in range(K):
        union = sum(p == c or t == c for p, t in known)
        expected.append(sum(p == c and t == c for p, t in known) / union if union else math.nan)
    result = metric.compute()
    assert result["iou"] == pytest.approx(expected, nan_ok=True)
    seen = [value for value in expected if value == value]
    assert result["miou"] == pytest.approx(sum(seen) / len(seen) if seen else math.nan, nan_ok=True)


def pq_by_sets(images):
    """PQ per class from sets of pixels, as Kirillov et al. and panopticapi define it: {class: (IoUs, fp, fn)}."""
    counts = {k: ([], 0, 0) for k in range(K)}

    def add(k, ious=(), fp=0, fn=0):
        counts[k] = (counts[k][0] + list(ious), counts[k][1] + fp, counts[k][2] + fn)
    for (pred, pred_info), (truth, truth_info) in images:
        pixels = {"pred": {}, "truth": {}}
        for name, values in (("pred", pred), ("truth", truth)):
            for place, value in np.ndenumerate(values):
                pixels[name].setdefault(int(value), set()).add(place)
        void, matched_p, matched_t = pixels["truth"].get(0, set()), set(), set()
        for p, t in itertools.product(pred_info, truth_info):
            P, T = pixels["pred"][p["id"]], pixels["truth"][t["id"]]
            if p["category_id"] == t["category_id"] and not t["iscrowd"]:
                union = (P | T) - (P & void)
                if len(P & T) / len(union) > 0.5:
                    add(t["category_id"], [len(P & T) / len(union)])
                    matched_p.add(p["id"])
                    matched_t.add(t["id"])
        for t in truth_info:
            if not t["iscrowd"] and t["id"] not in matched_t:
                add(t["category_id"], fn=1)
        for p in pred_info:
            crowds = [t for t in truth_info if t["iscrowd"] and t["category_id"] == p["category_id"]]
            excused = pixels["pred"][p["id"]] & (void | (pixels["truth"][crowds[-1]["id"]] if crowds else set()))
            if p["id"] not in matched_p and len(excused) / len(pixels["pred"][p["id"]]) <= 0.5:
                add(p["category_id"], fp=1)
    return counts


@settings(examples, max_examples=60)
@given(seeds, sides, st.integers(1, 2), st.booleans())
def test_pq_is_its_definition(seed, size, images, near):
    rng = drawn(seed)
    pairs = []
    for _ in range(images):
        truth = panoptic(rng, size, count=3)
        pred = panoptic(rng, size, crowds=False, count=3)
        if near:  # the truth with a few pixels changed: matches occur
            noise = np.where(rng.random(size) < 0.2, pred[0], truth[0])
            pred = noise, [dict(s, iscrowd=0) for s in truth[1] if (noise == s["id"]).any()]
            pred[1].extend(s for s in panoptic(rng, size, crowds=False)[1] if (noise == s["id"]).any()
                           and s["id"] not in {t["id"] for t in pred[1]})
            noise[~np.isin(noise, [s["id"] for s in pred[1]])] = 0
        pairs.append((pred, truth))
    metric = PanopticQuality(CLASSES)
    for pred, truth in pairs:
        metric.update(pred, truth)
    counts, per_class = pq_by_sets(pairs), metric.compute()["per_class"]
    for k, (ious, fp, fn) in counts.items():
        if not (ious or fp or fn):
            assert CLASSES.names[k] not in per_class
            continue
        found = per_class[CLASSES.names[k]]
        assert (found["tp"], found["fp"], found["fn"]) == (len(ious), fp, fn)
        assert found["pq"] == pytest.approx(sum(ious) / (len(ious) + fp / 2 + fn / 2))


@settings(examples, max_examples=12)
@given(seeds, st.integers(1, 3), st.sampled_from([32, 40]))
def test_mask_ap_is_pycocotools(seed, images, side):
    rng, metric, seen = drawn(seed), MaskAP(CLASSES), []
    for _ in range(images):
        truth = np.zeros((side, side), dtype=np.int32)
        for i in range(1, 5):
            y, x, n = rng.integers(0, side - 4), rng.integers(0, side - 4), rng.choice([6, 16, 32])
            truth[y:y + n, x:x + n] = i
        info = [{"id": i, "category_id": int(rng.integers(1, 3)), "iscrowd": int(rng.random() < 0.2)}
                for i in np.unique(truth).tolist() if i]
        found = [(np.roll(truth == s["id"], rng.integers(-2, 3, 2), (0, 1)), s["category_id"]) for s in info for _ in range(2)]
        scores = rng.permutation(len(found)) / 10 + 0.05  # no ties: among equals the order of images may show
        pred = {"masks": np.array([m for m, _ in found]).reshape(-1, side, side), "labels": np.array([c for _, c in found], dtype=int),
                "scores": (scores + len(seen) / 100).astype(np.float64)}
        metric.update(pred, (truth, info))
        seen.append((pred, truth, info))
    expected, result = coco_figures(seen), metric.compute()
    for name, value in expected.items():
        assert result[name] == pytest.approx(value, abs=1e-9, nan_ok=True), name


def coco_figures(images):
    """The six figures from pycocotools."""
    import contextlib
    import io

    from pycocotools import mask as rle
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def coded(mask):
        return rle.encode(np.asfortranarray(mask.astype(np.uint8)))
    truth, found, coco = [], [], COCO()
    for n, (pred, truth_map, info) in enumerate(images):
        for s in info:
            mask = truth_map == s["id"]
            truth.append({"id": len(truth) + 1, "image_id": n, "category_id": s["category_id"], "iscrowd": s["iscrowd"],
                          "area": int(mask.sum()), "segmentation": coded(mask), "bbox": [0, 0, 1, 1]})
        found += [{"image_id": n, "category_id": int(c), "score": float(score), "segmentation": coded(mask)}
                  for mask, c, score in zip(pred["masks"], pred["labels"], pred["scores"])]
    if not found:
        return {}  # pycocotools wants one prediction at least
    with contextlib.redirect_stdout(io.StringIO()):
        coco.dataset = {"images": [{"id": n, "height": t.shape[0], "width": t.shape[1]} for n, (_, t, _) in enumerate(images)],
                        "annotations": truth,
                        "categories": [{"id": k} for k in CLASSES.things]}
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(found), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    names = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
    return {name: math.nan if value == -1 else float(value) for name, value in zip(names, evaluation.stats)}


def test_an_area_of_exactly_32_squared_is_small_and_medium_as_in_coco():
    truth = np.zeros((64, 64), dtype=np.int32)
    truth[:32, :32], truth[40:, 40:] = 1, 2  # 1024 and 576 pixels
    info = [{"id": 1, "category_id": 1, "iscrowd": 0}, {"id": 2, "category_id": 1, "iscrowd": 0}]
    pred = {"masks": np.array([truth == 1]), "labels": np.array([1]), "scores": np.array([0.9])}
    metric = MaskAP(CLASSES)
    metric.update(pred, (truth, info))
    result, expected = metric.compute(), coco_figures([(pred, truth, info)])
    assert result["ap_medium"] == pytest.approx(1) and expected["ap_medium"] == pytest.approx(1)  # the large one is found ...
    assert result["ap_small"] == pytest.approx(expected["ap_small"]) and 0.5 < result["ap_small"] < 0.51  # ... one of two


# ---- matching

@examples
@given(seeds, st.integers(1, 5), st.integers(0, 5), sides, st.booleans())
def test_the_match_is_the_best_of_all_permutations(seed, queries, targets, size, void):
    rng = drawn(seed)
    class_logits, mask_logits = logits(rng, queries, size)
    target = {"labels": torch.from_numpy(rng.integers(0, K, targets)), "masks": torch.from_numpy(rng.random((targets, *size)) < 0.5)}
    if void:
        target["valid"] = torch.from_numpy(rng.random(size) < 0.8)
    cost = pairwise_cost(class_logits, mask_logits, target).double()
    assert cost.shape == (queries, targets)
    if targets > queries:
        with pytest.warns(UserWarning, match="only the best"):
            (chosen, matched), = hungarian_match(class_logits[None], mask_logits[None], [target])
    else:
        (chosen, matched), = hungarian_match(class_logits[None], mask_logits[None], [target])
    few = min(queries, targets)
    assert len(set(chosen.tolist())) == len(set(matched.tolist())) == few and chosen.tolist() == sorted(chosen.tolist())
    every = (sum(cost[i, j].item() for i, j in zip(rows, columns)) for rows in itertools.permutations(range(queries), few)
             for columns in itertools.combinations(range(targets), few))
    assert cost[chosen, matched].sum().item() == pytest.approx(min(every), abs=1e-5)


@examples
@given(seeds, sides)
def test_void_pixels_change_no_cost(seed, size):
    rng = drawn(seed)
    class_logits, mask_logits = logits(rng, 3, size)
    valid = torch.from_numpy(rng.random(size) < 0.6)
    target = {"labels": torch.tensor([0, 2]), "masks": torch.from_numpy(rng.random((2, *size)) < 0.5), "valid": valid}
    other = target | {"masks": torch.where(valid, target["masks"], ~target["masks"])}
    changed = torch.where(valid, mask_logits, -5 * mask_logits)
    torch.testing.assert_close(pairwise_cost(class_logits, mask_logits, target), pairwise_cost(class_logits, changed, other))


# ---- targets

@examples
@given(seeds, sides)
def test_a_panoptic_map_comes_back_from_its_set(seed, size):
    segment_map, info = panoptic(drawn(seed), size)
    target = panoptic_to_target(segment_map, info, K)
    again, again_info = target_to_panoptic(target, CLASSES.things)
    assert (again.numpy() > 0).tolist() == target["valid"].tolist()
    for mask, label, s in zip(target["masks"], target["labels"].tolist(), again_info):
        assert torch.equal(mask, again == s["id"]) and s["category_id"] == label and s["area"] == int(mask.sum()) > 0
        assert s["isthing"] == (label in CLASSES.things)
    twice = panoptic_to_target(again, again_info, K)
    assert all(torch.equal(twice[name], target[name]) for name in ("labels", "masks", "valid"))


@examples
@given(seeds, sides)
def test_a_label_map_comes_back_from_its_set(seed, size):
    labels = label_map(drawn(seed), size)
    target = semantic_to_target(labels, K, CLASSES.things)
    assert target["labels"].tolist() == [c for c in np.unique(labels) if c != VOID]
    assert panoptic_to_semantic(target["segment_map"], target["segments_info"], VOID).tolist() == labels.tolist()
    assert [s["area"] for s in target["segments_info"]] == target["masks"].flatten(1).sum(1).tolist()


@examples
@given(seeds, st.lists(sides, min_size=1, max_size=4))
def test_one_canvas_is_as_high_as_the_highest_and_as_wide_as_the_widest(seed, sizes):
    rng = drawn(seed)
    targets = [panoptic_to_target(*panoptic(rng, size), K) for size in sizes]
    for target, padded, (h, w) in zip(targets, on_one_canvas(targets), sizes):
        assert padded["masks"].shape[1:] == padded["valid"].shape == (max(h for h, _ in sizes), max(w for _, w in sizes))
        for name in ("masks", "valid"):
            assert torch.equal(padded[name][..., :h, :w], target[name]) and padded[name].sum() == target[name].sum()


def test_of_overlapping_masks_the_later_wins_and_areas_are_what_is_left():
    masks = torch.tensor([[[1, 1, 1, 0]], [[0, 1, 1, 1]]], dtype=torch.bool)
    segment_map, info = target_to_panoptic({"labels": torch.tensor([0, 1]), "masks": masks}, (1,))
    assert segment_map.tolist() == [[1, 2, 2, 2]] and [s["area"] for s in info] == [1, 3]


# ---- inference: ids, areas, and one rule seen through another

@examples
@given(seeds, st.integers(0, 6), sides, st.sampled_from([0.0, 0.3, 0.6]), st.sampled_from([0.0, 0.5, 0.8]))
def test_panoptic_ids_and_areas(seed, queries, size, score, overlap):
    class_logits, mask_logits = logits(drawn(seed), queries, size)
    segment_map, info = panoptic_inference(class_logits, mask_logits, CLASSES.things, score, overlap)
    assert [s["id"] for s in info] == list(range(1, len(info) + 1))
    assert set(segment_map.unique().tolist()) - {0} == {s["id"] for s in info}
    assert all(s["area"] == int((segment_map == s["id"]).sum()) and s["score"] > score for s in info)
    stuff = [s["category_id"] for s in info if not s["isthing"]]
    assert len(set(stuff)) == len(stuff) and all(s["isthing"] == (s["category_id"] in CLASSES.things) for s in info)
    _, classes = general_inference(class_logits, mask_logits)
    if score == overlap == 0:  # nothing is dropped but masks without a pixel: the general rule's answer
        assert all((classes[segment_map == s["id"]] == s["category_id"]).all() for s in info)


@examples
@given(seeds, st.integers(1, 6), sides, st.integers(1, 8))
def test_instances_are_the_best_pairs(seed, queries, size, top_k):
    class_logits, mask_logits = logits(drawn(seed), queries, size)
    result = instance_inference(class_logits, mask_logits, CLASSES.things, top_k)
    pairs = sorted(((p.item(), i, c) for i, row in enumerate(class_logits.softmax(-1)) for c, p in enumerate(row[:-1])), reverse=True)
    expected = []
    for p, i, c in pairs[:top_k]:
        mask = mask_logits[i] > 0
        if c in CLASSES.things and mask.any():
            expected.append((p * mask_logits[i].sigmoid()[mask].mean().item(), c, mask))
    expected.sort(key=lambda row: -row[0])
    assert result["scores"].tolist() == pytest.approx([row[0] for row in expected], rel=1e-4)
    assert result["labels"].tolist() == [row[1] for row in expected]
    assert all(torch.equal(mask, row[2]) for mask, row in zip(result["masks"], expected))


@examples
@given(seeds, st.integers(1, 6), sides)
def test_semantic_is_the_sum_over_queries(seed, queries, size):
    class_logits, mask_logits = logits(drawn(seed), queries, size)
    probs, masks = class_logits.softmax(-1), mask_logits.sigmoid()
    expected = sum(probs[i, :K, None, None] * masks[i] for i in range(queries))
    torch.testing.assert_close(semantic_scores(class_logits, mask_logits), expected)
    best = expected.topk(2, 0).values
    sure = best[0] - best[1] > 1e-5
    assert torch.equal(semantic_inference(class_logits, mask_logits)[sure], expected.argmax(0)[sure])


# ---- training views: what lies on a pixel stays on it

@examples
@given(seeds, st.tuples(st.integers(4, 30), st.integers(4, 30)), st.integers(4, 24))
def test_masks_move_with_the_picture(seed, size, crop):
    """A picture whose values are its segment ids, cut and mirrored but not resized: the view's values are its ids."""
    segment_map, info = panoptic(drawn(seed), size)
    target = panoptic_to_target(segment_map, info, K)
    image = torch.from_numpy(segment_map * 40).to(torch.uint8).expand(3, -1, -1)
    scale = min(size) / crop  # the short side stays what it is
    moved, new = view(image, target, crop, random.Random(seed), scale=(scale, scale))
    assert moved.shape == (3, crop, crop) and torch.equal(moved[0], (new["segment_map"] * 40).to(torch.uint8))
    again = panoptic_to_target(new["segment_map"], [s for s in info if (new["segment_map"] == s["id"]).any()], K)
    assert all(torch.equal(again[name], new[name]) for name in ("labels", "masks", "valid"))
    assert [s["area"] for s in new["segments_info"]] == [int((new["segment_map"] == s["id"]).sum()) for s in new["segments_info"]]


def test_crops_reach_every_row_and_column():
    """Of a picture of 6 x 7 rows and columns, crops of 4 begin at each of the 3 x 4 places."""
    places = torch.arange(42, dtype=torch.uint8).reshape(6, 7)
    target = panoptic_to_target(np.ones((6, 7), dtype=np.int32), [{"id": 1, "category_id": 0}], K)
    corners = {view(places.expand(3, -1, -1), target, 4, random.Random(i), scale=(1.5, 1.5), flip=False)[0][0, 0, 0].item()
               for i in range(200)}
    assert corners == {7 * y + x for y in range(3) for x in range(4)}


# ---- company: pictures of several sizes together are each alone

@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    small = build_model("mini", dim=32, mask_dim=32, hidden_dim=32, feedforward=32, decoder_layers=1, encoder_layers=0,
                        num_queries=8, short_side=64, long_side=128, score_threshold=0.1, overlap_threshold=0.1)
    with torch.no_grad():
        small.class_head.weight.mul_(20)  # answers that differ from pixel to pixel
        small.mask_head[-1].weight.mul_(20)
    return small.eval()


@settings(examples, max_examples=8)
@given(seeds, st.lists(st.sampled_from([(40, 64), (64, 40), (50, 50), (64, 200)]), min_size=2, max_size=4))
def test_pictures_of_several_sizes_are_each_alone(model, seed, sizes):
    """Maps are equal, but for pixels on which two answers are equally good to the last digit.

    Logits may differ by noise: the matrix products of a batch of two are not those of one picture.
    """
    rng = drawn(seed)
    pictures = [rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in sizes]
    for task in ("semantic", "panoptic"):
        together = model.predict(pictures, task)
        for picture, answer in zip(pictures, together):
            alone = model.predict(picture, task)
            if task == "semantic":
                assert answer.shape == picture.shape[:2] and (answer != alone).float().mean() < 1e-3
                continue
            assert answer[0].shape == picture.shape[:2] and (answer[0] != alone[0]).float().mean() < 1e-3
            assert [s["category_id"] for s in answer[1]] == [s["category_id"] for s in alone[1]]
