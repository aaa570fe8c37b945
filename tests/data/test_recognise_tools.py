"""What annotation tools write, opened as own:PATH: the masks are those that were drawn, in the splits announced."""
import base64
import io
import json
import os

import numpy as np
import pytest
from PIL import Image

from minimaskformer.data.catalog import open_dataset
from minimaskformer.data.checks import scan_labels
from minimaskformer.data.recognise.patterns import FolderLayout
from minimaskformer.data.recognise.splits import NoSplit, choose_split

H, W = 24, 32
BOXES = {"a": (2, 3, 12, 9), "b": (15, 10, 30, 20), "c": (4, 12, 9, 22), "d": (0, 0, 7, 5), "e": (20, 2, 28, 8), "f": (1, 1, 3, 3)}


def area(box, size=(H, W)):
    mask = np.zeros(size, bool)
    x0, y0, x1, y1 = box
    mask[y0:y1, x0:x1] = True
    return mask


def corners(box):
    x0, y0, x1, y1 = box
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def picture(path, number=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (W, H), (number, 90, 30)).save(path)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def coco(names, prefix="", categories=((7, "cat"), (3, "dog"))):
    """A JSON with one object for each picture, a cat and a dog in turn."""
    return {"images": [{"id": 40 + i, "file_name": f"{prefix}{name}.png", "height": H, "width": W} for i, name in enumerate(names)],
            "categories": [{"id": i, "name": name, "supercategory": "x"} for i, name in categories],
            "annotations": [{"id": i + 1, "image_id": 40 + i, "category_id": (7, 3)[i % 2], "iscrowd": 0,
                             "segmentation": [sum(map(list, corners(BOXES[name])), [])]} for i, name in enumerate(names)]}


def objects(dataset, index):
    """{(class name, mask as bytes)} of the things of an item."""
    _, target = dataset[index]
    return {(dataset.classes.names[k], mask.numpy().tobytes()) for k, mask in zip(target["labels"].tolist(), target["masks"])
            if k in dataset.classes.things}


def expected(*pairs):
    return {(name, area(box).tobytes()) for name, box in pairs}


def names(dataset):
    return [dataset.name(i) for i in range(len(dataset))]


@pytest.mark.parametrize("place", ["images/default", "images"])
def test_one_json_of_all_pictures_is_parted_by_name(tmp_path, place, capsys):
    for name in BOXES:
        picture(tmp_path / place / f"{name}.png")
    write(tmp_path / "annotations" / "instances_default.json", coco("fedcba"))  # in another order than the names'
    train, val = (open_dataset(f"own:{tmp_path}", split) for split in ("train", "val"))
    assert names(val) == ["a", "f"] and names(train) == ["b", "c", "d", "e"]
    said = capsys.readouterr().err
    assert "instances_default.json" in said and "every 5th" in said
    assert objects(train, 0) == expected(("cat", BOXES["b"])) and objects(val, 0) == expected(("dog", BOXES["a"]))
    half = [open_dataset(f"own:{tmp_path}", split, FolderLayout(val_share=0.5)) for split in ("train", "val")]
    assert [names(d) for d in half] == [["b", "d", "f"], ["a", "c", "e"]] and half[0].classes == train.classes
    with pytest.raises(NoSplit, match="'test'"):
        open_dataset(f"own:{tmp_path}", "test")


def test_a_rule_that_can_be_repeated():
    items = [f"{i:02d}" for i in range(10)]
    for share, val in ((0.2, [0, 5]), (0.25, [0, 4, 8]), (0.3, [0, 3, 6]), (0.1, [0])):
        assert choose_split({"": items[::-1]}, "val", share)[0] == [items[i] for i in val], share
        assert sorted(choose_split({"": items}, "train", share)[0] + choose_split({"": items}, "val", share)[0]) == items
    assert choose_split({"train": items[:8], "val": items[8:]}, "val")[0] == items[8:]
    with pytest.raises(ValueError, match="of its own"):
        choose_split({"train": items[:8], "val": items[8:]}, "val", 0.2)
    for share in (0, 1, -0.5):
        with pytest.raises(ValueError, match="val-share"):
            choose_split({"": items}, "val", share)
    with pytest.raises(ValueError, match="can"):
        choose_split({"": items[:1]}, "train")


def test_a_training_json_alone_is_never_validation_too(tmp_path):
    for name in BOXES:
        picture(tmp_path / "images" / f"{name}.png")
    write(tmp_path / "train.json", coco("abcdef"))
    assert len(open_dataset(f"own:{tmp_path}", "train")) == 6
    with pytest.raises(NoSplit, match="--val-share"):
        open_dataset(f"own:{tmp_path}", "val")
    parted = [names(open_dataset(f"own:{tmp_path}", split, FolderLayout(val_share=0.5))) for split in ("train", "val")]
    assert parted == [["b", "d", "f"], ["a", "c", "e"]]
    write(tmp_path / "val.json", coco("ab"))
    with pytest.raises(ValueError, match="leave it out"):
        open_dataset(f"own:{tmp_path}", "train", FolderLayout(val_share=0.5))


def test_an_annotation_of_no_picture_is_not_passed_over(tmp_path):
    for name in BOXES:
        picture(tmp_path / "images" / f"{name}.png")
    content = coco("abcdef")
    content["annotations"][0]["image_id"] = 99
    write(tmp_path / "result.json", content)
    with pytest.raises(ValueError, match="99"):
        open_dataset(f"own:{tmp_path}", "train")
    (tmp_path / "result.json").rename(tmp_path / "instances_default.json")
    (tmp_path / "instances_default.json").write_text(json.dumps(content)[:-30])
    with pytest.raises(ValueError, match="truncated"):
        open_dataset(f"own:{tmp_path}", "train")


def test_roboflow_without_its_root_category(tmp_path, capsys):
    for part, pictures in (("train", "abc"), ("valid", "de"), ("test", "f")):
        for name in pictures:
            picture(tmp_path / part / f"{name}.png")
        content = coco(pictures)
        content["categories"].insert(0, {"id": 0, "name": "pets", "supercategory": "none"})
        write(tmp_path / part / "_annotations.coco.json", content)
    found = {split: open_dataset(f"own:{tmp_path}", split) for split in ("train", "val", "test")}
    assert [len(d) for d in found.values()] == [3, 2, 1] and "'pets'" in capsys.readouterr().err
    assert all(d.classes.names == ("cat", "dog", "background") for d in found.values())
    content["annotations"][0]["category_id"] = 0  # used in one split: it is a class in all
    write(tmp_path / "test" / "_annotations.coco.json", content)
    assert all(open_dataset(f"own:{tmp_path}", split).classes.names[0] == "pets" for split in found)


def test_label_studio_on_windows(tmp_path):
    for name in "ab":
        picture(tmp_path / "images" / f"{name}.png")
    write(tmp_path / "result.json", coco("ab", prefix="images\\"))
    train = open_dataset(f"own:{tmp_path}", "train")
    assert objects(train, 0) == expected(("dog", BOXES["b"]))


def test_cvat_subsets_have_capitals(tmp_path):
    for part, pictures in (("Train", "abc"), ("Validation", "de")):
        for name in pictures:
            picture(tmp_path / "images" / part / f"{name}.png")
        write(tmp_path / "annotations" / f"instances_{part}.json", coco(pictures))
    assert [len(open_dataset(f"own:{tmp_path}", split)) for split in ("train", "val")] == [3, 2]


def labelme(path, shapes, image=None, size=(H, W)):
    write(path, {"version": "5", "flags": {}, "shapes": shapes, "imagePath": image or f"{path.stem}.png", "imageData": None,
                 "imageHeight": size[0], "imageWidth": size[1]})


def shape(label, points, kind="polygon", **more):
    return {"label": label, "points": [list(map(float, p)) for p in points], "shape_type": kind, "group_id": None, "flags": {}} | more


def test_labelme_shapes_are_masks(tmp_path):
    png = io.BytesIO()
    Image.fromarray(area((1, 1, 4, 3), (4, 5)).astype(np.uint8) * 255).save(png, "PNG")
    picture(tmp_path / "x.png")
    labelme(tmp_path / "x.json", [
        shape("cat", corners(BOXES["a"])), shape("dog", [(15, 10), (30, 20)], "rectangle"), shape("_background_", corners(BOXES["f"])),
        shape("cat", corners(BOXES["c"]), group_id=4), shape("cat", corners(BOXES["e"]), group_id=4),
        shape("dog", [(10, 20), (14, 23)], "mask", mask=base64.b64encode(png.getvalue()).decode())])
    picture(tmp_path / "y.png")
    labelme(tmp_path / "y.json", [])
    picture(tmp_path / "z.png")
    labelme(tmp_path / "z.json", [shape("dog", [(16, 12), (16, 17)], "circle")])
    train, val = (open_dataset(f"own:{tmp_path}", split) for split in ("train", "val"))
    assert train.classes == val.classes and train.classes.names == ("cat", "dog", "background")
    brush = np.zeros((H, W), bool)
    brush[21:23, 11:14] = True
    assert objects(val, 0) == expected(("cat", BOXES["a"]), ("dog", BOXES["b"])) | {
        ("cat", (area(BOXES["c"]) | area(BOXES["e"])).tobytes()), ("dog", brush.tobytes())}
    assert names(train) == ["y", "z"] and objects(train, 0) == set()
    (_, circle), = objects(train, 1)
    rows, columns = np.mgrid[:H, :W]
    disc = (columns + 0.5 - 16) ** 2 + (rows + 0.5 - 12) ** 2 < 25
    assert (np.frombuffer(circle, bool).reshape(H, W) != disc).sum() < 8
    assert train.files(1)[1] == (tmp_path / "z.json",) and scan_labels(train) == 2


@pytest.mark.parametrize("wrong, words", [
    (shape("cat", [(1, 1)], "point"), "a point of 1 points"), (shape("cat", [(1, 1), (5, 5)], "line"), "encloses nothing"),
    (shape("__ignore__", corners(BOXES["a"])), "ignore"), ({"label": "cat"}, "points"),
    (shape("cat", [(1, 1), (float("nan"), 2), (3, 3)]), "corner")])
def test_labelme_shapes_that_are_none(tmp_path, wrong, words):
    for name in "xy":
        picture(tmp_path / f"{name}.png")
        labelme(tmp_path / f"{name}.json", [shape("cat", corners(BOXES["a"])), *([wrong] if name == "y" else [])])
    with pytest.raises(ValueError, match="y.json") as caught:
        open_dataset(f"own:{tmp_path}", "train")
    assert words in str(caught.value)


def test_labelme_pictures_are_found_and_never_outside(tmp_path):
    home, secret = tmp_path / "home", tmp_path / "secret.png"
    picture(secret)
    for split in ("train", "val"):
        picture(home / "images" / split / f"{split}.png")
        labelme(home / "labels" / split / f"{split}.json", [shape("cat", corners(BOXES["a"]))], image=f"..\\..\\images\\{split}\\{split}.png")
    train = open_dataset(f"own:{home}", "train")
    assert train.files(0)[0] == home / "images" / "train" / "train.png" and names(train) == ["train"]
    for outside in ("../../../secret.png", str(secret)):
        labelme(home / "labels" / "train" / "train.json", [], image=outside)
        with pytest.raises(ValueError, match="train.json.*secret.png"):
            open_dataset(f"own:{home}", "train")
    os.symlink(secret, home / "images" / "train" / "secret.png")
    labelme(home / "labels" / "train" / "train.json", [], image="secret.png")
    with pytest.raises(ValueError, match="secret.png"):
        open_dataset(f"own:{home}", "train")


def test_two_folders_of_one_split_and_two_forms_are_refused(tmp_path):
    yolo(tmp_path, "{part}/{split}")
    for part in ("images", "labels"):
        (tmp_path / part / "val").rename(tmp_path / part / "train2017")
    with pytest.raises(ValueError, match="train2017 is a second"):
        open_dataset(f"own:{tmp_path}", "train")
    for split in ("train", "val"):
        picture(tmp_path / "b" / "images" / split / "x.png")
        labelme(tmp_path / "b" / "images" / split / "x.json", [shape("cat", corners(BOXES["a"]))])
        Image.fromarray(area(BOXES["a"]).astype(np.uint8)).save(tmp_path / "x.png")
        (tmp_path / "b" / "labels" / split).mkdir(parents=True)
        (tmp_path / "b" / "labels" / split / "x.png").write_bytes((tmp_path / "x.png").read_bytes())
    with pytest.raises(ValueError, match="LabelMe JSONs, and label pictures"):
        open_dataset(f"own:{tmp_path}/b", "train")
    assert open_dataset(f"own:{tmp_path}/b", "train", FolderLayout(kind="semantic")).classes.names == ("label 0", "label 1")


@pytest.mark.parametrize("layout, option", [(FolderLayout(lists="x/{split}.txt"), "--lists"), (FolderLayout(classes="a,b"), "--classes")])
def test_options_that_say_nothing_are_refused(tmp_path, layout, option):
    yolo(tmp_path, "{part}/{split}")
    with pytest.raises(ValueError, match=option):
        open_dataset(f"own:{tmp_path}", "train", layout)


@pytest.mark.parametrize("tool", ["labelme", "yolo"])
def test_labels_drawn_on_a_turned_picture_are_refused(tmp_path, tool):
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down: the size is the same
    for name in "ab":
        place = tmp_path / "images" / "train" / f"{name}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (W, H)).save(place, exif=exif if name == "b" else Image.Exif())
        if tool == "labelme":
            labelme(place.with_suffix(".json"), [shape("cat", corners(BOXES["a"]))], image=f"{name}.jpg")
        else:
            write(tmp_path / "labels" / "train" / f"{name}.txt", "0 0 0 1 0 1 1")
    write(tmp_path / "data.yaml", "names: [cat]")
    with pytest.raises(ValueError, match="b.jpg is turned by its EXIF"):
        open_dataset(f"own:{tmp_path}", "train")


def yolo(tmp_path, layout, yaml="names: [cat, dog]\nnc: 2\n"):
    for word in ("train", "valid" if layout == "{split}/{part}" else "val"):
        for name in "ab":
            picture(tmp_path / layout.format(part="images", split=word) / f"{name}.png")
            rows = [" ".join(["01"[name == "b"], *(f"{x / W:.6f} {y / H:.6f}" for x, y in corners(BOXES[name]))])]
            write(tmp_path / layout.format(part="labels", split=word) / f"{name}.txt", "\n".join(rows) + "\n")
        picture(tmp_path / layout.format(part="images", split=word) / "empty.png")
    write(tmp_path / "data.yaml", yaml)


@pytest.mark.parametrize("layout", ["{part}/{split}", "{split}/{part}"])
def test_yolo_in_both_layouts(tmp_path, layout, capsys):
    yolo(tmp_path, layout, "train: ../train/images\nnames:\n  1: dog\n  0: cat\n")
    for split in ("train", "val"):
        dataset = open_dataset(f"own:{tmp_path}", split)
        assert names(dataset) == ["a", "b", "empty"] and dataset.classes.names == ("cat", "dog", "background")
        assert objects(dataset, 0) == expected(("cat", BOXES["a"])) and objects(dataset, 1) == expected(("dog", BOXES["b"]))
        assert objects(dataset, 2) == set() and dataset[2][1]["valid"].all() and scan_labels(dataset) == 3
    assert "2 pictures without a text file hold no object" in capsys.readouterr().err


@pytest.mark.parametrize("row, words", [
    ("2 0 0 1 0 1 1", "class 2"), ("0 0.5 0.5 0.2 0.2", "only a box"), ("0 1 2 3 4 5 6 7", "7 numbers"), ("0 0 0 20 0 20 20", "pixels"),
    ("cat 0 0 1 0 1 1", "row of numbers"), ("0 nan 0 1 0 1 1", "row of numbers"), ("0 0 0 1e9 0 1 1", "pixels"), ("-1 0 0 1 0 1 1", "class -1")])
def test_yolo_rows_that_are_none(tmp_path, row, words):
    yolo(tmp_path, "{part}/{split}")
    write(tmp_path / "labels" / "train" / "b.txt", f"0 0 0 1 0 1 1\n\n{row}\n")
    with pytest.raises(ValueError, match="b.txt, line 3") as caught:
        open_dataset(f"own:{tmp_path}", "train")
    assert words in str(caught.value)


@pytest.mark.parametrize("yaml, words", [("names: [cat]\nnc: 2\n", "nc is 2"), ("names: {0: cat, 2: dog}\n", "numbers"),
                                         ("names: [cat\n", "YAML"), ("nc: 2\n", "names")])
def test_yolo_classes_that_are_none(tmp_path, yaml, words):
    yolo(tmp_path, "{part}/{split}", yaml)
    with pytest.raises(ValueError, match=words):
        open_dataset(f"own:{tmp_path}", "train")


def test_label_studio_brushes(tmp_path):
    for task in (12, 7):
        picture(tmp_path / "images" / f"{task}.png")
    picture(tmp_path / "images" / "9.png")
    for task, label, box in ((12, "big cat", "a"), (12, "dog", "b"), (7, "dog", "c")):
        path = tmp_path / "masks" / f"task-{task}-annotation-{task}-by-1-tag-{label}-0.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(area(BOXES[box]).astype(np.uint8) * 255).save(path)
    val, train = (open_dataset(f"own:{tmp_path}", split) for split in ("val", "train"))
    assert val.classes.names == train.classes.names == ("big cat", "dog", "background")
    assert objects(val, 0) == expected(("big cat", BOXES["a"]), ("dog", BOXES["b"])) and names(train) == ["7", "9"]
    path.rename(path.with_name("task-5-annotation-1-by-1-tag-dog-0.png"))
    with pytest.raises(ValueError, match="task 5"):
        open_dataset(f"own:{tmp_path}", "val")
    path.with_name("task-5-annotation-1-by-1-tag-dog-0.png").rename(path.with_name("task-12-annotation-99-by-2-tag-dog-0.png"))
    with pytest.raises(ValueError, match="2 annotations"):
        open_dataset(f"own:{tmp_path}", "val")
