"""Annotation files that would cause wrong masks, open files outside the data folder, or crash the process."""
import importlib
import json
import os
import warnings

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle

from minimaskformer import CocoInstance, CocoPanoptic, Lakeland
from minimaskformer.data import images
from minimaskformer.data.images import open_image
from minimaskformer.data.readers.class_files import read_class_file
from minimaskformer.data.readers.coco_panoptic import write_panoptic
from minimaskformer.data.readers.segmentations import code_numbers, decode_mask

H, W = 20, 30
CODE = [100, 50, H * W - 150]


def compressed(counts, size=(H, W)):
    return rle.frPyObjects({"counts": counts, "size": list(size)}, *size)["counts"].decode()


@pytest.mark.parametrize("seed", range(30))
def test_numbers_of_a_text_are_those_that_pycocotools_wrote(seed):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 60, 2)
    mask = np.asfortranarray(rng.random((height, width)) < rng.random(), dtype=np.uint8)
    flat, counts = mask.ravel(order="F"), [0]
    for value, before in zip(flat, [0, *flat[:-1]]):
        if value != before:
            counts.append(0)
        counts[-1] += 1
    assert code_numbers(rle.encode(mask)["counts"].decode(), "") == counts
    for form in (counts, rle.encode(mask)["counts"].decode()):
        assert (decode_mask({"counts": form, "size": [int(height), int(width)]}, int(height), int(width), "") == mask).all()


@pytest.mark.parametrize("code, message", [
    ({"counts": [100, 50], "size": [H, W]}, "covers 150 pixels, the image has 600"),
    ({"counts": [100, 501], "size": [H, W]}, "covers 601 pixels"),
    ({"counts": [], "size": [H, W]}, "covers 0 pixels"),
    ({"counts": [10**9, 50], "size": [H, W]}, "covers 1000000050 pixels"),
    ({"counts": [650, -50], "size": [H, W]}, "negative count, -50"),
    ({"counts": [2**32, 600 - 2**32], "size": [H, W]}, "negative count"),
    ({"counts": [300.0, 300], "size": [H, W]}, "whole numbers"),
    ({"counts": [True, 599], "size": [H, W]}, "whole numbers"),
    ({"counts": None, "size": [H, W]}, "whole numbers"),
    ({"counts": compressed([100, 50, 10]), "size": [H, W]}, "covers 160 pixels"),
    ({"counts": compressed([100, 50, 10**6]), "size": [H, W]}, "covers 1000150 pixels"),
    ({"counts": compressed([650, 2**32 - 50]), "size": [H, W]}, "negative count|covers"),
    ({"counts": compressed(CODE)[:-1], "size": [H, W]}, "ends in the middle|covers"),
    ({"counts": "o" * 50, "size": [H, W]}, "invalid character"),
    ({"counts": "\x1b[2J", "size": [H, W]}, "invalid character"),
    ({"counts": "", "size": [H, W]}, "covers 0 pixels"),
    ({"counts": CODE, "size": [10**9, 10**9]}, "is for"),
    ({"counts": CODE, "size": [W, H]}, "is for"),
    ({"counts": CODE, "size": [H, W, 1]}, "is for"),
    ({"counts": CODE}, "is for"),
])
def test_a_code_that_does_not_fill_its_mask_is_refused(code, message):
    assert decode_mask({"counts": CODE, "size": [H, W]}, H, W, "").sum() == 50
    with pytest.raises(ValueError, match=f"here: .*({message})"):
        decode_mask(code, H, W, "here")


def instance_json(folder, **image):
    """A data set of one picture; keywords change what the JSON says about it."""
    (folder / "train").mkdir(parents=True)
    Image.new("RGB", (W, H)).save(folder / "train" / "a.png")
    Image.new("RGB", (W, H)).save(folder / "secret.png")
    content = {"images": [{"id": 1, "file_name": "a.png", "height": H, "width": W} | image],
               "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": {"counts": CODE, "size": [H, W]}}],
               "categories": [{"id": 1, "name": "cat"}]}
    (folder / "instances_train.json").write_text(json.dumps(content))
    return folder / "instances_train.json"


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "x/../../secret.png", "C:\\secret.png", "..\\secret.png", "\\\\host\\x.png", "",
                                  "a\0.png"])
def test_a_name_that_leads_out_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="leads out of the folder"):
        CocoInstance(instance_json(tmp_path, file_name=name))
    path = write_panoptic(tmp_path / "panoptic", [Lakeland("val", 64, 0.0, 1)[0]], Lakeland("val", 64, 0.0, 1).classes, "train")
    for part in ("images", "annotations"):
        content = json.loads(path.read_text())
        content[part][0]["file_name"] = name
        other = path.with_name("panoptic_other.json")
        other.write_text(json.dumps(content))
        with pytest.raises(ValueError, match="leads out of the folder"):
            CocoPanoptic(other, path.parent / "panoptic" / "train", path.parent / "images" / "train")


def test_a_link_that_leads_out_is_refused_and_one_inside_is_not(tmp_path):
    path = instance_json(tmp_path / "data")
    outside, inside = tmp_path / "outside.png", path.parent / "train" / "store.png"
    for target in (outside, inside):
        Image.new("RGB", (W, H)).save(target)
    place = path.parent / "train" / "a.png"
    place.unlink()
    os.symlink(inside, place)
    assert CocoInstance(path)[0][0].shape == (3, H, W)
    place.unlink()
    os.symlink(outside, place)
    with pytest.raises(ValueError, match="is a link .*outside.png"):
        CocoInstance(path)[0]
    os.symlink(path.parent, tmp_path / "linked")  # the whole folder may lie anywhere
    place.unlink()
    os.symlink(inside, place)
    assert CocoInstance(tmp_path / "linked" / path.name)[0][0].shape == (3, H, W)


@pytest.mark.parametrize("height", [0, -5, 10**9, float("inf"), float("nan"), "high"])
def test_a_size_that_no_picture_has_is_refused_before_anything_is_decoded(tmp_path, height):
    with pytest.raises(ValueError, match="instances_train.json: (image a.png is|height is)"):
        CocoInstance(instance_json(tmp_path, height=height))


@pytest.mark.parametrize("text, message", [("[" * 100_000, "nested too deeply"), ('{"images": 1e400}', "no list"), ("[1, Infinity]", "no list"),
                                           ("9" * 5000, "is it truncated")])
def test_a_json_bomb_is_a_sentence(tmp_path, text, message):
    path = tmp_path / "instances_train.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        CocoInstance(path)
    path = tmp_path / "classes.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="classes.json"):
        read_class_file(path)


def test_names_of_classes_stay_text(tmp_path):
    path = tmp_path / "classes.json"
    path.write_text(json.dumps(["\x1b[31mred\x1b[2J", "a\nb", "山 élan", "x" * 10_000]))
    names = read_class_file(path)[0].names
    assert names[:3] == (r"\x1b[31mred\x1b[2J", r"a\nb", "山 élan") and len(names[3]) == 200


def test_a_picture_too_large_is_refused_by_its_pixel_count(tmp_path, monkeypatch):
    Image.new("1", (400, 300)).save(tmp_path / "large.png")
    assert open_image(tmp_path / "large.png").size == (400, 300)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)
    with warnings.catch_warnings(record=True) as caught:  # Pillow warns from half of our limit on
        warnings.simplefilter("always")
        importlib.reload(images)  # as when it is imported: pytest has restored the filters since
        assert images.open_image(tmp_path / "large.png").size == (400, 300)
    assert not caught
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50_000)
    with pytest.raises(ValueError, match="large.png was not decoded.*more than 100,000 pixels .*MINIMASKFORMER_MAX_PIXELS"):
        open_image(tmp_path / "large.png")


@pytest.mark.parametrize("value", ["1e9", "all", "-1", " "])
def test_a_limit_that_is_no_number_is_named(value, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    monkeypatch.setenv("MINIMASKFORMER_MAX_PIXELS", value)
    with pytest.raises(ValueError, match="MINIMASKFORMER_MAX_PIXELS is a number of pixels"):
        importlib.reload(images)
