"""Files with several pages or frames: one object per page is read, all else is refused with the number of pages."""
import numpy as np
import pytest
import torch
from PIL import Image

from minimaskformer.data.checks import scan_labels
from minimaskformer.data.images import open_image, open_pages, read_image
from minimaskformer.data.readers.instances import InstanceFolder
from minimaskformer.data.readers.semantic import SemanticFolder
from minimaskformer.mask_ap import true_instances

H, W = 12, 16


def pages(path, arrays, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    first, *rest = [Image.fromarray(np.asarray(a).astype(np.uint8)) for a in arrays]
    first.save(path, save_all=True, append_images=rest, **options)
    return path


def square(top, left, value=255, side=4):
    page = np.zeros((H, W), np.uint8)
    page[top:top + side, left:left + side] = value
    return page


@pytest.mark.parametrize("suffix", ["tif", "png", "gif", "webp"])
def test_a_picture_of_several_pages_is_refused_with_their_number(tmp_path, suffix):
    path = pages(tmp_path / f"a.{suffix}", [np.full((H, W, 3), 40 * k) for k in range(5)])
    assert len(open_pages(path)) == 5
    for read in (read_image, open_image):
        with pytest.raises(ValueError, match=rf"a\.{suffix} holds 5 pages or frames"):
            read(path)
    one = pages(tmp_path / f"one.{suffix}", [np.full((H, W, 3), 40)])
    assert read_image(one).shape == (3, H, W)


def test_what_a_phone_or_a_microscope_puts_behind_the_picture_is_no_page(tmp_path):
    first, second = (Image.new("RGB", (W, H), color) for color in ("red", "blue"))
    first.save(tmp_path / "phone.jpg", format="MPO", save_all=True, append_images=[second])
    with Image.open(tmp_path / "phone.jpg") as picture:
        assert picture.format == "MPO" and picture.n_frames == 2
    assert read_image(tmp_path / "phone.jpg")[0].min() > 200
    small = Image.new("RGB", (W // 2, H // 2), "blue")
    small.encoderinfo = {"tiffinfo": {254: 1}}
    first.save(tmp_path / "pyramid.tif", save_all=True, append_images=[small])
    with Image.open(tmp_path / "pyramid.tif") as picture:
        assert picture.n_frames == 2
    assert read_image(tmp_path / "pyramid.tif").shape == (3, H, W)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (W, H), "green").save(tmp_path / "images" / "a.png")
    return tmp_path


def opened(folder, **options):
    return InstanceFolder(folder / "images", folder / "labels", **options)


@pytest.mark.parametrize("suffix", ["tif", "png"])
@pytest.mark.parametrize("values", [(255, 255, 255), (1, 2, 3), (7, 7, 300 % 256)])
def test_a_page_for_each_object_is_an_object(folder, suffix, values):
    arrays = [square(2, 5 * k, value) for k, value in enumerate(values)]
    pages(folder / "labels" / f"a.{suffix}", arrays)
    dataset = opened(folder)
    _, target = dataset[0]
    assert target["labels"].tolist() == [0, 0, 0, 1] and target["valid"].all()
    assert (target["masks"].numpy() == np.stack([*(np.array(arrays) > 0), ~(np.array(arrays) > 0).any(0)])).all()
    assert [s["area"] for s in target["segments_info"]] == [16, 16, 16, H * W - 48]
    assert scan_labels(dataset) == 1 and dataset.content(0).targets == {0: 3, 1: 1}


def test_objects_that_overlap_stay_whole(folder):
    arrays = [square(0, 0, side=8), square(2, 2, side=3), np.zeros((H, W)), square(5, 5, side=6)]
    pages(folder / "labels" / "a.tif", arrays)
    dataset = opened(folder)
    _, target = dataset[0]
    truth = np.array([arrays[0], arrays[1], arrays[3]]) > 0  # an empty page is not an object
    assert (target["masks"][:3].numpy() == truth).all() and target["labels"].tolist() == [0, 0, 0, 1]
    shown = target["segment_map"].numpy()
    assert (shown[2:5, 2:5] == 2).all() and (shown[5:8, 5:8] == 3).all()  # the smaller lies on top
    assert sorted(s["area"] for s in target["segments_info"]) == [9, 36, 64 - 9 - 9, H * W - 64 - 36 + 9]
    instances = true_instances(target, dataset.classes)
    assert torch.from_numpy(instances["masks"]).sum((1, 2)).tolist() == [64, 9, 36]


@pytest.mark.parametrize("arrays, words", [
    ([square(0, 0, 1) + square(6, 6, 2), square(0, 0, 1)], ["2 pages", "up to 2 numbers"]),
    ([square(0, 0), np.zeros((H, W + 1))], ["2 pages", "16 x 12, 17 x 12"]),
])
def test_pages_of_any_other_kind_are_refused(folder, arrays, words):
    path = pages(folder / "labels" / "a.tif", arrays)
    with pytest.raises(ValueError) as caught:
        opened(folder)[0]
    assert str(path) in str(caught.value) and all(word in str(caught.value) for word in words)
    with pytest.raises(ValueError, match=words[0]):
        scan_labels(opened(folder))


def test_pages_of_class_labels_are_refused_and_of_instances_beside_them_read(folder):
    path = pages(folder / "labels" / "a.tif", [square(0, 0, 1), square(5, 5, 1)])
    with pytest.raises(ValueError, match="2 pages"):
        SemanticFolder(folder / "images", folder / "labels", ["ground", "cat"])[0]
    path.unlink()
    Image.fromarray(square(0, 0, 1) + square(6, 8, 1)).save(folder / "labels" / "a.png")
    pages(folder / "instances" / "a.tif", [square(0, 0), square(6, 8)])
    dataset = SemanticFolder(folder / "images", folder / "labels", None, None, folder / "instances")
    assert dataset.classes.isthing == (False, True)
    assert dataset[0][1]["labels"].tolist() == [0, 1, 1]


def test_a_picture_of_several_pages_is_found_before_the_first_step(folder):
    pages(folder / "images" / "a.png", [np.full((H, W, 3), 40 * k) for k in range(2)])
    (folder / "labels").mkdir()
    Image.fromarray(square(0, 0, 1)).save(folder / "labels" / "a.png")
    with pytest.raises(ValueError, match=r"(?s)1 of the 1.*images/a\.png holds 2 pages"):
        scan_labels(opened(folder))
