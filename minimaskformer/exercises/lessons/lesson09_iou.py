"""Lesson 09: counting pixels (09.1) and the IoU of a data set (09.2), and the ways people get them wrong."""
import torch

from ... import metrics
from ..core import Exercise, Fixture, Mistake, issue

BACKGROUND = issue("open-mmlab/mmsegmentation", 2655)

# --- 09.1 the confusion matrix --------------------------------------------------------------------------------------


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


# --- 09.2 the IoU of a data set -------------------------------------------------------------------------------------

def dataset_iou(confusions):
    total = confusions.sum(0)  # [B, K, K+1] -> [K, K+1]
    hits = total.diagonal()  # [K]
    union = total.sum(1) + total[:, :-1].sum(0) - hits  # true or predicted; both counts hold the hits
    iou = hits / union  # 0 / 0 = nan: in neither
    return iou, iou.nanmean()


def _parts(confusions):
    """Hits, true pixels and predicted pixels of each class, float64 [K]."""
    total = confusions.sum(0).double()
    return total.diagonal(), total.sum(1), total[:, :-1].sum(0)


def _iou(confusions, ratio=lambda hits, truth, pred: hits / (truth + pred - hits), average=torch.nanmean):
    iou = ratio(*_parts(confusions))
    return iou, average(iou)


def _filled(value):
    return lambda hits, truth, pred: (hits / (truth + pred - hits)).nan_to_num(value)


def _mean_of(chosen):
    """The right IoUs, and a mean over the classes that chosen(iou, truth, pred) selects."""
    def fn(confusions):
        iou, _ = _iou(confusions)
        return iou, iou[chosen(iou, *_parts(confusions)[1:])].mean()
    return fn


def _per_image(confusions):
    return torch.stack([_iou(c[None])[0] for c in confusions])  # [B, K]


def _without_answer(confusions):
    return _iou(torch.cat([confusions[..., :-1], 0 * confusions[..., -1:]], -1))


def _weighted(confusions):
    iou, _ = _iou(confusions)
    truth = _parts(confusions)[1]
    return iou, (iou.nan_to_num() * truth).sum() / truth.sum()


def _pooled(confusions):
    hits, truth, pred = _parts(confusions)
    return _iou(confusions)[0], hits.sum() / (truth + pred - hits).sum()


def _accuracy(confusions):
    hits, truth, _ = _parts(confusions)
    return _iou(confusions)[0], hits.sum() / truth.sum()


def _no_answer_class(confusions):
    iou = torch.cat([_iou(confusions)[0], torch.zeros(1, dtype=torch.float64)])
    return iou, iou.nanmean()


_IMAGES = ("the mean of each image's own IoU", "Sum the counts of all images first, then divide: a class that fills "
           "three pixels of one image must not weigh as much as the same class over half of another.")
_ABSENT = ("a class that occurs nowhere counted as 0", "It is in neither truth nor prediction: 0 / 0 is undefined. "
           "Give nan, and leave it out of the mean.")
_ONLY = ("a class that is only predicted left out", "Its union is not empty: every predicted pixel is wrong, IoU 0, "
         "and that belongs in the mean, or inventing classes would cost nothing.")
_BIKES = torch.tensor([[[40, 6, 0, 0, 0, 3], [5, 21, 2, 0, 0, 1], [3, 2, 0, 0, 0, 0], [0] * 6, [0] * 6],
                       [[9, 1, 0, 2, 0, 2], [14, 60, 1, 4, 0, 0], [0, 4, 0, 0, 0, 3], [0] * 6, [0] * 6]])
_BOATS = torch.tensor([[[7, 2, 0, 1], [1, 12, 0, 4], [0, 0, 0, 0]], [[30, 0, 0, 0], [0, 3, 0, 9], [0, 0, 0, 0]],
                       [[0, 0, 0, 0], [2, 5, 0, 1], [0, 0, 0, 0]]])
iou_exercise = Exercise(
    id="09.2", title="the IoU of a data set", name="dataset_iou", reference=dataset_iou, parts=("iou", "miou"),
    fixtures=(Fixture("2 images, 5 classes: class 2 never hit, class 3 only predicted, class 4 nowhere", (_BIKES,)),
              Fixture("3 images, 3 classes, class 2 nowhere", (_BOATS,)),
              Fixture("1 image, every class occurs", (torch.tensor([[[18, 4, 5], [1, 11, 7]]]),))),
    mistakes=(
        Mistake("the overlap counted twice in the union", lambda c: _iou(c, lambda h, t, p: h / (t + p)),
                "True pixels plus predicted pixels hold the hits twice: subtract them once."),
        Mistake("dice instead of IoU", lambda c: _iou(c, lambda h, t, p: 2 * h / (t + p)),
                "IoU divides by the union. Dice, twice the hits over both areas, ranks alike but is larger."),
        Mistake("recall instead of IoU", lambda c: _iou(c, lambda h, t, p: h / t),
                "Divide by the true *or* predicted pixels. Recall forgives every false positive.", BACKGROUND),
        Mistake("precision instead of IoU", lambda c: _iou(c, lambda h, t, p: h / p),
                "Divide by the true *or* predicted pixels. Precision forgives every miss."),
        Mistake(_ABSENT[0], lambda c: _iou(c, _filled(0)), _ABSENT[1]),
        Mistake(_ABSENT[0], lambda c: (_iou(c)[0], _iou(c, _filled(0))[1]), _ABSENT[1]),
        Mistake("0 instead of nan for a class that occurs nowhere", lambda c: (_iou(c, _filled(0))[0], _iou(c)[1]),
                "The mean is right, but 0 would say that the class was there and never hit: give nan."),
        Mistake("a class that occurs nowhere counted as 1", lambda c: _iou(c, _filled(1)),
                "Rare classes would improve the mean by not occurring. Give nan, and leave it out of the mean."),
        Mistake("nan in the mean", lambda c: _iou(c, average=torch.mean),
                "One absent class, and the mean is nan. Leave it out: torch.nanmean."),
        Mistake(_ONLY[0], lambda c: _iou(c, lambda h, t, p: torch.where(t > 0, h / (t + p - h), torch.nan)), _ONLY[1]),
        Mistake(_ONLY[0], _mean_of(lambda iou, t, p: t > 0), _ONLY[1]),
        Mistake("classes with IoU 0 left out of the mean", _mean_of(lambda iou, t, p: iou > 0),
                "Never hit is the worst a class can do, and it counts. Only classes in neither map are left out."),
        Mistake("class 0 left out of the mean", _mean_of(lambda iou, t, p: ~iou.isnan() & (torch.arange(len(iou)) > 0)),
                "There is no background here: class 0 counts like any other.", issue("huggingface/evaluate", 421)),
        Mistake("pixels without an answer forgiven", _without_answer,
                "The last column holds true pixels that were missed: they belong to the row's sum."),
        Mistake("no answer taken for a class", _no_answer_class, "It is a column, but not a class: K values of IoU."),
        Mistake(_IMAGES[0], lambda c: (_per_image(c).nanmean(0), _per_image(c).nanmean(0).nanmean()), _IMAGES[1]),
        Mistake(_IMAGES[0], lambda c: (_per_image(c).nanmean(0), _per_image(c).nanmean(1).nanmean()), _IMAGES[1]),
        Mistake(_IMAGES[0], lambda c: (_iou(c)[0], _per_image(c).nanmean(1).nanmean()), _IMAGES[1]),
        Mistake("in percent", lambda c: tuple(100 * v for v in _iou(c)), "Fractions in 0 ... 1, please."),
        Mistake("the first image only", lambda c: _iou(c[:1]), "Sum over all images of the stack."),
        Mistake("the last image only", lambda c: _iou(c[-1:]),
                "Sum over all images of the stack. (In a loop: += and not =.)"),
        Mistake("classes weighted by their pixels", _weighted, "A plain mean: the duck counts as much as the sky."),
        Mistake("all classes pooled", _pooled, "Divide class by class, then take the mean over classes."),
        Mistake("pixel accuracy instead of the mean IoU", _accuracy,
                "The share of right pixels is ruled by the large classes. The mean of the IoUs, please.")),
    hints=("What is the union of the true and the predicted pixels of a class, in rows and columns of the matrix?",
           "Sum over the images first. Row sum: true pixels. Column sum: predicted pixels. Diagonal: both.",
           "iou = diagonal / (row sums + column sums of the first K columns - diagonal), then nanmean"),
    why="Counts first, ratio last. 0 / 0 is nan for a class in neither map, and only that one leaves the mean; a class "
        "that is predicted without being there has a union, and IoU 0.")
