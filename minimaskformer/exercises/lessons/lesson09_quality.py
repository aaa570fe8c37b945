"""Exercise 09.5: from matches to PQ, SQ and RQ, and the ways people get them wrong."""
import math

from ..core import Exercise, Fixture, Mistake, issue


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
