"""Folders of many kinds, as people have them: read rightly, or refused in words; opened, counted and checked as train does."""
import json
import re

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle

from minimaskformer.data.catalog import open_dataset
from minimaskformer.data.checks import count_labels, files_of
from minimaskformer.data.faults import check_targets

H, W = 24, 32
BOX = np.zeros((H, W), np.uint8)
BOX[4:14, 6:20] = 1
NAMES = ("train/a", "train/b", "val/c")
BOTH = {"label 0": 2, "label 1": 2}


def outcome(folder):
    """{class: targets} of the training split, or what is said."""
    try:
        dataset = open_dataset(f"own:{folder}", "train")
        counted = count_labels(dataset)
        check_targets(counted, files_of(dataset), "training")
        for i in range(len(dataset)):
            dataset[i]
    except (ValueError, OSError) as error:
        return str(error)
    return {dataset.classes.names[k]: n for k, n in sorted(counted.targets.items())}


def save(picture, path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(path, **options)


def tree(folder, label=BOX, ending=".png", image=".png", names=NAMES, **options):
    """Pictures and label files of the same names."""
    rng = np.random.default_rng(0)
    for name in names:
        save(rng.integers(0, 256, (H, W, 3), dtype=np.uint8), folder / "images" / f"{name}{image}")
        save(label, folder / "labels" / f"{name}{ending}", **options)
    return folder


def grey(*channels):
    return np.dstack(channels).astype(np.uint8)


LABELS = {  # what label files are like: (label, more arguments of `tree`, the outcome)
    "of one bit": (Image.fromarray(BOX * 255).convert("1"), {}, BOTH),
    "of 16 bits, TIFF": (BOX.astype(np.uint16) * 700, {"ending": ".tif"}, {"label 0": 2, "label 700": 2}),
    "of 32 bits, TIFF": (BOX.astype(np.int32), {"ending": ".tif"}, BOTH),
    "white of 16 bits": (BOX.astype(np.uint16) * 65535, {}, '65535 is void unless.*"65535 object"'),
    "floats": (BOX.astype(np.float32), {"ending": ".tif"}, "save the numbers as integers"),
    "three equal channels": (grey(BOX, BOX, BOX), {}, "channels are equal.*grey"),
    "four channels": (grey(BOX, BOX, BOX, BOX + 254), {}, "mode RGBA"),
    "JPEG": (BOX, {"ending": ".jpg"}, "JPEG changes the labels"),
    "GIF": (BOX, {"ending": ".gif"}, "Save label files as PNG"),
    "one row larger": (np.pad(BOX, ((0, 1), (0, 0))), {}, "sizes .*differ for image a"),
    "of trimaps": (BOX + 1, {}, {"label 1": 2, "label 2": 2}),
    "class and number in one": (np.kron([[3, 0, 6, 1], [5, 2, 7, 4]], np.ones((12, 8))).astype(np.uint16) + 26000, {}, "a class times 1000 and the number"),
    "upper case": (BOX, {"ending": ".PNG", "image": ".JPG"}, BOTH),
    "dots in names": (BOX, {"names": ("train/a.v1", "train/b.v1", "val/c.v1")}, BOTH),
    "blanks and other alphabets": (BOX, {"names": ("train/Bild 1 (копия)", "train/사진", "val/é à #1%")}, BOTH),
    "capital splits": (BOX, {"names": ("Train/a", "Train/b", "Val/c")}, BOTH),
    "splits with a year": (BOX, {"names": ("train2017/a", "train2017/b", "val2017/c")}, BOTH),
}


@pytest.mark.parametrize("kind", LABELS)
def test_label_pictures(tmp_path, kind):
    label, options, want = LABELS[kind]
    agree(outcome(tree(tmp_path, label, **options)), want)


def agree(found, want):
    if isinstance(want, dict):
        assert found == want
    else:
        assert isinstance(found, str) and re.search(want, found, re.DOTALL), found


def other_files(folder):
    for place in ("images", "labels"):
        for name in (".DS_Store", "._a.png", "Thumbs.db", "desktop.ini"):
            (folder / place / "train" / name).write_bytes(b"x")


@pytest.mark.parametrize("change, want", [
    (other_files, BOTH),
    (lambda folder: (folder / "labels" / "train" / "b.png").unlink(), "no label file .*'b'"),
    (lambda folder: (folder / "images" / "train" / "b.png").unlink(), "no image .*'b'"),
    (lambda folder: (folder / "labels" / "train" / "b.png").write_bytes(b""), "b.png cannot be read"),
    (lambda folder: (folder / "images" / "train" / "z.HEIC").write_bytes(b""), "z.HEIC"),
    (lambda folder: save(BOX, folder / "images" / "train" / "a.jpg"), "same name before the dot"),
    (lambda folder: [path.unlink() for path in (folder / "images" / "val").iterdir()], "images/val holds no files"),
    (lambda folder: (folder / "classes.txt").write_text("a\nb\n", "utf-16"), "classes.txt.*UTF-8"),
    (lambda folder: (folder / "classes.txt").write_bytes("\ufeff0\tback\tstuff\r\n1\tcat\tthing\r\n".encode()), {"back": 2, "cat": 2}),
    (lambda folder: (folder / "images").rename(folder / "x") and (folder / "labels").rename(folder / "x" / "y"), r"is it the folder in it, .*x\?"),
])
def test_a_tree_with_something_wrong(tmp_path, change, want):
    change(tree(tmp_path))
    agree(outcome(tmp_path), want)


def test_colours_that_were_smoothed_and_a_table_with_semicolons(tmp_path):
    colors = grey(BOX * 9, BOX * 80, BOX * 200)
    tree(tmp_path, colors)
    (tmp_path / "class_dict.csv").write_bytes("\ufeffname;r;g;b\nback;0;0;0\ncat;9;80;200\n".encode())
    assert outcome(tmp_path) == {"back": 2, "cat": 2}
    tree(tmp_path, Image.fromarray(colors).resize((W // 2, H // 2), 2).resize((W, H), 2))
    agree(outcome(tmp_path), "colours that the table .*lacks|colours.*not in the table")


def corners(i, k):
    x, y = 2 + 14 * k, 3 + i
    return [x, y, x + 12, y, x + 12, y + 10, x, y + 10]


def code(i, k):
    mask = np.zeros((H, W), np.uint8, order="F")
    mask[3 + i:13 + i, 2 + 14 * k:14 + 14 * k] = 1
    return rle.encode(mask) | {"counts": rle.encode(mask)["counts"].decode(), "size": [H, W]}


def coco(folder, change=lambda content: None, place="{}.json", image="images/{}/{}{}.png", splits=("train", "val"), encoding="utf-8"):
    """Two pictures a split, with a cat and a dog each."""
    for split in splits:
        content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]}
        for i in range(2):
            name = image.format(split, split, i)
            save(np.full((H, W, 3), 90 + i, np.uint8), folder / name)
            content["images"].append({"id": i, "file_name": name.rpartition("/")[2], "height": H, "width": W})
            content["annotations"] += [{"id": 2 * i + k, "image_id": i, "category_id": 1 + k, "iscrowd": 0, "segmentation": [corners(i, k)],
                                        "bbox": [2 + 14 * k, 3 + i, 12, 10], "area": 120} for k in range(2)]
        change(content)
        (folder / place.format(split)).parent.mkdir(parents=True, exist_ok=True)
        (folder / place.format(split)).write_text(json.dumps(content), encoding)


def every(**changes):
    """A change of every annotation; a function is called with (i, k)."""
    def change(content):
        for number, a in enumerate(content["annotations"]):
            a.update({name: value(*divmod(number, 2)) if callable(value) else value for name, value in changes.items()})
    return change


CATS = {"cat": 2, "dog": 2, "background": 2}
JSONS = {
    "a mark of the byte order in front": (None, {"encoding": "utf-8-sig"}, CATS),
    "UTF-16": (None, {"encoding": "utf-16"}, "train.json"),
    "run-length codes and polygons": (every(segmentation=lambda i, k: code(i, k) if k else [corners(i, k)]), {}, CATS),
    "every category is a root": (lambda c: [x.update(supercategory="none") for x in c["categories"]],
                                 {"place": "{}/_annotations.coco.json", "image": "{}/{}{}.png", "splits": ("train", "valid")}, CATS),
    "a background that nothing is": (lambda c: c["categories"].insert(0, {"id": 0, "name": "background"}), {}, CATS),
    "a background that is annotated": (lambda c: c["categories"][0].update(name="background"), {}, "'background' of its own"),
    "frames of a video": (every(attributes={"track_id": 3}), {"place": "annotations/instances_{}.json", "image": "images/{}/frame_{}_{:06d}.PNG"}, CATS),
    "flat polygons": (every(segmentation=corners), {}, "a polygon is a list x1, y1"),
    "polygons of pairs": (every(segmentation=lambda i, k: [np.reshape(corners(i, k), (4, 2)).tolist()]), {}, "a polygon is a list x1, y1"),
    "corners that are none": (every(segmentation=lambda i, k: [[float("nan"), *corners(i, k)[1:]]]), {}, "corner"),
    "boxes only": (every(segmentation=[]), {}, "is it only a box"),
    "flags as text, boxes and areas of nothing": (every(iscrowd="0", bbox=None, area=None), {}, CATS),
    "ids as text": (every(category_id=lambda i, k: str(1 + k)), {}, "category id '1'.*write it as a number"),
    "no sizes": (lambda c: [image.pop("height") for image in c["images"]], {}, "height"),
    "paths of another machine": (lambda c: [x.update(file_name=f"/elsewhere/{x['file_name']}") for x in c["images"]], {}, "leads out of"),
    "nothing annotated": (lambda c: c.update(annotations=[]), {}, "only background has targets"),
    "two categories of one name": (lambda c: c["categories"][1].update(name="cat"), {}, {"cat (id 1)": 2, "cat (id 2)": 2, "background": 2}),
}


@pytest.mark.parametrize("kind", JSONS)
def test_coco_jsons(tmp_path, kind):
    change, options, want = JSONS[kind]
    coco(tmp_path, change or (lambda content: None), **options)
    agree(outcome(tmp_path), want)


def test_one_json_by_any_name_and_paths_from_the_folder_on(tmp_path):
    coco(tmp_path / "a", place="annotations.json", image="images/{}_{}{}.png", splits=("all",))
    assert outcome(tmp_path / "a") == {"cat": 1, "dog": 1, "background": 1}  # the other picture is val
    coco(tmp_path / "b", lambda c: [x.update(file_name=f"images/{x['file_name'][:-5]}/{x['file_name']}") for x in c["images"]])
    assert outcome(tmp_path / "b") == CATS
