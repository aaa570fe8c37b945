"""Mask AP against masks that overlap: pycocotools' figures on the same JSON, through the reader and the evaluation."""
import contextlib
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from minimaskformer import CocoInstance, evaluate
from minimaskformer.data.classes import ClassTable
from minimaskformer.mask_ap import MaskAP, true_instances
from minimaskformer.targets import panoptic_to_target

H, W = 120, 150


def disk(rng, size):
    y, x = rng.integers(10, H - 10), rng.integers(10, W - 10)
    yy, xx = np.mgrid[:H, :W]
    return (yy - y) ** 2 + (xx - x) ** 2 < size ** 2


def code(mask):
    found = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(found["size"]), "counts": found["counts"].decode()}


def write(folder, seed, images=4, crowds=True, areas=True):
    """Disks of many sizes that lie on each other, crowds among them, and areas that are not the masks'."""
    rng = np.random.default_rng(seed)
    annotations = []
    for i in range(images):
        Image.fromarray(rng.integers(0, 256, (H, W, 3), dtype=np.uint8)).save(folder / f"{i}.png")
        for _ in range(12):
            mask = disk(rng, rng.integers(4, 45))
            a = {"id": len(annotations) + 1, "image_id": i, "category_id": int(rng.choice([3, 7])), "segmentation": code(mask),
                 "iscrowd": int(crowds and rng.random() < 0.15), "bbox": [float(v) for v in rle.toBbox(code(mask))]}
            annotations.append(a | {"area": float(mask.sum() * rng.choice([1, 0.8, 1.2]) if areas else mask.sum())})
        annotations.append({"id": len(annotations) + 1, "image_id": i, "category_id": 3, "iscrowd": 0, "area": 0.1,
                            "segmentation": [[3.1, 3.1, 3.2, 3.1, 3.2, 3.2]], "bbox": [3, 3, 1, 1]})  # encloses no pixel
    content = {"images": [{"id": i, "file_name": f"{i}.png", "height": H, "width": W} for i in range(images)],
               "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}], "annotations": annotations}
    (folder / "train.json").write_text(json.dumps(content))
    return folder / "train.json"


def predictions(dataset, rng):
    """Per image, near copies of the true masks, some of the wrong class, some moved, and some of nothing."""
    found = []
    for i in range(len(dataset)):
        masks, labels = [], []
        for category, _, mask in dataset.objects(i):
            for _ in range(rng.integers(0, 3)):
                masks.append(np.roll(mask, rng.integers(-3, 4, 2), (0, 1)))
                labels.append(category if rng.random() < 0.85 else 1 - category)
        masks += [disk(rng, 9), np.zeros((H, W), bool)]
        found.append({"masks": torch.tensor(np.array(masks)), "labels": torch.tensor([*labels, 0, 1]),
                      "scores": torch.tensor(rng.random(len(masks)).round(2), dtype=torch.float32)})
    return found


def pycocotools_figures(json_file, found, classes):
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(json_file))
        results = truth.loadRes([{"image_id": i, "category_id": classes.ids[int(k)], "score": float(s), "segmentation": code(m)}
                                 for i, pred in enumerate(found)
                                 for k, s, m in zip(pred["labels"], pred["scores"], pred["masks"].numpy())])
        evaluation = COCOeval(truth, results, "segm")
        evaluation.evaluate(), evaluation.accumulate(), evaluation.summarize()
    return [value if value >= 0 else float("nan") for value in evaluation.stats[:6]]


@pytest.mark.parametrize("seed", range(4))
def test_the_figures_are_those_of_pycocotools(tmp_path, seed):
    json_file = write(tmp_path, seed, crowds=seed != 1, areas=seed != 2)
    dataset = CocoInstance(json_file)
    found = predictions(dataset, np.random.default_rng(seed))
    metric = MaskAP(dataset.classes)
    for (_, target), pred in zip(dataset, found):
        metric.update(pred, (target["segment_map"], target["segments_info"]), true_instances(target, dataset.classes))
    result = metric.compute()
    ours = [result[name] for name in ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")]
    assert ours == pytest.approx(pycocotools_figures(json_file, found, dataset.classes), abs=1e-6, nan_ok=True)
    assert 0.1 < result["ap"] < 0.9


def test_the_true_masks_have_ap_1(tmp_path):
    json_file = write(tmp_path, 5)
    content = json.loads(json_file.read_text())
    content["annotations"] = [a for a in content["annotations"] if a["area"] > 1]
    json_file.write_text(json.dumps(content))
    dataset = CocoInstance(json_file, background="background")  # an extra class of stuff changes nothing
    metric, flat = MaskAP(dataset.classes), MaskAP(dataset.classes)
    for _, target in dataset:
        single = ~target["instances"]["iscrowd"]
        pred = {"masks": target["instances"]["masks"][single], "labels": target["instances"]["labels"][single],
                "scores": torch.ones(int(single.sum()))}
        truth = target["segment_map"], target["segments_info"]
        metric.update(pred, truth, true_instances(target, dataset.classes))
        flat.update(pred, truth)
    assert metric.compute()["ap"] == 1 and flat.compute()["ap"] < 0.8




def test_evaluate_measures_against_them(tmp_path, monkeypatch):
    from minimaskformer import build_model, evaluation
    json_file = write(tmp_path, 7, images=2)
    dataset = CocoInstance(json_file)
    found = predictions(dataset, np.random.default_rng(0))
    answers, read_out = iter(found), evaluation.read_out
    monkeypatch.setattr(evaluation, "read_out", lambda config, task, *args, **kw: next(answers) if task == "instance"
                        else read_out(config, task, *args, **kw))
    model = build_model("mini", 2, class_names=("cat", "dog"), things=(0, 1), short_side=64)
    results = evaluate(model, dataset, progress=False)
    assert results["ap"] == pytest.approx(pycocotools_figures(json_file, found, dataset.classes)[0], abs=1e-6)


def test_any_target_with_masks_that_overlap_is_taken_whole():
    classes = ClassTable(("cat", "sky"), (True, False), (1, 2))
    segment_map = np.full((20, 20), 4, np.int32)
    segment_map[:10, :10], segment_map[2:6, 2:6], segment_map[12:, 12:] = 1, 2, 3
    info = [{"id": 1, "category_id": 0, "isthing": True, "iscrowd": 0}, {"id": 2, "category_id": 0, "isthing": True, "iscrowd": 0},
            {"id": 3, "category_id": 0, "isthing": True, "iscrowd": 1}, {"id": 4, "category_id": 1, "isthing": False, "iscrowd": 0}]
    target = panoptic_to_target(segment_map, info, 2)
    assert true_instances(target, classes) is None
    target["masks"][0] |= target["masks"][1]
    whole = true_instances(target, classes)
    assert whole["masks"].sum((1, 2)).tolist() == [100, 16, 64] and whole["iscrowd"].tolist() == [False, False, True]
    metric = MaskAP(classes)
    metric.update({"masks": target["masks"][:2], "labels": [0, 0], "scores": torch.ones(2)},
                  (target["segment_map"], info), whole)
    assert metric.compute()["ap"] == 1
    with pytest.raises(ValueError, match=r"true masks \[3, 20, 20\]"):
        metric.update({"masks": torch.zeros(0, 9, 9, dtype=torch.bool), "labels": [], "scores": []},
                      (np.ones((9, 9), int), [info[0]]), whole)
