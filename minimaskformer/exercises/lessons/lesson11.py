"""Exercises of lesson 11, what the paper found: likelihood, shares, fixed targets, PQ_St, seeds and pairs."""
import math

import torch

from ...studies.baselines import pixel_likelihood, responsibilities
from ...studies.error_bars import mean_and_error, paired_difference
from ..core import Exercise, Fixture, Mistake, Remark
from .lesson11_quality import PQ_FIXTURES, PQ_MISTAKES
from .lesson11_scores import LIKELIHOOD_FIXTURES, LIKELIHOOD_MISTAKES, SHARE_FIXTURES, SHARE_MISTAKES
from .lesson11_sets import FIXED_FIXTURES, FIXED_MISTAKES

TITLE = "What the paper found"


# --- 11.1, 11.2 the likelihood of a pixel, and who is told ------------------------------------------------------------

likelihood_exercise = Exercise(
    id="11.1", title="the likelihood of a pixel", name="pixel_likelihood", reference=pixel_likelihood,
    fixtures=LIKELIHOOD_FIXTURES, mistakes=LIKELIHOOD_MISTAKES,
    hints=("At one pixel: how large is the semantic score of the class that is true there?",
           "Pick p_i(c) for each pixel's class, multiply by m_i, add over the queries, take the log, average over the "
           "pixels whose class is known. Mind the -1: as an index it is the last column.",
           "-(log_softmax(class_logits)[c] + logsigmoid(mask_logits)).logsumexp(queries), summed over known pixels, "
           "divided by their number"),
    why="log(p m) = log p + log m, and logsumexp adds up over queries without leaving the log: a product of 1e-60 does "
        "not fit into float32, its log does.",
    remarks=(Remark((torch.tensor([[[0.0, 300.0, 0.0]]]), torch.full((1, 1, 1, 2), -90.0), torch.zeros(1, 1, 2).long()),
                    "with sure and wrong logits (300) yours is not finite. Stay in the log: log_softmax, logsigmoid, "
                    "logsumexp."),))

share_exercise = Exercise(
    id="11.2", title="who is told", name="responsibilities", reference=responsibilities,
    fixtures=SHARE_FIXTURES, mistakes=SHARE_MISTAKES,
    hints=("The score of the true class is a sum over queries. Which part of it is query i's?",
           "Form p_i(c) m_i for the class that is true at each pixel, [N, H, W], and divide by its sum over the "
           "queries.",
           "r = softmax(class_logits)[:, truth] * sigmoid(mask_logits); r / r.sum(0)"),
    why="A softmax over queries of log p + log m is the same quotient, and stable. It is also minus the gradient of "
        "the loss of 11.1: where it is spread over many queries, all of them are pushed to draw the same pixel.",
    remarks=(Remark((torch.tensor([[300.0, 0.0], [300.0, 0.0]])[:, [1, 0]], torch.full((2, 1, 1), -90.0),
                     torch.zeros(1, 1).long()),
                    "with sure and wrong logits (300) yours divides 0 by 0. A softmax of the logs does not."),))


# --- 11.3 the targets of a fixed matching -----------------------------------------------------------------------------

def fixed_targets(labels, masks, num_queries, num_classes):
    classes = torch.full((num_queries,), num_classes)  # [N], no object
    out = torch.zeros(num_queries, *masks.shape[1:], dtype=torch.bool)  # [N, H, W]
    for label, mask in zip(labels, masks):
        classes[label] = label
        out[label] |= mask
    return classes, out


fixed_exercise = Exercise(
    id="11.3", title="the targets of a fixed matching", name="fixed_targets", reference=fixed_targets,
    fixtures=FIXED_FIXTURES, mistakes=FIXED_MISTAKES, parts=("classes", "masks"),
    hints=("What does query 3 learn when class 3 is in the image, and what when it is not?",
           "Start from no-object and empty masks for all N queries. Then each target changes the query of its label.",
           "classes = full(N, K); masks = zeros; for label, mask: classes[label] = label; out[label] |= mask"),
    why="With fixed matching nothing has to be matched: the target of a query is known before the model has said "
        "anything. The library does it in two steps, targets.semantic_to_target and matching.fixed_match.")


# --- 11.4 PQ_St -------------------------------------------------------------------------------------------------------

def pq_stuff(predictions, truths, num_classes):
    values = []
    for c in range(num_classes):
        iou_sum, found, count = 0.0, 0, 0
        for pred, truth in zip(predictions == c, truths == c):  # [H, W], one segment each, or none
            count += int(pred.any()) + int(truth.any())
            iou = (pred & truth).sum().item() / max((pred | truth).sum().item(), 1)
            if iou > 0.5:
                iou_sum, found = iou_sum + iou, found + 1
        if count:
            values.append(iou_sum / (count / 2))  # TP + FP / 2 + FN / 2 = (predicted + true) / 2
    return sum(values) / len(values)


pq_exercise = Exercise(
    id="11.4", title="PQ of class maps", name="pq_stuff", reference=pq_stuff, fixtures=PQ_FIXTURES,
    mistakes=PQ_MISTAKES,
    hints=("For one class in one image: when is it found, when missed, when invented?",
           "For each class gather over all images: the IoUs above 0.5, and how many segments were predicted and true. "
           "One quotient per class, then the mean over the classes that occurred.",
           "sum of IoU / (TP + FP / 2 + FN / 2), and TP + FP / 2 + FN / 2 = (predicted + true segments) / 2"),
    why="Each class of each image is one segment, so a far duck counts as much as the sky: that is why mask "
        "classification gains more here than in mIoU. The library's PanopticQuality does it for any segments.")


# --- 11.5, 11.6 seeds -------------------------------------------------------------------------------------------------

def _rows(*rows):
    return torch.tensor(rows)


def error_with(center=lambda v: v.mean(1), error=lambda v: v.std(1) / math.sqrt(v.shape[1])):
    """Mean and standard error with knobs to get wrong."""
    return lambda v: (center(v), error(v))


seeds_exercise = Exercise(
    id="11.5", title="mean and standard error", name="mean_and_error", reference=mean_and_error,
    parts=("means", "errors"),
    fixtures=(Fixture("4 settings, 3 seeds", (_rows([61.2, 58.9, 62.9], [63.1, 64.0, 59.5], [40.0, 47.0, 41.5],
                                                    [12.0, 13.5, 18.0]),)),
              Fixture("2 settings, 5 seeds", (_rows([52.5, 51.0, 50.5, 57.5, 54.0], [38.0, 43.5, 39.0, 47.0, 45.5]),))),
    mistakes=(
        Mistake("divided by S instead of S - 1 inside the root",
                error_with(error=lambda v: v.std(1, correction=0) / math.sqrt(v.shape[1])),
                "The mean was taken from the same S numbers, so one of them is used up: S - 1. np.std divides by S "
                "unless told otherwise (ddof=1)."),
        Mistake("the standard deviation instead of the error of the mean", error_with(error=lambda v: v.std(1)),
                "That is how far *one run* lies from the mean. The mean of S runs is surer by sqrt(S)."),
        Mistake("the standard deviation, with S instead of S - 1", error_with(error=lambda v: v.std(1, correction=0)),
                "Two things: divide by S - 1 inside the root, and by sqrt(S) outside."),
        Mistake("divided by S instead of sqrt(S)", error_with(error=lambda v: v.std(1) / v.shape[1]),
                "Variances add up, standard deviations do not: the mean of S runs is surer by sqrt(S), not by S."),
        Mistake("the root forgotten", error_with(error=lambda v: v.var(1) / v.shape[1]),
                "That is the variance of the mean, in squared units. Take the root."),
        Mistake("the variance", error_with(error=lambda v: v.var(1)), "The error is sqrt(variance / S)."),
        Mistake("the variance divided by sqrt(S)", error_with(error=lambda v: v.var(1) / math.sqrt(v.shape[1])),
                "The root is of the variance too: sqrt(variance / S)."),
        Mistake("the root of S - 1 outside", error_with(error=lambda v: v.std(1) / math.sqrt(v.shape[1] - 1)),
                "S - 1 belongs inside, into the variance; outside it is sqrt(S)."),
        Mistake("half the range", error_with(error=lambda v: (v.amax(1) - v.amin(1)) / 2),
                "The range grows with the number of seeds; an error of the mean must shrink."),
        Mistake("the mean absolute deviation", error_with(error=lambda v: (v - v.mean(1, keepdim=True)).abs().mean(1)),
                "Square the deviations, and divide by S - 1 and by S."),
        Mistake("4.3 errors", error_with(error=lambda v: 4.3 * v.std(1) / math.sqrt(v.shape[1])),
                "That is the half of a 95 % interval for three seeds (Student's t). One standard error, please."),
        Mistake("1.96 errors", error_with(error=lambda v: 1.96 * v.std(1) / math.sqrt(v.shape[1])),
                "That would be a 95 % interval, if S were large. One standard error, please."),
        Mistake("the median", error_with(center=lambda v: v.quantile(0.5, 1)), "The mean was asked for."),
        Mistake("the best run", error_with(center=lambda v: v.amax(1)),
                "The best of several runs says how many runs you had. The mean was asked for."),
        Mistake("the root of the number of settings", error_with(error=lambda v: v.std(1) / math.sqrt(len(v))),
                "len(values) counts the rows, which are settings. The mean runs over the S seeds."),
        Mistake("over settings instead of seeds",
                lambda v: (v.mean(0), v.std(0) / math.sqrt(v.shape[0])), "Each row is a setting, each column a seed."),
        Mistake("one error for all settings",
                error_with(error=lambda v: (v.std() / math.sqrt(v.shape[1])).expand(len(v))),
                "The differences between settings are not noise: each row has its own error.")),
    hints=("How far do the runs of one setting lie from their mean, and how sure is the mean of S of them?",
           "Variance with S - 1, then divide by S, then the root; row by row.",
           "values.mean(1), values.std(1) / sqrt(S): torch's std divides by S - 1, NumPy's by S"),
    why="Three seeds give an error bar that is itself uncertain (by about half of its size). It is still far better "
        "than none.")


def difference_with(center=lambda d: d.mean(), error=lambda d: d.std() / math.sqrt(len(d)), order=lambda v: v,
                    difference=lambda a, b: b - a):
    """The paired difference with knobs to get wrong."""
    def compare(a, b):
        d = difference(order(a), order(b))
        return center(d), error(d)
    return compare


def _separately(join):
    return lambda a, b: ((b - a).mean(), join(a.std() / math.sqrt(len(a)), b.std() / math.sqrt(len(b))))


pairs_exercise = Exercise(
    id="11.6", title="the difference within pairs", name="paired_difference", reference=paired_difference,
    parts=("difference", "error"),
    fixtures=(Fixture("3 seeds that move both alike", (_rows(61.2, 57.9, 62.9), _rows(63.1, 59.2, 63.7))),
              Fixture("4 seeds, some lose", (_rows(41.0, 43.5, 40.5, 43.0), _rows(45.5, 36.0, 44.5, 39.0)))),
    mistakes=(
        Mistake("two separate errors, added in squares", _separately(lambda a, b: (a ** 2 + b ** 2).sqrt()),
                "Right for runs that share nothing. Here seed s shares the order of the scenes: subtract first, then "
                "take the error of the differences."),
        Mistake("two separate errors, added", _separately(lambda a, b: a + b),
                "Subtract within each seed first, then take the error of the differences."),
        Mistake("the larger of the two errors", _separately(torch.maximum),
                "Subtract within each seed first, then take the error of the differences."),
        Mistake("two separate errors, subtracted", _separately(lambda a, b: b - a),
                "Subtract the figures, seed by seed, not their errors."),
        Mistake("the other way round", difference_with(difference=lambda a, b: a - b), "b - a: how much b is above a."),
        Mistake("sorted before pairing", difference_with(order=lambda v: v.sort().values),
                "Sorting tears the pairs apart: the best run of one would be compared with the best of the other."),
        Mistake("absolute differences", difference_with(difference=lambda a, b: (b - a).abs()),
                "Wins and losses must be allowed to cancel."),
        Mistake("relative differences", difference_with(difference=lambda a, b: (b - a) / a),
                "In points, not in parts of a."),
        Mistake("divided by S instead of S - 1 inside the root",
                difference_with(error=lambda d: d.std(correction=0) / math.sqrt(len(d))),
                "The mean was taken from the same S differences: S - 1."),
        Mistake("the standard deviation instead of the error of the mean", difference_with(error=lambda d: d.std()),
                "Divide by sqrt(S): it is the mean difference that we report."),
        Mistake("the root forgotten", difference_with(error=lambda d: d.var() / len(d)),
                "That is the variance of the mean difference, in squared units. Take the root."),
        Mistake("the root of S - 1 outside", difference_with(error=lambda d: d.std() / math.sqrt(len(d) - 1)),
                "S - 1 belongs inside, into the variance; outside it is sqrt(S)."),
        Mistake("4.3 errors", difference_with(error=lambda d: 4.3 * d.std() / math.sqrt(len(d))),
                "That is the half of a 95 % interval for three seeds (Student's t). One standard error, please."),
        Mistake("1.96 errors", difference_with(error=lambda d: 1.96 * d.std() / math.sqrt(len(d))),
                "That would be a 95 % interval, if S were large. One standard error, please."),
        Mistake("divided by S instead of sqrt(S)", difference_with(error=lambda d: d.std() / len(d)),
                "The mean of S differences is surer by sqrt(S), not by S."),
        Mistake("2 S figures instead of S pairs", difference_with(error=lambda d: d.std() / math.sqrt(2 * len(d))),
                "There are S differences."),
        Mistake("the best against the best", lambda a, b: (b.max() - a.max(), (b - a).std() / math.sqrt(len(a))),
                "The best of several runs says how many runs you had. Compare means.")),
    hints=("What do two runs with the same seed have in common?",
           "Subtract within each seed; the rest is 11.5 on the differences.",
           "d = b - a; d.mean(), d.std() / sqrt(S)"),
    why="What the seed does to both runs alike drops out of the difference. Where it does nothing alike the pairs gain "
        "nothing, and lose nothing either.")


EXERCISES = [likelihood_exercise, share_exercise, fixed_exercise, pq_exercise, seeds_exercise, pairs_exercise]
