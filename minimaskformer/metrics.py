"""Metrics: mean IoU, panoptic quality and mask AP (lesson 09). Mask AP has its own file, mask_ap.py.

All work as in torchmetrics: `update` with one image, `compute` at any time, `reset`. `merge(other)` adds what another
instance has seen, so shards of a data set evaluated separately give exactly the numbers of one pass. Maps may be
tensors or arrays of any integer dtype, each brought from its device once; results are plain Python numbers, nan if
undefined. The functions above the classes are the definitions; the classes check, count and add up.
"""
import math
import warnings

import numpy as np
import torch

from .system.arguments import check_classes, check_pair, check_segments
from .system.tensors import to_numpy


def confusion_matrix(pred, truth, num_classes, ignore=255):
    """Pixels by (true class, predicted class): int64 [K, K+1]; the last column is "no answer", -1 or `ignore`.

    pred, truth: class maps of one shape. Pixels whose truth is `ignore` are left out.
    """
    pred, truth, K = np.asarray(pred), np.asarray(truth), num_classes
    valid = truth != ignore
    column = np.where((pred == -1) | (pred == ignore), K, pred)
    pairs = truth[valid].astype(np.int64) * (K + 1) + column[valid]  # one number per pixel: (truth, prediction)
    return np.bincount(pairs, minlength=K * (K + 1)).reshape(K, K + 1)


def mean_iou(confusion):
    """IoU_c = |pred = c and truth = c| / |pred = c or truth = c| of a confusion matrix [K, K+1], and its mean.

    Returns (iou, miou), iou [K]. A class in neither has IoU nan and is left out of the mean; one that is predicted
    but never true has IoU 0 and counts.
    """
    hits = [int(row[c]) for c, row in enumerate(confusion)]
    union = [int(confusion[c].sum() + confusion[:, c].sum()) - hit for c, hit in enumerate(hits)]
    iou = [hit / either if either else math.nan for hit, either in zip(hits, union)]
    return iou, mean([value for value in iou if not math.isnan(value)])


def match_segments(overlap, truth_area, pred_area, void, may_match):
    """IoU of the segments that match, 0 elsewhere: [T, P]. A match is a pair of the same class with IoU > 0.5.

    overlap [T, P]: pixels in both; truth_area [T], pred_area [P]; void [P]: pixels of a prediction on void, which the
    union leaves out; may_match bool [T, P]. Maps do not overlap, so above 0.5 each segment has at most one partner.
    """
    union = truth_area[:, None] + pred_area - overlap - void  # [T, P]
    iou = overlap / union.clip(1)
    return iou * (may_match & (union > 0) & (iou > 0.5))


def unmatched(ious, crowd, pred_area, void, own_crowd):
    """Which true segments are missed, bool [T], and which predictions are false positives, bool [P].

    ious [T, P]: 0 where there is no match. A crowd (bool [T]) is never missed. A prediction with more than half its
    pixels in void and in the crowd of its own class together (void, own_crowd: pixels [P]) is not a false positive.
    """
    missed = ~(ious > 0).any(1) & ~crowd
    excused = (void + own_crowd) / pred_area > 0.5
    return missed, ~(ious > 0).any(0) & ~excused


def class_quality(ious, fp, fn):
    """PQ, SQ and RQ of one class from the IoUs of its matches and its numbers of false positives and misses.

    PQ = (sum of IoU) / (TP + FP / 2 + FN / 2) = SQ * RQ; SQ is the mean IoU of the matches, 0 without any.
    """
    tp, total = len(ious), math.fsum(ious)  # fsum: no order of images matters
    denominator = tp + fp / 2 + fn / 2
    return total / denominator, total / tp if tp else 0.0, tp / denominator


class MeanIoU:
    """Mean intersection over union of class maps, one confusion matrix over all images.

    `ignore` marks void in the truth: those pixels count nowhere. A prediction of `ignore` or -1 is no answer: the pixel
    counts as missed for its true class, and as a false positive for no class. Raises ValueError if `ignore` is a class.
    """

    def __init__(self, num_classes, ignore=255):
        if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 1:
            raise ValueError(f"num_classes is a whole number from 1 on, got {num_classes!r}")
        if 0 <= ignore < num_classes:
            raise ValueError(f"ignore={ignore} is the index of one of the {num_classes} classes and would leave that "
                             f"class out; choose -1 or a number from {num_classes} on, here and in the label maps")
        self.num_classes, self.ignore = num_classes, ignore
        self.reset()

    def reset(self):
        """Forget everything."""
        self.confusion = np.zeros((self.num_classes, self.num_classes + 1), dtype=np.int64)  # last column: no answer

    def update(self, pred, truth):
        """Add one image: class maps [H, W]. Raises ValueError for unequal shapes or values that are not classes."""
        pred, truth = integer_map(pred, "prediction"), integer_map(truth, "truth")
        check_shapes(pred, truth)
        answered = (pred != self.ignore) & (pred != -1)
        for name, values in (("truth", truth[truth != self.ignore]), ("prediction", pred[answered])):
            bad = values[(values < 0) | (values >= self.num_classes)]
            if len(bad):
                raise ValueError(f"the {name} holds {np.unique(bad)[:10].tolist()}: classes are 0 ... "
                                 f"{self.num_classes - 1}, {self.ignore} is ignore")
        self.confusion += confusion_matrix(pred, truth, self.num_classes, self.ignore)

    def merge(self, other):
        """Add what `other` has seen; raises ValueError if it counts other classes."""
        if (self.num_classes, self.ignore) != (other.num_classes, other.ignore):
            raise ValueError(f"cannot merge MeanIoU of {other.num_classes} classes, ignore={other.ignore} into one of "
                             f"{self.num_classes}, ignore={self.ignore}")
        self.confusion += other.confusion

    def compute(self):
        """{"miou", "iou": a list of K, "pixel_accuracy"}, in [0, 1]; see mean_iou for absent classes."""
        iou, miou = mean_iou(self.confusion)
        hits, pixels = int(self.confusion.diagonal().sum()), int(self.confusion.sum())
        return {"miou": miou, "iou": iou, "pixel_accuracy": hits / pixels if pixels else math.nan}


class PanopticQuality:
    """Panoptic quality: PQ_c = (sum of IoU over matches) / (TP + FP / 2 + FN / 2), mean over classes.

    (Kirillov et al. 2019; PQ_c = SQ_c * RQ_c for a class, not for the means over classes.) Void and crowd as in
    panopticapi: the union leaves out void but not crowd; a crowd is never missed; a prediction with more than half its
    pixels in void and in the crowd of its own class is not a false positive; of several crowds of one class only the
    last listed counts.
    """

    def __init__(self, classes):
        self.classes = check_classes(classes)
        self.reset()

    def reset(self):
        """Forget everything."""
        K = len(self.classes)
        self.ious = [[] for _ in range(K)]  # IoUs of the matches, per class
        self.fp, self.fn = np.zeros(K, dtype=np.int64), np.zeros(K, dtype=np.int64)

    def update(self, pred, truth):
        """Add one image: two pairs (segment_map [H, W], segments_info), category_id = class index, map value 0 = void.

        The area of a true segment is its entry's "area" if there, as in panopticapi; that of a prediction is counted.
        A true entry without pixels is missed. Raises ValueError for unequal shapes, ids in a map that no entry
        describes, repeated ids, classes outside [0, K), and predicted entries without pixels.
        """
        (_, pred_info), (_, truth_info) = check_pair(pred, "prediction"), check_pair(truth, "truth")
        K = len(self.classes)
        counts = count_overlaps(pred, truth, K)  # [T+1, P+1], the last row and column are void
        overlap, void, pred_area = counts[:-1, :-1], counts[-1, :-1], counts.sum(0)[:-1]  # [T, P], [P], [P]
        empty = [s["id"] for s, area in zip(pred_info, pred_area) if area == 0]
        if empty:
            raise ValueError(f"prediction: entries {empty[:10]} have no pixel in the segment map")
        pred_class = np.array([s["category_id"] for s in pred_info], dtype=np.int64)  # [P]
        truth_class = np.array([s["category_id"] for s in truth_info], dtype=np.int64)  # [T]
        crowd = np.array([bool(s.get("iscrowd", 0)) for s in truth_info], dtype=bool)  # [T]
        last_crowd = dict(zip(truth_class[crowd].tolist(), overlap[crowd]))  # class -> pixels of predictions in it [P]
        own_crowd = [last_crowd[k][p] if k in last_crowd else 0 for p, k in enumerate(pred_class.tolist())]

        may_match = (truth_class[:, None] == pred_class) & ~crowd[:, None]  # [T, P]
        ious = match_segments(overlap, given_areas(truth_info, counts.sum(1)[:-1]), pred_area, void, may_match)
        missed, false_positive = unmatched(ious, crowd, pred_area, void, np.array(own_crowd, dtype=np.int64))
        for t, p in zip(*ious.nonzero()):
            self.ious[truth_class[t]].append(float(ious[t, p]))
        self.fn += np.bincount(truth_class[missed], minlength=K)
        self.fp += np.bincount(pred_class[false_positive], minlength=K)

    def merge(self, other):
        """Add what `other` has seen; raises ValueError if its class table is another."""
        if self.classes != other.classes:
            raise ValueError(f"cannot merge PanopticQuality of {other.classes} into one of {self.classes}")
        self.ious = [mine + others for mine, others in zip(self.ious, other.ious)]
        self.fp, self.fn = self.fp + other.fp, self.fn + other.fn

    def compute(self):
        """{"pq", "sq", "rq", "n"}, the same with _things and with _stuff, and "per_class" {name: figures and counts}.

        n is the number of classes averaged: those seen in truth or prediction. A class that is predicted but never
        true counts with PQ 0. Without any class the means are nan.
        """
        quality = {}
        for k, (ious, fp, fn) in enumerate(zip(self.ious, self.fp.tolist(), self.fn.tolist())):
            if ious or fp or fn:
                quality[k] = dict(zip(("pq", "sq", "rq"), class_quality(ious, fp, fn)))
                quality[k] |= {"tp": len(ious), "fp": fp, "fn": fn, "iou_sum": math.fsum(ious)}
        result = {}
        for group, members in (("", range(len(self.ious))), ("_things", self.classes.things),
                               ("_stuff", self.classes.stuff)):
            seen = [quality[k] for k in members if k in quality]
            result |= {name + group: mean([q[name] for q in seen]) for name in ("pq", "sq", "rq")}
            result["n" + group] = len(seen)
        return result | {"per_class": {self.classes.names[k]: q for k, q in quality.items()}}


def count_overlaps(pred, truth, num_classes):
    """Pixels of each pair (true segment, predicted segment): int64 [T+1, P+1], in the order of the entries.

    pred, truth: (segment_map, segments_info). The last row and column are void. Raises ValueError as
    PanopticQuality.update says.
    """
    pred_map, truth_map = segment_map(pred[0], "prediction"), segment_map(truth[0], "truth")
    check_shapes(pred_map, truth_map)
    pairs, pixels = np.unique(truth_map * 2**32 + pred_map, return_counts=True)  # one number per pixel, one sort
    places = []
    for ids, info, name in ((pairs // 2**32, truth[1], "truth"), (pairs % 2**32, pred[1], "prediction")):
        check_segments(torch.from_numpy(ids), info, num_classes, name)
        place = {0: len(info)} | {s["id"]: i for i, s in enumerate(info)}
        places.append([place[i] for i in ids.tolist()])
    counts = np.zeros((len(truth[1]) + 1, len(pred[1]) + 1), dtype=np.int64)
    counts[places[0], places[1]] = pixels
    return counts


def given_areas(truth_info, counted):
    """Area of each true segment [T]: from its entry, else counted; warns if a map has more pixels than that."""
    areas = np.array([s.get("area", area) for s, area in zip(truth_info, counted)], dtype=np.float64)
    if (areas < counted).any():
        warnings.warn("truth: an 'area' in segments_info is smaller than the segment in the map (was the map "
                      "resized or cropped after?): IoU may pass 1; recompute or remove the areas", stacklevel=3)
    return areas


def segment_map(values, name):
    """A segment map as an int64 array [H, W]; raises ValueError for another shape or impossible ids."""
    ids = integer_map(values, name)
    if ids.ndim != 2:
        raise ValueError(f"{name}: a segment map is [H, W], got shape {list(ids.shape)}")
    if ids.size and (ids.min() < 0 or ids.max() >= 2**31):
        raise ValueError(f"{name}: segment ids go from 0 (void) to 2**31 - 1, got {ids.min()} ... {ids.max()}")
    return ids


def integer_map(values, name):
    """A tensor or array as an int64 array; raises ValueError for floats, which are scores, not a map."""
    values = to_numpy(values)
    if values.dtype.kind not in "iub":
        raise ValueError(f"the {name} has dtype {values.dtype}: a map of classes or segments holds integers")
    return values.astype(np.int64)


def check_shapes(pred, truth):
    """Raise ValueError unless two maps have the same shape."""
    if pred.shape != truth.shape:
        raise ValueError(f"the prediction has shape {list(pred.shape)}, the truth {list(truth.shape)}")


def mean(values):
    """The mean of a list, nan if it is empty."""
    return math.fsum(values) / len(values) if values else math.nan
