"""`convert`: what is written reads back pixel for pixel, in other libraries' readers too; nothing is half written."""
import contextlib
import io
import json
import os

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

import minimaskformer.commands.cli as cli
from minimaskformer.data.catalog import open_dataset
from minimaskformer.data.torchvision_dataset import from_torchvision
from minimaskformer.data.writers.instances import write_instances

H, W = 20, 30
BIG, SMALL, CROWD = [2, 2, 20, 2, 20, 15, 2, 15], [5, 5, 9, 5, 9, 9, 5, 9], [22, 0, 30, 0, 30, 20, 22, 20]


@pytest.fixture
def mine(tmp_path):
    """Two splits of overlapping polygons and a crowd; the first picture is a JPEG."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        (tmp_path / "in" / split).mkdir(parents=True)
        for name in ("x.jpg", "y.png"):
            Image.fromarray(rng.integers(0, 256, (H, W, 3), dtype=np.uint8)).save(tmp_path / "in" / split / name)
        annotations = [(BIG, 0, 8), (SMALL, 0, 5), (CROWD, 1, 8)]
        (tmp_path / "in" / f"{split}.json").write_text(json.dumps({
            "images": [{"id": k, "file_name": name, "height": H, "width": W} for k, name in ((3, "x.jpg"), (1, "y.png"))],
            "annotations": [{"id": k, "image_id": 3, "category_id": c, "iscrowd": crowd, "segmentation": [s]} for k, (s, crowd, c) in enumerate(annotations)],
            "categories": [{"id": 8, "name": "ca<t|\n"}, {"id": 5, "name": "dog"}]}))
    return tmp_path


def same(a, b):
    return all(torch.equal(a[1][name], b[1][name]) for name in ("labels", "masks", "valid")) and torch.equal(a[0], b[0])


def converted(home, *options, data="own:{}/in", code=0):
    assert cli.main(["convert", "--data", data.format(home), "--out", str(home / "out"), *options]) == code
    return home / "out"


def test_instances_come_back(mine, capsys):
    out = converted(mine)
    assert "own:" in capsys.readouterr().out and sorted(p.name for p in out.iterdir()) == ["images", "instances_train.json", "instances_val.json"]
    for split in ("train", "val"):
        before, after = open_dataset(f"own:{mine}/in", split), open_dataset(f"own:{out}", split)
        assert before.classes == after.classes and [after.name(i) for i in range(2)] == ["x", "y"]
        assert all(same(before[i], after[i]) for i in range(2))
        assert (out / "images" / split / "x.jpg").read_bytes() == (mine / "in" / split / "x.jpg").read_bytes()
    with contextlib.redirect_stdout(io.StringIO()):
        api = COCO(str(out / "instances_val.json"))
    masks = [api.annToMask(a) for a in api.anns.values()]
    assert [m.sum() for m in masks] == [18 * 13, 16, 8 * 20] == [a["area"] for a in api.anns.values()]
    assert [a["bbox"] for a in api.anns.values()] == [[2, 2, 18, 13], [5, 5, 4, 4], [22, 0, 8, 20]]
    assert [a["iscrowd"] for a in api.anns.values()] == [0, 0, 1]


def test_panoptic_comes_back(mine):
    out = converted(mine, "--format", "coco_panoptic", "--splits", "val")
    before, after = open_dataset(f"own:{mine}/in", "val"), open_dataset(f"coco_panoptic:{out}", "val")
    assert before.classes.names == after.classes.names and not (out / "panoptic_train.json").exists()
    for i in range(2):
        assert torch.equal(before[i][0], after[i][0]) and torch.equal(before[i][1]["segment_map"], after[i][1]["segment_map"])
        assert before[i][1]["segments_info"] == after[i][1]["segments_info"]


def test_runs_of_pixels_where_there_are_no_polygons(tmp_path):
    numbers = np.random.default_rng(1).integers(0, 4, (H, W)).astype(np.uint8)
    for part, values in (("images", numbers * 9), ("labels", numbers)):
        (tmp_path / "in" / part / "train").mkdir(parents=True)
        Image.fromarray(values).save(tmp_path / "in" / part / "train" / "n.png")
    out = converted(tmp_path, data="instances:{}/in")
    assert same(open_dataset(f"instances:{tmp_path}/in", "train")[0], open_dataset(f"own:{out}", "train")[0])


def test_stuff_is_not_lost(tmp_path, capsys):
    for part in ("images", "labels"):
        (tmp_path / "in" / part / "train").mkdir(parents=True)
        Image.fromarray(np.eye(9, dtype=np.uint8)).save(tmp_path / "in" / part / "train" / "n.png")
    out = converted(tmp_path, "--format", "coco_instance", code=1)
    assert "label 0, label 1" in capsys.readouterr().err and not out.exists()
    converted(tmp_path)
    assert open_dataset(f"coco_panoptic:{out}", "train").classes.names == ("label 0", "label 1")


def test_whole_or_not_at_all(mine, capsys):
    (mine / "in" / "val" / "y.png").write_bytes(b"no picture")
    out = converted(mine, code=1)
    assert "y.png" in capsys.readouterr().err and sorted(os.listdir(mine)) == ["in"]
    out.mkdir()
    (out / "mine.txt").write_text("x")
    converted(mine, "--splits", "train", code=1)
    assert os.listdir(out) == ["mine.txt"] and "not empty" in capsys.readouterr().err
    (out / "mine.txt").unlink()
    converted(mine, "--splits", "train")
    assert (out / "instances_train.json").is_file()
    converted(mine, "--splits", "train", "test", code=1)


@pytest.mark.parametrize("boxes", [True, False])
def test_masks_in_the_wrong_place_are_not_written_anew(boxes, mine, capsys):
    """In the copy the boxes would be those of the wrong masks, and nothing would tell any more."""
    for split in ("train", "val"):
        path = mine / "in" / f"{split}.json"
        data = json.loads(path.read_text())
        data["annotations"] = [{"id": k, "image_id": 3, "category_id": 8 - 3 * (k % 2), "iscrowd": 0,
                                "segmentation": [[v / (H, W)[i % 2 == 0] * 1.0 for i, v in enumerate(BIG)]],
                                **({"bbox": [2, 2, 18, 13]} if boxes else {})} for k in range(12)]
        path.write_text(json.dumps(data))
    assert not converted(mine, code=1).exists()
    told = capsys.readouterr().err
    assert "masks of the train split seem to lie in the wrong place" in told and "in fractions " in told
    assert "--anyway" in told and converted(mine, "--anyway").exists()
    assert "note: train split: " in capsys.readouterr().err


def items(labels, dtype=torch.uint8):
    """A data set as torchvision's tutorial has it: two overlapping masks in the first picture, none in the second."""
    masks = torch.zeros(2, H, W, dtype=dtype)
    masks[0, 2:10, 3:9], masks[1, 8:12, 5:20] = 1, 1
    image = torch.arange(3 * H * W, dtype=torch.float64).reshape(3, H, W).remainder(256)
    return [(image.to(torch.uint8), {"labels": torch.tensor(labels), "masks": masks, "boxes": torch.zeros(2, 4), "image_id": 7}),
            ((image / 255).float(), {"labels": torch.zeros(0, dtype=torch.int64), "masks": torch.zeros(0, H, W)})]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.int64])
@pytest.mark.parametrize("classes, labels", [(["__background__", "cat", "dog"], [2, 1]), (["cat", "dog"], [1, 0])])
def test_torchvision_targets(classes, labels, dtype, tmp_path):
    data = items(labels, dtype)
    dataset = from_torchvision(data, classes)
    assert len(dataset) == 2 and dataset.classes.names == ("cat", "dog", "background") and dataset.classes.things == (0, 1)
    image, target = dataset[0]
    assert torch.equal(image, data[0][0]) and torch.equal(dataset[1][0], image) and target["labels"].tolist() == [1, 0, 2]
    assert torch.equal(target["masks"][:2], data[0][1]["masks"].bool()) and target["masks"][2].sum() == H * W - 48 - 60 + 8
    assert target["valid"].all() and dataset[1][1]["labels"].tolist() == [2]
    (tmp_path / "out").mkdir()
    write_instances(tmp_path / "out", dataset, "val")
    back = open_dataset(f"own:{tmp_path}/out", "val")
    assert all(same(dataset[i], back[i]) for i in range(2))


def test_torchvision_pictures_of_pillow_and_crowds():
    data = [(Image.new("L", (W, H), 9), items([1, 2])[0][1] | {"iscrowd": torch.tensor([0, 1])})]
    image, target = from_torchvision(data, ["background", "cat", "dog"])[0]
    assert (image == 9).all() and image.shape == (3, H, W) and target["labels"].tolist() == [0, 2]
    assert (~target["valid"]).sum() == 60 - 8


@pytest.mark.parametrize("change, words", [
    ({"labels": torch.tensor([0, 1])}, "labels [0] are not 1 ... 2"), ({"labels": torch.tensor([3, 1])}, "[3]"),
    ({"labels": torch.tensor([1])}, "1 labels"), ({"masks": torch.zeros(2, H, W + 1)}, "do not belong together"),
    ({"masks": torch.arange(2 * H * W).reshape(2, H, W)}, "values"), ({"masks": torch.zeros(H, W)}, "[T, H, W]")])
def test_torchvision_targets_that_are_none(change, words):
    image, target = items([1, 2])[0]
    with pytest.raises(ValueError, match="item 0") as caught:
        from_torchvision([(image, target | change)], ["background", "cat", "dog"])[0]
    assert words in str(caught.value), str(caught.value)


def test_torchvision_data_of_other_forms():
    image, target = items([1, 2])[0]
    for wrong, words in (((image.float() - 9, target), "normalisation"), ((image[0], target), "[3, H, W]"), ((image, target["masks"]), "dict"),
                         ((image.int(), target), "uint8")):
        with pytest.raises(ValueError, match="item 0") as caught:
            from_torchvision([wrong], ["background", "cat", "dog"])[0]
        assert words in str(caught.value)
    with pytest.raises(ValueError, match="in front"):
        from_torchvision([(image, target)], ["cat", "dog"])[0]
    for classes in ([], ["background"], ["cat", "cat"], ["cat", "background"]):
        with pytest.raises(ValueError, match="classes are the names"):
            from_torchvision([], classes)
