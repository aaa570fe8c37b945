"""Lesson 09: matching segments (09.3), misses and false positives (09.4), and the ways people get them wrong."""
import torch
from scipy.optimize import linear_sum_assignment

from ... import metrics
from ..core import Exercise, Fixture, Mistake

# --- 09.3 matching --------------------------------------------------------------------------------------------------


def _match(overlap, truth_area, pred_area, void, may_match, forgive=1, below=None, passes=lambda iou: iou > 0.5,
           value=lambda iou: iou):
    """match_segments with knobs to get wrong; below(overlap, truth_area [T, 1], pred_area [P]) replaces the union."""
    overlap, truth_area, pred_area = overlap.double(), truth_area[:, None].double(), pred_area.double()
    union = truth_area + pred_area - overlap - forgive * void
    iou = overlap / (union if below is None else below(overlap, truth_area, pred_area))
    return value(iou) * (may_match & passes(iou))


def match_with(**knobs):
    return lambda *args: _match(*args, **knobs)


def known_with(below):
    """Another divisor, with void rightly left out of the predicted area."""
    return lambda o, t, p, void, may: _match(o, t, p - void, void, may, below=below)


def _assigned(overlap, truth_area, pred_area, void, may_match):
    iou = _match(overlap, truth_area, pred_area, void, may_match, passes=lambda iou: iou >= 0)
    pairs = linear_sum_assignment(iou, maximize=True)
    chosen = torch.zeros_like(iou)
    chosen[pairs] = iou[pairs]
    return chosen


def _best_of_row(overlap, truth_area, pred_area, void, may_match):
    iou = _match(overlap, truth_area, pred_area, void, may_match, passes=lambda iou: iou >= 0)
    return iou * (iou == iou.max(1, keepdim=True).values)


def _best_of_column(overlap, truth_area, pred_area, void, may_match):
    iou = _match(overlap, truth_area, pred_area, void, may_match, passes=lambda iou: iou >= 0)
    return iou * (iou == iou.max(0, keepdim=True).values)


def _not_in_void(overlap, truth_area, pred_area, void, may_match):
    return _match(overlap, truth_area, pred_area, void, may_match & (2 * void <= pred_area))


def _any_class(overlap, truth_area, pred_area, void, may_match):
    return _match(overlap, truth_area, pred_area, void, torch.ones_like(may_match))


_BEST = ("the best partner taken, however bad", "A pair below the bar is no match: the truth is then missed, and the "
         "prediction a false positive. Only IoU > 0.5 counts.")
_DICE = "Dice is larger than IoU, so more would match. Divide by the union."
_PREDICTED = "A single right pixel would be a perfect match. Divide by the union."
# Rows: true segments; columns: predictions. Pair (2, 2) has IoU 0.5 exactly; (1, 1) passes only without its void.
_FARM = (torch.tensor([[34, 0, 0, 3], [1, 4, 0, 2], [0, 0, 6, 0], [2, 0, 3, 9], [0, 12, 0, 1]]),
         torch.tensor([40, 7, 9, 15, 13]), torch.tensor([39, 18, 9, 16]), torch.tensor([2, 2, 0, 1]),
         torch.tensor([[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 1, 0], [0, 1, 0, 1], [1, 0, 0, 0]]).bool())
# No pair of the first two rows and columns is a match; the best partners of rows, of columns and of all differ.
_PARK = (torch.tensor([[11, 8, 0], [9, 0, 1], [0, 0, 7], [0, 1, 0]]), torch.tensor([20, 18, 12, 4]),
         torch.tensor([20, 14, 10]), torch.tensor([0, 3, 2]),
         torch.tensor([[1, 1, 1], [1, 1, 1], [1, 1, 1], [0, 0, 0]]).bool())
# Pair (1, 1) has IoU 1/3, so dice and the shares of both areas are exactly 0.5; pair (2, 2) has IoU 0.75; pair (3, 3)
# is a match whose prediction lies mostly in void.
_POND = (torch.tensor([[15, 0, 1, 0], [0, 5, 0, 1], [0, 2, 12, 0], [0, 0, 0, 4]]), torch.tensor([20, 10, 14, 5]),
         torch.tensor([20, 10, 14, 12]), torch.tensor([2, 0, 0, 7]), torch.eye(4, dtype=torch.bool))
_NONE = torch.zeros(0, dtype=torch.int64)
_SILENT = torch.zeros(3, 0, dtype=torch.int64), torch.tensor([20, 10, 14]), _NONE, _NONE, torch.zeros(3, 0).bool()
match_exercise = Exercise(
    id="09.3", title="which segments match", name="match_segments", reference=metrics.match_segments,
    fixtures=(Fixture("5 true segments, 4 predictions, one IoU of 0.5 exactly, void", _FARM),
              Fixture("4 true segments (the last a crowd), 3 predictions, much void", _PARK),
              Fixture("four pairs: good, bad, better, and one whose prediction lies mostly in void", _POND),
              Fixture("an image without predictions", _SILENT)),
    mistakes=(
        Mistake("void counted in the union", match_with(forgive=0),
                "Nobody knows what is right on void: take the prediction's void pixels out of the union."),
        Mistake("void added to the union", match_with(forgive=-1),
                "The prediction's area already holds its void pixels: subtract them."),
        Mistake("IoU of 0.5 taken for a match", match_with(passes=lambda iou: iou >= 0.5),
                "Strictly more than 0.5. With exactly half, one prediction could have two partners."),
        Mistake("dice instead of IoU", known_with(lambda o, t, p: (t + p) / 2), _DICE),
        Mistake("dice instead of IoU", match_with(below=lambda o, t, p: (t + p) / 2), _DICE),
        Mistake("divided by the true area", match_with(below=lambda o, t, p: t + 0 * p),
                "A prediction that covers the whole image would match everything. Divide by the union."),
        Mistake("divided by the predicted area", known_with(lambda o, t, p: p + 0 * t), _PREDICTED),
        Mistake("divided by the predicted area", match_with(below=lambda o, t, p: p + 0 * t), _PREDICTED),
        Mistake("divided by the larger area", known_with(lambda o, t, p: torch.maximum(t + 0 * p, p + 0 * t)),
                "That is less than the union where neither holds the other. Divide by the union."),
        Mistake("divided by the larger area", match_with(below=lambda o, t, p: torch.maximum(t + 0 * p, p + 0 * t)),
                "That is less than the union where neither holds the other. Divide by the union."),
        Mistake("no match for predictions that lie mostly in void", _not_in_void,
                "Void excuses a prediction that has no match (09.4). A match is one however much of it lies in void."),
        Mistake("classes not compared", _any_class, "A sheep never matches grass: may_match says which pairs may."),
        Mistake("nothing passes 0.5, as when the union is just the sum of both areas",
                match_with(below=lambda o, t, p: t + p),
                "Both areas hold the overlap: subtract it once. Without that even a perfect pair has 0.5."),
        Mistake("no threshold", match_with(passes=lambda iou: iou >= 0),
                "Only pairs with IoU > 0.5 are matches; the others are 0."),
        Mistake("the threshold at 0.75", match_with(passes=lambda iou: iou > 0.75),
                "PQ has one bar, 0.5: what is above it is measured by the IoU itself."),
        Mistake("1 for every match", match_with(value=torch.ones_like),
                "PQ adds up IoUs, so keep them: how good the match is, not only that there is one."),
        Mistake("Hungarian matching without a threshold", _assigned,
                "That is for training. Above 0.5 no segment has two partners, so nothing is left to assign; below, a "
                "pair is no match."),
        Mistake(_BEST[0], _best_of_row, _BEST[1]),
        Mistake(_BEST[0], _best_of_column, _BEST[1])),
    hints=("What is the union of two segments in terms of their areas and their overlap, and what has no place in it?",
           "union [T, P] = true area + predicted area - overlap - the prediction's void pixels. Then IoU, then two "
           "conditions: above 0.5, and allowed.",
           "iou = overlap / (truth_area[:, None] + pred_area - overlap - void); iou * (may_match & (iou > 0.5))"),
    why="Segments of a map do not overlap. If a prediction had IoU > 0.5 with two true segments, more than half of it "
        "would lie in each: impossible. So the matching is unique and needs no optimiser.")


# --- 09.4 misses and false positives --------------------------------------------------------------------------------

def _missed(ious, crowd):
    return (ious == 0).all(1) & ~crowd


def _false(ious, excused):
    return (ious == 0).all(0) & ~excused


def errors_with(excused=lambda area, void, crowd: 2 * (void + crowd) > area, missed=_missed, false=_false):
    """unmatched with knobs to get wrong."""
    return lambda ious, crowd, area, void, own: (missed(ious, crowd), false(ious, excused(area, void, own)))


def _numbers(*args):
    return tuple(part.sum() for part in errors_with()(*args))


def _pair(*args):
    return errors_with()(*args)


_HALF = "More than half of the *whole* prediction, void and own crowd added up."
_SCENES = (
    (torch.tensor([[0.8] + [0] * 10, [0] * 8 + [0.6, 0, 0], [0] * 11, [0] * 11, [0] * 11]),
     torch.tensor([False, False, False, True, False]),
     torch.tensor([30, 20, 20, 20, 20, 20, 20, 10, 40, 20, 20]), torch.tensor([2, 12, 0, 6, 10, 4, 0, 1, 15, 8, 11]),
     torch.tensor([0, 0, 19, 6, 0, 3, 10, 2, 10, 7, 9])),
    (torch.tensor([[0, 0, 0, 0, 0], [0, 0.9, 0, 0, 0], [0, 0, 0, 0, 0]]), torch.tensor([True, False, True]),
     torch.tensor([8, 8, 8, 6, 20]), torch.tensor([3, 0, 4, 0, 2]), torch.tensor([2, 5, 0, 1, 10])),
    (torch.tensor([[0, 0.7, 0, 0], [0, 0, 0, 0], [0, 0, 0.8, 0]]), torch.tensor([False, False, False]),
     torch.tensor([9, 11, 5, 7]), torch.tensor([1, 6, 0, 0]), torch.tensor([0, 0, 0, 0])),
    (torch.zeros(3, 0), torch.tensor([False, True, False]), *[torch.zeros(0, dtype=torch.int64)] * 3))
errors_exercise = Exercise(
    id="09.4", title="misses and false positives", name="unmatched", reference=metrics.unmatched,
    parts=("missed", "false_positive"),
    fixtures=(Fixture("11 predictions around void and a crowd", _SCENES[0]),
              Fixture("two crowds", _SCENES[1]), Fixture("no crowd; a match that lies mostly in void", _SCENES[2]),
              Fixture("an image without predictions", _SCENES[3])),
    mistakes=(
        Mistake("a crowd counted as missed", errors_with(missed=lambda ious, crowd: (ious == 0).all(1)),
                "Nobody drew its members one by one, so nobody can be asked to find it: a crowd is never missed."),
        Mistake("void not excused", errors_with(lambda area, void, crowd: 2 * crowd > area),
                "What lies mostly where nobody looked may be right: void pixels count towards the half."),
        Mistake("the crowd not excused", errors_with(lambda area, void, crowd: 2 * void > area),
                "A single sheep found in a crowd of sheep is not an error: crowd pixels count towards the half."),
        Mistake("nothing excused", errors_with(lambda area, void, crowd: area < 0),
                "A prediction that lies mostly in void and its own crowd is not a false positive."),
        Mistake("half in void, or half in the crowd",
                errors_with(lambda area, void, crowd: (2 * void > area) | (2 * crowd > area)),
                "Add them up: 6 pixels in void and 6 in the crowd are 12 of 20."),
        Mistake("excused at exactly half", errors_with(lambda area, void, crowd: 2 * (void + crowd) >= area),
                "*More* than half: exactly half is still a false positive."),
        Mistake("excused by a single pixel", errors_with(lambda area, void, crowd: void + crowd > 0),
                "More than half of the prediction must lie there."),
        Mistake("excused only if wholly in void and crowd", errors_with(lambda area, void, crowd: void + crowd >= area),
                "More than half is enough."),
        Mistake("void and crowd compared with the rest without void",
                errors_with(lambda area, void, crowd: 2 * crowd > area - void), _HALF),
        Mistake("the matched predictions counted as false positives",
                errors_with(false=lambda ious, excused: ~excused),
                "A match is a true positive, whatever else it covers."),
        Mistake("the matches instead of what has none",
                errors_with(missed=lambda ious, crowd: (ious > 0).any(1), false=lambda ious, e: (ious > 0).any(0)),
                "Missed: true segments *without* a match. False positives: predictions without one."),
        Mistake("what is excused instead of the false positives",
                errors_with(false=lambda ious, excused: (ious == 0).all(0) & excused),
                "The excused ones are those that do not count."),
        Mistake("the two results exchanged", lambda *a: _pair(*a)[::-1], "First the missed [T], then the false [P]."),
        Mistake("their numbers instead of masks", _numbers, "One bool per segment, so that each class can count its "
                "own.")),
    hints=("Which rows, and which columns, hold no match at all?",
           "Missed: rows of zeros that are not crowds. False positive: columns of zeros, unless void + own_crowd is "
           "more than half of the predicted area.",
           "missed = ~(ious > 0).any(1) & ~crowd; false_positive = ~(ious > 0).any(0) & "
           "~((void + own_crowd) / pred_area > 0.5)"),
    why="Void and crowd are places where the truth is silent. They lower nobody's score: neither that of a model "
        "that finds nothing there, nor that of one that finds something.")
