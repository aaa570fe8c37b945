"""Exercises of lesson 04, the set criterion: the number of masks; others in lesson04_class, _layers, _masks, _void."""
import torch

from ..core import Exercise, Fixture, Mistake, issue
from .lesson04_class import class_exercise, truth
from .lesson04_layers import criterion_exercise
from .lesson04_masks import picking_exercise
from .lesson04_void import void_exercise

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
    learns=("per_mask",),
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


EXERCISES = [class_exercise, picking_exercise, count_exercise, criterion_exercise, void_exercise]
