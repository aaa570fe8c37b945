"""Every reader opens whatever split there is, and names those that there are where one is missing."""
import json

import numpy as np
import pytest
import torch
from PIL import Image

from minimaskformer import Lakeland
from minimaskformer.data.catalog import open_dataset
from minimaskformer.data.readers.coco_panoptic import write_panoptic
from minimaskformer.data.recognise.splits import NoSplit
from minimaskformer.data.torchvision_dataset import from_torchvision
from minimaskformer.data.writers.instances import write_instances


def save(path, value, mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (8, 6), value).save(path)


def coco_panoptic(home, split):
    scenes = Lakeland("val", 64, 0, 2)
    write_panoptic(home, (scenes[i] for i in range(2)), scenes.classes, split)


def coco_instance(home, split):
    home.mkdir(exist_ok=True)
    masks = torch.ones(1, 6, 8, dtype=torch.bool)
    write_instances(home, from_torchvision([(torch.zeros(3, 6, 8, dtype=torch.uint8), {"labels": torch.tensor([0]), "masks": masks})], ["a"]), split)


def ade20k(home, split):
    name = {"train": "training", "val": "validation"}.get(split, split)
    home.mkdir(exist_ok=True)
    rows = [f"{i}\t0.1\t{i}\t1\tthing {i}" for i in range(1, 151)]
    (home / "objectInfo150.txt").write_text("\n".join(["Idx\tRatio\tTrain\tVal\tName", *rows]))
    save(home / "images" / name / "a.jpg", 0, "RGB")
    save(home / "annotations" / name / "a.png", 1)


def cityscapes(home, split):
    save(home / "leftImg8bit" / split / "town" / "a_leftImg8bit.png", 0, "RGB")
    for kind in ("labelIds", "instanceIds"):
        save(home / "gtFine" / split / "town" / f"a_gtFine_{kind}.png", 7)


def voc(home, split):
    base = home / "VOCdevkit" / "VOC2012"
    save(base / "JPEGImages" / f"{split}.jpg", 0, "RGB")
    save(base / "SegmentationClass" / f"{split}.png", 0, "P")
    (base / "ImageSets" / "Segmentation").mkdir(parents=True, exist_ok=True)
    (base / "ImageSets" / "Segmentation" / f"{split}.txt").write_text(f"{split}\n")


def own(home, split):
    save(home / "images" / split / "a.png", 0, "RGB")
    save(home / "labels" / split / "a.png", 1)


READERS = {"coco_panoptic": coco_panoptic, "coco_instance": coco_instance, "ade20k": ade20k, "cityscapes": cityscapes,
           "cityscapes_semantic": cityscapes, "own": own, "instances": own}


@pytest.mark.parametrize("name", READERS)
def test_a_third_split_opens_and_a_missing_one_is_told(name, tmp_path):
    for split in ("train", "test"):
        READERS[name](tmp_path / "data", split)
    spec = f"{name}:{tmp_path / 'data'}"
    image, target = open_dataset(spec, "test")[0]
    assert image.shape[1:] == target["segment_map"].shape
    with pytest.raises(NoSplit, match="train.*test|test.*train"):
        open_dataset(spec, "holdout")


def test_a_split_of_voc_is_one_of_its_lists(tmp_path):
    for split in ("train", "val"):
        voc(tmp_path, split)
    assert len(open_dataset(f"voc:{tmp_path}", "val")) == 1
    with pytest.raises(NoSplit, match="there are train, val"):
        open_dataset(f"voc:{tmp_path}", "test")


def test_splits_of_pets_and_lakeland(tmp_path):
    with pytest.raises(NoSplit, match="there are test, trainval"):
        open_dataset(f"pets:{tmp_path}", "holdout")
    with pytest.raises(ValueError, match="'train' and 'val'"):
        open_dataset("lakeland", "test")


def test_panoptic_files_without_labels_of_a_split_count_as_none(tmp_path):
    coco_panoptic(tmp_path, "val2017")
    assert len(open_dataset(f"coco_panoptic:{tmp_path}", "val")) == 2
    with pytest.raises(NoSplit, match="there are val2017"):
        open_dataset(f"coco_panoptic:{tmp_path}", "train")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x.json").write_text(json.dumps({}))
    with pytest.raises(FileNotFoundError, match="is it the right folder"):
        open_dataset(f"coco_panoptic:{tmp_path / 'other'}", "val")
    assert np.asarray(Image.open(next(tmp_path.rglob("*.png")))).any()
