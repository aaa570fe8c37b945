"""Tiles: every pixel answered once, and the joined answer of tiles is the answer that they were cut from."""
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minimaskformer import load_checkpoint
from minimaskformer.fast import tile_segments, tiles
from minimaskformer.fast.tiles import in_tiles, tile_spans, tiles_of


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 300), st.integers(1, 120), st.floats(0, 0.5))
def test_spans_cover_every_pixel_and_own_each_once(length, side, overlap):
    found = tile_spans(length, side, overlap)
    side = min(side, length)
    assert [end - start for start, end, *_ in found] == [side] * len(found)
    assert found[0][0] == 0 and found[-1][1] == length
    owned = [x for start, end, first, last in found for x in range(first, last)]
    assert owned == list(range(length))
    assert all(start <= first and last <= end for start, end, first, last in found)
    assert all(a[1] - b[0] >= round(overlap * side) for a, b in zip(found, found[1:]))


def world(height=90, width=130):
    """A panoptic truth: two stuff classes, and things (class 2 and 3) that touch, lie over seams and in corners."""
    y, x = np.mgrid[:height, :width]
    segment_map = np.where(y < 40, 1, 2)
    info = [{"id": 1, "category_id": 0, "isthing": False, "score": 0.9}, {"id": 2, "category_id": 1, "isthing": False, "score": 0.8}]
    for i, (cy, cx, r) in enumerate([(30, 40, 14), (30, 68, 14), (60, 64, 20), (10, 120, 9), (80, 5, 12), (70, 100, 17), (70, 120, 9)], 3):
        segment_map[(y - cy) ** 2 + (x - cx) ** 2 < r * r] = i
        info.append({"id": i, "category_id": 2 + i % 2, "isthing": True, "score": 1 - i / 20})
    return torch.tensor(segment_map), info


def crops_of(segment_map, info):
    """A model that sees the truth of each crop, and numbers the segments of each in its own way."""
    marked = segment_map[None].repeat(3, 1, 1)

    def answer(crop):
        present = [s for s in reversed(info) if (crop[0] == s["id"]).any()]
        new = torch.zeros_like(crop[0])
        for n, s in enumerate(present, 1):
            new[crop[0] == s["id"]] = n
        return new, [dict(s, id=n) for n, s in enumerate(present, 1)]
    return marked, answer


def same_segments(found, wanted):
    (map_a, info_a), (map_b, info_b) = found, wanted
    key = lambda m, info: sorted((s["category_id"], (m == s["id"]).flatten().nonzero().flatten().tolist()) for s in info if (m == s["id"]).any())  # noqa: E731
    return key(map_a, info_a) == key(map_b, info_b)


@pytest.mark.parametrize("side, overlap", [(64, 0.25), (50, 0.5), (48, 0.34), (200, 0.25)])
def test_segments_cut_into_tiles_come_back_whole(side, overlap):
    truth = world()
    picture, answer = crops_of(*truth)
    found = in_tiles(picture, "panoptic", answer, side, overlap, things=(2, 3))
    assert same_segments(found, truth) and len(found[1]) == len(truth[1])
    assert [s["id"] for s in found[1]] == list(range(1, len(found[1]) + 1))
    for s in found[1]:
        assert s["area"] == int((found[0] == s["id"]).sum()) and s["isthing"] == (s["category_id"] > 1)

    def instances(crop):
        segment_map, info = answer(crop)
        info = [s for s in info if s["isthing"]]
        return {"masks": torch.stack([segment_map == s["id"] for s in info]) if info else torch.zeros(0, *crop.shape[1:], dtype=torch.bool),
                "labels": torch.tensor([s["category_id"] for s in info]), "scores": torch.tensor([s["score"] for s in info])}
    result = in_tiles(picture, "instance", instances, side, overlap, things=(2, 3))
    things = [s for s in truth[1] if s["isthing"]]
    assert len(result["masks"]) == len(things) and result["scores"].tolist() == pytest.approx(sorted([s["score"] for s in things], reverse=True))
    for mask, label, s in zip(result["masks"], result["labels"], sorted(things, key=lambda s: -s["score"])):
        assert torch.equal(mask, truth[0] == s["id"]) and label == s["category_id"]


def test_neighbours_of_one_class_stay_two_and_other_classes_are_never_joined():
    """Two things of one class touch inside the overlap; in the other tile they are of another class."""
    segment_map = torch.ones(20, 60, dtype=torch.int64)
    segment_map[:, 30:] = 2
    info = [{"id": i, "category_id": 0, "isthing": True, "score": 0.9} for i in (1, 2)]
    picture, answer = crops_of(segment_map, info)
    found = in_tiles(picture, "panoptic", answer, 40, 0.5, things=(0,))
    assert same_segments(found, (segment_map, info))
    calls = []

    def disagreeing(crop):
        calls.append(1)
        new, entries = answer(crop)
        return new, [dict(s, category_id=len(calls) % 2) for s in entries]
    assert len(tiles_of(20, 40, 30, 0.5)) == 2
    segment_map, info = in_tiles(picture[:, :, :28], "panoptic", disagreeing, 20, 0.5, things=(0, 1))
    assert [s["category_id"] for s in info] == [1, 0] or [s["category_id"] for s in info] == [0, 1]  # cut in the middle
    assert segment_map[0].tolist() == [segment_map[0, 0]] * 14 + [segment_map[0, 27]] * 14


def test_scores_are_averaged_and_only_strips_are_kept(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(5, 90, 130, generator=generator)
    picture = torch.stack([torch.arange(90 * 130).view(90, 130)] * 3)

    def answer(crop):
        y, x = divmod(int(crop[0, 0, 0]), 130)
        return scores[:, y:y + crop.shape[1], x:x + crop.shape[2]].clone()
    for side, overlap in ((64, 0.25), (40, 0.5), (130, 0)):
        assert torch.equal(in_tiles(picture, "semantic", answer, side, overlap, ()), scores.argmax(0))
    noisy = lambda crop: answer(crop) + torch.rand(5, 1, 1, generator=generator)  # noqa: E731
    asked, weights, total = [], torch.zeros(90, 130), torch.zeros(5, 90, 130)
    for tile in tiles_of(90, 130, 50, 0.3):
        top, left, bottom, right = tile.box
        found = noisy(picture[:, top:bottom, left:right])
        asked.append(found)
        weight = tiles.edge_weights(bottom - top, right - left, "cpu")
        total[:, top:bottom, left:right] += weight * found
        weights[top:bottom, left:right] += weight
    assert (weights > 0).all()
    answers = iter(asked)
    assert torch.equal(in_tiles(picture, "semantic", lambda crop: next(answers), 50, 0.3, ()), (total / weights).argmax(0))


def test_too_many_instances_are_refused_and_unlikely_ones_dropped(monkeypatch):
    monkeypatch.setattr(tile_segments, "MASK_BYTES", 3 * 20 * 20)
    picture = torch.zeros(3, 20, 20)
    masks = torch.zeros(5, 20, 20, dtype=torch.bool)
    for i in range(5):
        masks[i, :, 4 * i:4 * i + 3] = True
    result = {"masks": masks, "labels": torch.zeros(5, dtype=torch.int64), "scores": torch.tensor([0.9, 0.8, 0.7, 0.3, 0.2])}
    found = in_tiles(picture, "instance", lambda crop: result, 32, 0.25, (0,))
    assert torch.equal(found["masks"], masks[:3])
    with pytest.raises(ValueError, match="4 instances in a picture of 20 x 20.*panoptic"):
        in_tiles(picture, "instance", lambda crop: result | {"scores": torch.tensor([0.9, 0.8, 0.7, 0.6, 0.2])}, 32, 0.25, (0,))


def test_a_model_on_one_tile_says_what_it_says_without_tiles():
    from minimaskformer import Lakeland
    model, image = load_checkpoint("mini"), Lakeland("val", 64, 0.3, 2)[1][0]
    for task in ("semantic", "panoptic", "instance"):
        whole, tiled = model.predict(image, task), model.predict(image, task, tiles=64)
        if task == "semantic":
            assert torch.equal(whole, tiled)
        elif task == "panoptic":
            assert same_segments(tiled, whole)
        else:
            assert len(tiled["masks"]) == len(whole["masks"])
            assert torch.allclose(tiled["scores"], whole["scores"].sort(descending=True)[0])
    assert model.predict(image, "semantic", size=32).shape == (64, 64)
    seen = []
    model.forward = lambda images, inner=model.forward: seen.append(tuple(images.shape[-2:])) or inner(images)
    model.predict(image[:, :, :40], "semantic", size=96)
    model.predict(image, "semantic", size=96, tiles=32, overlap=0)
    assert seen[0] == (154, 96) and seen[1:] == [(96, 96)] * 4
    for options in ({"tiles": 0}, {"tiles": 32, "overlap": 0.7}, {"tiles": 32, "tta": True, "task": "semantic"}, {"size": 0}):
        with pytest.raises(ValueError):
            model.predict(image, **options)
    assert SimpleNamespace(**vars(tiles_of(10, 10, 4, 0)[0])).box == (0, 0, 4, 4)
