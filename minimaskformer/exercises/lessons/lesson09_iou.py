"""Exercise 09.2: the IoU of a data set, and the ways people get it wrong."""
import torch

from ..core import Exercise, Fixture, Mistake, issue
from .lesson09_confusion import BACKGROUND


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
