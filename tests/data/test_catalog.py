"""--data NAME:PATH: which text opens what, and what is said when it does not."""
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from minimaskformer.config import get_config
from minimaskformer.data.catalog import KNOWN, READERS, open_dataset
from minimaskformer.data.checks import scan_labels
from minimaskformer.data.classes import ClassTable, classes_of
from minimaskformer.data.combine import Joined
from minimaskformer.data.lakeland import Lakeland
from minimaskformer.data.readers.coco_panoptic import write_panoptic
from minimaskformer.data.transforms import TrainingViews
from minimaskformer.targets import panoptic_to_target

CLASSES = ClassTable(names=("sky", "sheep"), isthing=(False, True), ids=(7, 3))


def item(grey):
    segment_map = torch.tensor([[1, 1, 2]])
    info = [{"id": 1, "category_id": 0, "isthing": False, "iscrowd": 0, "area": 2},
            {"id": 2, "category_id": 1, "isthing": True, "iscrowd": 0, "area": 1}]
    return torch.full((3, 1, 3), grey, dtype=torch.uint8), panoptic_to_target(segment_map, info, 2)


def refused(spec, split, error, *words):
    with pytest.raises(error) as caught:
        open_dataset(spec, split)
    for word in words:
        assert word in str(caught.value), str(caught.value)


def test_lakeland_with_and_without_numbers():
    assert isinstance(open_dataset("lakeland", "val"), Lakeland)
    scenes, same = open_dataset("lakeland:64,0.25", "val"), Lakeland(split="val", size=64, difficulty=0.25)
    assert (len(open_dataset("lakeland", "train")), len(scenes)) == (1_000_000, 1_000)
    assert scenes[3][0].shape == (3, 64, 64) and torch.equal(scenes[3][0], same[3][0])
    assert open_dataset("lakeland:96", "train")[0][0].shape == (3, 96, 96)
    for text in ("big", "64,hard", "64,0.5,1"):
        refused(f"lakeland:{text}", "val", ValueError, text, "lakeland:128,0.5")


def test_coco_panoptic_in_its_layouts(tmp_path):
    write_panoptic(tmp_path / "plain", [item(1)], CLASSES, "val")
    write_panoptic(tmp_path / "own" / "annotations", [item(2)], CLASSES, "val2017")
    for folder, grey in (("plain", 1), ("own", 2)):
        dataset = open_dataset(f"coco_panoptic:{tmp_path / folder}", "val")
        assert len(dataset) == 1 and (dataset[0][0] == grey).all() and dataset.classes == CLASSES
    write_panoptic(tmp_path / "own" / "annotations", [item(3)], CLASSES, "val_small")
    refused(f"coco_panoptic:{tmp_path / 'own'}", "val", ValueError, "val2017", "val_small")
    refused(f"coco_panoptic:{tmp_path / 'plain'}", "train", FileNotFoundError, "no split 'train'", "there are val", str(tmp_path))


def test_two_parts_become_one(tmp_path):
    write_panoptic(tmp_path / "free", [item(1), item(2)], CLASSES, "val", names=["b", "a"])
    write_panoptic(tmp_path / "noncommercial", [item(3)], CLASSES, "val", names=["c"])
    dataset = open_dataset(f"coco_panoptic:{tmp_path}", "val")
    assert [dataset.name(i) for i in range(len(dataset))] == ["b", "a", "c"] and dataset.classes == CLASSES
    assert [int(image[0, 0, 0]) for image, _ in dataset] == [1, 2, 3]
    assert int(dataset[-1][0][0, 0, 0]) == 3 and dataset.name(-3) == "b"
    with pytest.raises(IndexError):
        dataset[3]
    only = Joined(dataset.parts[:1])
    with pytest.raises(ValueError, match="2 images occur"):
        Joined([only, only])
    other = ClassTable(names=("sky", "cow"), isthing=(False, True), ids=(7, 3))
    write_panoptic(tmp_path / "noncommercial", [item(3)], other, "val", overwrite=True)
    refused(f"coco_panoptic:{tmp_path}", "val", ValueError, "class tables", "cow")


def test_instances(tmp_path):
    for part in ("images", "labels"):
        (tmp_path / part / "train").mkdir(parents=True)
        Image.fromarray(np.eye(3, dtype=np.uint8)).save(tmp_path / part / "train" / "x.png")
    dataset = open_dataset(f"instances:{tmp_path}", "train")
    assert dataset.name(0) == "x" and dataset[0][1]["labels"].tolist() == [0, 1]
    refused(f"instances:{tmp_path}", "val", FileNotFoundError, "val")


def test_what_is_said_otherwise(tmp_path):
    refused("kitti:x", "val", ValueError, "kitti", "lakeland", "coco_panoptic:PATH", "instances:PATH")
    refused("instances", "val", ValueError, "instances:PATH")
    refused(f"instances:{tmp_path / 'gone'}", "val", FileNotFoundError, "gone")


def test_every_name_is_told_and_documented(tmp_path):
    readme = (Path(__file__).parents[2] / "data" / "README.md").read_text()
    for name in READERS:
        assert f"{name}:PATH" in KNOWN and f"`{name}:" in readme, name
        refused(name, "val", ValueError, f"{name}:PATH")
        refused(f"{name}:{tmp_path / 'gone'}", "val", FileNotFoundError, "gone")
        with pytest.raises((ValueError, FileNotFoundError), match=str(tmp_path)):  # an empty folder, and it is named
            open_dataset(f"{name}:{tmp_path}", "val")


def test_joined_parts_are_scanned_too(tmp_path):
    write_panoptic(tmp_path / "free", [item(1)], CLASSES, "val", names=["b"])
    write_panoptic(tmp_path / "noncommercial", [item(3)], CLASSES, "val", names=["c"])
    dataset = open_dataset(f"coco_panoptic:{tmp_path}", "val")
    assert scan_labels(dataset) == 2 and scan_labels(TrainingViews(dataset, 8)) == 2
    png = tmp_path / "noncommercial" / "panoptic" / "val" / "c.png"
    png.write_bytes(png.read_bytes()[:40])
    with pytest.raises(ValueError, match=str(png)):
        scan_labels(TrainingViews(dataset, 8))


@pytest.mark.parametrize("name", ["../secret.png", "/etc/secret.png", "a/../../secret.png", "..\\secret.png", "C:\\secret.png", "\\secret.png"])
def test_names_in_a_json_do_not_lead_out_of_the_folder(tmp_path, name):
    from minimaskformer.data.images import stored_file
    (tmp_path / "images").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "secret.png")
    with pytest.raises(ValueError, match="leads out of the folder"):
        stored_file(tmp_path / "images", name)


def test_links_do_not_lead_out_of_the_folder_unless_they_are_the_folder(tmp_path):
    from minimaskformer.data.images import stored_file
    (tmp_path / "far").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "far" / "a.png")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").symlink_to(tmp_path / "far" / "a.png")
    with pytest.raises(ValueError, match=r"a\.png is a link that leads out of the folder"):
        stored_file(tmp_path / "images", "a.png")
    (tmp_path / "linked").symlink_to(tmp_path / "far")
    assert stored_file(tmp_path / "linked", "a.png").is_file()
    assert stored_file(tmp_path / "far", "gone..png") == tmp_path / "far" / "gone..png"  # not there, and harmless


def test_two_forms_in_one_folder_are_named(tmp_path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_train.json").write_text("{}")
    (tmp_path / "labels" / "train").mkdir(parents=True)
    refused(f"own:{tmp_path}", "train", ValueError, "holds both", "instances_train.json", "which is it")


def test_an_id_of_a_file_is_looked_up_and_things_are_those_of_the_model():
    table = ClassTable(("sky", "cow"), (False, True), (7, 3))
    assert table.index(7) == 0 and table.index(3) == 1
    model = SimpleNamespace(config=get_config("mini", num_classes=4, things=(0, 2)))
    assert classes_of(model).isthing == (True, False, True, False) and classes_of(model).names == ("class 0", "class 1", "class 2", "class 3")
