"""What a checkpoint does on some pictures, as plain numbers: the evidence that `diagnose` looks at (lesson 10)."""
import math

import numpy as np
import torch
from scipy.ndimage import binary_dilation

from ..data.checks import even_indices
from ..losses import SetCriterion
from ..metrics import MeanIoU, PanopticQuality, count_overlaps
from ..model import Output
from ..predict import bilinear, read_out, run, to_input_size
from ..targets import VOID, panoptic_to_semantic

SCORE_THRESHOLDS = (0.3, 0.5, 0.8)  # the score thresholds of panoptic inference to compare


@torch.no_grad()
def measure(model, dataset, images=50):
    """What a model does on `images` pictures of a data set, spread evenly, as a dict that JSON can hold."""
    K, classes = len(dataset.classes), dataset.classes
    if model.config.num_classes != K:
        raise ValueError(f"the model predicts {model.config.num_classes} classes, the data set has {K}: is it the data "
                         f"set that the run was trained on? (--data)")
    images = min(images, len(dataset))
    if images < 1:
        raise ValueError(f"there is nothing to diagnose on: {images} pictures (the data set is empty, or the limit is "
                         f"below 1)")
    quality = {threshold: PanopticQuality(classes) for threshold in SCORE_THRESHOLDS}
    ious = {shift: MeanIoU(K, VOID) for shift in (-1, 0, 1)}  # of the classes as predicted, and shifted by one
    scores, counts = [], {"targets": 0, "objects": 0, "kept": 0, "twins": 0}
    segments = []  # targets of each picture
    things, merged = 0, []  # true things; [picture, class, how many of them lie in one predicted segment]
    low, high, spreads = math.inf, -math.inf, []
    mirror = {"truth": [], "mirrored truth": [], "truth and its mirror image": []}
    void, criterion, focal = VoidCount(K), SetCriterion(K), 0.0
    for i in even_indices(len(dataset), images):
        image, target = dataset[i]
        truth = target["segment_map"], target["segments_info"]
        class_logits, mask_logits, size = run(model, [image])[0]
        best, query_class = class_logits.softmax(-1).max(-1)  # [N]
        is_object = query_class < K
        scores += class_logits.softmax(-1)[:, :-1].amax(-1).tolist()  # of the best class, whether or not it wins
        counts["targets"] += len(target["labels"])
        segments.append(len(target["labels"]))
        counts["objects"] += int(is_object.sum())
        counts["kept"] += int((is_object & (best > model.config.score_threshold)).sum())
        counts["twins"] += twins(mask_logits[is_object], query_class[is_object])
        spreads.append(query_spread(class_logits))
        low, high = min(low, mask_logits.min().item()), max(high, mask_logits.max().item())
        prediction = class_logits, mask_logits, size
        masks = bilinear(to_input_size(mask_logits, size.network, model.config.size_divisibility), size.picture)
        losses = criterion(Output(class_logits[None], masks[None]), [target])
        focal += losses["focal"].item() * len(target["labels"])
        for threshold in SCORE_THRESHOLDS:
            quality[threshold].update(read_out(model.config, "panoptic", *prediction, things=classes.things,
                                               score_threshold=threshold), truth)
        things += sum(s["category_id"] in classes.things and not s.get("iscrowd", 0) for s in truth[1])
        result = read_out(model.config, "panoptic", *prediction, things=classes.things)
        picture = dataset.name(i) if hasattr(dataset, "name") else f"picture {i}"
        merged += [[picture, classes.names[k], n] for k, n in merged_neighbours(result, truth, classes)]
        label_map, true_map = read_out(model.config, "semantic", *prediction).cpu(), panoptic_to_semantic(*truth, VOID)
        for shift, metric in ious.items():
            metric.update((label_map + shift) % K, true_map)
        void.update(label_map, true_map)
        mirror["truth"].append(agreement(label_map, true_map))
        mirror["mirrored truth"].append(agreement(label_map, true_map.flip(-1)))
        mirror["truth and its mirror image"].append(agreement(true_map, true_map.flip(-1)))
    N = model.config.num_queries
    twin_share = counts.pop("twins") / max(1, counts["objects"])
    found = {str(shift): metric.compute() for shift, metric in ious.items()}
    return {"images": images, **{name + "_per_image": value / images for name, value in counts.items()},
            "queries": N, "segments_at_most": max(segments), "segments_left_over": sum(max(0, n - N) for n in segments),
            "true_things": things, "merged": merged, "twin_share": twin_share, "query_spread": sum(spreads) / images,
            "score_histogram": torch.histc(torch.tensor(scores), 10, 0, 1).int().tolist(),
            "mask_logits": [low, high], "focal": focal / max(1, counts["targets"]),
            "pq_at": {str(threshold): quality[threshold].compute()["pq"] for threshold in SCORE_THRESHOLDS},
            "miou_at_shift": {shift: result["miou"] for shift, result in found.items()},
            "classes_at_shift": {shift: sum(iou > 0.1 for iou in result["iou"]) for shift, result in found.items()},
            "agreement": {name: sum(values) / images for name, values in mirror.items()},
            "void": void.compute(classes) if classes.stuff else None}  # things only: 0 in the map is the rest, not void


def twins(mask_logits, query_class):
    """How many of the object queries draw a mask that an earlier one of the same class has drawn (IoU above 0.5)."""
    masks = (mask_logits > 0).flatten(1).float()  # [N', P]
    inside = masks @ masks.T  # [N', N']
    area = masks.sum(1)
    iou = inside / (area[:, None] + area - inside).clamp(min=1)
    same = (iou > 0.5) & (query_class[:, None] == query_class)
    return int(same.tril(-1).any(1).sum())


def merged_neighbours(predicted, truth, classes):
    """[(class index, how many)] of the predicted things that cover several true things of their class, each by half.

    predicted, truth: panoptic pairs. Crowds are no neighbours: nobody has parted them.
    """
    overlap = count_overlaps(predicted, truth, len(classes))[:-1, :-1]  # [T, P]
    area = np.array([max(1, s["area"]) for s in truth[1]])  # [T]
    true_class = np.array([-1 if s.get("iscrowd", 0) else s["category_id"] for s in truth[1]])
    found = []
    for column, segment in zip(overlap.T, predicted[1]):
        k = segment["category_id"]
        number = int(((column > 0.5 * area) & (true_class == k)).sum()) if k in classes.things else 0
        if number > 1:
            found.append((k, number))
    return found


def query_spread(class_logits):
    """How much the queries of an image differ: mean distance of their class logits [N, K+1] from the mean query's,
    relative to their mean length; 0 if all give the same answer."""
    away = class_logits - class_logits.mean(0)  # [N, K+1]
    return (away.norm(dim=1).mean() / class_logits.norm(dim=1).mean().clamp(min=1e-12)).item()


def agreement(label_map, true_map):
    """The share of the pixels, void in neither map, on which two class maps agree; 1 if there are none."""
    known = (label_map != VOID) & (true_map != VOID)
    return (label_map == true_map)[known].float().mean().item() if known.any() else 1.0


class VoidCount:
    """Classes predicted on void pixels, compared with the true classes around them: they should be alike.

    Also compared with the classes predicted elsewhere: a model that knows only one class tells nothing about void.
    """

    def __init__(self, num_classes, reach=3):
        self.inside, self.around, self.elsewhere = torch.zeros(3, num_classes)
        self.reach = reach

    def update(self, label_map, true_map):
        void = true_map == VOID
        near = torch.from_numpy(binary_dilation(void.numpy(), iterations=self.reach)) & ~void
        self.inside += label_map[void].bincount(minlength=len(self.inside))
        self.around += true_map[near].bincount(minlength=len(self.around))
        self.elsewhere += label_map[~void].bincount(minlength=len(self.elsewhere))

    def compute(self, classes):
        """The class that void pixels are given more often than their surroundings are, its three shares, and the share
        of void in all pixels."""
        if not self.inside.any() or not self.around.any():
            return None
        inside, around, elsewhere = (count / count.sum() for count in (self.inside, self.around, self.elsewhere))
        k = int((inside - around).argmax())
        return {"share": (self.inside.sum() / (self.inside.sum() + self.elsewhere.sum())).item(),
                "class": classes.names[k], "predicted": inside[k].item(), "around": around[k].item(),
                "elsewhere": elsewhere[k].item()}
