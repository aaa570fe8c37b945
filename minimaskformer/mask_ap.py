"""Mask AP: average precision of instance masks as COCO defines it (lesson 09). Import it from metrics.py.

The predictions of all images are ranked by score; going down the list, one is right if its mask's IoU with a true
instance that is still unclaimed reaches a threshold. AP is the area under that precision-recall curve, averaged over
classes and over the thresholds 0.50, 0.55, ... 0.95. The tests compare it with pycocotools, whose rules these are.
"""
import math

import numpy as np
import torch

from .system.arguments import check_classes, check_labels, check_pair, check_segments
from .system.tensors import to_numpy

THRESHOLDS = np.linspace(0.5, 0.95, 10)
SIZES = {"": (0, 1e10), "_small": (0, 32**2), "_medium": (32**2, 96**2), "_large": (96**2, 1e10)}  # areas in pixels
PER_IMAGE = 100  # predictions that count, per image and class
NOTHING = ((),) * 5  # for a class in neither truth nor prediction; shared, because there are many such images


def average_precision(scores, right, total):
    """Area under the precision-recall curve of one class at one IoU threshold, read off at 101 recalls.

    scores [M] in any order, right bool [M], total: number of true instances. Equal scores keep their order.
    AP = mean over r = 0, 0.01, ... 1 of the best precision at any recall >= r, 0 where r is never reached.
    """
    scores, right = np.asarray(scores), np.asarray(right)
    right = right[np.argsort(-scores, kind="stable")]  # best first
    hits = np.cumsum(right)  # [M]
    precision, recall = hits / np.arange(1, len(hits) + 1), hits / total
    best = np.maximum.accumulate(precision[::-1])[::-1]  # the best precision at this recall or a larger one
    first = np.searchsorted(recall, np.linspace(0, 1, 101))  # the first place with recall >= r; M if there is none
    return float(np.append(best, 0.0)[first].mean())


def claim(candidates, crowd, ignored, threshold):
    """The true instance that each prediction gets, best score first: a list of M indices, None for no instance.

    candidates: per prediction a list of (IoU, true instance), the largest IoU first. A true instance is claimed once, a
    crowd any number of times; an `ignored` one is claimed only by a prediction that reaches no other.
    """
    claims, taken = [], set()
    for options in candidates:
        free = [t for iou, t in options if iou >= threshold and (t not in taken or crowd[t])]
        claims.append(min(free, key=lambda t: ignored[t], default=None))  # min takes the first of equals
        taken.add(claims[-1])
    return claims


class MaskAP:
    """COCO mask AP of the thing classes; stuff is left out on both sides. `update`, `compute`, `reset`, `merge`.

    Crowds as COCO has them: a prediction inside a crowd of its class is neither right nor wrong. COCO does not know
    void: its pixels stay in the union. At most the best 100 predictions count per image and class. Predictions of equal
    score rank in the order they came, so the order of images or merged shards matters only for such ties.
    """

    def __init__(self, classes):
        self.classes = check_classes(classes)
        self.reset()

    def reset(self):
        """Forget everything."""
        self.images = [[] for _ in self.classes.things]  # per thing class, what `one_class` returns for each image

    def update(self, pred, truth, instances=None):
        """Add one image: an instance result and the panoptic truth (segment_map [H, W], segments_info, crowds too).

        pred: {"masks": bool [M, H, W], "labels": int [M], "scores": float [M]}. The area that makes a true instance
        small or large is its entry's "area" if there, as in COCO. instances: true masks that overlap, which no map can
        hold (see `true_instances`); AP is then measured against these. Raises ValueError for shapes that do not fit,
        labels outside [0, K), scores that are not finite, ids in the map that no entry describes.
        """
        if not isinstance(pred, dict) or not {"masks", "labels", "scores"} <= pred.keys():
            raise ValueError("prediction: an instance result is a dict with masks, labels and scores, as "
                             "instance_inference returns it")
        segment_map, segments_info = check_pair(truth, "truth")
        segment_map = to_numpy(segment_map)
        if segment_map.dtype.kind not in "iub":
            raise ValueError(f"the truth has dtype {segment_map.dtype}: a segment map holds integers")
        segment_map = segment_map.astype(np.int64)
        ids, index = np.unique(segment_map, return_inverse=True)
        check_segments(torch.from_numpy(ids), segments_info, len(self.classes), "truth")
        masks, labels, scores = (to_numpy(pred[key]) for key in ("masks", "labels", "scores"))
        if segment_map.ndim != 2 or masks.shape != (len(labels), *segment_map.shape) or labels.shape != scores.shape:
            raise ValueError(f"predicted masks {list(masks.shape)}, labels {list(labels.shape)} and scores "
                             f"{list(scores.shape)} must be [M, H, W], [M] and [M], the true map [H, W]; it is "
                             f"{list(segment_map.shape)}")
        if masks.dtype.kind not in "iub":
            raise ValueError(f"predicted masks must be bool, got {masks.dtype}: threshold the probabilities first")
        if masks.dtype.kind == "i" and (masks < 0).any():
            raise ValueError(f"predicted masks must be bool, got {masks.dtype} with {masks.min()}: is it a map of ids?")
        check_labels(labels, len(self.classes), "prediction")
        if not np.isfinite(scores).all():
            raise ValueError(f"predicted scores must be finite, got {scores[~np.isfinite(scores)][:10].tolist()}")

        index, place = index.reshape(segment_map.shape), {i: n for n, i in enumerate(ids.tolist())}
        counted = np.append(np.bincount(index.ravel(), minlength=len(ids)), 0)  # pixels per id; the last: of none
        for images, k in zip(self.images, self.classes.things):
            own = np.flatnonzero(labels == k)
            own = own[np.argsort(-scores[own], kind="stable")][:PER_IMAGE]  # the best first
            if instances is None:
                entries = [s for s in segments_info if s["category_id"] == k]
                columns = [place.get(s["id"], len(ids)) for s in entries]
                overlaps = [np.bincount(index[masks[m] > 0], minlength=len(counted))[columns] for m in own]
                true = counted[columns], [bool(s.get("iscrowd", 0)) for s in entries], [s.get("area") for s in entries]
            else:
                true, overlaps = whole_masks(instances, k, masks[own], segment_map.shape)
            images.append(one_class(scores[own], [int((masks[m] > 0).sum()) for m in own], overlaps, *true))

    def merge(self, other):
        """Add what `other` has seen; raises ValueError if its class table is another."""
        if self.classes != other.classes:
            raise ValueError(f"cannot merge MaskAP of {other.classes} into one of {self.classes}")
        self.images = [mine + others for mine, others in zip(self.images, other.images)]

    def compute(self):
        """{"ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "per_class": {thing name: ap}}, in [0, 1].

        Averages are over the classes that occur in the truth, nan if none does. Small is below 32 x 32 pixels, large
        above 96 x 96.
        """
        ap = np.array([[[class_ap(images, size, threshold) for threshold in THRESHOLDS] for size in SIZES.values()]
                       for images in self.images]).reshape(-1, len(SIZES), len(THRESHOLDS))  # [things, sizes, 10]
        result = {"ap": average(ap[:, 0]), "ap50": average(ap[:, 0, 0]), "ap75": average(ap[:, 0, 5])}
        result |= {f"ap{name}": average(ap[:, s]) for s, name in enumerate(SIZES) if name}
        return result | {"per_class": {self.classes.names[k]: average(row[0])
                                       for k, row in zip(self.classes.things, ap)}}


def true_instances(target, classes):
    """The true instances of a target whose masks overlap, for `MaskAP.update`; None if its map tells the whole truth.

    A data set may give them itself, as target["instances"]: {"masks": bool [T, H, W], "labels": int [T]} and, where
    known, "iscrowd" [T] and "areas" [T], in the order of the file. Otherwise they are the things of `masks`, if a pixel
    is in two of them, and the crowds of the map.
    """
    if "instances" in target:
        return target["instances"]
    things = np.isin(to_numpy(target["labels"]), classes.things)
    masks = to_numpy(target["masks"])[things]  # [T, H, W]
    if masks.sum(axis=0, dtype=np.int64).max(initial=0) < 2:
        return None
    crowds = [s for s in target["segments_info"] if s.get("iscrowd", 0) and s["category_id"] in classes.things]
    maps = [(to_numpy(target["segment_map"]) == s["id"])[None] for s in crowds]
    labels = [*to_numpy(target["labels"])[things].tolist(), *(s["category_id"] for s in crowds)]
    return {"masks": np.concatenate([masks > 0, *maps]), "labels": np.array(labels),
            "iscrowd": np.arange(len(labels)) >= len(masks)}


def whole_masks(instances, k, found, size):
    """((pixels [T], crowd [T], areas or None [T]) of the true instances of class k, overlaps [M'][T] with masks found).

    found: predicted masks [M', H, W] of this class. ValueError for true masks of another size than the prediction.
    """
    masks, labels = to_numpy(instances["masks"]), to_numpy(instances["labels"])
    if masks.shape[1:] != size or len(masks) != len(labels):
        raise ValueError(f"true masks {list(masks.shape)} and labels {list(labels.shape)} must be [T, H, W] and [T], "
                         f"with the prediction's size {list(size)}")
    own = np.flatnonzero(labels == k)
    flat = found.reshape(len(found), -1) > 0  # [M', H * W]
    inside = [np.flatnonzero(masks[t]) for t in own]
    overlaps = np.array([flat[:, pixels].sum(axis=1) for pixels in inside]).reshape(len(own), len(found)).T
    crowd = to_numpy(instances["iscrowd"])[own] if "iscrowd" in instances else [False] * len(own)
    areas = to_numpy(instances["areas"])[own].tolist() if "areas" in instances else [None] * len(own)
    return ([len(pixels) for pixels in inside], [bool(c) for c in crowd], areas), overlaps


def one_class(scores, areas, overlaps, pixels, crowd, true_areas):
    """What AP needs to know of one class in one image: its predictions ranked by score, the masks thrown away.

    scores [M'], the best first, areas [M'] in pixels; pixels [T], crowd [T] and true_areas [T] (None: its pixels) of
    the true instances; overlaps [M'][T], in pixels. Returns (scores [M'], areas [M'], candidates [M'], crowd [T], areas
    [T]), candidates as `claim` takes them. IoU with a crowd is overlap / area of the prediction.
    """
    if not areas and not len(pixels):
        return NOTHING
    candidates = []
    for area, overlap in zip(areas, overlaps):
        options = []
        for t, both in enumerate(map(int, overlap)):
            either = area if crowd[t] else area + int(pixels[t]) - both
            if both and both / either >= THRESHOLDS[0]:
                options.append((both / either, t))
        candidates.append(tuple(sorted(options, reverse=True)))  # often (), which takes no memory
    true_areas = [int(n) if area is None else area for area, n in zip(true_areas, pixels)]
    return scores.tolist(), areas, candidates, crowd, true_areas


def class_ap(images, size, threshold):
    """AP of one class over its images at one IoU threshold, for instances of `size` (smallest, largest area).

    Instances of other sizes and crowds are ignored: neither they nor the predictions that claim them count. nan without
    true instances.
    """
    low, high = size
    scores, right, total = [], [], 0
    for image_scores, pred_areas, candidates, crowd, true_areas in images:
        ignored = [c or not low <= area <= high for c, area in zip(crowd, true_areas)]
        total += ignored.count(False)
        for m, t in enumerate(claim(candidates, crowd, ignored, threshold)):
            if not ignored[t] if t is not None else low <= pred_areas[m] <= high:
                scores.append(image_scores[m])
                right.append(t is not None)
    return average_precision(np.array(scores), np.array(right, dtype=bool), total) if total else math.nan


def average(values):
    """The mean of the values that are not nan (a class and size without truth is nan); nan if none is left."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else math.nan
