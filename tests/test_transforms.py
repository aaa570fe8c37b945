"""Image and labels move together: a picture that carries its own coordinates shows any difference."""
import random

import pytest
import torch

from minimaskformer.classes import ClassTable
from minimaskformer.data.lakeland import Lakeland
from minimaskformer.data.transforms import TrainingViews, collate, resize_pair, view
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
    image, target = view(*checker(), 32, random.Random(seed), (0.6, 2.0), 2)
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
        _, target = view(*checker(), 24, random.Random(seed), (2.0, 2.0), 2)
        assert target["masks"].flatten(1).any(1).all() and len(target["labels"]) == len(target["segments_info"])
        assert [s["area"] for s in target["segments_info"]] == target["masks"].flatten(1).sum(1).tolist()


def test_both_flips_and_many_places_occur():
    views = [view(*checker(), 32, random.Random(seed), (1, 2), 2)[0] for seed in range(20)]
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

        def __getitem__(self, index):
            return image[:, 1:], target
    with pytest.raises(ValueError, match=r"item 0: image of \(59, 90\) and segment map of \(60, 90\)"):
        TrainingViews(Crooked(), 32)[0]


def test_without_scale_a_square_scene_is_only_flipped():
    scenes = Lakeland("train", 64, 0.5, 6)
    for i, (image, target) in enumerate(TrainingViews(scenes, 64)[k] for k in range(6)):
        truth, want = scenes[i]
        flipped = not torch.equal(image, truth)
        assert torch.equal(image.flip(-1) if flipped else image, truth)
        assert torch.equal(target["masks"].flip(-1) if flipped else target["masks"], want["masks"])


def test_resize_pair_keeps_ids():
    image, target = checker()
    small, segment_map = resize_pair(image, target["segment_map"], 20)
    assert small.shape == (3, 20, 30) and segment_map.shape == (20, 30)
    assert set(segment_map.unique().tolist()) <= {0, 1, 2} and segment_map.dtype == torch.int32


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
