"""Exercise 04.1: the class loss as a weighted mean, and the ways people weigh or index it wrongly."""
import math

import torch
import torch.nn.functional as F

from ...losses import classification_loss
from ..core import Exercise, Fixture, Mistake, issue

TINNUNCULUS = ("https://github.com/tinnunculus/MaskFormer/blob/37694d45606f9b32bd85250cadf5f4adccb5e854/"
               "maskformer.ipynb")


def numbers(*shape, start):
    """Fixed numbers between -2.5 and 2.5 without a pattern."""
    return 2.5 * torch.sin(start + 7.3 * torch.arange(1, 1 + math.prod(shape))).reshape(shape)


def match(queries, targets):
    return torch.tensor(queries, dtype=torch.int64), torch.tensor(targets, dtype=torch.int64)


def truth(*labels):
    return [{"labels": torch.tensor(c, dtype=torch.int64)} for c in labels]


# Targets in a cycle; class 0 and several other classes occur; N = K + 1 once; two images; many unmatched queries.
CLASS_FIXTURES = (
    Fixture("two images, 3 targets and 1", (
        numbers(2, 5, 5, start=0.3), truth([2, 0, 3], [1]), [match([0, 2, 4], [2, 0, 1]), match([3], [0])])),
    Fixture("the first image without target, weight 0.4", (
        numbers(2, 4, 4, start=1.1), truth([], [0, 2]), [match([], []), match([1, 2], [1, 0])], 0.4)),
    Fixture("more targets than queries", (
        numbers(1, 2, 4, start=2.4), truth([1, 0, 2]), [match([0, 1], [2, 0])])),
    Fixture("no target at all", (numbers(2, 3, 4, start=3.6), truth([], []), [match([], []), match([], [])])))


def _classes(x, targets, matches, empty=None):
    """The class of every query, [B, N]."""
    classes = torch.full(x.shape[:2], x.shape[-1] - 1 if empty is None else empty)
    for b, (target, (queries, chosen)) in enumerate(zip(targets, matches)):
        classes[b, queries] = target["labels"][chosen]
    return classes


def _weight(x, w, index=-1):
    weight = torch.ones(x.shape[-1], dtype=x.dtype)
    weight[index] = w
    return weight


def _terms(x, targets, matches, w=0.1):
    """Weighted cross-entropy and weight of every query, [B, N] each."""
    classes = _classes(x, targets, matches)
    weight = _weight(x, w)
    return F.cross_entropy(x.mT, classes, weight, reduction="none"), weight[classes]


def _matched_only(x, targets, matches, w=0.1):
    terms, weights = _terms(x, targets, matches, 0.0)
    return terms.sum() / weights.sum()


def _two_means(x, targets, matches, w=0.1):
    classes = _classes(x, targets, matches)
    terms, matched = F.cross_entropy(x.mT, classes, reduction="none"), classes < x.shape[-1] - 1
    return terms[matched].mean() + w * terms[~matched].mean()


def _target_order(x, targets, matches, w=0.1, cut=False):
    classes = _classes(x, [], [])
    for b, (target, (queries, _)) in enumerate(zip(targets, matches)):
        classes[b, queries] = target["labels"][:len(queries)] if cut else target["labels"]
    return F.cross_entropy(x.mT, classes, _weight(x, w))


def _first_image(x, targets, matches, w=0.1):
    classes = _classes(x, [], [])
    for target, (queries, chosen) in zip(targets, matches):
        classes[0, queries] = target["labels"][chosen]
    return F.cross_entropy(x.mT, classes, _weight(x, w))


def _first_queries(x, targets, matches, w=0.1):
    classes = _classes(x, [], [])
    for b, (target, (queries, chosen)) in enumerate(zip(targets, matches)):
        classes[b, :len(queries)] = target["labels"][chosen]
    return F.cross_entropy(x.mT, classes, _weight(x, w))


def _probability(x, targets, matches, w=0.1):
    weights = _weight(x, w)[_classes(x, targets, matches)]
    p = x.softmax(-1).gather(-1, _classes(x, targets, matches)[..., None])[..., 0]
    return -(weights * p).sum() / weights.sum()


def _plain(x, targets, matches, w=0.1, weight=None, empty=None, twice=False):
    x = x.softmax(-1) if twice else x
    return F.cross_entropy(x.mT, _classes(x, targets, matches, empty), weight)


_ORDER = ("the labels in the targets' order, not the match's",
          "queries[k] belongs to targets[k]: its class is labels[targets[k]].", TINNUNCULUS)
class_exercise = Exercise(
    id="04.1", title="the class loss", name="classification_loss", reference=classification_loss,
    learns=("class_logits",),
    fixtures=CLASS_FIXTURES,
    mistakes=(
        Mistake("divided by the number of queries", lambda *a: _terms(*a)[0].mean(),
                "The sum is divided by the sum of the weights: it is a weighted *mean*."),
        Mistake("divided by the number of targets", lambda *a: _terms(*a)[0].sum() / max(
            1, sum(len(t["labels"]) for t in a[1])),
                "That is the normaliser of the mask losses. The class loss is divided by the sum of its own weights.",
                issue("facebookresearch/MaskFormer", 40)),
        Mistake("divided by the number of matched queries", lambda *a: _terms(*a)[0].sum() / max(
            1, sum(len(q) for q, _ in a[2])),
                "The unmatched are in the mean too, with their small weight: divide by the sum of the weights."),
        Mistake("the inverse permutation of the targets", lambda x, t, m, w=0.1: classification_loss(
            x, t, [(q, chosen.argsort()) for q, chosen in m], w),
                "targets[k] is the target of queries[k] already; no inverse is needed here."),
        Mistake("not divided at all", lambda *a: _terms(*a)[0].sum(),
                "A weighted mean: divide by the sum of the weights."),
        Mistake("the mean over images of each image's own weighted mean", lambda *a: (
            _terms(*a)[0].sum(1) / _terms(*a)[1].sum(1)).mean(),
                "All queries of the batch go into one weighted mean; or an image without targets weighs too much."),
        Mistake("the weighted means of the images added up", lambda *a: (
            _terms(*a)[0].sum(1) / _terms(*a)[1].sum(1)).sum(),
                "One weighted mean over all queries of the batch, whichever image they belong to."),
        Mistake("two means, one of the matched queries and 0.1 times one of the others", _two_means,
                "There is one mean: all terms above, all weights below. (The mean of no matched query at all is nan.)"),
        Mistake("the weight on class 0 instead of no-object", lambda x, t, m, w=0.1: _plain(
            x, t, m, weight=_weight(x, w, 0)),
                "no-object is the last class, index K; class 0 is a real one."),
        Mistake("the weights the wrong way round", lambda x, t, m, w=0.1: _plain(
            x, t, m, weight=w * _weight(x, 1 / w)),
                "no-object gets the small weight, the real classes get 1."),
        Mistake("the weight left out", lambda x, t, m, w=0.1: _plain(x, t, m),
                "no-object gets a smaller weight, or the many unmatched queries drown the few matched ones.",
                issue("facebookresearch/detr", 184)),
        Mistake("0.1 written into the code", lambda x, t, m, w=0.1: classification_loss(x, t, m),
                "The weight is an argument; 0.1 is only its default."),
        Mistake("the unmatched queries left out", _matched_only,
                "They learn no-object. Without that nothing would ever stop a second claim on the same sheep.",
                issue("facebookresearch/detr", 365)),
        Mistake("no-object at index 0, and the weight there too", lambda x, t, m, w=0.1: _plain(
            x, t, m, weight=_weight(x, w, 0), empty=0),
                "Index 0 is a real class here; no-object is the last one, K.", TINNUNCULUS),
        Mistake("the unmatched queries learn class 0", lambda x, t, m, w=0.1: _plain(
            x, t, m, weight=_weight(x, w), empty=0),
                "Index 0 is a real class here; no-object is the last one, K.", TINNUNCULUS),
        Mistake("softmax applied twice", lambda x, t, m, w=0.1: _plain(x, t, m, weight=_weight(x, w), twice=True),
                "cross_entropy takes logits and applies the softmax itself.", TINNUNCULUS),
        Mistake("minus the probability, as in the matching cost", _probability,
                "The cost of a match uses -p, the loss uses -log p (lesson 02)."),
        Mistake("the queries' axis read as the classes", lambda x, t, m, w=0.1: F.cross_entropy(
            x, _classes(x, t, m), _weight(x, w)),
                "cross_entropy wants the classes on axis 1: flatten images and queries, or transpose [B, N, K+1]."),
        Mistake(_ORDER[0], _target_order, *_ORDER[1:]),
        Mistake(_ORDER[0], lambda x, t, m, w=0.1: _target_order(x, t, m, w, True), *_ORDER[1:]),
        Mistake("the classes of all images written into image 0", _first_image,
                "classes is [B, N]: index the image as well as the query."),
        Mistake("the labels put into the first queries", _first_queries,
                "Query 0 has no claim to target 0: put labels[targets] at the places `queries`.")),
    hints=("Which class should each of the B x N queries have answered, matched or not?",
           "Make classes [B, N] full of K, write labels[targets] at `queries` image by image, and give F.cross_entropy "
           "a weight for each of the K + 1 classes: all 1, but the last.",
           "sum(w_i * CE_i) / sum(w_i); F.cross_entropy(class_logits.flatten(0, 1), classes.flatten(), weight)"),
    why="torch's cross_entropy with class weights is this weighted mean already: it divides by the sum of the weights. "
        "So doubling the weight of no-object does not double the loss, and with no match at all the weight cancels.")
