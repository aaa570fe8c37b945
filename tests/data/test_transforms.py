"""Image and labels move together: a picture that carries its own coordinates shows any difference."""
import random

import pytest
import torch
from torchvision.tv_tensors import Image, Mask

from minimaskformer.data.classes import ClassTable
from minimaskformer.data.lakeland import Lakeland
from minimaskformer.data.transforms import (
    TrainingViews,
    collate,
    crop_all,
    largest_share,
    resize_all,
    resize_labels,
    vary_color,
    view,
)
from minimaskformer.targets import panoptic_to_target

CLASSES = ClassTable(("left", "right"), (True, True), (1, 2))


def checker(height=60, width=90):
    """An image whose red channel is 200 exactly where the mask of class 0 is, 50 elsewhere; the last rows are void."""
    segment_map = torch.ones(height, width, dtype=torch.int32)
    segment_map[:, width // 3:] = 2
    segment_map[-height // 4:] = 0
    image = torch.full((3, height, width), 50, dtype=torch.uint8)
    image[0][segment_map == 1] = 200
    image[2][segment_map == 0] = 250
    info = [{"id": k, "category_id": k - 1, "isthing": True, "iscrowd": 0, "area": int((segment_map == k).sum())} for k in (1, 2)]
    return image, panoptic_to_target(segment_map, info, 2)


@pytest.mark.parametrize("seed", range(25))
def test_masks_and_void_move_with_the_image(seed):
    image, target = view(*checker(), 32, random.Random(seed), (0.6, 2.0))
    assert image.shape == (3, 32, 32) and target["masks"].shape[1:] == (32, 32)
    red = image[0].float()
    where = {int(c): m for c, m in zip(target["labels"], target["masks"])}
    if 0 in where:
        assert (red[where[0]] > 125).float().mean() > 0.95
        assert (red[~where[0]] > 125).float().mean() < 0.05
    void = ~target["valid"]
    painted = (image[2] > 150) | (image == 0).all(0)  # the void rows, or padding
    assert (painted != void).float().mean() < 0.05


def test_emptied_masks_are_dropped_and_areas_counted():
    for seed in range(30):
        _, target = view(*checker(), 24, random.Random(seed), (2.0, 2.0))
        assert target["masks"].flatten(1).any(1).all() and len(target["labels"]) == len(target["segments_info"])
        assert [s["area"] for s in target["segments_info"]] == target["masks"].flatten(1).sum(1).tolist()


def test_both_flips_and_many_places_occur():
    views = [view(*checker(), 32, random.Random(seed), (1, 2))[0] for seed in range(20)]
    left = [bool(v[0, :, :4].float().mean() > v[0, :, -4:].float().mean()) for v in views]
    assert any(left) and not all(left)
    assert len({v.numpy().tobytes() for v in views}) > 15  # two crops inside one flat region may be equal


def test_views_repeat_and_change_with_the_epoch():
    views = TrainingViews(Lakeland("train", 64, 0.5, 4), 48, (0.8, 1.5), seed=3)
    assert len(views) == 4
    a, b, c = views[1, 2], views[1, 2], views[2, 2]
    assert torch.equal(a[0], b[0]) and torch.equal(a[1]["masks"], b[1]["masks"]) and not torch.equal(a[0], c[0])
    assert not torch.equal(TrainingViews(views.dataset, 48, (0.8, 1.5), seed=4)[1, 2][0], a[0])
    for size, scale in ((0, (1, 1)), (8, (0, 1)), (8, (2, 1))):
        with pytest.raises(ValueError, match="views need"):
            TrainingViews(views.dataset, size, scale)


def test_image_and_labels_of_different_sizes_are_refused():
    image, target = checker()

    class Crooked:
        classes = CLASSES

        def __len__(self):
            return 1

        def name(self, index):
            return "crooked.jpg"

        def __getitem__(self, index):
            return image[:, 1:], target
    with pytest.raises(ValueError, match=r"item 0 \(crooked.jpg\): image of \(59, 90\) and masks of \(60, 90\)"):
        TrainingViews(Crooked(), 32)[0]


def test_without_scale_a_square_scene_is_only_flipped():
    scenes = Lakeland("train", 64, 0.5, 6)
    for i, (image, target) in enumerate(TrainingViews(scenes, 64)[k] for k in range(6)):
        truth, want = scenes[i]
        flipped = not torch.equal(image, truth)
        assert torch.equal(image.flip(-1) if flipped else image, truth)
        assert torch.equal(target["masks"].flip(-1) if flipped else target["masks"], want["masks"])


def whole(image, target):
    return {"image": Image(image), **{name: Mask(target[name]) for name in ("masks", "valid", "segment_map")}}


def test_resizing_keeps_ids_and_types_also_above_float32():
    image, target = checker()
    target["segment_map"][target["segment_map"] == 2] = 2**30 + 1
    small = resize_all(whole(image, target), 20)
    assert small["image"].shape == (3, 20, 30) and small["image"].dtype == torch.uint8
    assert set(small["segment_map"].unique().tolist()) == {0, 1, 2**30 + 1}
    assert small["segment_map"].dtype == torch.int32 and small["masks"].dtype == small["valid"].dtype == torch.bool
    assert small["masks"].shape == (2, 20, 30)
    assert torch.equal(small["valid"], small["segment_map"] != 0)
    assert torch.equal(small["masks"][1], small["segment_map"] == 2**30 + 1)


@pytest.mark.parametrize("height, width, out", [(31, 47, (13, 20)), (16, 16, (40, 23)), (64, 48, (32, 24))])
def test_labels_land_where_the_image_lands(height, width, out):
    """A picture of its own coordinates, resized as an image and as labels: they agree to within one pixel."""
    for axis in (0, 1):
        shape = [height, 1] if axis == 0 else [1, width]
        ramp = torch.arange((height, width)[axis]).reshape(shape).expand(height, width).contiguous()
        moved = resize_labels(Mask(ramp.int()), list(out)).as_subclass(torch.Tensor).double()
        cells = (torch.arange(out[axis]) + 0.5) * (height, width)[axis] / out[axis] - 0.5  # where pixel centres come from
        cells = cells.reshape([-1, 1] if axis == 0 else [1, -1]).expand(out)
        assert (moved - cells).abs().max() <= 0.5 + 1e-6  # v2's NEAREST is up to 1.2 off in the first case


def test_labels_resize_as_torchs_nearest_exact():
    labels = torch.randint(0, 1000, (3, 37, 53), generator=torch.Generator().manual_seed(0))
    for size in ((20, 53), (41, 30), (111, 7), (74, 106), (1, 1)):
        wanted = torch.nn.functional.interpolate(labels[None].double(), size, mode="nearest-exact")[0]
        assert torch.equal(resize_labels(Mask(labels), size).as_subclass(torch.Tensor).double(), wanted)


@pytest.mark.parametrize("seed", range(12))
def test_every_pixel_comes_from_where_its_label_comes_from(seed):
    """The image carries coordinates in two channels, the labels the same as ids: after any view they still agree."""
    height, width = 40, 56
    y, x = torch.arange(height)[:, None].expand(height, width), torch.arange(width).expand(height, width)
    image = torch.stack([4 * y, 4 * x, torch.full_like(y, 255)]).to(torch.uint8)
    segment_map = (1 + y * width + x).to(torch.int32)
    info = [{"id": i, "category_id": 0, "isthing": True, "iscrowd": 0, "area": 1} for i in range(1, height * width + 1)]
    target = {"labels": torch.zeros(1, dtype=torch.int64), "masks": (x >= 28)[None], "valid": y >= 6,
              "segment_map": segment_map, "segments_info": info}
    image, moved = view(image, target, 32, random.Random(seed), (0.7, 1.6))
    ids = moved["segment_map"].long()
    inside, (row, column) = ids > 0, ((ids - 1) // width, (ids - 1) % width)
    steps = 4 * 32 * 1.6 / 32  # four grey values per pixel, up to 1.8 source pixels of resampling
    assert inside.any() and ((image[0].float() - 4 * row).abs()[inside] <= steps).all()
    assert ((image[1].float() - 4 * column).abs()[inside] <= steps).all()
    assert torch.equal(moved["masks"][0] if len(moved["masks"]) else torch.zeros_like(inside), inside & (column >= 28))
    assert torch.equal(moved["valid"], inside & (row >= 6))
    assert (image[2][inside] > 250).all() and (image[:, ~inside] == 0).all()


def test_overlapping_masks_stay_whole():
    image, target = checker()
    target["masks"] = torch.stack([target["masks"][0], torch.ones(60, 90, dtype=torch.bool)])
    for seed in range(8):
        _, moved = view(image, target, 40, random.Random(seed), (0.7, 1.2))
        assert moved["masks"][-1][moved["segment_map"] > 0].all() and moved["labels"][-1] == 1


def test_an_image_without_segments_is_a_view_too():
    image, target = checker()
    empty = dict(target, labels=target["labels"][:0], masks=target["masks"][:0], segments_info=[],
                 segment_map=torch.zeros(60, 90, dtype=torch.int32))
    _, moved = view(image, empty, 32, random.Random(0), (0.6, 0.9), color=True, category_limit=0.75)
    assert moved["masks"].shape == (0, 32, 32) and len(moved["labels"]) == 0


def test_share_of_the_largest_category():
    masks = torch.zeros(3, 4, 5, dtype=torch.bool)
    masks[0, :2], masks[1, 2:, :3], masks[2, 2, 3:] = True, True, True  # 10, 6 and 2 pixels
    assert largest_share(Mask(masks), torch.tensor([1, 1, 0])) == pytest.approx(16 / 18)
    assert largest_share(Mask(masks), torch.tensor([4, 2, 2])) == pytest.approx(10 / 18)
    assert largest_share(Mask(masks[:0]), torch.zeros(0, dtype=torch.int64)) == 1.0


def test_category_limit_draws_crops_again():
    image, target = checker(64, 64)
    sample = whole(image, target)
    shares = {limit: [largest_share(crop_all(sample, 24, random.Random(seed), target["labels"], limit)["masks"],
                                    target["labels"]) for seed in range(60)] for limit in (1.0, 0.75)}
    assert sum(share >= 0.75 for share in shares[1.0]) > 30  # many crops see one category nearly alone ...
    assert sum(share >= 0.75 for share in shares[0.75]) < 6  # ... and ten tries nearly always find a better one
    alone = crop_all(whole(*checker(64, 64)), 64, random.Random(0), target["labels"], 0.1)
    assert alone["image"].shape == (3, 64, 64)  # no crop can satisfy it: the last one is taken
    for limit in (0, 1.5):
        with pytest.raises(ValueError, match="category_limit"):
            TrainingViews(Lakeland("train", 64, 0.5, 4), 48, category_limit=limit)


def test_colour_changes_colours_and_nothing_else():
    data = Lakeland("train", 64, 0.5, 12)
    plain, coloured = TrainingViews(data, 64), TrainingViews(data, 64, color=True)
    changed = 0
    for i in range(12):
        (a, target), (b, same) = plain[i], coloured[i]
        assert torch.equal(target["masks"], same["masks"]) and b.dtype == torch.uint8 and b.shape == a.shape
        changed += not torch.equal(a, b)
    assert changed >= 8
    assert torch.equal(coloured[3][0], TrainingViews(data, 64, color=True)[3][0])


def test_colour_ranges():
    """On one grey only brightness shows: it stays between 0.875 and 1.125 (and what rounding adds)."""
    grey = Image(torch.full((3, 8, 8), 100, dtype=torch.uint8))
    values = {int(vary_color(grey, random.Random(seed))[0, 0, 0]) for seed in range(300)}
    assert 84 <= min(values) < 90 and 110 < max(values) <= 116
    red = Image(torch.tensor([200, 60, 60], dtype=torch.uint8)[:, None, None].expand(3, 8, 8).contiguous())
    pixels = torch.stack([vary_color(red, random.Random(seed))[:, 0, 0] for seed in range(300)]).int()
    assert (pixels[:, 1] > pixels[:, 2] + 10).any() and (pixels[:, 2] > pixels[:, 1] + 10).any()  # hue, both ways
    spread = pixels.amax(1) - pixels.amin(1)
    assert spread.min() < 90 and spread.max() > 180  # saturation, less and more than 140


def test_no_flip():
    scenes = Lakeland("train", 64, 0.5, 8)
    assert all(torch.equal(TrainingViews(scenes, 64, flip=False)[i][0], scenes[i][0]) for i in range(8))


def test_collate_pads_to_the_largest():
    a, b = checker(60, 90), checker(48, 100)
    images, sizes, targets = collate([a, b])
    assert images.shape == (2, 3, 60, 100) and sizes == [(60, 90), (48, 100)]
    assert torch.equal(images[1, :, :48], b[0]) and images[0, :, :, 90:].sum() == 0
    assert all(t["masks"].shape[1:] == (60, 100) for t in targets)
    assert not targets[0]["valid"][:, 90:].any() and not targets[1]["masks"][:, 48:].any()


def test_collate_refuses_masks_of_another_size():
    image, target = checker()
    with pytest.raises(ValueError, match=r"image of \(60, 80\) came with masks of \(60, 90\)"):
        collate([(image[:, :, :80], target)])
