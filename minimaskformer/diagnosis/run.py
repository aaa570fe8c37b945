"""When training goes wrong: the usual causes, each with the number that shows it (lesson 10).

    evidence = measure(model, dataset)           what the checkpoint does on some pictures, in numbers
    findings = diagnose(rows, evidence, config)  rows: the run's log; config: its config.json

Every cause is one small function that looks at the log, the evidence or the settings, and returns a sentence with its
number, or None. A named cause is a place to look, not a verdict; a run without findings may still be poor.
"""
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ..system.text import parse_json, plain
from ..training.log import read_log
from .measurements import SCORE_THRESHOLDS


@dataclass(frozen=True)
class Finding:
    """One likely cause: its name, the number that shows it, and what to do."""
    cause: str
    shown_by: str
    remedy: str


# --- causes: (rows, evidence, config) to (what shows it) or None ------------------------------------------------------

def not_finite(rows, evidence, config):
    bad = [row for row in rows if any(isinstance(v, float) and not math.isfinite(v) for v in row.values())]
    return bad and f"step {bad[0]['step']} of the log has a loss that is not a number"


def learning_rate_too_large(rows, evidence, config):
    loss, classes = series(rows, "loss"), series(rows, "class")
    if len(loss) < 8:
        return None
    smooth = running_mean(loss, max(2, len(loss) // 10))
    lowest, last, fifth = min(smooth), smooth[-1], len(loss) // 5
    if last > 1.25 * lowest:
        return f"the loss was {lowest:.2f} at its lowest and is {last:.2f} at the end"
    warm = rows[fifth].get("step", 0) >= 2 * config.get("train", {}).get("warmup", 0)  # before that all runs are slow
    if warm and smooth[fifth] > 0.65 * loss[0] and classes and classes[fifth] > 0.8 * classes[0]:
        return (f"after a fifth of the steps the loss was still {smooth[fifth]:.2f}, from {loss[0]:.2f}, and the class "
                f"loss {classes[fifth]:.2f}, from {classes[0]:.2f}")
    return None


def sigmoid_twice(rows, evidence, config):
    if evidence and 0 <= evidence["mask_logits"][0] and evidence["mask_logits"][1] <= 1:
        return (f"all mask logits lie between {evidence['mask_logits'][0]:.2f} and {evidence['mask_logits'][1]:.2f}: "
                f"they are probabilities already")
    return None


def more_segments_than_queries(rows, evidence, config):
    """A query finds one segment: segments beyond the number of queries are never learnt and never found."""
    if evidence and evidence.get("segments_left_over"):
        return (f"a picture has up to {evidence['segments_at_most']} segments, the model {evidence['queries']} "
                f"queries; {evidence['segments_left_over']} segments in {evidence['images']} pictures find none")
    return None


def findable(evidence):
    """Segments per image that queries can find: no more than there are queries."""
    return min(evidence["targets_per_image"], evidence.get("queries", math.inf))


def all_no_object(rows, evidence, config):
    if evidence and evidence["objects_per_image"] < 0.35 * findable(evidence):
        return (f"{evidence['objects_per_image']:.1f} queries an image say anything but no-object, for "
                f"{evidence['targets_per_image']:.1f} segments")
    return None


def no_object_weight_too_high(rows, evidence, config):
    weight = config.get("train", {}).get("no_object_weight", 0.1)
    if evidence and weight > 0.3 and evidence["objects_per_image"] < findable(evidence):
        return (f"the weight is {weight:g}; {evidence['objects_per_image']:.1f} queries an image see an object, of "
                f"{evidence['targets_per_image']:.1f} segments")
    return None


def threshold_too_high(rows, evidence, config):
    if not evidence:
        return None
    best = max(evidence["pq_at"], key=lambda t: evidence["pq_at"][t])
    now = str(SCORE_THRESHOLDS[-1])
    if evidence["pq_at"][best] > evidence["pq_at"][now] + 0.03:
        return (f"PQ is {100 * evidence['pq_at'][now]:.1f} with the score threshold at {now} and "
                f"{100 * evidence['pq_at'][best]:.1f} at {best}")
    return None


def queries_alike(rows, evidence, config):
    """All queries are one query: noise of dropout told them apart in training, and it is gone in eval mode."""
    if evidence and evidence.get("query_spread", 1) < 0.05:
        dropout = config.get("model", {}).get("dropout")
        return (f"without dropout the class logits of the queries differ by {evidence['query_spread']:.1%} of their "
                f"length" + (f"; the dropout of the training was {dropout:g}" if dropout else ""))
    return None


def duplicates(rows, evidence, config):
    if evidence and evidence["twin_share"] > 0.2:
        return f"{evidence['twin_share']:.0%} of the object queries draw the mask of another one of the same class"
    return None


def neighbours_merged(rows, evidence, config):
    """Two sheep are one segment: of one class and touching, they fall to one query."""
    merged = evidence and evidence.get("merged")
    lost = sum(number for _, _, number in merged or ())
    if not merged or lost < max(3, 0.25 * evidence["true_things"]):  # some of a herd may be
        return None
    by_class = Counter()
    for _, name, number in merged:
        by_class[name] += number
    picture, _, most = max(merged, key=lambda row: row[2])
    often = ", ".join(f"{plain(name)} {number}" for name, number in by_class.most_common(3))
    return (f"{lost} of {evidence['true_things']} true objects share one predicted segment with a neighbour of their "
            f"class ({often}); {most} of them in one segment of {plain(picture)}")


def labels_shifted(rows, evidence, config):
    if not evidence:
        return None
    iou = evidence["miou_at_shift"]
    best = max(iou, key=lambda shift: iou[shift])
    several = evidence.get("classes_at_shift", {}).get(best, 2) > 1  # one class alone may meet another by chance
    if best != "0" and several and iou[best] > 0.1 + iou["0"]:
        return (f"mIoU is {100 * iou['0']:.1f} as the classes are predicted, {100 * iou[best]:.1f} with each class "
                f"moved by {int(best):+d}")
    return None


def void_as_class(rows, evidence, config):
    void = evidence and has_learnt(evidence) and evidence["void"]
    if not void or void.get("share", 1) < 0.01:  # with few pixels the shares mean little
        return None
    if void["predicted"] > max(0.5, 0.4 + void["around"], 1.5 * void.get("elsewhere", 0)):
        return (f"{void['predicted']:.0%} of the void pixels are predicted as {void['class']}, which is the class of "
                f"{void['around']:.0%} of the pixels around them")
    return None


def masks_left_behind(rows, evidence, config):
    """Two signs together: left and right are hardly told apart, and correct data are easier than the training's own.

    Only if the focal loss has settled: while it falls, the log's mean over the last steps lags behind the checkpoint.
    """
    focal = series(rows, "focal")
    if len(focal) < 8 or not evidence or not has_learnt(evidence):
        return None
    smooth = running_mean(focal, max(2, len(focal) // 10))
    share, trained = evidence["agreement"], smooth[-1]
    if trained < 0.8 * smooth[len(smooth) * 3 // 4]:
        return None
    room = 1 - share["truth and its mirror image"]  # where left and right can be told apart at all
    if room > 0.1 and share["truth"] - share["mirrored truth"] < 0.45 * room and evidence["focal"] < 0.85 * trained:
        return (f"the focal loss is {trained:.4f} on the training data and only {evidence['focal']:.4f} on these "
                f"pictures; the predictions agree with {share['truth']:.0%} of the truth, with "
                f"{share['mirrored truth']:.0%} of its mirror image")
    return None


def has_learnt(evidence):
    """Whether the classes are right often enough, perhaps moved by one, for finer questions to make sense."""
    return max(evidence["miou_at_shift"].values()) > 0.15


def no_auxiliary_losses(rows, evidence, config):
    trained = [row for row in rows if "loss" in row]
    masks = trained and "pixel" not in trained[-1]  # a per-pixel model has one layer
    return masks and "class_0" not in trained[-1] and "the log has no term class_0, class_1, ..."


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
    queries_alike: ("the queries are all alike", "build the model with dropout=0, or train much longer; for small "
                                                 "pictures or objects take a preset that ends in _fine"),
    more_segments_than_queries: ("more segments than queries", "train with more queries (--queries), or on smaller "
                                 "crops of the pictures (--size, --scale)"),
    all_no_object: ("nearly everything is predicted as no object", "train longer; is the no-object weight 0.1?"),
    no_object_weight_too_high: ("no-object weight too high", "0.1, as in the paper: most queries see nothing, and at "
                                                             "weight 1 they outvote the few that do"),
    threshold_too_high: ("score threshold too high for this model", "lower score_threshold, or train longer"),
    duplicates: ("duplicate queries", "match by Hungarian matching, one query to a target; train longer"),
    neighbours_merged: ("neighbours merged into one segment", "larger pictures (--size), a preset that ends in _fine, "
                        "or train longer; do the labels part such neighbours everywhere?"),
    no_auxiliary_losses: ("no auxiliary losses", "give the criterion the outputs of all decoder layers"),
}


def diagnose(rows, evidence=None, config=None):
    """The causes that a run's log (list of dicts) and its `measure`d evidence point to: a list of `Finding`s."""
    found = []
    for cause, (name, remedy) in CAUSES.items():
        shown_by = cause(rows, evidence, config or {})
        if shown_by:
            found.append(Finding(name, shown_by, remedy))
    return found


def read_run(folder):
    """(rows, evidence or None, config or {}) of a run's folder; FileNotFoundError or ValueError name what is wrong.

    Damaged rows of the log are left out with a warning; a run that has lost its log has no rows.
    """
    folder = Path(folder)
    log = folder / "log.jsonl"
    if not log.is_file() and not (folder / "config.json").is_file():
        raise FileNotFoundError(f"no log.jsonl in {folder}: is it the folder of a training run?")
    read = [parse_json(path.read_text(encoding="utf-8"), path, finite=False) if path.is_file() else None
            for path in (folder / "evidence.json", folder / "config.json")]
    return read_log(log), read[0], read[1] or {}


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
