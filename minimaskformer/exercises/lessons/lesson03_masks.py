"""Lesson 03: the fixtures of the mask losses, and the ways people get cross-entropy and focal wrong."""
import torch
import torch.nn.functional as F

from ..core import Fixture, Mistake, issue
from .lesson02_masks import TINNUNCULUS

# Masks of unequal area, num_masks different from their number, no logit the negative of another, more outside than
# inside: a single mask, or half of the pixels inside, would hide most of what goes wrong.
LOGITS = torch.tensor([[[2.5, 1.0, -0.5], [-2.0, 0.4, -3.0]], [[-1.5, 0.7, 2.2], [1.8, -0.9, 0.6]],
                       [[0.2, -0.3, -1.1], [3.0, 1.4, 2.0]]])  # [3, 2, 3]
MASKS = torch.tensor([[[1.0, 1, 0], [0, 0, 0]], [[0, 0, 1], [1, 1, 0]], [[0, 0, 0], [0, 0, 1]]])
MASK_FIXTURES = (
    Fixture("2 masks, 7 targets in the batch", (LOGITS[:2], MASKS[:2], 7.0)),
    Fixture("3 masks, 2.5 targets (a mean over processes)", (LOGITS.flip(1) * 0.8, MASKS, 2.5)),
    Fixture("no mask at all", (torch.zeros(0, 2, 3), torch.zeros(0, 2, 3), 1.0)))
SURE_FIXTURES = (
    Fixture("2 masks of 2 x 3 pixels", (LOGITS[:2], MASKS[:2])),
    Fixture("another mask", (LOGITS[2:] * 1.7, MASKS[2:])),
    Fixture("very sure pixels, right and wrong",
            (torch.tensor([[[1000.0, -1000.0, 1000.0, -1000.0]]]), torch.tensor([[[1.0, 0.0, 0.0, 1.0]]]))))
MLLMSEG = issue("jcwang0602/MLLMSeg", 9)


# --- cross-entropy --------------------------------------------------------------------------------------------------

def _p_t(x, y):
    p = x.sigmoid()
    return p * y + (1 - p) * (1 - y)


def _inside_out(x, y, inside, outside):
    return inside(x) * y + outside(x) * (1 - y)


def _log_p(x):
    return x.sigmoid().log()


def _log_1_p(x):
    return (1 - x.sigmoid()).log()


def _clamped(x, y, margin):
    p = x.float().sigmoid().clamp(margin, 1 - margin)  # float32 on purpose: it decides what 1 - margin is
    return F.binary_cross_entropy(p, y.float(), reduction="none")


_ROUNDED = ("the right formula, but it breaks down at very sure pixels",
            "At a logit of 1000 the sigmoid is exactly 1 and log(1 - 1) minus infinity, and exp(1000) is infinite too. "
            "Clamping or an epsilon only hides it. F.softplus(x) = log(1 + exp(x)) is written so that neither happens.",
            issue("kornia/kornia", 2115))
_SIGN = ("the minus sign missing", "log p_t is negative; a loss must fall when p_t grows.")
_FLIPPED = ("inside and outside exchanged", "Inside the mask the true answer is 1: there the loss is -log p.")
_INSIDE = ("only the pixels of the mask", "Outside, the model is right when p is small: -log(1 - p) there.")
ENTROPY_MISTAKES = (
    Mistake(_ROUNDED[0], lambda x, y: -_inside_out(x, y, _log_p, _log_1_p), *_ROUNDED[1:]),  # 0 * inf
    Mistake(_ROUNDED[0], lambda x, y: -_p_t(x, y).log(), *_ROUNDED[1:]),  # inf
    Mistake(_ROUNDED[0], lambda x, y: F.binary_cross_entropy(x.sigmoid(), y, reduction="none"), *_ROUNDED[1:]),  # 100
    Mistake(_ROUNDED[0], lambda x, y: x.exp().log1p() - x * y, *_ROUNDED[1:]),  # inf where x is 1000
    *(Mistake(_ROUNDED[0], lambda x, y, e=e: -(_p_t(x, y) + e).log(), *_ROUNDED[1:])
      for e in (1e-6, 1e-7, 1e-8, 1e-10, 1e-12)),
    *(Mistake(_ROUNDED[0], lambda x, y, e=e: _clamped(x, y, e), *_ROUNDED[1:]) for e in (1e-4, 1e-7)),
    Mistake(_SIGN[0], lambda x, y: -_inside_out(x, y, lambda x: F.softplus(-x), F.softplus), _SIGN[1]),
    Mistake(_SIGN[0], lambda x, y: _p_t(x, y).log(), _SIGN[1]),
    Mistake(_SIGN[0], lambda x, y: _inside_out(x, y, _log_p, _log_1_p), _SIGN[1]),
    Mistake(_FLIPPED[0], lambda x, y: _inside_out(x, y, F.softplus, lambda x: F.softplus(-x)), _FLIPPED[1]),
    Mistake(_FLIPPED[0], lambda x, y: -_p_t(x, 1 - y).log(), _FLIPPED[1]),
    Mistake(_INSIDE[0], lambda x, y: F.softplus(-x) * y, _INSIDE[1]),
    Mistake(_INSIDE[0], lambda x, y: -_log_p(x) * y, _INSIDE[1]),
    Mistake("sigmoid applied twice", lambda x, y: F.binary_cross_entropy_with_logits(x.sigmoid(), y, reduction="none"),
            "The function with_logits applies the sigmoid itself: give it the logits.", MLLMSEG),
    Mistake("p_t itself", _p_t, "A loss must fall when p_t grows: minus its log."),
    Mistake("1 - p_t", lambda x, y: 1 - _p_t(x, y),
            "That is never above 1. The log makes a confident mistake expensive."),
    Mistake("the mean instead of one value per pixel", F.binary_cross_entropy_with_logits,
            "The next exercise weighs each pixel by itself, so it needs them all: reduction=\"none\"."),
    *(Mistake("F.cross_entropy", lambda x, y, r=r: F.cross_entropy(x, y, reduction=r),
              "F.cross_entropy is a softmax over classes, and here it takes the rows for classes. A mask pixel is one "
              "yes or no: a sigmoid, and the loss of each pixel by itself.") for r in ("mean", "none", "sum")),
    Mistake("a logarithm to base 2", lambda x, y: _inside_out(x, y, lambda x: F.softplus(-x), F.softplus) * 1.442695041,
            "The natural logarithm, torch.log."),
)


# --- focal ----------------------------------------------------------------------------------------------------------

def mean_sum(loss, n):
    return loss.flatten(1).mean(1).sum() / n


def _focal(x, y, n, alpha=0.25, gamma=2.0, weight=lambda p_t, p, g: (1 - p_t) ** g, alphas=lambda a: (a, 1 - a),
           reduce=mean_sum):
    """The focal loss with knobs to get wrong."""
    p, p_t, (inside, outside) = x.sigmoid(), _p_t(x, y), alphas(alpha)
    entropy = F.binary_cross_entropy_with_logits(x, y, reduction="none")
    return reduce((inside * y + outside * (1 - y)) * weight(p_t, p, gamma) * entropy, n)


def focal_with(**knobs):
    return lambda x, y, n, alpha=0.25, gamma=2.0: _focal(x, y, n, alpha, gamma, **knobs)


def _one(p_t, p, gamma):
    return torch.ones_like(p_t)


def _logit_weight(x, y, n, alpha=0.25, gamma=2.0):
    mixed = x * y + (1 - x) * (1 - y)
    return _focal(x, y, n, alpha, gamma, weight=lambda p_t, p, g: (1 - mixed) ** g)


def _weighted_p_t(x, y, n, alpha=0.25, gamma=2.0):
    entropy = (alpha * y + (1 - alpha) * (1 - y)) * F.binary_cross_entropy_with_logits(x, y, reduction="none")
    return mean_sum((1 - (-entropy).exp()) ** gamma * entropy, n)


def _of_probabilities(x, y, n, alpha=0.25, gamma=2.0):
    entropy = F.binary_cross_entropy_with_logits(x.sigmoid(), y, reduction="none")
    return mean_sum((alpha * y + (1 - alpha) * (1 - y)) * (1 - _p_t(x, y)) ** gamma * entropy, n)


def _averaged_entropy(x, y, n, alpha=0.25, gamma=2.0):
    weight = (alpha * y + (1 - alpha) * (1 - y)) * (1 - _p_t(x, y)) ** gamma
    return mean_sum(weight * F.binary_cross_entropy_with_logits(x, y), n)


def _by_positives(x, y, n, alpha=0.25, gamma=2.0):
    return _focal(x, y, n, alpha, gamma, reduce=lambda loss, n: loss.sum() / y.sum())


def _by_own_positives(x, y, n, alpha=0.25, gamma=2.0):
    return _focal(x, y, n, alpha, gamma, reduce=lambda loss, n: (loss.sum((1, 2)) / y.sum((1, 2))).sum() / n)


_ONE_SIDE = ("the mean over one side of the image", "Both H and W are pixels: flatten(1), then mean(1).")
_POSITIVES = ("divided by the number of pixels inside the masks",
              "RetinaNet divides by the number of positive anchors; here each mask is a mean over *all* its pixels.")
FOCAL_MISTAKES = (
    Mistake("alpha on the wrong side", focal_with(alphas=lambda a: (1 - a, a)),
            "The pixels inside the mask get alpha = 0.25, those outside 0.75: gamma already quiets the many easy "
            "pixels outside.", issue("yatengLG/Focal-Loss-Pytorch", 4)),
    Mistake("alpha inside and outside alike", focal_with(alphas=lambda a: (a, a)),
            "Outside the mask the weight is 1 - alpha.", issue("liuyuisanai/Focal-Loss", 4)),
    Mistake("no weight 1 - alpha outside", focal_with(alphas=lambda a: (a, 1)),
            "Outside the mask the weight is 1 - alpha.", issue("mathiaszinnen/focal_loss_torch", 2)),
    Mistake("alpha left out", focal_with(alphas=lambda a: (1, 1)), "alpha inside the mask, 1 - alpha outside."),
    Mistake("gamma on the wrong side: p_t ** gamma", focal_with(weight=lambda p_t, p, g: p_t ** g),
            "That keeps the easy pixels and quiets the hard ones. The factor is (1 - p_t) ** gamma.",
            issue("open-mmlab/mmdetection", 2309)),
    Mistake("(1 - p) ** gamma outside too", focal_with(weight=lambda p_t, p, g: (1 - p) ** g),
            "Outside the mask p_t is 1 - p, so the factor there is p ** gamma.", issue("yqyao/SSD_Pytorch", 32)),
    Mistake("times gamma instead of to the power gamma", focal_with(weight=lambda p_t, p, g: (1 - p_t) * g),
            "** is the power.", issue("fudannlp16/focal-loss", 6)),
    Mistake("no focal factor", focal_with(weight=_one), "Multiply each pixel by (1 - p_t) ** gamma."),
    Mistake("plain cross-entropy, without alpha and gamma", focal_with(weight=_one, alphas=lambda a: (1, 1)),
            "The focal loss is this with two weights: alpha_t and (1 - p_t) ** gamma."),
    Mistake("the argument gamma not used", lambda x, y, n, alpha=0.25, gamma=2.0: _focal(x, y, n, alpha),
            "Example 4 has another gamma."),
    Mistake("the argument alpha not used", lambda x, y, n, alpha=0.25, gamma=2.0: _focal(x, y, n, 0.25, gamma),
            "Example 4 has another alpha."),
    Mistake("the focal factor made from logits", _logit_weight, "p_t is a probability: take the sigmoid first.",
            TINNUNCULUS),
    Mistake("p_t made from the weighted cross-entropy", _weighted_p_t,
            "exp(-cross-entropy) is p_t, but only before alpha is multiplied in."),
    Mistake("the cross-entropy averaged before it was weighted", _averaged_entropy,
            "binary_cross_entropy_with_logits gives the mean unless you say reduction=\"none\"."),
    Mistake("sigmoid applied twice", lambda x, y, *rest: _focal(x.sigmoid(), y, *rest),
            "The cross-entropy with logits applies the sigmoid itself; give it logits.", MLLMSEG),
    Mistake("the cross-entropy with logits was given probabilities", _of_probabilities,
            "binary_cross_entropy_with_logits applies the sigmoid itself; only the focal factor needs probabilities.",
            TINNUNCULUS),
    Mistake("only the pixels of the mask", focal_with(alphas=lambda a: (a, 0)),
            "Pixels outside cost too, or a mask of the whole image would be free."),
    Mistake("the minus sign missing", lambda *args: -_focal(*args), "log p_t is negative; a loss is not."),
    Mistake("the mean over masks instead of the sum / num_masks", focal_with(reduce=lambda loss, n: loss.mean()),
            "The masks given are those of one process, num_masks counts the batch. Sum, then divide by num_masks."),
    Mistake("the mean over masks, and / num_masks as well", focal_with(reduce=lambda loss, n: loss.mean() / n),
            "Mean over the pixels of each mask, *sum* over the masks, then / num_masks."),
    Mistake("num_masks not used: a sum over masks", focal_with(reduce=lambda loss, n: loss.flatten(1).mean(1).sum()),
            "A batch with many masks would take larger steps. Divide by num_masks."),
    Mistake("a sum over pixels instead of the mean", focal_with(reduce=lambda loss, n: loss.sum() / n),
            "A large image would cost more than a small one, and the weight 20 would mean nothing."),
    Mistake(_POSITIVES[0], _by_positives, _POSITIVES[1]),
    Mistake(_POSITIVES[0], _by_own_positives, _POSITIVES[1]),
    Mistake(_ONE_SIDE[0], focal_with(reduce=lambda loss, n: loss.mean(1).sum() / n), _ONE_SIDE[1]),
    Mistake(_ONE_SIDE[0], focal_with(reduce=lambda loss, n: loss.mean(2).sum() / n), _ONE_SIDE[1]),
    Mistake("one value per mask", focal_with(reduce=lambda loss, n: loss.flatten(1).mean(1)),
            "One number: the sum over the masks, / num_masks."),
)
