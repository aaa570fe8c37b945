"""Lesson 11: the ways people get the likelihood of a pixel and the shares of the queries wrong."""
import torch
import torch.nn.functional as F

from ..core import Fixture, Mistake
from .lesson02_masks import TINNUNCULUS

# --- the likelihood of a pixel ----------------------------------------------------------------------------------------


def _waves(*shape, step=1.7, size=2.0, lift=0.0):
    """Numbers without a pattern, the same on every machine."""
    count = torch.Size(shape).numel()
    return (size * torch.sin(step * torch.arange(1, count + 1, dtype=torch.float64)) + lift).float().reshape(shape)


_TRUTH = torch.tensor([[[0, 2, 1], [-1, 1, 1]], [[2, -1, 0], [-1, -1, 2]]])
LIKELIHOOD_FIXTURES = (
    Fixture("2 images, 3 queries, 3 classes; 4 of 12 pixels unknown", (_waves(2, 3, 4, step=1.3),
                                                                        _waves(2, 3, 2, 3, step=3.1), _TRUTH)),
    Fixture("1 image, 4 queries, 2 classes", (_waves(1, 4, 3, step=2.9), _waves(1, 4, 3, 2, step=0.9, size=3.0),
                                              torch.tensor([[[1, 0], [0, 0], [1, 0]]]))),
    Fixture("open masks: scores above 1", (_waves(2, 3, 4, step=0.7, lift=2.3), _waves(2, 3, 2, 3, step=1.1, lift=3.1),
                                           _TRUTH.flip(2))))


def _softmax(x):
    return x.softmax(-1)


def _of_class(probs, truth):
    """The probability of each pixel's class: [B, N, K+1] to [B, N, P]."""
    return probs.gather(2, truth.flatten(1)[:, None].expand(-1, probs.shape[1], -1))


def _known(truth):
    return (truth != -1).flatten(1)


def _mean_known(score, truth):
    known = _known(truth)
    return -torch.where(known, score.log(), 0.0).sum() / known.sum()


def likelihood_with(probs=_softmax, masks=torch.sigmoid, join=lambda p, m: (p * m).sum(1),
                    classes=lambda truth, count: truth.clamp(min=0), finish=_mean_known):
    """The likelihood loss with knobs to get wrong."""
    def loss(class_logits, mask_logits, truth):
        p = probs(class_logits)
        p = _of_class(p, classes(truth, class_logits.shape[-1]))  # [B, N, P]
        return finish(join(p, masks(mask_logits).flatten(2)), truth)
    return loss


def _normalised(x, m, truth, columns=slice(-1)):
    scores = torch.einsum("bnk,bnp->bkp", x.softmax(-1)[..., columns], m.sigmoid().flatten(2))  # [B, K or K+1, P]
    own = scores.gather(1, truth.clamp(min=0).flatten(1)[:, None])[:, 0]  # [B, P]
    return _mean_known(own / scores.sum(1), truth)


def _scores_as_logits(x, m, truth):
    scores = torch.einsum("bnk,bnhw->bkhw", x.softmax(-1)[..., :-1], m.sigmoid())  # [B, K, H, W]
    return F.cross_entropy(scores, truth, ignore_index=-1)


def _with_no_object(x, m, truth):
    p = x.softmax(-1)
    p = _of_class(p, truth.clamp(min=0)) + p[..., -1:]
    return _mean_known((p * m.sigmoid().flatten(2)).sum(1), truth)


def _per_image(score, truth):
    known = _known(truth)
    return (-torch.where(known, score.log(), 0.0).sum(1) / known.sum(1)).mean()


LIKELIHOOD_MISTAKES = (
    Mistake("a sum of logs instead of the log of a sum",
            likelihood_with(join=lambda p, m: (p * m).log().sum(1).exp()),
            "With a sum of logs *every* query would have to explain every pixel. First add up, then one log."),
    Mistake("the mean over queries instead of the sum", likelihood_with(join=lambda p, m: (p * m).mean(1)),
            "The semantic score is a sum over queries; nothing is divided by N."),
    Mistake("only the best query of each pixel", likelihood_with(join=lambda p, m: (p * m).amax(1)),
            "That is general inference. The semantic score adds up all queries."),
    Mistake("sum of probabilities times sum of masks", likelihood_with(join=lambda p, m: p.sum(1) * m.sum(1)),
            "Each query multiplies its own probability with its own mask; the sum comes after the product."),
    Mistake("sigmoid applied twice", likelihood_with(masks=lambda m: m.sigmoid().sigmoid()),
            "A second sigmoid keeps every mask between 0.5 and 0.73.", TINNUNCULUS),
    Mistake("no sigmoid", likelihood_with(masks=lambda m: m),
            "mask_logits are logits; m_i is their sigmoid. The log of a negative sum is nan."),
    Mistake("a softmax over the queries for the masks", likelihood_with(masks=lambda m: m.softmax(1)),
            "The masks do not share a pixel out among themselves: each has its own sigmoid."),
    Mistake("softmax applied twice", likelihood_with(probs=lambda x: x.softmax(-1).softmax(-1)),
            "A second softmax makes all classes nearly alike.", TINNUNCULUS),
    Mistake("no-object left out of the softmax", likelihood_with(probs=lambda x: x[..., :-1].softmax(-1)),
            "The softmax runs over K+1 columns; no-object takes its share, and that is how a query keeps quiet."),
    Mistake("no softmax", likelihood_with(probs=lambda x: x), "class_logits are logits; p_i is their softmax."),
    Mistake("the softmax over queries", likelihood_with(probs=lambda x: x.softmax(1)),
            "Each query has one distribution over classes: the softmax runs over the last axis."),
    Mistake("classes shifted by one", likelihood_with(classes=lambda t, k: (t + 1).clamp(min=0)),
            "No-object is the last column, not the first: class c is column c.", TINNUNCULUS),
    Mistake("no-object added to every score", _with_no_object,
            "A query that says 'nothing here' does not explain the pixel: its column K enters no score."),
    Mistake("sigmoid instead of softmax for the classes", likelihood_with(probs=torch.sigmoid),
            "The K+1 classes of a query exclude each other: p_i is a softmax. Only masks are sigmoids."),
    Mistake("masks cut at one half", likelihood_with(masks=lambda m: (m > 0).to(m.dtype)),
            "m_i is the probability itself. A mask of zeros and ones passes on no gradient, and its score may be 0."),
    *(Mistake("masks cut at one half, and a small number in the log", likelihood_with(
        masks=lambda m: (m > 0).to(m.dtype), join=lambda p, m, eps=eps: (p * m).sum(1) + eps),
              "m_i is the probability itself: a hard mask passes on no gradient, and the small number only hides it.")
      for eps in (1e-6, 1e-8)),
    Mistake("scores clamped at 1", likelihood_with(join=lambda p, m: (p * m).sum(1).clamp(max=1)),
            "The plain score may well exceed 1 (and the loss fall below 0): that is its weakness. Leave it as it is."),
    Mistake("divided by the scores of all classes", _normalised,
            "That is the second variant of this lesson. Here the score of the true class stands alone."),
    Mistake("scores taken as logits of a cross-entropy", _scores_as_logits,
            "The score is what goes into the log. F.cross_entropy would put another softmax around it."),
    Mistake("divided by the scores of all K + 1 columns", lambda *a: _normalised(*a, slice(None)),
            "No-object is no class, and the plain score of the true class stands alone."),
    Mistake("the mean over queries of the logs", likelihood_with(join=lambda p, m: (p * m).log().mean(1).exp()),
            "First add up the queries, then one log: a query that says another class must not be punished here."),
    Mistake("class 0 left out", likelihood_with(
        finish=lambda score, truth: -score[truth.flatten(1) > 0].log().mean()),
            "Unknown is -1 alone; class 0 is a class like any other: truth >= 0."),
    Mistake("unknown pixels counted as class 0",
            likelihood_with(finish=lambda score, truth: -score.log().mean()),
            "Clamping makes -1 a valid index, and a class. Leave those pixels out of sum and count."),
    Mistake("unknown pixels read as the last column",
            likelihood_with(classes=lambda t, k: t % k, finish=lambda score, truth: -score.log().mean()),
            "Index -1 is the last column, no-object: nothing crashes. Unknown pixels count nowhere."),
    Mistake("unknown pixels read as the last class",
            likelihood_with(classes=lambda t, k: t % (k - 1), finish=lambda score, truth: -score.log().mean()),
            "Index -1 of the K scores is class K - 1: nothing crashes. Unknown pixels count nowhere."),
    Mistake("divided by all pixels", likelihood_with(
        finish=lambda score, truth: -torch.where(_known(truth), score.log(), 0.0).mean()),
            "The mean is over the known pixels: divide by their number."),
    Mistake("the mean of each image first", likelihood_with(finish=_per_image),
            "An image with few known pixels would weigh as much as one with many: one sum, one count."),
    Mistake("the sum over pixels", likelihood_with(
        finish=lambda score, truth: -torch.where(_known(truth), score.log(), 0.0).sum()),
            "Divide by the number of known pixels."),
    Mistake("the log of the mean score", likelihood_with(
        finish=lambda score, truth: -(score * _known(truth)).sum().div(_known(truth).sum()).log()),
            "The log of each pixel comes first: one pixel that is hopeless must hurt, not be averaged away."),
    Mistake("no log", likelihood_with(finish=lambda score, truth: -(score * _known(truth)).sum() / _known(truth).sum()),
            "The loss is minus the *log* of the score."),
    Mistake("the sign", likelihood_with(finish=lambda score, truth: -_mean_known(score, truth)),
            "A loss is minimised, a likelihood maximised: minus the log."),
    Mistake("one value per image", likelihood_with(
        finish=lambda score, truth: -torch.where(_known(truth), score.log(), 0.0).sum(1) / _known(truth).sum(1)),
            "One number for the batch."),
)


# --- the shares of the queries ----------------------------------------------------------------------------------------

SHARE_FIXTURES = (
    Fixture("4 queries, 3 classes, 2 x 3 pixels", (_waves(4, 4, step=1.3), _waves(4, 2, 3, step=2.1),
                                                   torch.tensor([[0, 2, 1], [1, 1, 2]]))),
    Fixture("3 queries, 2 classes, 3 x 2 pixels", (_waves(3, 3, step=2.7), _waves(3, 3, 2, step=0.8, size=3.0),
                                                   torch.tensor([[1, 1], [0, 1], [0, 0]]))))


def share_with(probs=_softmax, masks=torch.sigmoid, classes=lambda truth: truth, finish=lambda r: r / r.sum(0)):
    """The shares with knobs to get wrong."""
    return lambda x, m, truth: finish(probs(x)[:, classes(truth)] * masks(m))


def _ones(x):
    return torch.ones_like(x)


def _own_class(x, m, truth):
    r = x.softmax(-1)[:, :-1].amax(-1)[:, None, None] * m.sigmoid()
    return r / r.sum(0)


def _all_classes(x, m, truth):
    p, m = x.softmax(-1), m.sigmoid()
    return p[:, truth] * m / ((1 - p[:, -1])[:, None, None] * m).sum(0)


SHARE_MISTAKES = (
    Mistake("products that are not divided by their sum", share_with(finish=lambda r: r),
            "A share is a part of the whole: divide by the sum over queries. At each pixel the shares add up to 1."),
    Mistake("a softmax of the products", share_with(finish=lambda r: r.softmax(0)),
            "exp(p m) is not p m. (A softmax of the *logs* of the products is right, and stable.)"),
    Mistake("the shares of the masks alone", share_with(probs=_ones),
            "A query with a wide mask and another class has no part in this score: multiply by p_i(c)."),
    Mistake("the shares of the class probabilities alone", share_with(masks=_ones),
            "A query whose mask is elsewhere has no part in this pixel: multiply by m_i."),
    Mistake("everything to the largest", share_with(finish=lambda r: F.one_hot(r.argmax(0), len(r)).movedim(-1, 0)),
            "That is what a match would do. The gradient of a sum reaches every query that is in it."),
    Mistake("divided by the largest", share_with(finish=lambda r: r / r.amax(0)),
            "Divide by the sum over queries, not by the maximum."),
    Mistake("divided by the sum over pixels", share_with(finish=lambda r: r / r.sum((1, 2), keepdim=True)),
            "The question is who answers for *one pixel*: the sum runs over queries."),
    Mistake("divided by the sum over queries and pixels", share_with(finish=lambda r: r / r.sum()),
            "Each pixel by itself: the sum runs over queries only."),
    Mistake("divided by the number of queries", share_with(finish=lambda r: r / len(r)),
            "Divide by the sum over queries of the products."),
    Mistake("divided by the scores of all classes", _all_classes,
            "Only the score of the true class is shared out here."),
    Mistake("divided by the sum of the masks", lambda x, m, truth: share_with(finish=lambda r: r)(x, m, truth)
            / m.sigmoid().sum(0),
            "Divide by the sum of the products p_i(c) m_i: at each pixel the shares add up to 1."),
    Mistake("each query's own best class instead of the true one", _own_class,
            "The score belongs to the class that is true at the pixel, whatever the query itself would say."),
    Mistake("no-object left out of the softmax", share_with(probs=lambda x: x[:, :-1].softmax(-1)),
            "A query that mostly says 'no object' has a small p_i(c): the softmax runs over all K+1 columns."),
    Mistake("the softmax over queries", share_with(probs=lambda x: x.softmax(0)),
            "Each query has one distribution over classes: the softmax runs over the last axis. (If you add logs: log "
            "p_i is log_softmax(class_logits), not the logits.)"),
    Mistake("sigmoid instead of softmax for the classes", share_with(probs=torch.sigmoid),
            "The K+1 classes of a query exclude each other: p_i is a softmax. Only masks are sigmoids."),
    Mistake("exp of the logits for softmax and sigmoid", share_with(probs=torch.exp, masks=torch.exp),
            "p_i is a softmax over the classes, m_i a sigmoid, each query for itself. (If you add logs: log_softmax "
            "and logsigmoid, not the logits.)"),
    Mistake("no softmax", share_with(probs=lambda x: x), "class_logits are logits; p_i is their softmax."),
    Mistake("sigmoid applied twice", share_with(masks=lambda m: m.sigmoid().sigmoid()),
            "A second sigmoid keeps every mask between 0.5 and 0.73, so all queries seem to take part.", TINNUNCULUS),
    Mistake("no sigmoid", share_with(masks=lambda m: m),
            "m_i is the sigmoid of mask_logits; shares are never negative."),
    Mistake("a softmax over the queries for the masks", share_with(masks=lambda m: m.softmax(0)),
            "The masks are sigmoids, each for itself; sharing out is what the division does. (If you add logs: log m_i "
            "is logsigmoid(mask_logits), not the logits.)"),
    Mistake("classes shifted by one", share_with(classes=lambda t: t + 1),
            "No-object is the last column, not the first: class c is column c.", TINNUNCULUS),
    Mistake("the logs of the shares", share_with(finish=lambda r: (r / r.sum(0)).log()),
            "The shares themselves: take exp, or a softmax instead of a log-softmax."),
)
