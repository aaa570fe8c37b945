"""Lakeland: the same on every platform, true to its own truth, and as hard as it promises."""
import hashlib
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from minimaskformer.data import lakeland, lakeland_land
from minimaskformer.data.lakeland import LAKELAND_CLASSES, NAMES, SPLITS, Lakeland
from minimaskformer.data.lakeland_sprites import Canvas, sprite
from minimaskformer.system.arguments import check_segments
from minimaskformer.targets import panoptic_to_semantic

SKY, MOUNTAIN, WATER, GRASS, PATH, HOUSE, TREE, SHEEP, BOAT, BALLOON, DUCK = range(len(NAMES))

# sha256 of image, segment map and segments_info; changed on purpose only, because trained weights depend on the scenes
GOLDEN = {
    ("train", 64, 0.0, 0): "a82d47f96a28ad2b",
    ("train", 128, 0.5, 12): "029ea98a9bc8a39c",
    ("val", 128, 1.0, 7): "bd1735a940800a12",
    ("val", 200, 0.5, 3): "cb68652d0889dfbc",
    ("train", 512, 1.0, 41): "205cb5141e2eedd5",
    (5, 128, 0.5, 9999): "430e04ae60a57196",
}


def digest(split, size, difficulty, index):
    image, segment_map, info = Lakeland(split, size, difficulty).scene(index)
    h = hashlib.sha256(image.tobytes() + segment_map.astype("<i4").tobytes())
    h.update(json.dumps(info, sort_keys=True).encode())
    return h.hexdigest()[:16]


@pytest.fixture(scope="module")
def scenes():
    data = Lakeland("train", 128, 0.5)
    return [data.scene(i) for i in range(120)]


def semantic(segment_map, info):
    return panoptic_to_semantic(segment_map, info).numpy()


def pieces(mask):
    from scipy.ndimage import label
    return label(mask)[1]


@pytest.mark.parametrize("key", GOLDEN)
def test_golden_scenes(key):
    assert digest(*key) == GOLDEN[key]


def test_sprites_are_exact_box_means():
    """The shrunk sprite against a plain loop over boxes, and an ellipse against its equation."""
    c = Canvas(64)
    c.ellipse(.5, .4, .3, .25, (200, 100, 50))
    c.polygon([(.1, .6), (.9, .6), (.5, .95)], (10, 20, 30))
    for y in range(38):  # above the polygon
        for x in range(64):
            exact = (((x + .5) / 64 - .5) / .3) ** 2 + (((y + .5) / 64 - .4) / .25) ** 2
            if abs(exact - 1) > .01:
                assert (c.planes[3, y, x] > 0) == (exact < 1)
    rows, cols = (np.flatnonzero(c.planes[3].any(a)) for a in (1, 0))
    cut = c.planes[:, rows[0]:rows[-1] + 1, cols[0]:cols[-1] + 1]
    small = c.sprites([10])[0]
    h, w = cut.shape[1:]
    for j in range(small.shape[1]):
        for i in range(small.shape[2]):
            box = cut[:, j * h // small.shape[1]:(j + 1) * h // small.shape[1],
                      i * w // small.shape[2]:(i + 1) * w // small.shape[2]].reshape(4, -1)
            np.testing.assert_allclose(small[:, j, i], box.mean(1), atol=.51)


def test_order_of_access_and_a_fresh_process():
    wanted = [("train", 64, .5, 3), ("val", 128, 1., 8)]
    first = [digest(*key) for key in wanted]
    for cached in (lakeland_land.texture, lakeland_land.noise, sprite):
        cached.cache_clear()
    assert [digest(*key) for key in reversed(wanted)] == first[::-1]
    code = f"from test_lakeland import digest\nprint(*[digest(*k) for k in {wanted!r}])"
    run = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent,
                         capture_output=True, text=True, check=True, env=None)
    assert run.stdout.split() == first


def test_workers_give_the_same_scenes():
    data = Lakeland("train", 64, .5, length=4)
    loader = torch.utils.data.DataLoader(pickle.loads(pickle.dumps(data)), batch_size=None, num_workers=1)
    for (image, target), i in zip(loader, range(4)):
        assert torch.equal(image, data[i][0]) and torch.equal(target["segment_map"], data[i][1]["segment_map"])


def test_arguments():
    for name, bad in {"split": ("test", 1.5, True, ["val"]), "size": (63, 513, 128., "128"), "length": (-1, 2.5),
                      "difficulty": (-.1, 1.1, float("nan"))}.items():
        for value in bad:
            with pytest.raises(ValueError, match=name):
                Lakeland(**{name: value})
    data = Lakeland(7, 65, 0, length=3)
    assert len(data) == 3 and sum(1 for _ in data) == 3 and data.classes is LAKELAND_CLASSES
    assert torch.equal(data[-1][0], data[2][0]) and data[np.int64(1)][0].shape == (3, 65, 65)
    assert data.name(2) == data.name(-1) == "lakeland_seed7_000002" and Lakeland().name(12) == "lakeland_train_000012"
    for i in (3, -4):
        with pytest.raises(IndexError):
            data[i]
    assert torch.equal(Lakeland("val", 64)[5][0], Lakeland(SPLITS["val"], 64)[5][0])


def test_item_is_the_scene():
    data = Lakeland("val", 96, 1.)
    image, target = data[4]
    array, segment_map, info = data.scene(4)
    assert image.dtype == torch.uint8 and image.is_contiguous() and segment_map.dtype == np.int32
    assert np.array_equal(image.permute(1, 2, 0).numpy(), array) and array.flags.c_contiguous
    assert np.array_equal(target["segment_map"].numpy(), segment_map) and target["segments_info"] == info


@pytest.mark.parametrize("size, difficulty", [(64, 1.), (77, .5), (128, 0.), (256, 1.)])
def test_truth_is_consistent(size, difficulty):
    data = Lakeland("val", size, difficulty)
    for i in range(6):
        image, segment_map, info = data.scene(i)
        assert image.shape == (size, size, 3) and image.dtype == np.uint8 and segment_map.shape == (size, size)
        check_segments(torch.from_numpy(segment_map), info, len(LAKELAND_CLASSES))
        areas = dict(zip(*np.unique(segment_map, return_counts=True)))
        areas.pop(0, None)
        assert areas == {s["id"]: s["area"] for s in info}
        stuff = [s["category_id"] for s in info if not s["isthing"]]
        assert len(set(stuff)) == len(stuff)
        assert all(s["isthing"] == LAKELAND_CLASSES.isthing[s["category_id"]] for s in info)
        assert min(s["area"] for s in info) >= 12 * size * size // 128 ** 2 - 1


def test_what_occurs(scenes):
    found = np.zeros(11, int)
    for _, _, info in scenes:
        found[list({s["category_id"] for s in info})] += 1
    assert (found > 30).all(), dict(zip(NAMES, found))
    crowds = sum(any(s["iscrowd"] for s in info) for _, _, info in scenes) / len(scenes)
    assert .06 < crowds < .2
    assert np.mean([(m == 0).mean() for _, m, _ in scenes]) > .001
    assert all(s["category_id"] in (SHEEP, TREE, DUCK) for _, _, info in scenes for s in info if s["iscrowd"])


def test_things_stand_where_they_belong(monkeypatch):
    """Each thing drawn alone, so that nothing hides its foot: boats and ducks on water, the others on land."""
    plan, count = lakeland.plan_things, np.zeros(11, int)
    monkeypatch.setattr(lakeland, "plan_flock", lambda *a: None)
    for i in range(20):
        plans = []
        monkeypatch.setattr(lakeland, "plan_things", lambda *a: plans.append(plan(*a)) or [])  # noqa: B023
        kinds = semantic(*Lakeland("train", 96).scene(i)[1:])
        for job in plans[0]:
            monkeypatch.setattr(lakeland, "plan_things", lambda *a: [job])  # noqa: B023
            _, segment_map, info = Lakeland("train", 96).scene(i)
            if not info[-1]["isthing"]:
                continue
            ys, xs = np.nonzero(segment_map == info[-1]["id"])
            under = kinds[ys.max():ys.max() + 2, xs[ys == ys.max()]]
            wanted = {HOUSE: {GRASS}, TREE: {GRASS}, SHEEP: {GRASS, PATH}, BOAT: {WATER}, DUCK: {WATER}}.get(job.kind)
            assert job.kind == BALLOON or set(under.ravel()) <= wanted
            count[job.kind] += 1
    assert (count[HOUSE:] > 5).all()


def test_connectivity_gives_neither_instance_nor_segment(scenes):
    touching = in_pieces = 0
    for _, segment_map, info in scenes:
        kinds = semantic(segment_map, info)
        for c in (SHEEP, TREE, DUCK):
            count = sum(s["category_id"] == c and not s["iscrowd"] for s in info)
            touching += count > pieces(kinds == c) > 0
        in_pieces += any(pieces(kinds == c) > 1 for c in range(5) if (kinds == c).any())
    assert touching > 50 and in_pieces > 60


def test_colour_does_not_give_the_class(scenes):
    """The best single colour per class, found on these very scenes, names few pixels of things."""
    total, count = np.zeros((11, 3)), np.zeros(11)
    for image, segment_map, info in scenes:
        kinds = semantic(segment_map, info)
        for c in range(11):
            total[c] += image[kinds == c].sum(0)
            count[c] += (kinds == c).sum()
    mean, hit, union = total / count[:, None], np.zeros(11), np.zeros(11)
    for image, segment_map, info in scenes[:30]:
        kinds = semantic(segment_map, info)
        guess = ((image[:, :, None] - mean) ** 2).sum(-1).argmin(-1)
        for c in range(11):
            hit[c] += ((guess == c) & (kinds == c)).sum()
            union[c] += (((guess == c) | (kinds == c)) & (kinds < 255)).sum()
    iou = hit / union
    assert iou[:5].mean() < .45 and iou[5:].mean() < .15


def test_difficulty_and_split_change_the_scenes():
    things = [np.mean([sum(s["isthing"] for s in Lakeland("train", 64, d).scene(i)[2]) for i in range(24)])
              for d in (0, .5, 1)]
    assert things[0] + 1 < things[1] < things[2] - 1
    noise = [np.mean([np.abs(np.diff(Lakeland("train", 64, d).scene(i)[0].astype(int), axis=1)) for i in range(9)])
             for d in (0, 1)]
    assert noise[0] * 1.3 < noise[1]
    assert not np.array_equal(Lakeland("train", 64).scene(0)[1], Lakeland("val", 64).scene(0)[1])
    kept = [{sprite(SPLITS[split], 64, kind, k)[10].tobytes() for kind in range(7) for k in range(10)}
            for split in SPLITS]
    assert len(kept[0]) == len(kept[1]) == 70 and not kept[0] & kept[1]


def test_another_size_is_the_same_place():
    same = []
    for i in range(10):
        (_, a, ia), (_, b, ib) = Lakeland("train", 64).scene(i), Lakeland("train", 256).scene(i)
        same.append((semantic(a, ia) == semantic(b, ib)[2::4, 2::4]).mean())
    assert np.mean(same) > .9


def test_a_rock_is_seen_but_not_labelled(monkeypatch):
    """The same scenes with rocks alone and with nothing at all: the picture differs where the map is void."""
    plan, data = lakeland.plan_things, Lakeland("train", 96, .5)
    monkeypatch.setattr(lakeland, "plan_flock", lambda *a: None)
    monkeypatch.setattr(lakeland, "plan_things", lambda *a: [job for job in plan(*a) if job.kind == lakeland.ROCK])
    rocks = [data.scene(i) for i in range(20)]
    monkeypatch.setattr(lakeland, "plan_things", lambda *a: plan(*a) and [])
    bare = [data.scene(i) for i in range(20)]
    assert not any(s["isthing"] for _, _, info in rocks for s in info)
    void = [(m == 0) & (n > 0) for (_, m, _), (_, n, _) in zip(rocks, bare)]
    changed = [(a != b).any(-1) for (a, _, _), (b, _, _) in zip(rocks, bare)]
    assert sum(v.sum() for v in void) > 500 and np.mean(np.concatenate([c[v] for c, v in zip(changed, void)])) > .95
    monkeypatch.setattr(lakeland, "plan_things", lambda *a: [job for job in plan(*a) if job.kind != lakeland.ROCK])
    without = [semantic(*data.scene(i)[1:]) for i in range(20)]
    monkeypatch.setattr(lakeland, "plan_things", plan)
    for i, kinds in enumerate(without):  # rocks hide things; they never become part of one
        now = semantic(*data.scene(i)[1:])
        assert not ((now != kinds) & (now >= HOUSE) & (now < 255)).any()
