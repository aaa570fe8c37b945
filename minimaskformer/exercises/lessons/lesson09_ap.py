"""Exercise 09.6: average precision, and the ways people get it wrong."""
import math

import numpy as np
import torch

from ... import mask_ap
from ..core import Exercise, Fixture, Mistake


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
