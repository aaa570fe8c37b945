"""Exercise 09.1: counting pixels, and the ways people get it wrong."""
import torch

from ... import metrics
from ..core import Exercise, Fixture, Mistake, issue

BACKGROUND = issue("open-mmlab/mmsegmentation", 2655)


def _count(pred, truth, K, ignore, keep=lambda p, t: True, rows=0):
    """The confusion matrix in a loop, [K + rows, K + 1], of the pixels that `keep` keeps."""
    confusion = torch.zeros(K + rows, K + 1, dtype=torch.int64)
    for p, t in zip(pred.flatten().tolist(), truth.flatten().tolist()):
        if t != ignore and keep(p, t):
            confusion[t, p] += 1  # p = -1 is the last column
    return confusion


def _exchanged(pred, truth, K, ignore):
    confusion = _count(pred, truth, K, ignore)
    return torch.cat([confusion[:, :K].T, confusion.new_zeros(K, 1)], 1)


def _exchanged_classes(pred, truth, K, ignore):
    confusion = _count(pred, truth, K, ignore)
    return torch.cat([confusion[:, :K].T, confusion[:, K:]], 1)


def _exchanged_loop(pred, truth, K, ignore):
    confusion = torch.zeros(K, K + 1, dtype=torch.int64)
    for p, t in zip(pred.flatten().tolist(), truth.flatten().tolist()):
        if t != ignore:
            confusion[p, t] += 1  # p = -1 is the last row
    return confusion


def _square(pred, truth, K, ignore):
    confusion = _count(pred, truth, K, ignore)
    confusion[:, K - 1] += confusion[:, K]  # where index -1 points in a matrix [K, K]
    return confusion[:, :K]


def _no_answer_is(label):
    return lambda p, t, K, ignore: _count(torch.where(p == -1, label if label >= 0 else K - 1, p), t, K, ignore)


def _either_ignored(pred, truth, K, ignore):
    return _count(pred, torch.where(pred == ignore, ignore, truth), K, ignore)


def _void_row(pred, truth, K, ignore):
    return _count(pred, torch.where(truth == ignore, K, truth), K, None, rows=1)


def _fixed_255(pred, truth, K, ignore):
    return _count(pred, truth, K, 255)


def _fixed_255_bincount(pred, truth, K, ignore):
    column = torch.where(pred == -1, K, pred)
    pairs = truth[truth != 255] * (K + 1) + column[truth != 255]
    return torch.bincount(pairs, minlength=K * (K + 1)).reshape(K, K + 1)  # raises where void is 9 or -1


def _void_is(label):
    return lambda p, t, K, ignore: _count(p, torch.where(t == ignore, label if label >= 0 else K - 1, t), K, None)


def _no_answer_first(pred, truth, K, ignore):
    return _count(pred, truth, K, ignore).roll(1, 1)


def _below(pred, truth, K, ignore):
    return _count(pred, torch.where(truth < ignore, truth, ignore), K, ignore)


def _stride(pred, truth, K, ignore):
    valid = truth != ignore
    pairs = truth[valid] * K + torch.where(pred == -1, K, pred)[valid]
    return torch.bincount(pairs, minlength=K * (K + 1)).reshape(K, K + 1)


def _share(dims):
    def fractions(*args):
        confusion = _count(*args).double()
        return confusion / confusion.sum(dims, keepdim=True).clamp(min=1)
    return fractions


_LAKE = torch.tensor([[0, 0, 1, 1, 255, 0], [0, 2, 2, 1, 255, 0], [2, 2, 2, 1, 1, 1], [2, 2, 255, 1, 1, 2]])
_LAKE_PRED = torch.tensor([[0, 0, 1, 0, 1, 0], [1, -1, 2, 1, 2, 0], [2, 2, 0, 1, -1, 1], [2, 1, 2, 2, 1, -1]])
_HILL = torch.tensor([[3, 3, 3, 9, 1], [3, 0, 0, 9, 1], [1, 0, 0, 0, 1]])
_HILL_PRED = torch.tensor([[3, 1, 3, 0, 1], [-1, 0, 4, 4, 1], [3, 0, 1, 0, -1]])
_SHORE = torch.tensor([[0, 0, 1, -1], [3, -1, 1, 1], [3, 3, 2, 2]])
_SHORE_PRED = torch.tensor([[0, 1, 1, -1], [-1, 3, 1, 0], [3, -1, 2, 3]])
_EXCHANGED = ("rows and columns exchanged", "Row: the true class. Column: the predicted class. Only the columns have "
              "one more, for no answer.")
_ARGUMENT = "`ignore` is an argument: data sets choose 255, 0, -1, 65535 ... Here it is also 9 and -1."
_EMPTY_BACKGROUND = ("class 0 taken for a background that does not count", "Sky or grass is a class like any other. "
                     "Leave its pixels out, and predictions that spill over it cost nothing.", BACKGROUND)
confusion_exercise = Exercise(
    id="09.1", title="the confusion matrix", name="confusion_matrix", reference=metrics.confusion_matrix,
    fixtures=(Fixture("3 classes, void is 255", (_LAKE_PRED, _LAKE, 3, 255)),
              Fixture("5 classes, one of them nowhere and one only predicted, void is 9", (_HILL_PRED, _HILL, 5, 9)),
              Fixture("4 classes, void is -1", (_SHORE_PRED, _SHORE, 4, -1))),
    mistakes=(
        Mistake(_EXCHANGED[0], _exchanged, _EXCHANGED[1]),
        Mistake(_EXCHANGED[0], _exchanged_classes, _EXCHANGED[1]),
        Mistake(_EXCHANGED[0], _exchanged_loop, _EXCHANGED[1]),
        Mistake(_EXCHANGED[0], lambda *a: _count(*a).T, _EXCHANGED[1]),
        Mistake("pixels without an answer left out",
                lambda *a: _count(*a, keep=lambda p, t: p >= 0),
                "Then a model that stays silent where it is unsure has a better IoU. They are misses: column K."),
        Mistake("no column for the pixels without an answer", lambda *a: _count(*a)[:, :-1],
                "The matrix is [K, K + 1]: the last column counts the pixels with prediction -1."),
        Mistake("pixels without an answer given to the last class", _square,
                "In a matrix [K, K] the index -1 is the last class. The matrix is [K, K + 1]."),
        Mistake("pixels without an answer given to the last class", _no_answer_is(-1),
                "No answer is not a class: it has a column of its own, K, after the last class."),
        Mistake("pixels without an answer given to class 0", _no_answer_is(0),
                "No answer is not a class: it has a column of its own, K."),
        Mistake("the column for no answer put first", _no_answer_first,
                "Class c is column c, as it is row c; no answer comes after the last class, in column K."),
        Mistake("rows of K numbers where there are K + 1", _stride,
                "One number per pixel, truth * (K + 1) + column: a row has K + 1 columns. With truth * K, pixels "
                "without an answer fall into the next class's row."),
        Mistake("each pair of classes counted once", lambda *a: _count(*a).clamp(max=1),
                "confusion[truth, pred] += 1 with index vectors writes each place once, however often it occurs. "
                "np.add.at adds every time, bincount counts."),
        Mistake("pixels left out for their prediction", _either_ignored,
                "Only the truth says what is void. Where `ignore` is -1, a prediction of -1 is still no answer: "
                "column K."),
        Mistake("a row for void", _void_row,
                "Nobody knows what is right on void, so its pixels count nowhere: K rows."),
        Mistake("void counted as class 0", _void_is(0), "Leave out every pixel whose truth is `ignore`."),
        Mistake("void counted as the last class", _void_is(-1), "Leave out every pixel whose truth is `ignore`."),
        Mistake("void fixed at 255", _fixed_255, _ARGUMENT),
        Mistake("void fixed at 255", _fixed_255_bincount, _ARGUMENT),
        Mistake("only classes below `ignore` kept", _below,
                "Here `ignore` is also -1, and no class is below that. Leave out truth == ignore, and nothing else."),
        Mistake(_EMPTY_BACKGROUND[0], lambda *a: _count(*a, keep=lambda p, t: t != 0), *_EMPTY_BACKGROUND[1:]),
        Mistake(_EMPTY_BACKGROUND[0], lambda *a: _count(*a, keep=lambda p, t: t != 0 and p != 0),
                *_EMPTY_BACKGROUND[1:]),
        Mistake("only the right pixels", lambda *a: _count(*a, keep=lambda p, t: p == t),
                "The pixels off the diagonal are what the union needs: count every pair (truth, prediction)."),
        Mistake("shares of each true class", _share(1), "Counts, please: shares of images cannot be added up."),
        Mistake("shares of all pixels", _share((0, 1)), "Counts, please: shares of images cannot be added up.")),
    hints=("Which two numbers does each pixel contribute, and which pixels contribute nothing?",
           "Drop the pixels with truth == ignore. Each other pixel adds 1 at [its truth, its prediction], in the last "
           "column if its prediction is -1.",
           "pairs = truth * (K + 1) + (pred, or K where it is -1), of the pixels that are not ignored; "
           "torch.bincount(pairs, minlength=K * (K + 1)).reshape(K, K + 1)"),
    why="Each pixel becomes one number, (truth, prediction), and one call counts them all. Counts of images add up, so "
        "the matrix of a data set is a sum, and shards of it can be evaluated apart.")
