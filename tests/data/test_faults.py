"""What a data set's labels add up to, on data sets of each kind of fault: stopped before training, or read rightly."""
import json

import numpy as np
import pytest
import torch
from PIL import Image

from minimaskformer.commands import cli
from minimaskformer.data.catalog import open_dataset
from minimaskformer.data.checks import count_labels
from minimaskformer.data.classes import ClassTable
from minimaskformer.data.faults import check_targets, notes, reasons
from minimaskformer.data.readers.coco_instance import CocoInstance
from minimaskformer.data.readers.coco_panoptic import CocoPanoptic
from minimaskformer.data.readers.instances import InstanceFolder
from minimaskformer.data.readers.semantic import SemanticFolder
from minimaskformer.data.tally import Content, Tally
from minimaskformer.diagnosis.dataset import data_report, inspect

H, W, N = 60, 80, 6
QUICK = ["--steps", "1", "--batch-size", "2", "--size", "64", "--evaluate-images", "1", "--queries", "8"]


def save(array, path, dtype=np.uint8):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array).astype(dtype)).save(path)


def pictures(folder):
    rng = np.random.default_rng(0)
    for i in range(N):
        save(rng.integers(0, 256, (H, W, 3)), folder / f"{i}.png")


def boxes(i):
    """Two boxes [x, y, width, height] of picture i that do not touch."""
    return [(5 + i, 6, 20, 15), (40, 30 + i, 30, 20)]


def corners(box, sx=1.0, sy=1.0):
    x, y, w, h = box
    return [x * sx, y * sy, (x + w) * sx, y * sy, (x + w) * sx, (y + h) * sy, x * sx, (y + h) * sy]


def coco(folder, change=lambda annotation: None, names=("cat", "dog")):
    """Six pictures with a cat and a dog each, as polygons, in train and in val."""
    for split in ("train", "val"):
        pictures(folder / "images" / split)
        annotations = [{"id": 1 + 2 * i + k, "image_id": i, "category_id": 1 + k, "segmentation": [corners(box)],
                        "iscrowd": 0, "bbox": list(box), "area": box[2] * box[3]}
                       for i in range(N) for k, box in enumerate(boxes(i))]
        for annotation in annotations:
            change(annotation)
        (folder / f"{split}.json").write_text(json.dumps({
            "images": [{"id": i, "file_name": f"{i}.png", "height": H, "width": W} for i in range(N)],
            "annotations": annotations, "categories": [{"id": 1 + k, "name": name} for k, name in enumerate(names)]}))
    return folder


def found(dataset, split="training"):
    return reasons(count_labels(dataset), dataset)


def stopped(dataset):
    with pytest.raises(ValueError) as caught:
        check_targets(count_labels(dataset), dataset, "training")
    return str(caught.value)


def test_a_good_data_set_is_counted_and_has_no_fault(tmp_path):
    dataset = CocoInstance(coco(tmp_path) / "train.json", background="background")
    counted = count_labels(dataset)
    assert counted.targets == {0: N, 1: N, 2: N} and not counted.crowds and not counted.empty and counted.void == 0
    assert (counted.items, counted.of, counted.most, counted.boxes, counted.misfits) == (N, N, (3, "0"), 2 * N, 0)
    assert found(dataset) == [] and notes(counted, dataset, "training", queries=3) == []
    check_targets(counted, dataset, "training")
    assert count_labels(dataset, 2).items == 2


def brush(annotation):
    annotation["iscrowd"] = 1


def test_crowds_of_brush_masks_stop_and_can_be_taken_as_objects(tmp_path):
    dataset = CocoInstance(coco(tmp_path, brush) / "train.json", background="background")
    text = stopped(dataset)
    assert "6 of the 6 annotations of cat" in text and "CVAT" in text and "--crowds objects" in text
    good = CocoInstance(tmp_path / "train.json", background="background", crowds="objects")
    counted, target = count_labels(good), good[0][1]
    assert counted.targets == {0: N, 1: N, 2: N} and not counted.crowds and found(good) == []
    assert target["labels"].tolist() == [0, 1, 2] and target["valid"].all()
    assert not any(s["iscrowd"] for s in target["segments_info"]) and target["segments_info"][0]["area"] == 300
    assert not target["instances"]["iscrowd"].any()
    with pytest.raises(ValueError, match="ignore, objects"):
        CocoInstance(tmp_path / "train.json", crowds="yes")


def test_crowds_of_one_class_stop_and_true_crowds_do_not(tmp_path):
    def of_cats(annotation):
        annotation["iscrowd"] = int(annotation["category_id"] == 1)
    text = stopped(CocoInstance(coco(tmp_path / "a", of_cats) / "train.json"))
    assert "annotations of cat" in text and "of dog" not in text

    def a_few(annotation):  # as in COCO: a class that is rare and a crowd where it is
        annotation["iscrowd"] = int(annotation["id"] in (1, 3, 5))
    dataset = CocoInstance(coco(tmp_path / "b", a_few) / "train.json")
    assert count_labels(dataset).crowds == {0: 3} and found(dataset) == []


def test_crowds_that_are_few_and_all_there_is_stop(tmp_path):
    coco(tmp_path, brush)
    content = json.loads((tmp_path / "train.json").read_text())
    content["annotations"] = content["annotations"][:4]
    (tmp_path / "train.json").write_text(json.dumps(content))
    assert "no class has a target" in stopped(CocoInstance(tmp_path / "train.json"))
    text = stopped(CocoInstance(tmp_path / "train.json", background="background"))
    assert "only background has targets" in text and "background 6" in text and "--crowds objects" in text


@pytest.mark.parametrize("sx, sy, boxes_too, words", [
    (1 / W, 1 / H, False, ["enclose no pixel", "x times 80 and y times 60"]),
    (1 / W, 1 / H, True, ["enclose no pixel"]),
    (100 / W, 100 / H, False, ["x times 0.8 and y times 0.6"]),
    (0.5, 0.5, False, ["x times 2 and y times 2"]),
])
def test_polygons_in_other_units_stop(tmp_path, sx, sy, boxes_too, words):
    def change(annotation):
        box = annotation["bbox"]
        annotation["segmentation"] = [corners(box, sx, sy)]
        if boxes_too:
            annotation["bbox"] = [box[0] * sx, box[1] * sy, box[2] * sx, box[3] * sy]
    dataset = CocoInstance(coco(tmp_path, change) / "train.json", background="background")
    text = stopped(dataset)
    assert all(word in text for word in words), text
    told = data_report(inspect(dataset, progress=False), dataset, "mine")
    assert "data set as a whole\n  " + text.splitlines()[1].strip() in told  # the first suspicious line


def test_one_box_that_does_not_fit_is_suspicious_and_no_more(tmp_path):
    def change(annotation):
        if annotation["id"] == 4:
            annotation["bbox"] = [60, 3, 9, 9]
    dataset = CocoInstance(coco(tmp_path, change) / "train.json", background="background")
    looks = inspect(dataset, progress=False)
    assert [i for i, look in enumerate(looks) if any("bbox" in reason for reason in look.reasons)] == [1]
    assert looks[1].content.misfits == (4,) and found(dataset) == []


def labels_folder(folder, label, names=None, split="train"):
    pictures(folder / "images" / split)
    for i in range(N):
        save(label(i), folder / "labels" / split / f"{i}.png")
    if names:
        (folder / "classes.txt").write_text("\n".join(names) + "\n")
    return folder


def blocks(values, size=(H, W)):
    labels = np.zeros(size, int)
    for k, value in enumerate(values):
        labels[5:35, 5 + 20 * k:20 + 20 * k] = value
    return labels


def test_white_that_a_class_list_does_not_name_stops(tmp_path):
    labels_folder(tmp_path, lambda i: blocks([255]), ["background", "object"])
    dataset = open_dataset(f"own:{tmp_path}", "train")
    text = stopped(dataset)
    for words in ("only background has targets", "hold 0 and 255", "has 0, 1", "255 is void (9%", '"255 object"'):
        assert words in text, text
    assert '"255 object"' in data_report(inspect(dataset, progress=False), dataset, "mine").split("suspicious: ")[1]
    (tmp_path / "classes.txt").write_text("0 background\n255 object\n")
    good = open_dataset(f"own:{tmp_path}", "train")
    assert count_labels(good).targets == {0: N, 1: N} and good[0][1]["masks"][1].sum() == 30 * 15


def test_a_class_that_never_occurs_is_named_with_what_is_void(tmp_path):
    labels_folder(tmp_path, lambda i: blocks([1, 255]), ["ground", "cat", "dog"])
    dataset = open_dataset(f"own:{tmp_path}", "train")
    (told,) = notes(count_labels(dataset), dataset, "training", queries=8)
    assert "1 of 3 classes never occur: dog" in told and '"255 dog"' in told
    assert "in the 2 pictures looked at" in notes(count_labels(dataset, 2), dataset, "training", queries=8)[0]


def test_a_sample_of_the_pictures_stops_nothing(tmp_path):
    labels_folder(tmp_path, lambda i: blocks([1]) if i == 4 else np.zeros((H, W)), ["ground", "cat"])
    dataset = open_dataset(f"own:{tmp_path}", "train")
    counted = count_labels(dataset, 2)
    check_targets(counted, dataset, "training")
    assert any("only ground has targets" in text for text in notes(counted, dataset, "training", 8))
    check_targets(count_labels(dataset), dataset, "training")


def test_validation_may_lack_things_and_training_may_not():
    table = ClassTable(("cat", "sky", "grass"), (True, False, False), (1, 2, 3))
    counted = Tally(table, 1)
    counted.add(Content((H, W), targets={1: 1, 2: 1}), "a")
    check_targets(counted, object(), "validation")
    assert "no thing has a target" in notes(counted, object(), "validation", 8)[0]
    with pytest.raises(ValueError, match="no thing has a target.*cat 0, sky 1, grass 1"):
        check_targets(counted, object(), "training")
    things = Tally(ClassTable(("cat", "dog"), (True, True), (1, 2)), 1)
    things.add(Content((H, W), targets={1: 2}), "a")
    check_targets(things, object(), "training")  # what is no dog is a negative


def test_more_segments_than_queries_is_said_with_the_number(tmp_path):
    def label(i):
        return blocks([1, 2, 3, 4]) + (np.arange(W) // 4 + 10) * (np.arange(H)[:, None] > 50) * (i == 2)
    dataset = labels_folder(tmp_path, label)
    dataset = InstanceFolder(tmp_path / "images" / "train", tmp_path / "labels" / "train")
    counted = count_labels(dataset)
    assert counted.most == (25, "2")
    told, = notes(counted, dataset, "training", queries=20)
    assert "up to 25 segments" in told and "20 queries" in told and "--queries 30" in told
    assert notes(counted, dataset, "training", queries=25) == []


def test_a_mask_where_numbers_are_wanted_stops_and_its_parts_can_be_taken(tmp_path):
    labels_folder(tmp_path, lambda i: blocks([255, 255, 255]))
    folders = tmp_path / "images" / "train", tmp_path / "labels" / "train"
    text = stopped(InstanceFolder(*folders))
    assert "255 and no other number, in all 6 pictures" in text and "18 parts" in text and "--connected" in text
    good = InstanceFolder(*folders, connected=True)
    assert count_labels(good).targets == {0: 3 * N, 1: N} and found(good) == []
    assert [s["area"] for s in good[0][1]["segments_info"]] == [450, 450, 450, H * W - 3 * 450]
    labels_folder(tmp_path / "single", lambda i: blocks([255]))  # one object a picture: nothing to part
    assert found(InstanceFolder(tmp_path / "single/images/train", tmp_path / "single/labels/train")) == []
    labels_folder(tmp_path / "two", lambda i: blocks([1, 1, 2] if i == 0 else [1, 1]))  # parts of one object
    assert found(InstanceFolder(tmp_path / "two/images/train", tmp_path / "two/labels/train")) == []


def test_corners_that_touch_are_one_part(tmp_path):
    labels = np.zeros((H, W), int)
    labels[:10, :10] = labels[10:20, 10:20] = labels[30:40, 5:15] = 1
    labels_folder(tmp_path, lambda i: labels)
    good = InstanceFolder(tmp_path / "images" / "train", tmp_path / "labels" / "train", connected=True)
    assert [s["area"] for s in good[0][1]["segments_info"]] == [200, 100, H * W - 300]


def test_a_mask_beside_classes_that_should_number_the_instances(tmp_path):
    labels_folder(tmp_path, lambda i: blocks([1, 1, 2]), ["ground", "cat thing", "dog thing"])
    for i in range(N):
        save(blocks([255, 255, 255]), tmp_path / "instances" / "train" / f"{i}.png")
    folders = [tmp_path / part / "train" for part in ("images", "labels", "instances")]
    table = ClassTable(("ground", "cat", "dog"), (False, True, True), (0, 1, 2))
    assert "--connected" in stopped(SemanticFolder(*folders[:2], table, instances_dir=folders[2]))
    good = SemanticFolder(*folders[:2], table, instances_dir=folders[2], connected=True)
    assert count_labels(good).targets == {0: N, 1: 2 * N, 2: N} and found(good) == []


def test_true_crowds_of_a_panoptic_json_pass(tmp_path):
    from minimaskformer.data.readers.coco_panoptic import write_panoptic
    from minimaskformer.targets import panoptic_to_target
    table = ClassTable(("cat", "sky"), (True, False), (1, 2))
    segment_map = np.full((H, W), 3, np.int32)
    segment_map[:20, :20], segment_map[30:, :20] = 1, 2
    info = [{"id": 1, "category_id": 0, "isthing": True, "iscrowd": 0, "area": 400},
            {"id": 2, "category_id": 0, "isthing": True, "iscrowd": 1, "area": 600},
            {"id": 3, "category_id": 1, "isthing": False, "iscrowd": 0, "area": H * W - 1000}]
    items = [(torch.zeros(3, H, W, dtype=torch.uint8), panoptic_to_target(segment_map, info, 2))] * 6
    write_panoptic(tmp_path, items, table, "val")
    dataset = CocoPanoptic(tmp_path / "panoptic_val.json")
    counted = count_labels(dataset)
    assert counted.targets == {0: 6, 1: 6} and counted.crowds == {0: 6} and counted.void == 6 * 600
    assert found(dataset) == []


def test_the_commands_stop_before_anything_is_written_and_take_the_remedy(tmp_path, capsys):
    data = f"own:{coco(tmp_path / 'data', brush)}"
    arguments = ["train", "--data", data, "--out", str(tmp_path / "run"), *QUICK]
    assert cli.main(arguments) == 1
    assert "--crowds objects" in capsys.readouterr().err and not (tmp_path / "run").exists()
    assert cli.main([*arguments, "--crowds", "objects"]) == 0
    assert cli.main([*arguments[:4], str(tmp_path / "other"), *QUICK, "--scan", "0"]) == 0
    capsys.readouterr()
    assert cli.main(["inspect", "--data", data, "--out", str(tmp_path / "look")]) == 0
    text = capsys.readouterr().out
    assert "CVAT" in text.split("suspicious: ")[1].splitlines()[1]
    assert cli.main(["inspect", "--data", data, "--crowds", "objects", "--out", str(tmp_path / "look")]) == 0
    assert "CVAT" not in capsys.readouterr().out
    assert cli.main(["inspect", "--data", data, "--connected", "--out", str(tmp_path / "look")]) == 1
    assert "--connected does not apply to" in capsys.readouterr().err


@pytest.mark.parametrize("size, scale, unit", [
    ((H, W), (1 / W, 1 / H), "in fractions of the picture"), ((480, 640), (100 / 640, 100 / 480), "in percent of the picture"),
    ((480, 640), (1, 1), None), ((H, W), (100 / W, 100 / H), None)])  # in a picture of 80 x 60 nobody can tell
def test_polygons_that_keep_to_the_corner_are_in_other_units(size, scale, unit):
    """Without "bbox", which would tell; in the same pictures with the corners in pixels nothing is said."""
    annotations = [{"id": i, "image_id": i, "category_id": 1, "segmentation": [corners((size[1] // 2, size[0] // 2, size[1] // 3, size[0] // 3), *scale)]}
                   for i in range(6)]
    content = {"images": [{"id": i, "file_name": f"{i}.png", "height": size[0], "width": size[1]} for i in range(6)],
               "annotations": annotations, "categories": [{"id": 1, "name": "cat"}]}
    dataset = CocoInstance.from_content(content, "x.json", ".", "background")
    counted = Tally(dataset.classes, 6)
    for i in range(6):
        counted.add(dataset.content(i), str(i))
    told = " ".join(reasons(counted, dataset, ()))
    assert unit in told if unit else not told


def test_pictures_turned_by_exif_are_a_note(tmp_path):
    exif = Image.Exif()
    for i, orientation in enumerate((0, 1, 3)):
        exif[0x0112] = orientation
        for part in ("images", "labels"):
            save(np.zeros((H, W, 3) if part == "images" else (H, W)), tmp_path / part / f"{i}.png")
        with Image.open(tmp_path / "images" / f"{i}.png") as picture:
            picture.save(tmp_path / "images" / f"{i}.png", exif=exif)
    dataset = SemanticFolder(tmp_path / "images", tmp_path / "labels", ["a"])
    told = " ".join(notes(count_labels(dataset), dataset, "training", 8))
    assert "1 of 3 pictures have an EXIF orientation, such as 2, and it is not applied" in told
