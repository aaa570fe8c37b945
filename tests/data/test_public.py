"""Public data sets in the trees they unpack to, and your own: files found, label values right, errors that help.

torchvision has readers and tables of its own for Cityscapes, VOC and the pets: what we read must be what they read.
"""
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets
from torchvision.models.segmentation import DeepLabV3_ResNet50_Weights

from minimaskformer.data.catalog import open_dataset
from minimaskformer.data.checks import scan_labels
from minimaskformer.data.public import CITYSCAPES, VOC, ade20k, cityscapes, pets, voc
from minimaskformer.targets import panoptic_to_semantic

H, W = 6, 9


def save(array, path, dtype=np.uint8, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.asarray(array).astype(dtype))
    if mode == "P":
        picture = picture.convert("P")
        picture.putpalette(list(range(256)) * 3)
    picture.save(path)


def picture(path, seed=0):
    save(np.random.default_rng(seed).integers(0, 256, (H, W, 3)), path)


def refused(call, error, *words):
    with pytest.raises(error) as caught:
        call()
    for word in words:
        assert word in str(caught.value), str(caught.value)


# ADE20K -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def ade(tmp_path):
    home = tmp_path / "ADEChallengeData2016"
    rows = [f"{i} \t0.0{i}\t{i}\t1\tthing {i}, other word {i} " for i in range(1, 151)]
    home.mkdir()
    (home / "objectInfo150.txt").write_text("\n".join(["Idx\tRatio\tTrain\tVal\tName", *rows]) + "\n")
    (home / "sceneCategories.txt").write_text("ADE_train_00000001 misc\n")
    for part, name in (("training", "train"), ("validation", "val")):
        for i in (1, 2):
            picture(home / "images" / part / f"ADE_{name}_{i:08d}.jpg", i)
            labels = np.zeros((H, W))
            labels[:, 2:], labels[2:, 5:] = 150, i
            save(labels, home / "annotations" / part / f"ADE_{name}_{i:08d}.png")
    return tmp_path


def test_ade20k_labels_1_to_150_are_classes_0_to_149_and_0_is_void(ade, capsys):
    for spec in (f"ade20k:{ade}", f"ade20k:{ade / 'ADEChallengeData2016'}"):
        dataset = open_dataset(spec, "train")
        told = capsys.readouterr().err.splitlines()
        assert [line.split() for line in told[-2:]] == [
            ["1", "...", "150", "0", "...", "149", "thing", "1", "...", "thing", "150"],
            ["0", "void", "not", "learnt,", "not", "counted"]]
    assert len(dataset) == 2 and len(dataset.classes) == 150 and dataset.classes.things == ()
    assert dataset.classes.names[0] == "thing 1" and dataset.classes.ids[149] == 150
    _, target = dataset[1]
    assert target["labels"].tolist() == [1, 149] and target["masks"][1].sum() == H * 7 - 4 * 4
    assert torch.equal(target["valid"][0], torch.arange(W) >= 2)
    assert ade20k(ade, "val").name(0) == "ADE_val_00000001" and scan_labels(dataset) == 2


def test_ade20k_that_is_not_whole(ade):
    home = ade / "ADEChallengeData2016"
    save(np.full((H, W), 151), home / "annotations" / "training" / "ADE_train_00000002.png")
    refused(lambda: scan_labels(ade20k(ade, "train")), ValueError, "ADE_train_00000002.png", "151 (54 pixels)", "1 ... 150")
    info = home / "objectInfo150.txt"
    lines = info.read_text().splitlines()
    info.write_text("\n".join(lines[:-1]))
    refused(lambda: ade20k(ade, "train"), ValueError, "objectInfo150.txt", "149 rows")
    info.write_text("\n".join(line.replace("\t", ",") for line in lines))
    refused(lambda: ade20k(ade, "train"), ValueError, "objectInfo150.txt", "tab-separated")
    info.unlink()
    refused(lambda: ade20k(ade, "train"), FileNotFoundError, "objectInfo150.txt", "CSAILVision/sceneparsing")
    info.write_text("\n".join(lines))
    refused(lambda: ade20k(ade, "test"), FileNotFoundError, "no split 'test'", "training, validation")


# Cityscapes -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def street(tmp_path):
    """Two cities; the label files are what cityscapesScripts writes: labelIds 8 bits, instanceIds 16 bits."""
    ids = np.full((H, W), 7)
    ids[:2], ids[2:4, :3], ids[2:4, 3:6], ids[2:4, 6:], ids[4, :4], ids[5, 0] = 23, 26, 26, 33, 29, 4
    numbers = ids.copy()
    numbers[2:4, :3], numbers[2:4, 3:6], numbers[4, :4] = 26000, 26001, 29000  # the bicycles are a group: 33
    for city, frame in (("aachen", 0), ("ulm", 7)):
        stem = f"{city}_000000_00000{frame}"
        picture(tmp_path / "leftImg8bit" / "train" / city / f"{stem}_leftImg8bit.png", frame)
        base = tmp_path / "gtFine" / "train" / city
        save(ids, base / f"{stem}_gtFine_labelIds.png")
        save(numbers, base / f"{stem}_gtFine_instanceIds.png", np.uint16)
        save(np.zeros((H, W, 4)), base / f"{stem}_gtFine_color.png")
        (base / f"{stem}_gtFine_polygons.json").write_text("{}")
    return tmp_path, ids, numbers


def test_the_cityscapes_table_is_torchvision_s():
    theirs = sorted((c.train_id, c.id, c.name, c.has_instances) for c in datasets.Cityscapes.classes
                    if 0 <= c.train_id < 255)
    assert [(k, *row) for k, row in enumerate(CITYSCAPES)] == theirs


def test_cityscapes_semantic_is_the_official_34_to_19(street):
    home, ids, _ = street
    dataset = open_dataset(f"cityscapes_semantic:{home}", "train")
    theirs = datasets.Cityscapes(str(home), split="train", mode="fine", target_type="semantic")
    train_id = {c.id: c.train_id for c in datasets.Cityscapes.classes}
    assert len(dataset) == len(theirs) == 2 and dataset.classes.things == ()
    place = {path.rsplit("/", 1)[1]: i for i, path in enumerate(theirs.images)}  # they list cities in any order
    for i in range(2):
        (image, target), (their_image, their_labels) = dataset[i], theirs[place[dataset.files(i)[0].name]]
        assert (image.permute(1, 2, 0).numpy() == np.asarray(their_image)).all()
        mapped = np.vectorize(train_id.get)(np.asarray(their_labels))
        assert (panoptic_to_semantic(target["segment_map"], target["segments_info"]).numpy() == mapped).all()
        assert (target["valid"].numpy() == (mapped != 255)).all()
    everything = np.arange(34).repeat(2).reshape(2, 34)  # every label value there is
    for kind in ("labelIds", "instanceIds"):
        save(everything, home / "gtFine" / "train" / "ulm" / f"ulm_000000_000007_gtFine_{kind}.png", np.uint16)
    segment_map, info = dataset.read_map(1)
    mapped = np.vectorize(train_id.get)(everything)
    assert (panoptic_to_semantic(segment_map, info).numpy() == mapped).all() and len(info) == 19


def test_cityscapes_panoptic_follows_the_official_conversion(street):
    home, _, numbers = street
    dataset = open_dataset(f"cityscapes:{home}", "train")
    label = {c.id: c for c in datasets.Cityscapes.classes}
    _, target = dataset[0]
    segment_map, seen = target["segment_map"].numpy(), {}
    for s in target["segments_info"]:
        value = np.unique(numbers[segment_map == s["id"]])
        assert len(value) == 1
        seen[int(value[0])] = (s["category_id"], s["iscrowd"], s["area"])
    expected = {}  # createPanopticImgs: below 1000 a thing is a crowd; ignored labels are left out
    for value in np.unique(numbers):
        c = label[value if value < 1000 else value // 1000]
        if not c.ignore_in_eval:
            expected[int(value)] = (c.train_id, int(value < 1000 and c.has_instances), int((numbers == value).sum()))
    assert seen == expected and (33 in expected and expected[33][1] == 1) and 26000 in expected
    assert [dataset.classes.names[k] for k in dataset.classes.things] == [
        "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"]
    assert target["labels"].tolist().count(13) == 2 and 18 not in target["labels"]


def test_cityscapes_that_is_not_whole(street):
    home, ids, _ = street
    file = home / "gtFine" / "train" / "ulm" / "ulm_000000_000007_gtFine_labelIds.png"
    save(ids + 30, file)
    refused(lambda: scan_labels(cityscapes(home, "train", panoptic=False)), ValueError, str(file), "37", "0 ... 6")
    file.unlink()
    refused(lambda: cityscapes(home, "train", panoptic=False), ValueError, "ulm", "_gtFine_labelIds.png")
    picture(home / "leftImg8bit" / "train" / "aachen" / "aachen_000000_000009_leftImg8bit.png")
    refused(lambda: cityscapes(home, "train"), FileNotFoundError, "aachen_000000_000009", "instanceIds")
    refused(lambda: cityscapes(home, "val"), FileNotFoundError, "leftImg8bit_trainvaltest.zip")


# Pascal VOC and Oxford-IIIT Pet -------------------------------------------------------------------------------------


@pytest.fixture
def devkit(tmp_path):
    home = tmp_path / "VOCdevkit" / "VOC2012"
    labels = np.zeros((H, W))
    labels[1:4, 1:4], labels[0, 0] = 20, 255
    for i, name in enumerate(("2007_000032", "2007_000039", "2007_000063")):
        picture(home / "JPEGImages" / f"{name}.jpg", i)
        save(np.roll(labels, i, 1), home / "SegmentationClass" / f"{name}.png", mode="P")
    lists = home / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_000063\n2007_000032\n")
    (lists / "val.txt").write_text("2007_000039\n")
    return tmp_path


def test_voc_is_what_torchvision_reads(devkit):
    dataset, theirs = open_dataset(f"voc:{devkit}", "train"), datasets.VOCSegmentation(str(devkit), image_set="train")
    assert len(dataset) == len(theirs) == 2 and dataset.name(0) == "2007_000063"
    for (image, target), (their_image, their_labels) in zip(dataset, theirs):
        assert (image.permute(1, 2, 0).numpy() == np.asarray(their_image)).all()
        ours = panoptic_to_semantic(target["segment_map"], target["segments_info"])
        assert (ours.numpy() == np.asarray(their_labels)).all()
        assert target["labels"].tolist() == [0, 20]
    assert VOC == ("background", *DeepLabV3_ResNet50_Weights.DEFAULT.meta["categories"][1:])


def test_voc_that_is_not_whole(devkit):
    (devkit / "VOCdevkit" / "VOC2012" / "SegmentationClass" / "2007_000032.png").unlink()
    refused(lambda: voc(devkit, "train"), FileNotFoundError, "SegmentationClass/2007_000032.png")
    assert len(voc(devkit, "val")) == 1
    refused(lambda: voc(devkit, "trainval"), FileNotFoundError, "trainval")
    refused(lambda: voc(devkit / "VOCdevkit", "train"), FileNotFoundError, "VOC2012", "ImageSets/Segmentation/train.txt")


def test_pets_are_what_torchvision_reads(tmp_path):
    home = tmp_path / "oxford-iiit-pet"
    trimap = np.full((H, W), 2)
    trimap[1:5, 1:6], trimap[2:4, 2:5] = 3, 1
    for i, name in enumerate(("Abyssinian_1", "beagle_2")):
        picture(home / "images" / f"{name}.jpg", i)
        save(np.roll(trimap, i, 1), home / "annotations" / "trimaps" / f"{name}.png")
    (home / "annotations" / "trimaps" / "._Abyssinian_1.png").write_bytes(b"as in the archive")
    (home / "annotations" / "trainval.txt").write_text("Abyssinian_1 1 1 1\n")
    (home / "annotations" / "test.txt").write_text("beagle_2 5 2 1\n")
    for split, part in (("train", "trainval"), ("val", "test")):
        dataset = open_dataset(f"pets:{tmp_path}", split)
        theirs = datasets.OxfordIIITPet(str(tmp_path), split=part, target_types="segmentation")
        (image, target), (their_image, their_trimap) = dataset[0], theirs[0]
        assert len(dataset) == 1 and (image.permute(1, 2, 0).numpy() == np.asarray(their_image)).all()
        ours = panoptic_to_semantic(target["segment_map"], target["segments_info"]).numpy()
        assert (ours == np.select([np.asarray(their_trimap) == v for v in (1, 2, 3)], [0, 1, 255])).all()
        assert dataset.classes.names == ("pet", "background")
    (home / "images" / "beagle_2.jpg").unlink()
    refused(lambda: pets(tmp_path, "val"), FileNotFoundError, "beagle_2.jpg")
    refused(lambda: pets(home, "val"), FileNotFoundError, "oxford-iiit-pet")


# Your own -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def mine(tmp_path):
    for split, values in (("train", (0, 1)), ("val", (0, 2))):
        for i in range(2):
            labels = np.full((H, W), values[0])
            labels[2:5, 2:6] = values[1]
            picture(tmp_path / "images" / split / f"{i}.jpg", i)
            save(labels, tmp_path / "labels" / split / f"{i}.png")
    return tmp_path


def number_instances(home):
    for split in ("train", "val"):
        for i in range(2):
            numbers = np.zeros((H, W))
            numbers[2:5, 2:4], numbers[2:5, 4:6] = 1, 2
            save(numbers, home / "instances" / split / f"{i}.png")


def test_own_semantic_train_and_val_have_one_table(mine, capsys):
    train, val = (open_dataset(f"own:{mine}", split) for split in ("train", "val"))
    assert train.classes == val.classes and train.classes.ids == (0, 1, 2) and train.classes.things == ()
    assert train[0][1]["labels"].tolist() == [0, 1] and val[0][1]["labels"].tolist() == [0, 2]
    assert "label 0" in capsys.readouterr().err


def test_own_with_class_names_and_instances(mine):
    (mine / "classes.txt").write_text("0 ground void\n1 cat thing\n2 dog thing\n")
    assert open_dataset(f"own:{mine}", "train").classes.things == ()  # no instance files: nobody can count the cats
    number_instances(mine)
    dataset = open_dataset(f"own:{mine}", "val")
    assert dataset.classes.names == ("cat", "dog") and dataset.classes.things == (0, 1) and dataset.void == (0,)
    _, target = dataset[0]
    assert target["labels"].tolist() == [1, 1] and target["valid"].sum() == 12
    assert [int(m.sum()) for m in target["masks"]] == [6, 6]
    (mine / "classes.txt").unlink()
    assert open_dataset(f"own:{mine}", "train").classes.isthing == (False, True, True)


def test_own_that_is_not_whole(mine):
    number_instances(mine)
    (mine / "instances" / "val" / "1.png").unlink()
    refused(lambda: open_dataset(f"own:{mine}", "val"), FileNotFoundError, "instance file", "'1'")
    (mine / "instances" / "train" / "1.png").rename(mine / "instances" / "val" / "1.png")
    refused(lambda: open_dataset(f"own:{mine}", "train"), FileNotFoundError, "instance file", "'1'")
    save(np.zeros((H, W)), mine / "instances" / "train" / "1.png")
    refused(lambda: open_dataset(f"own:{mine}", "test"), FileNotFoundError, "'test'", "labels/SPLIT", "train 2, val 2")
    (mine / "classes.txt").write_text("ground\ncat\n")
    save(np.full((H, W), 3), mine / "labels" / "train" / "0.png")
    refused(lambda: scan_labels(open_dataset(f"own:{mine}", "train")), ValueError, "labels/train/0.png", "3 (54 pixels)")
    (mine / "train.json").write_text("{}")
    refused(lambda: open_dataset(f"own:{mine}", "train"), ValueError, "both", "coco_instance:")
