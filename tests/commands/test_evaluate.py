"""What `evaluate` leaves beside the figures: the confusion matrix, the worst pictures, and the figures of each."""
import csv
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import minimaskformer.commands.cli as cli
from minimaskformer import ClassTable, Lakeland, build_model, evaluate, save_checkpoint
from minimaskformer.draw import metrics as metrics_module
from minimaskformer.draw import runs
from minimaskformer.draw.metrics import draw_confusion, worst_confusions
from minimaskformer.targets import semantic_to_target

HOSTILE = "<img src=x onerror=alert(1)>&\u202e.png"


class Recorded(torch.utils.data.Dataset):
    """Scenes of 64 x 64 that remember which of them were asked for."""
    classes = Lakeland.classes

    def __init__(self, length):
        self.scenes, self.asked = Lakeland("val", 64, 0.0, length), []

    def __len__(self):
        return len(self.scenes)

    def name(self, index):
        return self.scenes.name(index)

    def __getitem__(self, index):
        self.asked.append(index)
        return self.scenes[index]


def small_model(**changes):
    torch.manual_seed(0)
    model = build_model("mini", short_side=64, num_queries=8, decoder_layers=1, encoder_layers=0, **changes).eval()
    with torch.no_grad():
        model.class_head.weight.mul_(40)  # sure of something
    return model


def test_samples_are_spread_evenly_everywhere(tmp_path):
    from minimaskformer.diagnosis.measurements import measure
    model, even = small_model(), [0, 2, 5, 7]
    for sample in (lambda data: evaluate(model, data, 4, progress=False), lambda data: measure(model, data, 4),
                   lambda data: runs.draw_scenes(model, data, tmp_path / "scenes.png", 4)):
        data = Recorded(10)
        sample(data)
        assert data.asked == even
    details = evaluate(model, Recorded(10), 4, progress=False, details=True)
    assert [row["index"] for row in details["pictures"]] == even


def test_details_are_those_of_each_picture_and_of_all():
    model, data = small_model(), Lakeland("val", 64, 0.5, 5)
    results = evaluate(model, data, progress=False, details=True)
    want = np.zeros((11, 12), int)
    for i, row in enumerate(results["pictures"]):
        class Single(Recorded):
            def __getitem__(self, index):
                return data[i]  # noqa: B023
        alone = evaluate(model, Single(1), progress=False)
        assert row["name"] == data.name(i)
        for name in ("pq", "miou", "ap"):
            assert row[name] == alone[name] or math.isnan(row[name]) and math.isnan(alone[name])
        image, target = data[i]
        found, info = model.predict(image, "semantic"), {s["id"]: s for s in target["segments_info"]}
        for true, k in zip(target["segment_map"].ravel().tolist(), found.ravel().tolist()):
            if true and not info[true]["iscrowd"]:
                want[info[true]["category_id"], k] += 1
    assert np.array_equal(results["confusion"], want)
    assert results["miou"] == evaluate(model, data, progress=False)["miou"]


def test_confusion_with_fewer_classes_than_the_model():
    """Rows and columns are the data set's classes; what the model says beyond them is no answer."""
    names = ("tree", "sky")
    labels = torch.zeros(64, 64, dtype=torch.int64)
    labels[:, 20:] = 1

    class Two(Recorded):
        classes = ClassTable(names, (True, False), (1, 2))

        def __getitem__(self, index):
            return super().__getitem__(index)[0], semantic_to_target(labels, 2, things=(0,))
    model, data = small_model(), Two(2)
    confusion = evaluate(model, data, progress=False, details=True)["confusion"]
    found = torch.stack([model.predict(data[i][0], "semantic") for i in range(2)])
    places = [Lakeland.classes.names.index(name) for name in names]
    inside = [[int(((labels == t) & (found == k)).sum()) for k in places] for t in range(2)]
    assert confusion[:, :2].tolist() == inside and confusion.sum(1).tolist() == [2 * 64 * 20, 2 * 64 * 44]


def test_the_picture_of_the_matrix_says_what_it_shows():
    classes = ClassTable(("a", "b", "never", "c"), (False,) * 4, range(4))
    confusion = np.array([[90, 10, 0, 0, 0], [0, 3, 0, 1, 0], [0] * 5, [0] * 5])
    figure = draw_confusion(confusion, classes)
    (ax,) = figure.axes
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b", "c"]  # c is predicted only
    assert sorted(t.get_text() for t in ax.texts) == ["10", "25", "75", "90"] and "never occur, left out here: 1" in ax.get_title()
    assert worst_confusions(confusion, classes) == [("a", "b", 0.1), ("b", "c", 0.25)]
    many = ClassTable(tuple(f"class number {k}" for k in range(133)), (False,) * 133, range(133))
    figure = draw_confusion(np.eye(133, 134, dtype=int) * 7, many)
    (ax,) = figure.axes
    assert ax.get_position().height * figure.get_figheight() / 133 > 1.4 * 8 / 72 and not ax.texts  # a line fits in a row
    assert metrics_module.NUMBERED < 133


def test_evaluate_leaves_pictures_and_a_page_with_names_as_text(tmp_path, capsys):
    for split in ("val", "test"):
        for kind in ("images", "labels"):
            (tmp_path / "data" / kind / split).mkdir(parents=True)
        for i, name in enumerate(("a.png", "b.png", "c.png")):
            labels = np.zeros((64, 70), np.uint8)
            labels[10 * i:30, 5:30] = 1
            Image.fromarray(labels).save(tmp_path / "data" / "labels" / split / name)
            Image.fromarray(np.full((64, 70, 3), 60 * i, np.uint8)).save(tmp_path / "data" / "images" / split / name)
    (tmp_path / "data" / "classes.txt").write_text("0 <i>ground</i> stuff\n1 $x$ stuff\n")
    save_checkpoint(small_model(num_classes=2, class_names=("<i>ground</i>", "$x$"), things=()), tmp_path / "m.safetensors")
    evaluate_it = ["evaluate", str(tmp_path / "m.safetensors"), "--data", f"own:{tmp_path / 'data'}"]
    out = tmp_path / "out"
    assert cli.main([*evaluate_it, "--out", str(out), "--split", "test"]) == 0
    assert {p.name for p in out.iterdir()} == {"metrics.json", "metrics.md", "scenes.png", "confusion.png", "worst.html", "pictures.csv"}
    page = (out / "worst.html").read_text(encoding="utf-8")
    assert "<i>" not in page and "&lt;i&gt;ground" in page
    assert page.count("data:image/png;base64,") == 3 and "Lowest mean IoU" in page and "Lowest PQ" not in page  # all stuff
    rows = list(csv.DictReader((out / "pictures.csv").open(encoding="utf-8")))
    places = [page.index(f"<b>{row['name']}</b>") for row in sorted(rows, key=lambda row: float(row["miou"]))]
    assert len(rows) == 3 and places == sorted(places)
    assert json.loads((out / "metrics.json").read_text())["images"] == 3
    capsys.readouterr()
    assert cli.main([*evaluate_it, "--split", "holdout"]) == 1
    error = capsys.readouterr().err
    assert "holdout" in error and "val" in error and "test" in error


def test_the_worst_come_first(monkeypatch, tmp_path):
    from minimaskformer.draw import worst_pictures
    drawn = []
    monkeypatch.setattr(worst_pictures, "draw_beside_truth", lambda model, data, index, task: drawn.append((task, index)))
    monkeypatch.setattr(worst_pictures, "small_png", lambda figure: b"x")
    pictures = [{"index": i, "name": HOSTILE, "pq": pq, "miou": miou, "ap": ap} for i, (pq, miou, ap)
                in enumerate([(0.5, 0.1, math.nan), (0.2, 0.9, 0.4), (0.9, 0.5, 0.3)])]
    results = {"images": 3, "pictures": pictures, "confusion": np.eye(11, 12, dtype=int)}
    worst_pictures.write_worst_pictures(None, SimpleNamespace(classes=Lakeland.classes), results, tmp_path / "w.html", 2)
    assert drawn == [("panoptic", 1), ("panoptic", 0), ("semantic", 0), ("semantic", 2), ("instance", 2), ("instance", 1)]
    page = (tmp_path / "w.html").read_text()
    assert "Lowest mask AP (2 of 2 pictures)" in page
    assert "<img src=x" not in page and "<b>&lt;img src=x onerror=alert(1)&gt;&amp;\\u202e.png</b>" in page


@pytest.mark.parametrize("task", ["panoptic", "semantic", "instance"])
def test_each_task_is_drawn_beside_its_truth(task):
    from minimaskformer.draw.worst_pictures import draw_beside_truth
    assert len(draw_beside_truth(small_model(), Lakeland("val", 64, 0.5, 2), 1, task).axes) == 3
