"""The scripts of data/README.md are run as they stand there, on files with the names that people have."""
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minimaskformer.data.catalog import open_dataset

SCRIPTS = re.findall(r"```python\n(.*?)```", (Path(__file__).parents[2] / "data" / "README.md").read_text("utf-8"), re.S)


def run(first_words):
    """Run the one script that has these words, in the current folder."""
    (script,) = [text for text in SCRIPTS if first_words in text]
    exec(compile(script, "data/README.md", "exec"), {})


def save(path, value=0, mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (6, 5), value).save(path)


@pytest.mark.parametrize("pictures", ["photos", "masks"])
def test_pictures_and_labels_become_a_tree(tmp_path, monkeypatch, pictures, capsys):
    monkeypatch.chdir(tmp_path)
    names = ["a", "a.b", "photo [1]", "x", "y*", "\uc0ac\uc9c4 1"]
    for value, name in enumerate(names):
        save(Path("masks") / f"{name}.png", value, "L")
        save(Path(pictures) / f"{name}.jpg", (40 * value,) * 3)
    save(Path(pictures) / "without.jpg")
    words = 'Path("photos"), Path("masks")'
    if pictures == "masks":
        Path("photos").symlink_to("masks")  # one folder for both
    run(words)
    assert "6 pictures with labels; 1 pictures without" in capsys.readouterr().out
    tree = {split: open_dataset("own:data/mine", split) for split in ("train", "val")}
    assert [len(tree[split]) for split in ("train", "val")] == [4, 2]
    pairs = {dataset.files(i)[0].name: dataset[i] for dataset in tree.values() for i in range(len(dataset))}
    for value, name in enumerate(names):  # the picture and the label of one name hold one number
        image, target = pairs[f"{name}.jpg"]
        assert abs(int(image[0, 0, 0]) - 40 * value) < 3
        assert tree["train"].classes.ids[target["labels"][0]] == value
    save(Path("photos") / "x.bmp")
    (Path("photos") / "a.jpg").unlink()
    with pytest.raises(SystemExit, match=r"'a.png': \[\], 'x.png': \['x.bmp', 'x.jpg'\]"):
        run(words)


def test_one_json_is_parted_in_two(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    square = [[1, 1, 4, 1, 4, 4, 1, 4]]
    for i in range(7):
        save(Path("data/mine/images") / f"{i}.png")
    Path("data/mine/annotations").mkdir()
    Path("data/mine/annotations/instances_default.json").write_text(json.dumps({
        "images": [{"id": 10 + i, "file_name": f"{i}.png", "height": 5, "width": 6} for i in reversed(range(7))],
        "categories": [{"id": 1, "name": "\uc0c1\uc790"}],
        "annotations": [{"id": i, "image_id": 10 + i, "category_id": 1, "segmentation": square} for i in range(6)],
    }), encoding="utf-8-sig")
    with pytest.raises(FileNotFoundError, match="(?s)data/README.md.* parts a JSON, such as .*instances_default.json"):
        open_dataset("own:data/mine", "train")
    run("instances_default.json")
    train, val = (open_dataset("own:data/mine", split) for split in ("train", "val"))
    assert [[d.name(i) for i in range(len(d))] for d in (train, val)] == [["1", "2", "3", "4", "6"], ["0", "5"]]
    assert train.classes == val.classes and [len(train[i][1]["labels"]) for i in range(5)] == [2, 2, 2, 2, 1]


def test_a_rotated_picture_is_saved_upright(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("photos", "upright"):
        Path(folder).mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((5, 9, 3), np.uint8)).save("photos/IMG_1.jpg", exif=exif)
    run("exif_transpose")
    with Image.open("upright/IMG_1.jpg") as picture:
        assert picture.size == (5, 9) and picture.getexif().get(0x0112, 1) == 1
