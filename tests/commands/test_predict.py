"""`predict` on folders, patterns and data sets, and what it leaves for other tools."""
import contextlib
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO
from scipy.ndimage import binary_fill_holes

import minimaskformer.commands.cli as cli
from minimaskformer import Lakeland, load_checkpoint
from minimaskformer.data.catalog import open_dataset
from minimaskformer.data.readers.coco_panoptic import decode_ids, write_panoptic
from minimaskformer.data.writers.instances import write_instances
from minimaskformer.data.writers.polygons import mask_polygons


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Three scenes in folders, one of them turned by its EXIF orientation, and a file that is not a picture."""
    place = tmp_path_factory.mktemp("photos")
    (place / "more").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    for i, name in enumerate(("a.png", "b.jpg", "more/c.png")):
        picture = Image.fromarray(Lakeland("val", 64, 0, 4).scene(i)[0]).crop((0, 0, 64, 50))
        picture.save(place / name, **({"exif": exif, "quality": 95} if name == "b.jpg" else {}))
    (place / "bad.png").write_bytes(b"no picture")
    (place / "notes.txt").write_text("x")
    return place


def quietly(function, *arguments):
    with contextlib.redirect_stdout(io.StringIO()):
        return function(*arguments)


def test_folders_and_patterns(photos, tmp_path, capsys):
    assert cli.main(["predict", "mini", str(photos), str(photos / "**" / "c*"), "--out", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert "1 of 4 pictures could not be read" in said.err and "bad.png" in said.err and "3 pictures" in said.out
    whole = json.loads((tmp_path / "panoptic_results.json").read_text())
    assert [image["file_name"] for image in whole["images"]] == ["a.png", "b.jpg", "c.png"]
    assert [(image["height"], image["width"]) for image in whole["images"]] == [(50, 64), (64, 50), (50, 64)]
    model = load_checkpoint("mini")
    for image, annotation in zip(whole["images"], whole["annotations"]):
        ids = decode_ids(np.asarray(Image.open(tmp_path / annotation["file_name"])))
        assert annotation["image_id"] == image["id"] and {s["id"] for s in annotation["segments_info"]} == set(ids.ravel()) - {0}
        for s in annotation["segments_info"]:
            rows, columns = np.nonzero(ids == s["id"])
            assert s["area"] == len(rows) and s["bbox"] == [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
    _, info = model.predict(Image.open(photos / "a.png"))
    names = {c["id"]: c["name"] for c in whole["categories"]}
    assert [names[s["category_id"]] for s in whole["annotations"][0]["segments_info"]] == [model.config.class_names[s["category_id"]] for s in info]
    assert cli.main(["predict", "mini", str(tmp_path / "x*.png"), "--out", str(tmp_path / "o")]) == 1
    assert cli.main(["predict", "mini", str(photos), "--data", "lakeland"]) == 1 and cli.main(["predict", "mini"]) == 1


def scenes(place, write):
    dataset = Lakeland("val", 64, 0, 3)
    write(place, dataset)
    return dataset


def test_instances_of_a_data_set_are_what_pycocotools_loads(tmp_path):
    """Ids of pictures and categories are those of the data set's file, so that its truth and the answers belong together."""
    write_panoptic(tmp_path / "in", (Lakeland("val", 64, 0, 3)[i] for i in range(3)), Lakeland("val", 64, 0, 3).classes, "val")
    path = tmp_path / "in" / "panoptic_val.json"
    content = json.loads(path.read_text())
    for image in content["images"]:
        image["id"] += 70
    for annotation in content["annotations"]:
        annotation["image_id"] += 70
        for s in annotation["segments_info"]:
            s["category_id"] += 200
    for category in content["categories"]:
        category["id"] += 200
    content["categories"].reverse()
    path.write_text(json.dumps(content))
    data = ["--data", f"coco_panoptic:{tmp_path}/in", "--split", "val", "--out", str(tmp_path / "out")]
    assert cli.main(["predict", "mini", *data, "--task", "instance"]) == 0
    truth = COCO()
    truth.dataset = content | {"annotations": []}
    quietly(truth.createIndex)
    loaded = quietly(truth.loadRes, str(tmp_path / "out" / "instance_results.json"))
    answer = load_checkpoint("mini").predict(open_dataset(f"coco_panoptic:{tmp_path}/in", "val")[1][0], "instance")
    found = loaded.loadAnns(loaded.getAnnIds(imgIds=[72]))
    kept = [i for i in range(len(answer["masks"])) if answer["masks"][i].any()]
    assert len(found) == len(kept) > 0
    names = {c["id"]: c["name"] for c in content["categories"]}
    for a, i in zip(found, kept):
        assert np.array_equal(loaded.annToMask(a).astype(bool), answer["masks"][i].numpy())
        assert names[a["category_id"]] == load_checkpoint("mini").config.class_names[answer["labels"][i]]
        assert a["score"] == pytest.approx(float(answer["scores"][i]))
    whole = quietly(COCO, str(tmp_path / "out" / "instance_predictions.json"))
    assert all(whole.annToMask(a).sum() == a["area"] for a in whole.anns.values()) and len(whole.imgs) == 3
    assert cli.main(["predict", "mini", *data]) == 0
    results = json.loads((tmp_path / "out" / "panoptic_results.json").read_text())
    assert [a["image_id"] for a in results["annotations"]] == [71, 72, 73]
    assert {s["category_id"] for a in results["annotations"] for s in a["segments_info"]} <= set(names)


def test_other_classes_are_refused(tmp_path, capsys):
    image = torch.zeros(3, 20, 20, dtype=torch.uint8)
    from minimaskformer.data.torchvision_dataset import from_torchvision
    masks = torch.ones(1, 20, 20, dtype=torch.bool)
    (tmp_path / "in").mkdir()
    write_instances(tmp_path / "in", from_torchvision([(image, {"labels": torch.tensor([0]), "masks": masks})], ["cat"]), "test")
    assert cli.main(["predict", "mini", "--data", f"own:{tmp_path}/in", "--out", str(tmp_path / "out")]) == 1
    assert "no classes sky" in capsys.readouterr().err


@pytest.mark.parametrize("task", ["panoptic", "semantic"])
def test_labelme_to_correct_by_hand(photos, tmp_path, task):
    pictures = [str(photos / name) for name in ("a.png", "b.jpg")]
    assert cli.main(["predict", "mini", *pictures, "--task", task, "--labelme", "--out", str(tmp_path)]) == 0
    assert sorted(p.name for p in (tmp_path / "labelme").iterdir()) == ["a.json", "a.png", "b.json", "b.png"]  # b is upright now
    model, parts = load_checkpoint("mini"), [open_dataset(f"own:{tmp_path}/labelme", split) for split in ("val", "train")]
    for dataset, picture in zip(parts, pictures):
        image = Image.open(picture)
        answer = model.predict(image, task)
        wanted = [answer.numpy() == k for k in np.unique(answer.numpy())] if task == "semantic" else [answer[0].numpy() == s["id"] for s in answer[1]]
        image, target = dataset[0]
        assert image.shape[1:] == wanted[0].shape and len(target["masks"]) >= len(wanted)
        for mask, read in zip(wanted, target["masks"].numpy()):
            assert (mask & read).sum() / mask.sum() > 0.9  # holes are filled, corners are cut


@pytest.mark.parametrize("seed", range(3))
def test_polygons_enclose_the_mask(seed):
    rng = np.random.default_rng(seed)
    coarse = rng.random((6, 8)) < 0.5
    mask = np.kron(coarse, np.ones((7, 5))).astype(bool)
    exact = mask_polygons(mask, away=0.01)
    simple = mask_polygons(mask)
    assert sum(map(len, simple)) <= sum(map(len, exact))
    filled = binary_fill_holes(mask)
    for polygons, least in ((exact, 0.98), (simple, 0.95)):
        codes = rle.frPyObjects([p.ravel().tolist() for p in polygons], *mask.shape)
        read = rle.decode(rle.merge(codes)).astype(bool)
        assert (read & mask).sum() > least * mask.sum() and (read & ~filled).sum() < (1 - least) * mask.sum()
    one = np.zeros((5, 5), bool)
    one[2, 3] = True
    (corners,) = mask_polygons(one)
    assert corners.mean(axis=0) == pytest.approx([3.5, 2.5])


def test_panoptic_results_are_what_panopticapi_takes(tmp_path):
    """Its evaluation, where it is installed (pip install --no-deps panopticapi-lite), on what `predict` leaves."""
    evaluation = pytest.importorskip("panopticapi.evaluation")
    scenes_64 = Lakeland("val", 64, 0.3, 4)
    write_panoptic(tmp_path / "in", (scenes_64[i] for i in range(4)), scenes_64.classes, "val")
    data = ["--data", f"coco_panoptic:{tmp_path}/in", "--split", "val"]
    assert cli.main(["predict", "mini", *data, "--out", str(tmp_path / "out")]) == 0
    assert cli.main(["evaluate", "mini", *data, "--out", str(tmp_path / "figures")]) == 0
    theirs = quietly(evaluation.pq_compute, str(tmp_path / "in" / "panoptic_val.json"), str(tmp_path / "out" / "panoptic_results.json"),
                     str(tmp_path / "in" / "panoptic" / "val"), str(tmp_path / "out"))
    ours = json.loads((tmp_path / "figures" / "metrics.json").read_text())
    assert theirs["All"]["pq"] == pytest.approx(ours["pq"]) and theirs["Things"]["pq"] == pytest.approx(ours["pq_things"])
