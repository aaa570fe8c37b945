"""The commands and scripts in data/README.md are run as they stand there, on files with realistic names."""
import re
import shlex
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from minimaskformer.commands.cli import Parser
from minimaskformer.commands.options import data_options, open_data

TEXT = (Path(__file__).parents[2] / "data" / "README.md").read_text("utf-8")
SCRIPTS = re.findall(r"```python\n(.*?)```", TEXT, re.S)
OPTIONS = {shlex.split(line)[1]: shlex.split(line) for line in TEXT.splitlines() if line.startswith("--data own:") and "--images" in line}


def run(first_words, **names):
    """Run the one script that has these words, in the current folder; the names it leaves."""
    (script,) = [text for text in SCRIPTS if first_words in text]
    exec(compile(script, "data/README.md", "exec"), names)
    return names


def save(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((5, 6, 3) if path.suffix == ".jpg" else (5, 6), value, np.uint8)).save(path)


def opened(spec, split):
    parser = Parser()
    data_options(parser, default="lakeland")
    return open_data(parser.parse_args(OPTIONS[spec]), split)


def test_folders_as_they_lie(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["a.b", "a", "photo [1]", "x", "z", "\uc0ac\uc9c4 1"]  # in the order of the file names
    for i, name in enumerate(names):
        save(Path("people/shots") / f"{name}.png", 40 * i)
        save(Path("people/people") / f"{name}-seg.png", i)
        split = "val" if i < 2 else "train"
        save(Path("streets/in") / split / "town" / f"{name}_left.png", 40 * i)
        save(Path("streets/gt") / split / "town" / f"{name}_ids.png", i)
        save(Path("field/rgb") / f"{name}.jpg", 40 * i)
        save(Path("field/annotation") / f"{name}.png", i)
        for k in range(i):
            save(Path("cells") / name / "cells" / f"{k}.png", 255)
        save(Path("cells") / name / "raw" / "picture.tif", 40 * i)
        if not i:
            save(Path("cells") / name / "cells" / "none.png")
        save(Path("yard/a") / f"{name}.jpg", 40 * i)
        save(Path("yard/b") / f"{name}.png", 1)
        save(Path("yard/c") / f"{name}.png", i)
    for place in ("streets", "yard"):
        Path(place, "names.txt").write_text("".join(f"{k} n{k} thing\n" for k in range(6)))
    Path("field/weeds.txt").write_text("".join(f"{k},{k},{k} n{k}\n" for k in range(6)))
    Path("field/train.txt").write_text("\n".join(names[4:]))
    Path("field/val.txt").write_text("a.b.jpg\nz 7\n")
    assert len(OPTIONS) == 5
    for spec in OPTIONS:
        for split, expected in (("val", [0, 5]), ("train", [1, 2, 3, 4])):
            expected = {"own:streets": {"val": [0, 1], "train": [2, 3, 4, 5]}, "own:field": {"val": [0, 4], "train": [4, 5]}}.get(spec, {}).get(split, expected)
            dataset = opened(spec, split)
            grey = [round(int(dataset[i][0].max()) / 40) for i in range(len(dataset))]
            assert sorted(grey) == expected, (spec, split)
            for i, value in enumerate(grey):  # the picture and the label of one name hold one number
                _, target = dataset[i]
                if spec in ("own:streets", "own:field"):
                    assert [dataset.classes.names[k] for k in target["labels"]] == [f"n{value}"]
                elif spec == "own:cells":
                    assert target["labels"].tolist() == ([0] * value or [1])
                elif spec == "own:people":
                    assert target["labels"].tolist() == [int(value == 0)] and dataset.classes.names == ("person", "street")
                else:
                    assert target["labels"].tolist() == [1] * (value > 0) and bool(target["valid"].all()) == (value > 0)


def test_a_dataset_in_python():
    masks = torch.zeros(1, 5, 6, dtype=torch.uint8)
    masks[0, 1, 2] = 1
    dataset = [(torch.zeros(3, 5, 6, dtype=torch.uint8), {"labels": torch.tensor([2]), "masks": masks})]
    training = run("from_torchvision", dataset=dataset)["training"]
    assert [training.classes.names[k] for k in training[0][1]["labels"]] == ["dog", "background"]


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
