"""Exercises of lesson 04, the set criterion: the number of masks, the total; the rest in lesson04_class and _masks."""
import itertools

import torch

from ..core import Exercise, Fixture, Mistake, issue
from .lesson04_class import class_exercise, numbers, truth
from .lesson04_masks import picking_exercise, void_exercise

TITLE = "The set criterion"


# --- 04.3 dividing by the number of masks -----------------------------------------------------------------------------

def batch_mask_loss(per_mask, targets):
    num_masks = max(1, sum(len(target["labels"]) for target in targets))
    return torch.cat(per_mask).sum() / num_masks


def _counts(targets):
    return torch.tensor([float(len(t["labels"])) for t in targets], dtype=torch.float64)


def _sums(per_mask):
    return torch.stack([m.sum() for m in per_mask])


def _mean_of_means(per_mask, targets):
    return torch.stack([m.mean() for m in per_mask]).mean()


_IMAGES = ("the mean over images of each image's own mean",
           "Then a mask in a crowded image counts less than one that is alone in its image. Here every mask of the "
           "batch counts the same: one sum, one number of masks.")
count_exercise = Exercise(
    id="04.3", title="the number of masks", name="batch_mask_loss", reference=batch_mask_loss,
    fixtures=(
        Fixture("3 targets and 1", ([torch.tensor([0.7, 0.2, 1.5]), torch.tensor([0.4])], truth([2, 0, 3], [1]))),
        Fixture("three images, one without target", (
            [torch.tensor([0.9, 0.3]), torch.zeros(0), torch.tensor([1.1])], truth([1, 4], [], [0]))),
        Fixture("5 targets, only 2 of them matched", (
            [torch.tensor([0.6, 1.3]), torch.tensor([0.5])], truth([0, 3, 3, 1, 2], [1]))),
        Fixture("no target at all", ([torch.zeros(0), torch.zeros(0)], truth([], [])))),
    mistakes=(
        Mistake("divided by the number of matches", lambda m, t: torch.cat(m).sum() / max(1, len(torch.cat(m))),
                "The reference code counts the targets, even those that found no query."),
        Mistake("a plain mean over the matched masks", lambda m, t: torch.cat(m).mean(),
                "That counts matches, not targets, and the mean of nothing is nan: a batch may have no target."),
        Mistake(_IMAGES[0], _mean_of_means, _IMAGES[1]),
        Mistake(_IMAGES[0], lambda m, t: (_sums(m) / _counts(t)).mean(), _IMAGES[1]),
        Mistake(_IMAGES[0], lambda m, t: (_sums(m) / _counts(t).clamp(min=1)).mean(), _IMAGES[1]),
        Mistake(_IMAGES[0], lambda m, t: torch.stack([a.sum() / max(1, len(a)) for a in m]).mean(), _IMAGES[1]),
        Mistake("each image divided by its own number of targets", lambda m, t: (
            _sums(m) / _counts(t).clamp(min=1)).sum(), _IMAGES[1]),
        Mistake("not divided at all", lambda m, t: torch.cat(m).sum(),
                "A batch with twice as many masks would weigh twice as much."),
        Mistake("divided by the number of images", lambda m, t: torch.cat(m).sum() / len(m),
                "Count masks, not images: crowded images would dominate.", issue("facebookresearch/MaskFormer", 40)),
        Mistake("divided by the mean number of targets per image", lambda m, t: (
            torch.cat(m).sum() / _counts(t).mean().clamp(min=1)),
                "The mean is taken over *processes*, each of which holds a batch; inside a batch targets are summed."),
        Mistake("no floor of 1", lambda m, t: torch.cat(m).sum() / _counts(t).sum(),
                "Without any target that is 0 / 0 = nan, and one nan ends a training run.",
                issue("NielsRogge/Transformers-Tutorials", 257)),
        Mistake("1 added instead of a floor of 1", lambda m, t: torch.cat(m).sum() / (_counts(t).sum() + 1),
                "max(1, number): the 1 matters only when there is no target."),
        Mistake("the floor of 1 in every image", lambda m, t: torch.cat(m).sum() / _counts(t).clamp(min=1).sum(),
                "An image without targets adds nothing to the number; the floor is for the whole batch.")),
    hints=("Two images, 3 targets and 1. Should each image weigh the same, or each mask?",
           "Sum all values of the batch; count all labels of the batch; take care of a batch without any.",
           "torch.cat(per_mask).sum() / max(1, sum(len(target[\"labels\"]) for target in targets))"),
    why="One number for the whole batch makes every mask weigh the same, whichever image it is in. With several "
        "GPUs the number is averaged over them, once (SetCriterion.num_masks).")


# --- 04.4 the total -------------------------------------------------------------------------------------------------

def total_loss(terms, weights):
    return sum(weights[name.split("_")[0]] * value for name, value in terms.items())


def _layers(count, start):
    """The terms of that many decoder layers, in the order of the decoder, the last without a number."""
    values = iter(numbers(3 * count, start=start).abs() + 0.1)
    suffixes = [f"_{i}" for i in range(count - 1)] + [""]
    return {name + suffix: next(values) for suffix in suffixes for name in ("class", "focal", "dice")}


def _last(terms):
    return {name: value for name, value in terms.items() if "_" not in name}


def _earlier(terms):
    return {name: value for name, value in terms.items() if "_" in name}


def _with(class_, focal, dice):
    """The total with the weights of (class, focal, dice) taken from other places of (class, focal, dice)."""
    return lambda t, w: total_loss(t, {"class": w[class_], "focal": w[focal], "dice": w[dice]})


REFERENCE = {"class": 1.0, "focal": 20.0, "dice": 1.0}
total_exercise = Exercise(
    id="04.4", title="the total over all layers", name="total_loss", reference=total_loss,
    fixtures=(
        Fixture("three layers, the reference weights", (_layers(3, 0.9), REFERENCE)),
        Fixture("twelve layers, other weights in another order", (
            _layers(12, 2.2), {"dice": 3.5, "class": 2.0, "focal": 5.0})),
        Fixture("one layer", (_layers(1, 3.1), {"class": 0.5, "focal": 8.0, "dice": 1.5}))),
    mistakes=(
        Mistake("the last layer only", lambda t, w: total_loss(_last(t), w),
                "Every layer is trained. Without the auxiliary losses DETR loses 5 AP of 41.",
                issue("facebookresearch/detr", 85)),
        Mistake("the earlier layers only", lambda t, w: total_loss(_earlier(t), w),
                "The terms without a number are the last layer's; they count too."),
        Mistake("the mean over the layers", lambda t, w: total_loss(t, w) / (len(t) / 3),
                "The reference sums: six layers make a loss six times as large, and that is intended.",
                issue("NielsRogge/Transformers-Tutorials", 299)),
        Mistake("the mean over the auxiliary layers", lambda t, w: (
            total_loss(_last(t), w) + total_loss(_earlier(t), w) / max(1, len(_earlier(t)) / 3)),
                "Each layer counts fully, auxiliary or not.", issue("NielsRogge/Transformers-Tutorials", 299)),
        Mistake("the auxiliary layers at 0.4", lambda t, w: total_loss(_last(t), w) + 0.4 * total_loss(_earlier(t), w),
                "Some networks weigh auxiliary heads that way. Here every layer counts fully.",
                issue("open-mmlab/mmsegmentation", 802)),
        Mistake("the weights forgotten", lambda t, w: sum(t.values()),
                "Multiply each term by the weight of its kind."),
        Mistake("the auxiliary layers without weights", lambda t, w: total_loss(_last(t), w) + sum(
            _earlier(t).values()), "focal_0 is a focal loss and gets the weight of \"focal\"."),
        Mistake("the last layer counted twice", lambda t, w: total_loss(t, w) + total_loss(_last(t), w),
                "The last layer's terms are the ones without a number; they are not among the auxiliary ones too."),
        Mistake("the weights of focal and dice exchanged", _with("class", "dice", "focal"),
                "The 20 belongs to focal, which is small because most pixels are easy."),
        Mistake("the weights of class and focal exchanged", _with("focal", "class", "dice"),
                "The 20 belongs to focal, which is small because most pixels are easy."),
        Mistake("the weight of focal for dice too", _with("class", "focal", "focal"),
                "The 20 belongs to focal alone."),
        Mistake("the reference weights written into the code", lambda t, w: total_loss(t, REFERENCE),
                "The weights are an argument."),
        Mistake("the weights taken by position, not by name", lambda t, w: sum(
            a * b for a, b in zip(itertools.cycle(w.values()), t.values())),
                "A dictionary is read by name. The order of its entries is an accident."),
        Mistake("divided by the sum of the weights", lambda t, w: total_loss(t, w) / sum(w.values()),
                "The total is a weighted sum, not a weighted mean.")),
    hints=("Which weight does the entry focal_0 get?",
           "Cut the name at the underscore: what comes before it is the kind of the term.",
           "sum(weights[name.split(\"_\")[0]] * value for name, value in terms.items())"),
    why="Heads and weights are shared by all layers, and each layer answers for its own prediction. The sum over six "
        "layers makes the number large, not wrong.")


EXERCISES = [class_exercise, picking_exercise, count_exercise, total_exercise, void_exercise]
