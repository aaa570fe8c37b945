"""mIoU, PQ and mask AP against panopticapi's numbers, slow loops from the definitions, torchmetrics, and properties."""
import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from minimaskformer.data.classes import ClassTable
from minimaskformer.mask_ap import MaskAP, average_precision, claim
from minimaskformer.metrics import MeanIoU, PanopticQuality

GOLDEN = Path(__file__).parent / "golden" / "pq"
CLASSES = ClassTable(("sheep", "duck", "grass", "sky"), (True, True, False, False), (1, 2, 3, 4))


# ---- mean IoU

def random_labels(rng, K=5, ignore=255, H=11, W=13):
    truth = rng.integers(0, K, (H, W))
    pred = np.where(rng.random((H, W)) < 0.6, truth, rng.integers(0, K, (H, W)))
    truth[rng.random((H, W)) < 0.15] = ignore
    return pred, truth


def test_mean_iou_against_a_loop():
    rng = np.random.default_rng(0)
    metric, pixels = MeanIoU(6), []
    for _ in range(4):
        pred, truth = random_labels(rng)  # class 5 never occurs
        pred[rng.random(pred.shape) < 0.1] = 255
        pred[rng.random(pred.shape) < 0.1] = -1
        metric.update(pred, torch.tensor(truth))
        pixels += [(p, t) for p, t in zip(pred.flat, truth.flat) if t != 255]
    result = metric.compute()
    for c in range(5):
        both = sum(p == c and t == c for p, t in pixels)
        either = sum(p == c or t == c for p, t in pixels)
        assert result["iou"][c] == pytest.approx(both / either)
    assert math.isnan(result["iou"][5])
    assert result["miou"] == pytest.approx(np.mean(result["iou"][:5]))
    assert result["pixel_accuracy"] == pytest.approx(sum(p == t for p, t in pixels) / len(pixels))


def test_mean_iou_against_torchmetrics():
    from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex
    rng = np.random.default_rng(1)
    ours = MeanIoU(5)
    peer = MulticlassJaccardIndex(5, average=None, ignore_index=255)
    accuracy = MulticlassAccuracy(5, average="micro", ignore_index=255)
    for _ in range(3):
        pred, truth = (torch.tensor(x) for x in random_labels(rng))
        ours.update(pred, truth)
        peer.update(pred[None], truth[None])
        accuracy.update(pred[None], truth[None])
    result = ours.compute()
    assert result["iou"] == pytest.approx(peer.compute().tolist(), abs=1e-6)
    assert result["pixel_accuracy"] == pytest.approx(accuracy.compute().item(), abs=1e-6)


def test_mean_iou_by_hand():
    metric = MeanIoU(4)
    metric.update(np.array([[0, 0, 1, -1, 3]]), np.array([[0, 1, 1, 1, 255]], dtype=np.uint8))
    result = metric.compute()  # class 0: 1 of 2, class 1: 1 of 3 (one wrong, one missed); 2 absent; 3 only on void
    assert result["iou"][:2] == [1 / 2, 1 / 3] and all(math.isnan(x) for x in result["iou"][2:])
    assert result["miou"] == pytest.approx(5 / 12) and result["pixel_accuracy"] == 0.5
    metric.update(np.array([[2]]), np.array([[0]]))  # only predicted: IoU 0, and it counts
    assert metric.compute()["iou"][2] == 0.0


def test_mean_iou_of_nothing_is_nan():
    metric = MeanIoU(3)
    metric.update(np.zeros((2, 2), int), np.full((2, 2), 255))
    result = metric.compute()
    assert all(math.isnan(x) for x in (result["miou"], result["pixel_accuracy"], *result["iou"]))


@pytest.mark.parametrize("pred, truth, message", [
    (np.zeros((2, 3), int), np.zeros((3, 2), int), r"\[2, 3\], the truth \[3, 2\]"),
    (np.full((2, 2), 3), np.zeros((2, 2), int), r"prediction holds \[3\]"),
    (np.full((2, 2), 3), np.full((2, 2), 255), r"prediction holds \[3\]"),
    (np.zeros((2, 2), int), np.full((2, 2), -1), r"truth holds \[-1\]"),
    (np.zeros((2, 2)), np.zeros((2, 2), int), "prediction has dtype float64"),
])
def test_mean_iou_refuses_what_is_no_class_map(pred, truth, message):
    metric = MeanIoU(3)
    with pytest.raises(ValueError, match=message):
        metric.update(pred, truth)
    assert not metric.confusion.any()


def test_ignore_must_not_be_a_class():
    with pytest.raises(ValueError, match="ignore=255 is the index of one of the 847 classes"):
        MeanIoU(847)
    MeanIoU(847, ignore=65535)


# ---- panoptic quality

def read_golden():
    truth, pred = (json.loads((GOLDEN / name).read_text()) for name in ("gt.json", "pred.json"))
    categories = truth["categories"]
    classes = ClassTable(tuple(c["name"] for c in categories), tuple(bool(c["isthing"]) for c in categories),
                         tuple(c["id"] for c in categories))
    images = {}
    for folder, part in (("pred", pred), ("gt", truth)):
        for annotation in part["annotations"]:
            rgb = np.asarray(Image.open(GOLDEN / folder / annotation["file_name"]).convert("RGB")).astype(np.int64)
            info = [s | {"category_id": classes.index(s["category_id"])} for s in annotation["segments_info"]]
            images.setdefault(str(annotation["image_id"]), []).append((rgb @ [1, 256, 65536], info))
    return classes, images, json.loads((GOLDEN / "expected.json").read_text())["per_image"]


@pytest.mark.parametrize("image", read_golden()[2])
def test_pq_gives_panopticapis_numbers(image):
    classes, images, expected = read_golden()
    metric = PanopticQuality(classes)
    metric.update(*images[image])
    result, expected = metric.compute(), expected[image]
    assert set(result["per_class"]) == {classes.names[classes.index(int(i))] for i in expected["per_category"]}
    for category, counts in expected["per_category"].items():
        got = result["per_class"][classes.names[classes.index(int(category))]]
        assert {k: got[k] for k in ("tp", "fp", "fn")} == {k: counts[k] for k in ("tp", "fp", "fn")}
        assert got["iou_sum"] == pytest.approx(counts["iou_sum"], abs=1e-12)
    for group, suffix in (("All", ""), ("Things", "_things"), ("Stuff", "_stuff")):
        for name in ("pq", "sq", "rq", "n"):
            assert result[name + suffix] == pytest.approx(expected[group][name], abs=1e-12)


def test_pq_sums_over_images_before_it_divides():
    classes, images, expected = read_golden()
    metric = PanopticQuality(classes)
    for pred, truth in images.values():
        metric.update(pred, truth)
    total = {}
    for per_image in expected.values():
        for category, counts in per_image["per_category"].items():
            for name, value in counts.items():
                total[int(category), name] = total.get((int(category), name), 0) + value
    pq = [total[i, "iou_sum"] / (total[i, "tp"] + total[i, "fp"] / 2 + total[i, "fn"] / 2)
          for i in sorted({i for i, _ in total})]
    assert metric.compute()["pq"] == pytest.approx(np.mean(pq), abs=1e-12)


def random_panoptic(rng, H=16, W=20, void=0.1, crowds=2):
    """A random truth with void, crowds and pieces of stuff, and a prediction that resembles it, as maps and entries."""
    truth, info = np.zeros((H, W), int), []
    for i in rng.permutation(np.arange(1, 12)):
        y, x = rng.integers(0, H - 3), rng.integers(0, W - 3)
        truth[y:y + rng.integers(3, 10), x:x + rng.integers(3, 12)] = i * 70001
    for i in np.unique(truth[truth > 0]):
        info.append({"id": int(i), "category_id": int(rng.integers(0, 4)), "iscrowd": int(len(info) < crowds)})
    rng.shuffle(info)
    pred = np.roll(truth, rng.integers(-1, 2, 2), (0, 1)) // 70001
    pred[rng.random((H, W)) < 0.05] = 0
    for _ in range(2):  # pieces of prediction where nothing, or a crowd, is
        y, x = rng.integers(0, H - 3), rng.integers(0, W - 3)
        pred[y:y + 4, x:x + 4] = pred.max() + 1
    truth[rng.random((H, W)) < void] = 0
    info = [s for s in info if (truth == s["id"]).any()]
    category = {s["id"] // 70001: s["category_id"] for s in info}
    pred_info = [{"id": int(i), "category_id": int(rng.integers(0, 4)) if rng.random() < 0.2 else
                  category.get(int(i), int(rng.integers(0, 4)))} for i in np.unique(pred[pred > 0])]
    return (pred, pred_info), (truth, info)


def slow_pq(pairs, K):
    """Counts per class by panopticapi's rules, every overlap counted pixel by pixel."""
    counts = [{"tp": 0, "fp": 0, "fn": 0, "iou_sum": 0.0} for _ in range(K)]
    for (pred, pred_info), (truth, truth_info) in pairs:
        pixels = [(int(p), int(t)) for p, t in zip(np.asarray(pred).flat, np.asarray(truth).flat)]
        used_truth, used_pred, last_crowd = set(), set(), {}
        for t in truth_info:
            if t["iscrowd"]:
                last_crowd[t["category_id"]] = t["id"]
                continue
            for p in pred_info:
                if p["category_id"] != t["category_id"]:
                    continue
                both = sum(q == (p["id"], t["id"]) for q in pixels)
                # "or", leaving out pixels of the prediction on void; on a crowd they stay
                either = sum(a == p["id"] and b != 0 or b == t["id"] for a, b in pixels)
                either += t.get("area", sum(b == t["id"] for _, b in pixels)) - sum(b == t["id"] for _, b in pixels)
                if both / either > 0.5:
                    used_truth.add(t["id"])
                    used_pred.add(p["id"])
                    counts[t["category_id"]]["tp"] += 1
                    counts[t["category_id"]]["iou_sum"] += both / either
            counts[t["category_id"]]["fn"] += t["id"] not in used_truth
        for p in pred_info:
            own = [b for a, b in pixels if a == p["id"]]
            unknown = sum(b in (0, last_crowd.get(p["category_id"])) for b in own)
            counts[p["category_id"]]["fp"] += p["id"] not in used_pred and not unknown / len(own) > 0.5
    return counts


def test_pq_against_a_loop_with_void_and_crowd():
    rng = np.random.default_rng(0)
    total = {"tp": 0, "fp": 0, "fn": 0}
    for _ in range(25):
        pair = random_panoptic(rng, void=rng.choice([0, 0.1, 0.5]), crowds=int(rng.integers(0, 5)))
        metric = PanopticQuality(CLASSES)
        metric.update(*pair)
        per_class = metric.compute()["per_class"]
        for k, counts in enumerate(slow_pq([pair], 4)):
            got = per_class.get(CLASSES.names[k], {"tp": 0, "fp": 0, "fn": 0, "iou_sum": 0.0})
            assert {n: got[n] for n in ("tp", "fp", "fn")} == {n: counts[n] for n in ("tp", "fp", "fn")}
            assert got["iou_sum"] == pytest.approx(counts["iou_sum"])
            total = {n: total[n] + got[n] for n in total}
    assert min(total.values()) > 20  # the maps exercise all three


def test_pq_against_torchmetrics_without_crowd():
    # They agree where no crowd is, stuff is one segment per class, and the prediction leaves no pixel out: torchmetrics
    # takes predicted void out of the union and of the misses too, panopticapi does not.
    from torchmetrics.detection import PanopticQuality as Peer
    rng = np.random.default_rng(3)
    ours = PanopticQuality(CLASSES)
    peer = Peer(things={0, 1}, stuffs={2, 3}, return_sq_and_rq=True, return_per_class=True)
    for _ in range(20):
        pred, truth = random_panoptic(rng, crowds=0)
        pred[0][pred[0] == 0] = 999
        pred[1].append({"id": 999, "category_id": 3})
        coded = []
        for segment_map, info in (pred, truth):  # torchmetrics wants (category, instance); unknown categories are void
            category = np.full(segment_map.shape, -1)
            for s in info:
                category[segment_map == s["id"]] = s["category_id"]
            coded.append(torch.tensor(np.stack([category, segment_map], -1))[None])  # [1, H, W, 2]
        ours.update(one_stuff_segment(*pred), one_stuff_segment(*truth))
        peer.update(*coded)
    expected = peer.compute().reshape(4, 3)
    for k, name in enumerate(CLASSES.names):
        got = ours.compute()["per_class"][name]
        assert got["tp"] and [got["pq"], got["sq"], got["rq"]] == pytest.approx(expected[k].tolist(), abs=1e-6)


def one_stuff_segment(segment_map, info):
    """The same with the pieces of each stuff class joined."""
    first = {}
    for s in info:
        if s["category_id"] in CLASSES.stuff:
            segment_map = np.where(segment_map == s["id"], first.setdefault(s["category_id"], s["id"]), segment_map)
    return segment_map, [s for s in info if first.get(s["category_id"], s["id"]) == s["id"]]


def one_segment(pixels, category=0, size=20, **more):
    """A map [1, size] with one segment 1 on the given pixels."""
    segment_map = np.zeros((1, size), int)
    segment_map[0, pixels] = 1
    return segment_map, [{"id": 1, "category_id": category} | more]


def counts(pred, truth, name="sheep"):
    metric = PanopticQuality(CLASSES)
    metric.update(pred, truth)
    got = metric.compute()["per_class"].get(name, {"tp": 0, "fp": 0, "fn": 0})
    return got["tp"], got["fp"], got["fn"]


def rest(truth):
    """Give all void pixels of a truth to grass, so that nothing is void."""
    segment_map, info = truth
    return np.where(segment_map == 0, 99, segment_map), info + [{"id": 99, "category_id": 2, "iscrowd": 0}]


def test_iou_of_exactly_one_half_is_no_match():
    truth = rest(one_segment(range(0, 10)))
    assert counts(one_segment(range(0, 5)), truth) == (0, 1, 1)  # 5 of 10
    assert counts(one_segment(range(0, 6)), truth) == (1, 0, 0)
    assert counts(one_segment(range(0, 20)), truth) == (0, 1, 1)  # 10 of 20


def test_the_union_leaves_out_void_but_not_crowd():
    assert counts(one_segment(range(0, 20)), one_segment(range(0, 10))) == (1, 0, 0)  # the other ten are void: IoU 1
    crowd_map, crowd_info = one_segment(range(0, 10))
    crowd_map[0, 10:] = 2
    crowd = crowd_map, crowd_info + [{"id": 2, "category_id": 0, "iscrowd": 1}]
    assert counts(one_segment(range(0, 20)), crowd) == (0, 1, 1)  # IoU 10 / 20


def test_mostly_void_or_own_crowd_is_no_false_positive():
    for k, expected in ((10, 1), (11, 0)):  # of 20 predicted pixels k are void; the bound is strict
        assert counts(one_segment(range(0, 20)), one_segment(range(k, 20), category=2)) == (0, expected, 0)
        truth = one_segment(range(0, k), iscrowd=1)
        assert counts(one_segment(range(0, 20)), rest(truth)) == (0, expected, 0)
        other = one_segment(range(0, k), category=1, iscrowd=1)
        assert counts(one_segment(range(0, 20)), rest(other)) == (0, 1, 0)


def test_only_the_last_crowd_of_a_class_is_remembered():
    segment_map = np.array([[1] * 15 + [2] * 5])
    info = [{"id": i, "category_id": 0, "iscrowd": 1} for i in (1, 2)]
    assert counts(one_segment(range(0, 12)), (segment_map, info)) == (0, 1, 0)
    assert counts(one_segment(range(0, 12)), (segment_map, info[::-1])) == (0, 0, 0)


def test_truth_area_comes_from_its_entry():
    pred = one_segment(range(0, 6))
    assert counts(pred, rest(one_segment(range(0, 10)))) == (1, 0, 0)
    assert counts(pred, rest(one_segment(range(0, 10), area=12))) == (0, 1, 1)  # 6 of 12
    with pytest.warns(UserWarning, match="recompute or remove the areas"):
        counts(pred, rest(one_segment(range(0, 10), area=8)))


def test_a_class_only_predicted_counts_and_one_never_seen_does_not():
    metric = PanopticQuality(CLASSES)
    truth = rest(one_segment(range(0, 10)))
    pred_map, pred_info = one_segment(range(0, 10))
    pred_map[0, 15:] = 7
    metric.update((pred_map, pred_info + [{"id": 7, "category_id": 1}]), truth)
    result = metric.compute()
    assert set(result["per_class"]) == {"sheep", "duck", "grass"} and result["per_class"]["duck"]["pq"] == 0
    assert (result["n"], result["n_things"], result["n_stuff"]) == (3, 2, 1)
    assert (result["pq"], result["pq_things"], result["pq_stuff"]) == pytest.approx((1 / 3, 1 / 2, 0))


def test_a_true_entry_without_pixels_is_missed():
    segment_map, info = one_segment(range(0, 10))
    assert counts((segment_map, info), (segment_map, info + [{"id": 8, "category_id": 0}])) == (1, 0, 1)


@pytest.mark.parametrize("kind", (torch.int32, torch.int64, torch.uint8, np.uint16, np.int32, np.uint32))
def test_maps_may_be_tensors_or_arrays(kind):
    maps = [np.array([[1, 1, 2]]), np.array([[1, 1, 1]])]
    maps = [torch.tensor(m).to(kind) if isinstance(kind, torch.dtype) else m.astype(kind) for m in maps]
    info = [{"id": 1, "category_id": 0}, {"id": 2, "category_id": 1}]
    assert counts((maps[0], info), (maps[1], info[:1])) == (1, 0, 0)


A, B = np.array([[1, 1], [2, 2]]), [{"id": 1, "category_id": 0}, {"id": 2, "category_id": 2}]


@pytest.mark.parametrize("pred, truth, message", [
    ((A, B), (A.T[:1], B), r"shape \[2, 2\], the truth \[1, 2\]"),
    ((A, B[:1]), (A, B), r"prediction: the segment map holds ids \[2\]"),
    ((A, B), (A, B[:1]), r"truth: the segment map holds ids \[2\]"),
    ((A, B + [{"id": 3, "category_id": 0}]), (A, B), r"prediction: entries \[3\] have no pixel"),
    ((A, B[:1] + [{"id": 2, "category_id": 4}]), (A, B), r"labels \[4\] are outside \[0, 4\)"),
    ((A, B[:1] + B), (A, B), "repeated segment ids"),
    ((-A, B), (A, B), "segment ids go from 0"),
    ((A * 1.0, B), (A, B), "prediction has dtype float64"),
    ((A[None], B), (A[None], B), r"a segment map is \[H, W\], got shape \[1, 2, 2\]"),
])
def test_pq_refuses_what_does_not_fit_together(pred, truth, message):
    metric = PanopticQuality(CLASSES)
    with pytest.raises(ValueError, match=message):
        metric.update(pred, truth)
    assert metric.compute()["n"] == 0  # and nothing of it was counted


def test_pq_of_nothing_is_nan():
    result = PanopticQuality(CLASSES).compute()
    assert result["n"] == 0 and result["per_class"] == {}
    assert math.isnan(result["pq"]) and math.isnan(result["rq_stuff"])


def test_mean_pq_is_not_mean_sq_times_mean_rq():
    rng = np.random.default_rng(5)
    metric = PanopticQuality(CLASSES)
    for _ in range(5):
        metric.update(*random_panoptic(rng))
    result = metric.compute()
    for q in result["per_class"].values():
        assert q["pq"] == pytest.approx(q["sq"] * q["rq"])
    assert abs(result["pq"] - result["sq"] * result["rq"]) > 1e-3


# ---- mask AP

def random_instances(rng, H=96, W=110, crowd=True, empty=False):
    """A truth with things of three sizes, stuff and a crowd, and scored masks around it."""
    truth, info = np.full((H, W), 1), [{"id": 1, "category_id": 2, "iscrowd": 0}]
    for i in range(2, 9):
        y, x, side = rng.integers(0, H - 8), rng.integers(0, W - 8), rng.choice([8, 30, 60])
        truth[y:y + side, x:x + side] = i
        info.append({"id": i, "category_id": int(rng.integers(0, 2)), "iscrowd": int(crowd and i == 4)})
    info = [s | {"area": int((truth == s["id"]).sum())} for s in info if (truth == s["id"]).any()]
    masks, labels = [], []
    for s in info[1:]:
        for _ in range(2):
            masks.append(np.roll(truth == s["id"], rng.integers(-3, 4, 2), (0, 1)))
            labels.append(s["category_id"] if rng.random() < 0.85 else 1 - s["category_id"])
    masks, labels = (masks, labels) if not empty else ([], [])
    pred = {"masks": torch.tensor(np.array(masks).reshape(-1, H, W)).bool(), "labels": torch.tensor(labels).long(),
            "scores": torch.tensor(rng.random(len(labels)), dtype=torch.float32)}
    return pred, (torch.tensor(truth), info)


def test_mask_ap_against_torchmetrics():
    from torchmetrics.detection import MeanAveragePrecision
    rng = np.random.default_rng(0)
    ours, peer = MaskAP(CLASSES), MeanAveragePrecision(iou_type="segm", class_metrics=True)
    for i in range(5):
        pred, (truth, info) = random_instances(rng, empty=i == 2)
        ours.update(pred, (truth, info))
        things = [s for s in info if s["category_id"] < 2]
        peer.update([pred], [{"masks": torch.stack([truth == s["id"] for s in things]),
                              "labels": torch.tensor([s["category_id"] for s in things]),
                              "iscrowd": torch.tensor([s["iscrowd"] for s in things]),
                              "area": torch.tensor([s["area"] for s in things])}])
    result, expected = ours.compute(), peer.compute()
    for name, peer_name in (("ap", "map"), ("ap50", "map_50"), ("ap75", "map_75"), ("ap_small", "map_small"),
                            ("ap_medium", "map_medium")):
        assert 0 < result[name] < 1 and result[name] == pytest.approx(expected[peer_name].item(), abs=1e-6)
    assert math.isnan(result["ap_large"]) and expected["map_large"] == -1
    assert list(result["per_class"].values()) == pytest.approx(expected["map_per_class"].tolist(), abs=1e-6)


def pycocotools_ap(images):
    """Our MaskAP's figures from pycocotools itself."""
    from pycocotools import mask as rle
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def encode(mask):
        return rle.encode(np.asfortranarray(mask, dtype=np.uint8))

    truth, predictions = COCO(), COCO()
    truths, found = [], []
    for i, (pred, (segment_map, info)) in enumerate(images):
        truths += [{"image_id": i, "category_id": s["category_id"], "iscrowd": s["iscrowd"], "area": s["area"],
                    "segmentation": encode(segment_map == s["id"])} for s in info if CLASSES.isthing[s["category_id"]]]
        found += [{"image_id": i, "category_id": int(c), "score": float(s), "segmentation": encode(m),
                   "area": int(m.sum())} for c, s, m in zip(pred["labels"], pred["scores"], pred["masks"])]
    for coco, annotations in ((truth, truths), (predictions, found)):
        sizes = [segment_map.shape for _, (segment_map, _) in images]
        coco.dataset = {"images": [{"id": i, "height": h, "width": w} for i, (h, w) in enumerate(sizes)],
                        "categories": [{"id": 0}, {"id": 1}],
                        "annotations": [a | {"id": n} for n, a in enumerate(annotations, 1)]}
        coco.createIndex()
    evaluation = COCOeval(truth, predictions, "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    precision = evaluation.eval["precision"][..., -1]  # [10, 101, 2, 4]; -1: no such instance
    average = lambda p: p[p > -1].mean() if (p > -1).any() else math.nan  # noqa: E731
    figures = [average(precision[..., 0]), average(precision[0, ..., 0]), average(precision[5, ..., 0])]
    return figures + [average(precision[..., s]) for s in (1, 2, 3)] + [average(precision[:, :, k, 0]) for k in (0, 1)]


@pytest.mark.parametrize("seed", range(6))
def test_mask_ap_gives_pycocotools_numbers(seed):
    rng = np.random.default_rng(seed)
    images = [random_instances(rng, H=100 + 20 * seed, W=90 + 20 * seed) for _ in range(4)]
    if seed % 2:  # ties: the order of the predictions decides
        images = [(pred | {"scores": (4 * pred["scores"]).round() / 4}, truth) for pred, truth in images]
    if seed == 2:  # more than the 100 predictions that count per image and class
        images = [({name: torch.cat([v] * 20) for name, v in pred.items()}, truth) for pred, truth in images]
    metric = MaskAP(CLASSES)
    for image in images:
        metric.update(*image)
    result = metric.compute()
    names = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
    assert [*(result[n] for n in names), *result["per_class"].values()] == pytest.approx(
        pycocotools_ap(images), abs=1e-9, nan_ok=True)
    assert 0 < result["ap"] < result["ap50"] < 1


def test_average_precision_by_hand():
    # ranked: right, wrong, right; recalls 1/3 and 2/3 of three instances, the third is never found
    value = average_precision([0.2, 0.9, 0.5], [True, True, False], 3)
    assert value == pytest.approx((34 * 1 + 33 * 2 / 3 + 34 * 0) / 101)  # r = 0 ... 0.33, 0.34 ... 0.66, the rest
    assert average_precision([], np.zeros(0, bool), 2) == 0.0


def test_a_claim_goes_to_the_largest_iou_and_to_the_ignored_last():
    crowd, ignored = [False, False, True], [False, True, True]
    assert claim([[(0.9, 1), (0.6, 0)]], crowd, ignored, 0.5) == [0]  # the ignored one only if nothing else is left
    assert claim([[(0.9, 1), (0.6, 0)]], crowd, ignored, 0.7) == [1]
    assert claim([[(0.8, 0), (0.6, 1)]], crowd, [False] * 3, 0.5) == [0]
    assert claim([[(0.8, 0)], [(0.9, 0), (0.5, 1)], [(0.9, 0)]], crowd, ignored, 0.5) == [0, 1, None]  # claimed once
    assert claim([[(0.9, 2)], [(0.7, 2)], []], crowd, ignored, 0.5) == [2, 2, None]  # but a crowd any number of times


def test_the_given_area_makes_an_instance_small_or_large():
    pred, (truth, info) = random_instances(np.random.default_rng(3), crowd=False)
    metric = MaskAP(CLASSES)
    metric.update(pred, (truth, [s | {"area": 100 * 100} for s in info]))
    result = metric.compute()
    assert math.isnan(result["ap_small"]) and math.isnan(result["ap_medium"]) and result["ap_large"] > 0


def slow_ap(images, label, threshold):
    """COCO's AP of one class at one IoU threshold from its definition (no crowds): 101 recalls, greedy claims."""
    ranked, total = [], 0
    for number, (pred, (_, info)) in enumerate(images):
        total += sum(s["category_id"] == label for s in info)
        ranked += [(-float(s), number, m) for m, (c, s) in enumerate(zip(pred["labels"], pred["scores"])) if c == label]
    claimed, right = set(), []
    for _, number, m in sorted(ranked):
        pred, (truth, info) = images[number]
        best, claim = threshold, None
        for s in info:
            other = truth == s["id"]
            iou = (pred["masks"][m] & other).sum() / (pred["masks"][m] | other).sum()
            if s["category_id"] == label and (number, s["id"]) not in claimed and iou >= best:
                best, claim = iou, (number, s["id"])
        claimed.add(claim)
        right.append(claim is not None)
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    recall = np.cumsum(right) / total
    return np.mean([max(precision[recall >= r - 1e-12], default=0.0) for r in np.linspace(0, 1, 101)])


def test_mask_ap_against_its_definition():
    rng = np.random.default_rng(1)
    images = [random_instances(rng, crowd=False) for _ in range(3)]
    metric = MaskAP(CLASSES)
    for image in images:
        metric.update(*image)
    result = metric.compute()
    for name, threshold in (("ap50", 0.5), ("ap75", 0.75)):
        assert result[name] == pytest.approx(np.mean([slow_ap(images, k, threshold) for k in (0, 1)]), abs=1e-9)


def test_mask_ap_of_nothing():
    pred, truth = random_instances(np.random.default_rng(2))
    nothing = {"masks": torch.zeros(0, 96, 110, dtype=torch.bool), "labels": torch.zeros(0), "scores": torch.zeros(0)}
    stuff = np.ones((96, 110), int), [{"id": 1, "category_id": 2}]
    for images, expected in (([], math.nan), ([(nothing, stuff)], math.nan), ([(pred, stuff)], math.nan),
                             ([(nothing, truth)], 0.0)):
        metric = MaskAP(CLASSES)
        for image in images:
            metric.update(*image)
        result = metric.compute()
        for value in (result["ap"], result["ap50"], result["ap75"], *result["per_class"].values()):
            assert value == pytest.approx(expected, nan_ok=True)
        assert list(result["per_class"]) == ["sheep", "duck"]
    only_stuff = MaskAP(ClassTable(("grass",), (False,), (1,)))
    only_stuff.update(nothing, (stuff[0], [{"id": 1, "category_id": 0}]))
    assert math.isnan(only_stuff.compute()["ap"]) and only_stuff.compute()["per_class"] == {}


def test_mask_ap_leaves_stuff_out_and_forgives_crowds():
    truth = np.array([[1, 1, 2, 2, 3, 3]] * 4)
    info = [{"id": 1, "category_id": 0, "iscrowd": 0}, {"id": 2, "category_id": 0, "iscrowd": 1},
            {"id": 3, "category_id": 2, "iscrowd": 0}]
    masks = np.stack([truth == 2, truth == 3, truth == 1])
    pred = {"masks": masks, "labels": np.array([0, 2, 0]), "scores": np.array([0.9, 0.8, 0.7])}
    metric = MaskAP(CLASSES)
    metric.update(pred, (truth, info))
    result = metric.compute()
    assert result["ap"] == result["per_class"]["sheep"] == pytest.approx(1) and math.isnan(result["per_class"]["duck"])
    metric.update(pred | {"labels": np.array([1, 2, 0])}, (truth, info))  # in the crowd of another class
    metric.update(pred, (truth, [s | {"iscrowd": 0, "category_id": s["id"] // 2} for s in info]))
    assert metric.compute()["ap"] < 0.9


@pytest.mark.parametrize("change, message", [
    ({"masks": torch.ones(1, 3, 3, dtype=torch.bool)}, r"masks \[1, 3, 3\], labels \[1\]"),
    ({"labels": torch.tensor([4])}, r"prediction: labels \[4\] are outside \[0, 4\)"),
    ({"scores": torch.tensor([0.1, 0.2])}, r"scores \[2\]"),
    ({"scores": torch.tensor([float("nan")])}, "scores must be finite"),
    ({"masks": torch.ones(1, 2, 2)}, "masks must be bool"),
])
def test_mask_ap_refuses_what_does_not_fit(change, message):
    pred = {"masks": torch.ones(1, 2, 2, dtype=torch.bool), "labels": torch.tensor([0]), "scores": torch.tensor([0.5])}
    metric = MaskAP(CLASSES)
    metric.update(pred, (A, B))
    with pytest.raises(ValueError, match=message):
        metric.update(pred | change, (A, B))
    with pytest.raises(ValueError, match="truth: the segment map holds ids"):
        metric.update(pred, (A, B[:1]))
    assert [len(images) for images in metric.images] == [1, 1]  # one image, two thing classes


# ---- all three

def streams(count=6):
    """For each metric: how to make it, and a list of updates."""
    rng = np.random.default_rng(7)
    return {"miou": (lambda: MeanIoU(5), [random_labels(rng) for _ in range(count)]),
            "pq": (lambda: PanopticQuality(CLASSES), [random_panoptic(rng) for _ in range(8 * count)]),
            "ap": (lambda: MaskAP(CLASSES), [random_instances(rng) for _ in range(count)])}


@pytest.mark.parametrize("name", streams(0))
def test_merged_shards_equal_one_pass(name):
    make, updates = streams()[name]
    whole, shards = make(), [make() for _ in range(4)]  # the last shard stays empty
    for i, update in enumerate(updates):
        whole.update(*update)
        shards[i % 3].update(*update)
    for shard in shards[1:]:
        shards[0].merge(shard)
    assert json.dumps(shards[0].compute()) == json.dumps(whole.compute())  # to the last digit, and JSON can hold it
    shards[0].reset()
    assert json.dumps(shards[0].compute()) == json.dumps(make().compute())


def test_each_map_leaves_its_device_once(monkeypatch):
    truth, info = torch.ones(40, 50, dtype=torch.int64), [{"id": 1, "category_id": 0}]
    moved, cpu = [], torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda x, *a, **k: moved.append(x.shape) or cpu(x, *a, **k))
    MeanIoU(4).update(truth, truth)
    PanopticQuality(CLASSES).update((truth, info), (truth, info))
    MaskAP(CLASSES).update({"masks": truth[None] > 0, "labels": torch.tensor([0]), "scores": torch.ones(1)},
                           (truth, info))
    assert [tuple(s) for s in moved].count((40, 50)) == 5 and [tuple(s) for s in moved].count((1, 40, 50)) == 1


def test_only_like_metrics_merge():
    other = ClassTable(("a", "b", "c", "d"), (True, True, False, False), (1, 2, 3, 4))
    for metric, stranger in ((MeanIoU(3), MeanIoU(4)), (PanopticQuality(CLASSES), PanopticQuality(other)),
                             (MaskAP(CLASSES), MaskAP(other))):
        with pytest.raises(ValueError, match="cannot merge"):
            metric.merge(stranger)


def test_a_perfect_prediction_gives_one():
    _, (truth, info) = random_instances(np.random.default_rng(4), crowd=False)
    things = [s for s in info if s["category_id"] < 2]
    instances = {"masks": torch.stack([truth == s["id"] for s in things]), "scores": torch.ones(len(things)),
                 "labels": torch.tensor([s["category_id"] for s in things])}
    semantic = np.zeros(truth.shape, int)
    for s in info:
        semantic[truth == s["id"]] = s["category_id"]
    miou, pq, ap = MeanIoU(4), PanopticQuality(CLASSES), MaskAP(CLASSES)
    miou.update(semantic, semantic)
    pq.update((truth, info), (truth, info))
    ap.update(instances, (truth, info))
    assert miou.compute()["miou"] == pq.compute()["pq"] == 1 and ap.compute()["ap"] == pytest.approx(1)


@pytest.mark.parametrize("seed", range(3))
def test_names_of_ids_and_order_of_entries_do_not_matter(seed):
    rng = np.random.default_rng(seed)
    (pred_map, pred_info), truth = random_panoptic(rng, crowds=1)
    new = {s["id"]: int(i) for s, i in zip(pred_info, rng.permutation(1000) + 2**24)}
    renamed = np.vectorize(lambda i: new.get(i, 0), otypes=[np.int64])(pred_map)
    a, b = PanopticQuality(CLASSES), PanopticQuality(CLASSES)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        a.update((pred_map, pred_info), truth)
        b.update((renamed, [s | {"id": new[s["id"]]} for s in pred_info[::-1]]), (truth[0], truth[1][::-1]))
    assert json.dumps(a.compute()) == json.dumps(b.compute())
