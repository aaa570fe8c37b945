"""When training goes wrong: the usual causes, each with the number that shows it (lesson 10).

    evidence = measure(model, dataset)          what the checkpoint does on some pictures, as plain numbers
    findings = diagnose(rows, evidence, config)  rows: the run's log; config: its settings

Every cause is one small function that looks at the log, the evidence or the settings, and returns a sentence with its
number, or None. A cause that is named is a place to look, not a verdict; a run without findings may still be poor.
"""
import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from scipy.ndimage import binary_dilation

from .metrics import MeanIoU, PanopticQuality
from .predict import read_out, run
from .targets import panoptic_to_semantic

THRESHOLDS = (0.3, 0.5, 0.8)  # score thresholds of panoptic inference that are compared
VOID = 255


@dataclass(frozen=True)
class Finding:
    """One likely cause: its name, the number that shows it, and what to do."""
    cause: str
    shown_by: str
    remedy: str


# --- evidence -------------------------------------------------------------------------------------------------------

@torch.no_grad()
def measure(model, dataset, images=50):
    """What a model does on the first `images` pictures of a data set, as a dict of numbers that JSON can hold."""
    K, classes = len(dataset.classes), dataset.classes
    if model.config.num_classes != K:
        raise ValueError(f"the model predicts {model.config.num_classes} classes, the data set has {K}: is it the data "
                         f"set that the run was trained on? (--data)")
    images = min(images, len(dataset))
    if images == 0:
        raise ValueError("the data set is empty: there is nothing to diagnose on")
    quality = {threshold: PanopticQuality(classes) for threshold in THRESHOLDS}
    ious = {shift: MeanIoU(K, VOID) for shift in (-1, 0, 1)}  # of the classes as predicted, and moved by one
    scores, counts = [], {"targets": 0, "objects": 0, "kept": 0, "twins": 0}
    low, high = math.inf, -math.inf
    mirror = {"truth": [], "prediction": []}
    void = VoidCount(K)
    for i in range(images):
        image, target = dataset[i]
        truth = target["segment_map"], target["segments_info"]
        class_logits, mask_logits, size = run(model, [image])[0]
        best, query_class = class_logits.softmax(-1).max(-1)  # [N]
        is_object = query_class < K
        scores += class_logits.softmax(-1)[:, :-1].amax(-1).tolist()  # of the best class, whether or not it wins
        counts["targets"] += len(target["labels"])
        counts["objects"] += int(is_object.sum())
        counts["kept"] += int((is_object & (best > model.config.score_threshold)).sum())
        counts["twins"] += twins(mask_logits[is_object], query_class[is_object])
        low, high = min(low, mask_logits.min().item()), max(high, mask_logits.max().item())
        prediction = class_logits, mask_logits, size
        for threshold in THRESHOLDS:
            quality[threshold].update(read_out(model.config, "panoptic", *prediction, things=classes.things,
                                               score_threshold=threshold), truth)
        label_map, true_map = read_out(model.config, "semantic", *prediction).cpu(), panoptic_to_semantic(*truth, VOID)
        for shift, metric in ious.items():
            metric.update((label_map + shift) % K, true_map)
        void.update(label_map, true_map)
        mirror["truth"].append(symmetry(true_map))
        mirror["prediction"].append(symmetry(label_map))
    twin_share = counts.pop("twins") / max(1, counts["objects"])
    return {"images": images, **{name + "_per_image": value / images for name, value in counts.items()},
            "twin_share": twin_share,
            "score_histogram": torch.histc(torch.tensor(scores), 10, 0, 1).int().tolist(),
            "mask_logits": [low, high],
            "pq_at": {str(threshold): quality[threshold].compute()["pq"] for threshold in THRESHOLDS},
            "miou_at_shift": {str(shift): metric.compute()["miou"] for shift, metric in ious.items()},
            "symmetry": {name: sum(values) / images for name, values in mirror.items()}, "void": void.compute(classes)}


def twins(mask_logits, query_class):
    """How many of the object queries draw a mask that an earlier one of the same class has drawn (IoU above 0.5)."""
    masks = (mask_logits > 0).flatten(1).float()  # [N', P]
    inside = masks @ masks.T  # [N', N']
    area = masks.sum(1)
    iou = inside / (area[:, None] + area - inside).clamp(min=1)
    same = (iou > 0.5) & (query_class[:, None] == query_class)
    return int(same.tril(-1).any(1).sum())


def symmetry(label_map):
    """The share of pixels whose class is that of their mirror image, left and right exchanged."""
    return (label_map == label_map.flip(-1)).float().mean().item()


class VoidCount:
    """Classes predicted on void pixels beside the true classes around them: they should be alike."""

    def __init__(self, num_classes, reach=3):
        self.inside, self.around = torch.zeros(num_classes), torch.zeros(num_classes)
        self.reach = reach

    def update(self, label_map, true_map):
        void = true_map == VOID
        near = torch.from_numpy(binary_dilation(void.numpy(), iterations=self.reach)) & ~void
        self.inside += label_map[void].bincount(minlength=len(self.inside))
        self.around += true_map[near].bincount(minlength=len(self.around))

    def compute(self, classes):
        """The class that void pixels are given more often than their surroundings are, and both shares."""
        if not self.inside.any() or not self.around.any():
            return None
        inside, around = self.inside / self.inside.sum(), self.around / self.around.sum()
        k = int((inside - around).argmax())
        return {"class": classes.names[k], "predicted": inside[k].item(), "around": around[k].item()}


# --- causes: (rows, evidence, config) to (what shows it) or None ------------------------------------------------------

def not_finite(rows, evidence, config):
    bad = [row for row in rows if any(isinstance(v, float) and not math.isfinite(v) for v in row.values())]
    return bad and f"step {bad[0]['step']} of the log has a loss that is not a number"


def learning_rate_too_large(rows, evidence, config):
    loss = series(rows, "loss")
    if len(loss) < 8:
        return None
    smooth = running_mean(loss, max(2, len(loss) // 10))
    lowest, last = min(smooth), smooth[-1]
    if last > 1.25 * lowest:
        return f"the loss was {lowest:.2f} at its lowest and is {last:.2f} at the end"
    classes = series(rows, "class")
    if last > 0.75 * loss[0] and classes and classes[-1] > 0.6 * classes[0]:
        return f"the loss began at {loss[0]:.2f} and is still {last:.2f}: nothing was learnt"
    return None


def sigmoid_twice(rows, evidence, config):
    if evidence and 0 <= evidence["mask_logits"][0] and evidence["mask_logits"][1] <= 1:
        return (f"all mask logits lie between {evidence['mask_logits'][0]:.2f} and {evidence['mask_logits'][1]:.2f}: "
                f"they are probabilities already")
    return None


def all_no_object(rows, evidence, config):
    if evidence and evidence["objects_per_image"] < 0.35 * evidence["targets_per_image"]:
        return (f"{evidence['objects_per_image']:.1f} queries an image say anything but no-object, for "
                f"{evidence['targets_per_image']:.1f} segments")
    return None


def threshold_too_high(rows, evidence, config):
    if not evidence:
        return None
    best = max(evidence["pq_at"], key=lambda t: evidence["pq_at"][t])
    now = str(THRESHOLDS[-1])
    if evidence["pq_at"][best] > evidence["pq_at"][now] + 0.03:
        return (f"PQ is {100 * evidence['pq_at'][now]:.1f} with the score threshold at {now} and "
                f"{100 * evidence['pq_at'][best]:.1f} at {best}")
    return None


def duplicates(rows, evidence, config):
    if evidence and evidence["twin_share"] > 0.2:
        return f"{evidence['twin_share']:.0%} of the object queries draw the mask of another one of the same class"
    return None


def labels_shifted(rows, evidence, config):
    if not evidence:
        return None
    iou = evidence["miou_at_shift"]
    best = max(iou, key=lambda shift: iou[shift])
    if best != "0" and iou[best] > 0.1 + iou["0"]:
        return (f"mIoU is {100 * iou['0']:.1f} as the classes are predicted, {100 * iou[best]:.1f} with each class "
                f"moved by {int(best):+d}")
    return None


def void_as_class(rows, evidence, config):
    void = evidence and has_learnt(evidence) and evidence["void"]
    if void and void["predicted"] > 0.4 and void["predicted"] > 0.3 + void["around"]:
        return (f"{void['predicted']:.0%} of the void pixels are predicted as {void['class']}, which is the class of "
                f"{void['around']:.0%} of the pixels around them")
    return None


def masks_left_behind(rows, evidence, config):
    if evidence and has_learnt(evidence) and evidence["symmetry"]["prediction"] > 0.12 + evidence["symmetry"]["truth"]:
        symmetric = evidence["symmetry"]
        return (f"{symmetric['prediction']:.0%} of the predicted pixels equal their mirror image, of the true ones "
                f"{symmetric['truth']:.0%}")
    return None


def has_learnt(evidence):
    """Whether the classes are right often enough, perhaps moved by one, for finer questions to make sense."""
    return max(evidence["miou_at_shift"].values()) > 0.15


def no_auxiliary_losses(rows, evidence, config):
    trained = [row for row in rows if "loss" in row]
    return trained and "class_0" not in trained[-1] and "the log has no term class_0, class_1, ..."


CAUSES = {
    not_finite: ("the loss is not finite", "go back to the last good checkpoint; a smaller learning rate, or no amp"),
    learning_rate_too_large: ("learning rate too large", "divide it by 3 until the loss falls smoothly; use a warm-up"),
    sigmoid_twice: ("sigmoid applied twice", "the model must end in logits: the losses and the inference rules apply "
                                             "the one sigmoid there is"),
    labels_shifted: ("labels shifted by one", "compare the class table with the values in the label files: python -m "
                                              "minimaskformer inspect"),
    void_as_class: ("void treated as a class", "unlabelled pixels must be void (0 in a panoptic map, `ignore` in a "
                                               "label map), not the class with the number 0"),
    masks_left_behind: ("masks not moved with the flip", "image and masks must go through the same transform"),
    all_no_object: ("nearly everything is predicted as no object", "train longer; is the no-object weight 0.1?"),
    threshold_too_high: ("score threshold too high for this model", "lower score_threshold, or train longer"),
    duplicates: ("duplicate queries", "match by Hungarian matching, one query to a target; train longer"),
    no_auxiliary_losses: ("no auxiliary losses", "give the criterion the outputs of all decoder layers"),
}


def diagnose(rows, evidence=None, config=None):
    """The causes that a run's log (list of dicts) and its `measure`d evidence speak for: a list of `Finding`."""
    found = []
    for cause, (name, remedy) in CAUSES.items():
        shown_by = cause(rows, evidence, config or {})
        if shown_by:
            found.append(Finding(name, shown_by, remedy))
    return found


def read_run(folder):
    """(rows, evidence or None, config or {}) of a run's folder; FileNotFoundError or ValueError name what is amiss."""
    folder = Path(folder)
    log = folder / "log.jsonl"
    if not log.is_file():
        raise FileNotFoundError(f"no log.jsonl in {folder}: is it the folder of a training run?")
    rows = []
    for number, line in enumerate(log.read_text().splitlines(), start=1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            raise ValueError(f"{log}, line {number}: not JSON") from None
    read = [json.loads((folder / name).read_text()) if (folder / name).is_file() else None
            for name in ("evidence.json", "config.json")]
    return rows, read[0], read[1] or {}


def report(findings, evidence=None):
    """The findings as text to print."""
    lines = []
    for number, finding in enumerate(findings, start=1):
        lines += [f"{number}. {finding.cause}", f"   seen: {finding.shown_by}", f"   try:  {finding.remedy}"]
    if not findings:
        lines.append("None of the usual causes shows.")
    if evidence:
        histogram = evidence["score_histogram"]
        lines += ["", f"Per image, over {evidence['images']}: {evidence['targets_per_image']:.1f} segments, "
                      f"{evidence['objects_per_image']:.1f} queries that see an object, "
                      f"{evidence['kept_per_image']:.1f} of them above the score threshold.",
                  "Best class score of a query, 0 to 1 in tenths: " + " ".join(map(str, histogram))]
    return "\n".join(lines)


def series(rows, name):
    return [row[name] for row in rows if row.get(name) is not None]


def running_mean(values, width):
    return [sum(values[max(0, i - width + 1):i + 1]) / len(values[max(0, i - width + 1):i + 1])
            for i in range(len(values))]
