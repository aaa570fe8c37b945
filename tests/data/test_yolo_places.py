"""Where a YOLO data set's YAML file says that its pictures are: followed inside the data folder, and never out of it."""
import os

import pytest
from PIL import Image

from minimaskformer.data.catalog import open_dataset
from minimaskformer.data.recognise.splits import NoSplit

TRIANGLE = "0 0.1 0.1 0.9 0.1 0.5 0.9\n"


def pictures(folder, places, names="ab", labels=True):
    """Pictures in these folders of images, and a text file for each where its labels belong."""
    for place in places:
        for name in names:
            image = folder / place / f"{place.split('/')[-2 if place.endswith('images') else -1]}{name}.png"
            text = folder / place.replace("images", "labels") / f"{image.stem}.txt"
            for path in (image, text):
                path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 24)).save(image)
            if labels:
                text.write_text(TRIANGLE)


def found(folder, split):
    dataset = open_dataset(f"own:{folder}", split)
    assert dataset.classes.names == ("cat", "dog", "background")
    assert all(len(dataset[i][1]["labels"]) == 2 for i in range(len(dataset)))  # a cat, and what is around it
    return [dataset.name(i) for i in range(len(dataset))]


@pytest.mark.parametrize("yaml, places, want", [
    ("train: images/train\nval: images/val", ["images/train", "images/val"], (["traina", "trainb"], ["vala", "valb"])),
    ("path: .\ntrain: tr/images\nval: va/images\ntest: te/images", ["tr/images", "va/images"], (["tra", "trb"], ["vaa", "vab"])),
    ("train: ../one/images\nval: ../two/images", ["one/images", "two/images"], (["onea", "oneb"], ["twoa", "twob"])),
    ("path: ../datasets/mine\ntrain: one\nvalid: two", ["one/images", "two/images"], (["onea", "oneb"], ["twoa", "twob"])),
    ("path: sub\ntrain: images/x\nval: images/y", ["sub/images/x", "sub/images/y"], (["xa", "xb"], ["ya", "yb"])),
    ("path: /content/d\ntrain: /content/d/images/x\nval: C:\\d\\images\\y", ["images/x", "images/y"], (["xa", "xb"], ["ya", "yb"])),
    ("train: [p/images, q/images]\nval: [r/images]", ["p/images", "q/images", "r/images"], (["pa", "pb", "qa", "qb"], ["ra", "rb"])),
    ("train: one\nval: two", ["one", "two"], (["onea", "oneb"], ["twoa", "twob"])),
    ("train: nowhere/x\nval: nowhere/y", ["train/images", "valid/images"], (["traina", "trainb"], ["valida", "validb"])),
    ("train: train/images\nval: nowhere", ["train/images", "valid/images"], (["traina", "trainb"], ["valida", "validb"])),
])
@pytest.mark.parametrize("names", ["[cat, dog]", "{1: dog, 0: cat}", "{'0': cat, '1': dog}"])
def test_places(tmp_path, yaml, places, want, names):
    if names[0] == "{" and "images/x" not in yaml:
        pytest.skip("names are tried with two of the places")
    pictures(tmp_path, places)
    (tmp_path / "data.yaml").write_text(f"{yaml}\nnames: {names}\n")
    assert (found(tmp_path, "train"), found(tmp_path, "val")) == want


def test_lists_of_pictures(tmp_path):
    pictures(tmp_path, ["images/x"], "abc")
    (tmp_path / "train.txt").write_text("./images/x/xa.png\n\nimages/x/xc.png\n")
    (tmp_path / "val.txt").write_text("/content/data/images/x/xb.png\n")
    (tmp_path / "data.yaml").write_text("train: train.txt\nval: val.txt\nnames: [cat, dog]\n")
    assert (found(tmp_path, "train"), found(tmp_path, "val")) == (["xa", "xc"], ["xb"])
    (tmp_path / "val.txt").write_text("images/x/none.png\n")
    with pytest.raises(FileNotFoundError, match="val.txt lists 1 of 1 pictures that are not there.*none.png"):
        found(tmp_path, "val")


def test_validation_on_the_training_pictures_is_none(tmp_path, capsys):
    pictures(tmp_path, ["images/train"], "abcde")
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/train\nnames: [cat, dog]\n")
    assert len(found(tmp_path, "train")) == 5 and "val is left out, because it is the same place" in capsys.readouterr().err
    with pytest.raises(NoSplit, match="--val-share"):
        found(tmp_path, "val")


def test_places_never_lead_out_of_the_folder(tmp_path):
    home = tmp_path / "home"
    pictures(tmp_path, ["secret/images", "home/images/val"])
    (home / "data.yaml").write_text("train: images/../../secret/images\nval: images/val\nnames: [cat, dog]\n")
    with pytest.raises(ValueError, match="leads out of the folder"):
        found(home, "train")
    os.symlink(tmp_path / "secret", home / "link")
    (home / "data.yaml").write_text("train: link/images\nval: images/val\nnames: [cat, dog]\n")
    with pytest.raises(ValueError, match="is a link that leads out"):
        found(home, "train")
    (home / "data.yaml").write_text(f"train: {tmp_path}/secret/images\nval: images/val\nnames: [cat, dog]\n")
    with pytest.raises(NoSplit):  # images/ is looked for in the folder, and holds no pictures of its own
        found(home, "train")


@pytest.mark.parametrize("names, words", [("{0: cat, 2: dog}", "numbers"), ("[cat, cat]", "more than once"), ("[cat]\nnc: 2", "nc is 2")])
def test_names_that_are_none(tmp_path, names, words):
    pictures(tmp_path, ["images/train"])
    (tmp_path / "data.yaml").write_text(f"train: images/train\nnames: {names}\n")
    with pytest.raises(ValueError, match=words):
        found(tmp_path, "train")
