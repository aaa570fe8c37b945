"""Metrics: mean IoU, panoptic quality and mask AP (lesson 09). Mask AP has its own file, mask_ap.py.

All have torchmetrics' habit: `update` with one image, `compute` at any time, `reset`. `merge(other)` adds what another
instance has seen, so shards of a data set evaluated apart give exactly the numbers of one pass. Maps may be tensors or
arrays of any integer dtype; results are plain Python numbers, nan where nothing can be said.
"""
import math
import warnings

import numpy as np
import torch

from .mask_ap import MaskAP, to_numpy  # noqa: F401  the third metric is found here too
from .targets import check_segments


class MeanIoU:
    """Mean intersection over union: IoU_c = |pred = c and truth = c| / |pred = c or truth = c|, mean over classes.

    `ignore` marks void in the truth: those pixels count nowhere. A prediction of `ignore` or -1 is no answer: the pixel
    counts as missed, for its true class, and as a false positive of none. Raises ValueError if `ignore` is a class.
    """

    def __init__(self, num_classes, ignore=255):
        if 0 <= ignore < num_classes:
            raise ValueError(f"ignore={ignore} is the index of one of the {num_classes} classes and would leave that "
                             f"class out; choose -1 or a number from {num_classes} on, here and in the label maps")
        self.num_classes, self.ignore = num_classes, ignore
        self.reset()

    def reset(self):
        """Forget everything."""
        self.confusion = np.zeros((self.num_classes, self.num_classes + 1), dtype=np.int64)  # last column: no answer

    def update(self, pred, truth):
        """Add one image: class maps [H, W]. Raises ValueError for unequal shapes or values that are no class."""
        K = self.num_classes
        pred, truth = integer_map(pred, "prediction"), integer_map(truth, "truth")
        if pred.shape != truth.shape:
            raise ValueError(f"the prediction has shape {list(pred.shape)}, the truth {list(truth.shape)}")
        valid, missed = truth != self.ignore, (pred == self.ignore) | (pred == -1)
        for name, values in (("truth", truth[valid]), ("prediction", pred[~missed])):
            bad = values[(values < 0) | (values >= K)]
            if len(bad):
                raise ValueError(f"the {name} holds {np.unique(bad)[:10].tolist()}: classes are 0 ... {K - 1}, "
                                 f"{self.ignore} is ignore")
        pairs = truth[valid] * (K + 1) + np.where(missed, K, pred)[valid]  # one number per pixel: (truth, prediction)
        self.confusion += np.bincount(pairs, minlength=K * (K + 1)).reshape(K, K + 1)

    def merge(self, other):
        """Add what `other` has seen; raises ValueError if it counts other classes."""
        if (self.num_classes, self.ignore) != (other.num_classes, other.ignore):
            raise ValueError(f"cannot merge MeanIoU of {other.num_classes} classes, ignore={other.ignore} into one of "
                             f"{self.num_classes}, ignore={self.ignore}")
        self.confusion += other.confusion

    def compute(self):
        """{"miou", "iou": a list of K, "pixel_accuracy"}, in [0, 1].

        A class in neither truth nor prediction has IoU nan and is left out of the mean; one that is only predicted
        has IoU 0 and counts.
        """
        hits = self.confusion.diagonal()  # [K]
        truth, pred = self.confusion.sum(1), self.confusion[:, :-1].sum(0)  # [K]
        iou = [int(hit) / int(union) if union else math.nan for hit, union in zip(hits, truth + pred - hits)]
        seen = [value for value in iou if not math.isnan(value)]
        return {"miou": mean(seen), "iou": iou,
                "pixel_accuracy": int(hits.sum()) / int(truth.sum()) if truth.any() else math.nan}


class PanopticQuality:
    """Panoptic quality: PQ_c = (sum of IoU over matches) / (TP + FP / 2 + FN / 2), mean over classes.

    (Kirillov et al. 2019; PQ_c = SQ_c * RQ_c for a class, not for the means over classes.) Segments of one class match
    if IoU > 0.5, so each has at most one partner. Void and crowd as panopticapi has them: the union leaves out void
    but not crowd; a crowd is never missed; a prediction with more than half its pixels in void and in the crowd of its
    own class is no false positive; of several crowds of one class only the last listed counts.
    """

    def __init__(self, classes):
        self.classes = classes
        self.reset()

    def reset(self):
        """Forget everything."""
        K = len(self.classes)
        self.ious, self.fp, self.fn = [[] for _ in range(K)], [0] * K, [0] * K  # IoUs of the matches, per class

    def update(self, pred, truth):
        """Add one image: two pairs (segment_map [H, W], segments_info), category_id = class index, map value 0 = void.

        The area of a true segment is its entry's "area" if there, as in panopticapi; that of a prediction is counted.
        A true entry without pixels is missed. Raises ValueError for unequal shapes, ids in a map that no entry
        describes, repeated ids, classes outside [0, K), and predicted entries without pixels.
        """
        (pred_map, pred_info), (truth_map, truth_info) = pred, truth
        overlap, pred_area, truth_area = count_overlaps(segment_map(pred_map, "prediction"),
                                                        segment_map(truth_map, "truth"))
        preds = segments_by_id(pred_info, pred_area, len(self.classes), "prediction")
        truths = segments_by_id(truth_info, truth_area, len(self.classes), "truth")
        empty = sorted(set(preds) - set(pred_area))
        if empty:
            raise ValueError(f"prediction: entries {empty[:10]} have no pixel in the segment map")
        truth_area = given_areas(truths, truth_area)

        matched = set()  # ("truth" or "pred", id)
        for (t, p), pixels in overlap.items():
            if t == 0 or p == 0 or truths[t].get("iscrowd", 0) or truths[t]["category_id"] != preds[p]["category_id"]:
                continue
            union = pred_area[p] + truth_area[t] - pixels - overlap.get((0, p), 0)
            iou = pixels / union if union > 0 else 0.0
            if iou > 0.5:
                self.ious[preds[p]["category_id"]].append(iou)
                matched |= {("truth", t), ("pred", p)}

        crowd = {}  # class -> id of its last crowd
        for t, entry in truths.items():
            if entry.get("iscrowd", 0):
                crowd[entry["category_id"]] = t
            elif ("truth", t) not in matched:
                self.fn[entry["category_id"]] += 1
        for p, entry in preds.items():
            excused = overlap.get((0, p), 0) + overlap.get((crowd.get(entry["category_id"]), p), 0)
            if ("pred", p) not in matched and not excused / pred_area[p] > 0.5:
                self.fp[entry["category_id"]] += 1

    def merge(self, other):
        """Add what `other` has seen; raises ValueError if its class table is another."""
        if self.classes != other.classes:
            raise ValueError(f"cannot merge PanopticQuality of {other.classes} into one of {self.classes}")
        for k in range(len(self.classes)):
            self.ious[k] += other.ious[k]
            self.fp[k] += other.fp[k]
            self.fn[k] += other.fn[k]

    def compute(self):
        """{"pq", "sq", "rq", "n"}, the same with _things and with _stuff, and "per_class" {name: figures and counts}.

        n is the number of classes averaged: those seen in truth or prediction. A class that is only predicted counts
        with PQ 0. Without any class the means are nan.
        """
        quality = {}
        for k, ious in enumerate(self.ious):
            tp, fp, fn, iou_sum = len(ious), self.fp[k], self.fn[k], math.fsum(ious)  # fsum: no order of images matters
            if tp + fp + fn:
                quality[k] = {"pq": iou_sum / (tp + fp / 2 + fn / 2), "sq": iou_sum / tp if tp else 0.0,
                              "rq": tp / (tp + fp / 2 + fn / 2), "tp": tp, "fp": fp, "fn": fn, "iou_sum": iou_sum}
        result = {}
        for group, members in (("", range(len(self.ious))), ("_things", self.classes.things),
                               ("_stuff", self.classes.stuff)):
            seen = [quality[k] for k in members if k in quality]
            result |= {name + group: mean([q[name] for q in seen]) for name in ("pq", "sq", "rq")}
            result["n" + group] = len(seen)
        return result | {"per_class": {self.classes.names[k]: q for k, q in quality.items()}}


def count_overlaps(pred_map, truth_map):
    """Pixels of each pair {(truth id, prediction id): n} and of each segment of both maps {id: n}, void included."""
    if pred_map.shape != truth_map.shape:
        raise ValueError(f"the prediction has shape {list(pred_map.shape)}, the truth {list(truth_map.shape)}")
    pairs, counts = np.unique(truth_map * 2**32 + pred_map, return_counts=True)  # one number per pixel, one sort
    overlap, pred_area, truth_area = {}, {}, {}
    for t, p, n in zip((pairs // 2**32).tolist(), (pairs % 2**32).tolist(), counts.tolist()):
        overlap[t, p] = n
        pred_area[p] = pred_area.get(p, 0) + n
        truth_area[t] = truth_area.get(t, 0) + n
    return overlap, pred_area, truth_area


def given_areas(truths, counted):
    """Area of each true segment: as its entry says, else as counted; warns if a map has more pixels than that."""
    areas = {t: entry.get("area", counted.get(t, 0)) for t, entry in truths.items()}
    for t, area in areas.items():
        if area < counted.get(t, 0):
            warnings.warn("truth: an 'area' in segments_info is smaller than the segment in the map (was the map "
                          "resized or cropped after?): IoU may pass 1; recompute or remove the areas", stacklevel=3)
            break
    return areas


def segments_by_id(segments_info, areas, num_classes, name):
    """{id: entry}; raises ValueError for repeated ids, ids of the map (keys of `areas`) without entry, bad classes."""
    check_segments(torch.tensor(list(areas), dtype=torch.int64), segments_info, num_classes, name)
    return {s["id"]: s for s in segments_info}


def segment_map(values, name):
    """A segment map as an int64 array [H, W]; raises ValueError for another shape or impossible ids."""
    ids = integer_map(values, name)
    if ids.ndim != 2:
        raise ValueError(f"{name}: a segment map is [H, W], got shape {list(ids.shape)}")
    if ids.size and (ids.min() < 0 or ids.max() >= 2**31):
        raise ValueError(f"{name}: segment ids go from 0 (void) to 2**31 - 1, got {ids.min()} ... {ids.max()}")
    return ids


def integer_map(values, name):
    """A tensor or array as an int64 array; raises ValueError for floats, which are scores and not a map."""
    values = to_numpy(values)
    if values.dtype.kind not in "iub":
        raise ValueError(f"the {name} has dtype {values.dtype}: a map of classes or segments holds integers")
    return values.astype(np.int64)


def mean(values):
    """The mean of a list, nan if it is empty."""
    return math.fsum(values) / len(values) if values else math.nan
