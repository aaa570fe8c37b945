"""Mask AP: average precision of instance masks as COCO defines it (lesson 09). Import it from metrics.py.

The predictions of all images are ranked by score; going down the list, one is right if its mask's IoU with a true
instance nobody claimed yet passes a threshold. AP is the area under that precision-recall curve, averaged over classes
and over the thresholds 0.50, 0.55, ... 0.95. We keep masks run-length encoded and leave the arithmetic to pycocotools.
"""
import contextlib
import io
import math

import numpy as np
import torch

from .targets import check_labels, check_segments


class MaskAP:
    """COCO mask AP of the thing classes; stuff is left out on both sides. `update`, `compute`, `reset`, `merge`.

    Crowds as COCO has them: a prediction inside a crowd of its class is neither right nor wrong. At most the best 100
    predictions count per image and class. Predictions of equal score rank in the order they came, so only among such
    ties can the order of images, or of merged shards, show.
    """

    def __init__(self, classes):
        self.classes = classes
        self.reset()

    def reset(self):
        """Forget everything."""
        self.images = []  # per image: (height, width, true instances, predicted instances) as COCO annotations

    def update(self, pred, truth):
        """Add one image: an instance result and the panoptic truth (segment_map [H, W], segments_info, crowds too).

        pred: {"masks": bool [M, H, W], "labels": int [M], "scores": float [M]}. The area that makes a true instance
        small or large is its entry's "area" if there, as in COCO. Raises ValueError for shapes that do not fit, labels
        outside [0, K), scores that are not finite, ids in the map that no entry describes.
        """
        segment_map, segments_info = to_numpy(truth[0]).astype(np.int64), truth[1]
        check_segments(torch.from_numpy(np.unique(segment_map)), segments_info, len(self.classes), "truth")
        masks, labels, scores = (to_numpy(pred[key]) for key in ("masks", "labels", "scores"))
        if segment_map.ndim != 2 or masks.shape != (len(labels), *segment_map.shape) or labels.shape != scores.shape:
            raise ValueError(f"predicted masks {list(masks.shape)}, labels {list(labels.shape)} and scores "
                             f"{list(scores.shape)} must be [M, H, W], [M] and [M], the true map [H, W]; it is "
                             f"{list(segment_map.shape)}")
        if masks.dtype.kind not in "iub":
            raise ValueError(f"predicted masks must be bool, got {masks.dtype}: threshold the probabilities first")
        check_labels(labels, len(self.classes), "prediction")
        if not np.isfinite(scores).all():
            raise ValueError(f"predicted scores must be finite, got {scores[~np.isfinite(scores)][:10].tolist()}")

        things = [s for s in segments_info if self.classes.isthing[s["category_id"]]]
        instances = [{"category_id": int(s["category_id"]), "iscrowd": int(s.get("iscrowd", 0))} | encoded
                     | {"area": float(s.get("area", encoded["area"]))}
                     for s, encoded in zip(things, encode([segment_map == s["id"] for s in things]))]
        kept = [m for m, label in enumerate(labels) if self.classes.isthing[label]]
        predictions = [{"category_id": int(labels[m]), "score": float(scores[m])} | encoded
                       for m, encoded in zip(kept, encode(masks[kept]))]
        self.images.append((*segment_map.shape, instances, predictions))

    def merge(self, other):
        """Add what `other` has seen; raises ValueError if its class table is another."""
        if self.classes != other.classes:
            raise ValueError(f"cannot merge MaskAP of {other.classes} into one of {self.classes}")
        self.images += other.images

    def compute(self):
        """{"ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "per_class": {thing name: ap}}, in [0, 1].

        Small is below 32 x 32 pixels, large above 96 x 96. nan where there is no true instance (COCO prints -1) and
        so nothing to average; 0 where there are true instances and no predictions.
        """
        precision = self._precision()  # [10 IoU thresholds, 101 recalls, classes, 4 sizes: all, small, medium, large]
        result = {"ap": average(precision[..., 0]), "ap50": average(precision[0, ..., 0]),
                  "ap75": average(precision[5, ..., 0])}
        result |= {f"ap_{size}": average(precision[..., 1 + s]) for s, size in enumerate(("small", "medium", "large"))}
        return result | {"per_class": {self.classes.names[k]: average(precision[:, :, i, 0])
                                       for i, k in enumerate(self.classes.things)}}

    def _precision(self):
        from pycocotools.coco import COCO  # here, so that importing the library does not need it
        from pycocotools.cocoeval import COCOeval

        if not self.images or not self.classes.things:
            return np.full((10, 101, len(self.classes.things), 4), -1.0)
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports its progress by printing
            truth, predictions = COCO(), COCO()
            for coco, column in ((truth, 2), (predictions, 3)):
                coco.dataset = {
                    "images": [{"id": i, "height": image[0], "width": image[1]} for i, image in enumerate(self.images)],
                    "categories": [{"id": k, "name": self.classes.names[k]} for k in self.classes.things],
                    "annotations": number({"image_id": i} | a for i, image in enumerate(self.images)
                                          for a in image[column])}
                coco.createIndex()
            evaluation = COCOeval(truth, predictions, "segm")
            evaluation.evaluate()
            evaluation.accumulate()
        return evaluation.eval["precision"][..., -1]  # the last of its limits 1, 10, 100 on predictions per image


def encode(masks):
    """Masks [M, H, W] run-length encoded: a list of {"segmentation", "area"}."""
    from pycocotools import mask as rle
    return [{"segmentation": code, "area": float(rle.area(code))}
            for code in (rle.encode(np.asfortranarray(mask, dtype=np.uint8)) for mask in masks)]


def number(annotations):
    """Annotations with ids from 1: COCOeval takes id 0 for 'matched nothing'."""
    return [a | {"id": i} for i, a in enumerate(annotations, start=1)]


def average(precision):
    """The mean of the entries COCO fills; -1 marks class and size without truth. nan if there are none."""
    filled = precision[precision > -1]
    return float(filled.mean()) if filled.size else math.nan


def to_numpy(values):
    """A tensor (of any device) or array-like as an array."""
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
