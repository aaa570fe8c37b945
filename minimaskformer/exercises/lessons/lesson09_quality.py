"""Lesson 09: from matches to PQ, SQ and RQ (09.5), average precision (09.6), and the ways people get them wrong."""
import math

import numpy as np
import torch

from ... import mask_ap
from ..core import Exercise, Fixture, Mistake, issue

# --- 09.5 PQ, SQ and RQ ---------------------------------------------------------------------------------------------

def mean_quality(ious, fp, fn):
    rows = []
    for iou, f, n in zip(ious, fp, fn):  # class by class
        tp = len(iou)
        if tp + f + n == 0:
            continue  # in neither truth nor prediction
        denominator = tp + f / 2 + n / 2
        rows.append((sum(iou) / denominator, sum(iou) / tp if tp else 0.0, tp / denominator))
    pq, sq, rq = zip(*rows)
    return sum(pq) / len(rows), sum(sq) / len(rows), sum(rq) / len(rows)


def _mean(values):
    values = [v for v in values if v is not None]
    return sum(values) / len(values) if values else math.nan


def _quality(ious, fp, fn, below=lambda tp, f, n: tp + f / 2 + n / 2, seen=lambda tp, f, n: tp + f + n > 0, empty=0.0,
             sq=lambda total, tp, f, n: total / tp):
    """mean_quality with knobs to get wrong."""
    rows = []
    for iou, f, n in zip(ious, fp, fn):
        tp, total = len(iou), sum(iou)
        if seen(tp, f, n):
            down = below(tp, f, n)
            pq, rq = (total / down, tp / down) if down else (0.0, 0.0)
            rows.append((pq, sq(total, tp, f, n) if tp else empty, rq))
    return tuple(_mean(column) for column in zip(*rows))


def quality_with(**knobs):
    return lambda *args: _quality(*args, **knobs)


def _product(*args):
    _, sq, rq = _quality(*args)
    return sq * rq, sq, rq


def _pooled(ious, fp, fn):
    return _quality([sum((list(i) for i in ious), [])], [sum(fp)], [sum(fn)])


def _weighted(ious, fp, fn):
    rows = [(*_quality([i], [f], [n]), len(i) + n) for i, f, n in zip(ious, fp, fn) if len(i) + f + n]
    return tuple(sum(row[c] * row[3] for row in rows) / sum(row[3] for row in rows) for c in range(3))


def _pq_of_mean_counts(ious, fp, fn):
    """PQ right, SQ and RQ pooled over classes."""
    return (_quality(ious, fp, fn)[0], *_pooled(ious, fp, fn)[1:])


def _precision_and_recall(ious, fp, fn):
    """The mean of precision and recall in the place of F1."""
    rows = []
    for iou, f, n in zip(ious, fp, fn):
        tp = len(iou)
        if tp + f + n:
            rq = (tp / max(tp + f, 1) + tp / max(tp + n, 1)) / 2
            rows.append((sum(iou) / max(tp, 1) * rq, sum(iou) / max(tp, 1), rq))
    return tuple(_mean(column) for column in zip(*rows))


_HALVES = "A false positive and a miss are one half each: a bad match that fell below 0.5 makes one of both."
_WHOLE = tuple([0.75, 0.9, 0.85, 0.6]), (0.95,), (), (), (0.8, 0.7)
quality_exercise = Exercise(
    id="09.5", title="PQ, SQ and RQ of a data set", name="mean_quality", reference=mean_quality,
    parts=("pq", "sq", "rq"),
    fixtures=(Fixture("5 classes: class 2 only predicted, class 3 nowhere",
                      ([list(i) for i in _WHOLE], [1, 0, 3, 0, 4], [3, 1, 0, 0, 0])),
              Fixture("4 classes: class 0 never found, class 1 nowhere",
                      ([[], [], [0.55, 0.65, 0.9], [0.98]], [0, 0, 2, 0], [2, 0, 1, 0])),
              Fixture("one class", ([[0.7, 0.9, 0.8]], [1], [4]))),
    mistakes=(
        Mistake("mean SQ times mean RQ", _product, "PQ = SQ x RQ holds for each class. A mean of products is not a "
                "product of means: take PQ class by class, then the mean.", issue("VSainteuf/utae-paps", 24)),
        Mistake("all classes pooled", _pooled, "Class by class, then the mean: many sheep must not hide one bad boat."),
        Mistake("SQ and RQ pooled over the classes", _pq_of_mean_counts,
                "All three are means over the classes of what each class has."),
        Mistake("a class that occurs nowhere counted as 0", quality_with(seen=lambda *counts: True),
                "Without any match, false positive or miss nothing can be said: leave the class out of the means."),
        Mistake("nan in the means", lambda *a: tuple(
            math.nan if any(not (len(i) + f + n) for i, f, n in zip(*a)) else v for v in _quality(*a)),
            "0 / 0 for a class that occurs nowhere, and all three means are nan. Leave that class out."),
        Mistake("classes without a match left out", quality_with(seen=lambda tp, f, n: tp > 0),
                "Never found is the worst a class can do, and it counts, with 0."),
        Mistake("classes that are only predicted left out", quality_with(seen=lambda tp, f, n: tp + n > 0),
                "Its false positives count: PQ 0, in the mean. Or inventing classes would cost nothing."),
        Mistake("classes that are only missed left out", quality_with(seen=lambda tp, f, n: tp + f > 0),
                "Never predicted, though it was there: PQ 0, in the mean."),
        Mistake("SQ of a class without a match taken as 1", quality_with(empty=1.0),
                "SQ of a class without a match is 0 and counts: nothing fits."),
        Mistake("SQ and RQ exchanged", lambda *a: tuple(_quality(*a)[i] for i in (0, 2, 1)),
                "In this order: PQ, SQ, RQ. SQ is how well the matches fit, RQ how many there are."),
        Mistake("SQ the mean over all matches", lambda *a: (_quality(*a)[0], _pooled(*a)[1], _quality(*a)[2]),
                "SQ class by class, then the mean: every class counts the same, however many matches it has."),
        Mistake("SQ of a class without a match left out", quality_with(empty=None),
                "SQ of a class without a match is 0 and counts (panopticapi's rule): all three average the same "
                "classes."),
        Mistake("false positives and misses not halved", quality_with(below=lambda tp, f, n: tp + f + n), _HALVES),
        Mistake("only the misses halved", quality_with(below=lambda tp, f, n: tp + f + n / 2), _HALVES),
        Mistake("only the false positives halved", quality_with(below=lambda tp, f, n: tp + f / 2 + n), _HALVES),
        Mistake("false positives forgotten", quality_with(below=lambda tp, f, n: tp + n / 2),
                "Inventing segments must cost: FP / 2."),
        Mistake("misses forgotten", quality_with(below=lambda tp, f, n: tp + f / 2),
                "Finding only the easy ones must cost: FN / 2."),
        Mistake("precision in place of RQ", quality_with(below=lambda tp, f, n: tp + f),
                "RQ is F1: TP / (TP + FP / 2 + FN / 2)."),
        Mistake("recall in place of RQ", quality_with(below=lambda tp, f, n: tp + n),
                "RQ is F1: TP / (TP + FP / 2 + FN / 2)."),
        Mistake("twice the matches below, but not above", quality_with(below=lambda tp, f, n: 2 * tp + f + n),
                "Double both or neither: 2 TP / (2 TP + FP + FN), and twice the sum of the IoUs above."),
        Mistake("the mean of precision and recall in place of RQ", _precision_and_recall,
                "RQ is F1, the harmonic mean of the two: TP / (TP + FP / 2 + FN / 2)."),
        Mistake("class 0 left out", lambda *a: _quality(*(v[1:] for v in a)) if len(a[0]) > 1 else _quality(*a),
                "There is no background here: class 0 counts like any other."),
        Mistake("SQ divided by matches, false positives and misses",
                quality_with(sq=lambda total, tp, f, n: total / (tp + f + n)),
                "SQ asks how well the *matches* fit: divide by TP alone."),
        Mistake("SQ the same as PQ", quality_with(sq=lambda total, tp, f, n: total / (tp + f / 2 + n / 2)),
                "SQ asks how well the *matches* fit: divide by TP alone."),
        Mistake("in percent", lambda *a: tuple(100 * v for v in _quality(*a)), "Fractions in 0 ... 1, please."),
        Mistake("means weighted by the number of true segments", _weighted,
                "Plain means over classes: a class with two segments counts as much as one with two hundred.")),
    hints=("What is the denominator of PQ, and over which classes is the mean?",
           "For each class with TP + FP + FN > 0: PQ, SQ (0 without matches), RQ. Then three means over these classes.",
           "pq = sum(iou) / (tp + fp / 2 + fn / 2), sq = sum(iou) / tp, rq = tp / (tp + fp / 2 + fn / 2)"),
    why="For a class the product of SQ and RQ is PQ, the sum of IoUs and the number of matches cancel. After the means "
        "it is not, and that is no bug in anyone's code.")


# --- 09.6 average precision -----------------------------------------------------------------------------------------

def _ap(scores, right, total, descending=True, best=lambda p: p.flip(0).cummax(0).values.flip(0), recalls=101,
        first=0.0, last=1.0, reach=lambda recall, r: recall >= r - 1e-12, beyond=0.0, curve=None):
    """average_precision with knobs to get wrong; beyond=None leaves out the recalls that are never reached."""
    scores, right = torch.as_tensor(scores).double(), torch.as_tensor(right)
    order = torch.arange(len(scores)) if descending is None else scores.argsort(descending=descending, stable=True)
    hits = right[order].double().cumsum(0)
    precision = hits / torch.arange(1, len(hits) + 1)
    recall, precision = hits / total, best(precision) if len(hits) else hits
    if curve:
        return curve(precision, recall, right[order], total)
    values = []
    for r in torch.linspace(first, last, recalls, dtype=torch.float64):
        at = reach(recall, r).nonzero()
        values.append(precision[at[0, 0]].item() if len(at) else beyond)
    values = [v for v in values if v is not None]
    return sum(values) / max(1, len(values))


def ap_with(**knobs):
    return lambda *args: _ap(*args, **knobs)


def _area(precision, recall, right, total):
    return (precision * right).sum() / total  # recall grows by 1 / total at every right one


def _trapezoid(precision, recall, right, total):
    recall = torch.cat([recall.new_zeros(1), recall])
    return torch.trapezoid(torch.cat([precision[:1], precision]), recall) if len(precision) else 0.0


def _best_before(precision, recall, right, total):
    """Each recall reads the best precision at that recall or a smaller one."""
    grid = torch.linspace(0, 1, 101, dtype=torch.float64)
    return sum(precision[recall <= r + 1e-12].max().item() if (recall <= r + 1e-12).any() else 0.0 for r in grid) / 101


def _straight_lines(precision, recall, right, total):
    if not len(precision):
        return 0.0
    return np.interp(np.linspace(0, 1, 101), recall.numpy(), precision.numpy(), right=0).mean()


def _begun_at_one(precision, recall, right, total):
    """A point with recall 0 and precision 1 before the curve: it is read at recall 0 alone."""
    first = precision[:1].sum().item()  # 0 without predictions
    return _ap(torch.arange(len(right), 0, -1), right, total) + (1 - first) / 101


def _without_predictions(value):
    return lambda s, r, n: _ap(s, r, n) if len(s) else value


def _plain(p):
    return p


def _f1(precision, recall, right, total):
    return (2 * precision * recall / (precision + recall).clamp(min=1e-9)).max() if len(right) else 0.0


_SORT = "The most certain first: sort by score, from large to small, and `right` along with it."
_CURVE = "Before reading off, each precision is raised to the best one at this recall *or a larger one*."
_AT = "COCO reads the curve off at 101 recalls, 0, 0.01, ... 1, and takes their plain mean."
_MARSH = (torch.tensor([0.6, 0.95, 0.3, 0.8, 0.1, 0.7, 0.5, 0.2]),
          torch.tensor([False, True, True, False, False, True, True, True]), 19)
_FIELD = (torch.tensor([0.5, 0.2, 0.9, 0.4, 0.7]), torch.tensor([True, True, False, True, True]), 7)
ap_exercise = Exercise(
    id="09.6", title="average precision", name="average_precision", reference=mask_ap.average_precision,
    fixtures=(Fixture("8 predictions, 19 true instances", _MARSH), Fixture("5 predictions, 7 true instances", _FIELD),
              Fixture("3 predictions, 2 true instances, all found",
                      (torch.tensor([0.6, 0.8, 0.7]), torch.tensor([True, True, False]), 2)),  # a drop at recall 0.5
              Fixture("no predictions", (torch.zeros(0), torch.zeros(0, dtype=torch.bool), 3))),
    mistakes=(
        Mistake("not sorted by score", ap_with(descending=None), _SORT),
        Mistake("sorted from small to large", ap_with(descending=False), _SORT),
        Mistake("the precision not raised to the best that follows", ap_with(best=_plain), _CURVE),
        Mistake("the precision raised to the best so far", ap_with(best=lambda p: p.cummax(0).values),
                "Look ahead, not back: " + _CURVE),
        Mistake("straight lines between the points", ap_with(best=_plain, curve=_straight_lines),
                "No np.interp: at recall r the best precision at *any* recall >= r counts, and that is a step."),
        Mistake("at a recall that is just reached, the precision after the drop", ap_with(curve=_straight_lines),
                "Where a wrong prediction follows, one recall has two precisions, and np.interp takes the later. The "
                "best one counts."),
        Mistake("a precision of 1 put before the list", ap_with(curve=_begun_at_one),
                "Recall 0 is read like every other: the best precision at any recall >= 0."),
        Mistake("the sum divided by 100", ap_with(curve=lambda p, recall, right, n: 1.01 * _ap(
            torch.arange(len(right), 0, -1), right, n)), "0, 0.01, ... 1 are 101 recalls."),
        Mistake("11 recalls", ap_with(recalls=11), "That is Pascal VOC's rule of 2007. " + _AT),
        Mistake("100 recalls", ap_with(recalls=100), _AT + " linspace(0, 1, 101) has both ends."),
        Mistake("100 recalls", ap_with(recalls=100, last=0.99), _AT + " arange(0, 1, 0.01) ends before 1."),
        Mistake("100 recalls, 0.01 to 1", ap_with(recalls=100, first=0.01), _AT + " Recall 0 is one of them."),
        Mistake("the best precision at this recall or a smaller one", ap_with(best=_plain, curve=_best_before),
                "The other way: the best precision at any recall >= r, and 0 where recall never gets to r."),
        Mistake("nan where there are no predictions", _without_predictions(math.nan),
                "Nothing found is not unknown: instances were there. AP is 0."),
        Mistake("1 where there are no predictions", _without_predictions(1.0),
                "No prediction is wrong, but none is right either: AP is 0."),
        Mistake("a recall that is just reached does not count", ap_with(reach=lambda recall, r: recall > r),
                "The best precision at any recall >= r: equal counts."),
        Mistake("the area under the steps", ap_with(curve=_area), "That is the exact area, Pascal VOC's rule since "
                "2010. " + _AT),
        Mistake("the mean precision of the right predictions, per true instance", ap_with(best=_plain, curve=_area),
                "That is the area under the curve as it is. " + _CURVE),
        Mistake("the mean precision of the right predictions", ap_with(
            best=_plain, curve=lambda p, recall, r, n: (p * r).sum() / r.sum() if len(p) else 0.0),
            "What was never found must cost something: the mean goes over recalls up to 1, not over the hits."),
        Mistake("the area by trapezoids, precision not raised", ap_with(curve=_trapezoid, best=_plain), _AT),
        Mistake("recall relative to the number of predictions", lambda s, r, n: _ap(s, r, len(r)),
                "Recall asks how many of all *true* instances were found: divide by total."),
        Mistake("recall relative to the instances found",
                lambda s, r, n: _ap(s, r, max(1, int(r.sum()))),
                "Recall asks how many of all *true* instances were found: divide by total, or misses cost nothing."),
        Mistake("the last precision for recalls that are never reached",
                lambda s, r, n: _ap(s, r, n, beyond=(r.sum() / len(r)).item() if len(r) else 0.0),
                "Where recall stops, precision is 0: that is the price of what was missed."),
        Mistake("the recalls that are never reached left out", ap_with(beyond=None),
                "Where recall stops, precision is 0, and it counts: that is the price of what was missed."),
        Mistake("the mean of the precisions", ap_with(
            best=_plain, curve=lambda p, recall, r, n: p.mean() if len(p) else 0.0),
            "A mean over predictions would pay for adding some. The mean goes over recalls."),
        Mistake("the share of right predictions", lambda s, r, n: r.double().mean() if len(r) else 0.0,
                "That is one point of the curve, and knows no scores."),
        Mistake("the share of true instances found", lambda s, r, n: r.sum() / n,
                "That is the recall at the end of the list; precision is missing."),
        Mistake("the best F1", ap_with(best=_plain, curve=_f1), "AP is an area, not the best point. " + _AT)),
    hints=("Going down the list from the highest score: what are precision and recall after each prediction?",
           "Sort, count the hits so far, divide by the rank and by total. Then make precision fall: from the right, "
           "the largest so far. Then read it off at 101 recalls.",
           "mean over r in linspace(0, 1, 101) of max(precision[recall >= r]), 0 where there is none"),
    why="Only the order of the scores matters, so a wrong prediction below all right ones costs nothing: the curve has "
        "reached its last recall before it. That is why AP likes more predictions, and PQ does not.")
