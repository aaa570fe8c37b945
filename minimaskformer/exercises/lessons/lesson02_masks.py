"""Lesson 02: the fixtures of the mask costs, and the ways people get dice and focal wrong."""
import torch
import torch.nn.functional as F

from ..core import Fixture, Mistake, issue

TINNUNCULUS = ("https://github.com/tinnunculus/MaskFormer/blob/37694d45606f9b32bd85250cadf5f4adccb5e854/"
               "maskformer.ipynb")
TRANSPOSED = "targets as rows and queries as columns"

MASK_LOGITS = torch.tensor([[2.5, 1.0, -0.5, -2.0, 0.4, -3.0], [-1.5, 0.7, 2.2, 1.8, -0.9, 0.6],
                            [0.2, -0.3, -1.1, 3.0, 1.4, 2.0]])  # 3 queries, 6 pixels
MASKS = torch.tensor([[1.0, 1, 0, 0, 0, 0], [0, 0, 1, 1, 1, 0]])
KNOWN = torch.ones(1, 6)
MASK_FIXTURES = (
    Fixture("3 queries, 2 targets, no void", (MASK_LOGITS, MASKS, KNOWN)),
    Fixture("the last two pixels void, one target reaches there",
            (MASK_LOGITS[:, [0, 1, 2, 3, 5, 4]], MASKS[:, [2, 3, 4, 1, 5, 4]], torch.tensor([[1.0, 1, 1, 1, 0, 0]]))),
    Fixture("more targets than queries", (MASK_LOGITS[1:2] * 0.5, torch.stack([MASKS[1], 1 - MASKS[0]]), KNOWN)),
    Fixture("no target", (MASK_LOGITS, MASKS[:0], KNOWN)))
FOCAL_FIXTURES = tuple(Fixture(f"{f.name}; alpha {alpha}, gamma {gamma:g}", (*f.args, alpha, gamma))
                       for f, alpha, gamma in zip(MASK_FIXTURES, (0.25, 0.25, 0.4, 0.25), (2.0, 2.0, 1.5, 2.0)))


def _dice(x, y, v, sigmoid=torch.sigmoid, area=None, known=None, true_area=torch.mul, two=2, above=1, below=1):
    """The dice cost with knobs to get wrong."""
    p = sigmoid(x) * v
    q = p if area is None else area(x) * (v if known is None else known)
    return 1 - (two * p @ (y * v).T + above) / (q.sum(-1)[:, None] + true_area(y, v).sum(-1) + below)


def _pooled_dice(x, y, v):
    p = x.sigmoid() * v
    return 1 - (2 * p @ y.T + 1) / (p.sum() + y.sum() + 1)


def _mean_dice(x, y, v):
    p, pixels = x.sigmoid() * v, x.shape[1]
    return 1 - (2 * p @ y.T / pixels + 1) / (p.mean(-1)[:, None] + y.mean(-1) + 1)


def _squared_dice(x, y, v):
    p = x.sigmoid() * v
    return 1 - (2 * p @ y.T + 1) / ((p ** 2).sum(-1)[:, None] + (y ** 2).sum(-1) + 1)


def _iou_cost(x, y, v):
    p = x.sigmoid() * v
    overlap = p @ y.T
    return 1 - (overlap + 1) / (p.sum(-1)[:, None] + y.sum(-1) - overlap + 1)


_LOGITS = ("valid multiplied into the logits", "sigmoid(0) is 0.5, so void pixels still count, half of each. Multiply "
                                               "the probabilities by valid, not the logits.")
DICE_MISTAKES = (
    Mistake("no sigmoid", lambda x, y, v: _dice(x, y, v, sigmoid=lambda t: t),
            "The arguments are logits, and an area must be a sum of probabilities."),
    Mistake("sigmoid applied twice", lambda x, y, v: _dice(x, y, v, sigmoid=lambda t: t.sigmoid().sigmoid()),
            "A second sigmoid squeezes every pixel between 0.5 and 0.73.", TINNUNCULUS),
    Mistake("the sigmoid missing in the area of the prediction", lambda x, y, v: _dice(x, y, v, area=lambda t: t),
            "Overlap and areas must speak of the same probabilities.", issue("samvanstroud/hepattn", 44)),
    Mistake("masks cut at 0.5", lambda x, y, v: _dice(x, y, v, sigmoid=lambda t: (t > 0).to(t.dtype)),
            "The soft overlap uses the probabilities themselves; a hard mask forgets how sure each pixel was."),
    Mistake("no +1 in numerator and denominator", lambda x, y, v: _dice(x, y, v, above=0, below=0),
            "The +1 keeps an empty pair from 0 / 0, and small masks calm."),
    Mistake("+1 only in the denominator", lambda x, y, v: _dice(x, y, v, above=0),
            "With +1 on both sides two empty masks cost 0; with one, they cost 1."),
    Mistake("+1 only in the numerator", lambda x, y, v: _dice(x, y, v, below=0),
            "With +1 on both sides two empty masks cost 0; with one, they are divided by zero."),
    Mistake("means instead of sums", _mean_dice,
            "The +1 is one pixel; beside means, which are below 1, it would drown both masks."),
    Mistake("the factor 2 missing", lambda x, y, v: _dice(x, y, v, two=1),
            "Both areas contain the overlap, so it counts twice: a perfect prediction must cost 0."),
    Mistake("squared areas", _squared_dice,
            "V-Net squares in the denominator; MaskFormer's dice adds plain areas. On soft masks they differ."),
    Mistake("areas summed over all masks", _pooled_dice,
            "Each pair has its own two areas: sum over the pixels only."),
    Mistake("IoU instead of dice", _iou_cost,
            "Dice divides twice the overlap by the sum of both areas, not the union."),
    Mistake("the similarity instead of the cost (no 1 - ...)", lambda x, y, v: 1 - _dice(x, y, v),
            "The best pair must be the cheapest."),
    Mistake("the negative similarity", lambda x, y, v: _dice(x, y, v) - 1,
            "It gives the same match; here the cost of a perfect pair is 0, as in the loss."),
    Mistake("void pixels counted", lambda x, y, v: _dice(x, y, torch.ones_like(v)),
            "Where valid is 0 nobody knows the answer: those pixels may add to no area.",
            issue("facebookresearch/MaskFormer", 57)),
    Mistake("void pixels of the true mask still counted in its area",
            lambda x, y, v: _dice(x, y, v, true_area=lambda y, v: y),
            "The true area is a sum over pixels too: masks * valid, as for the prediction."),
    Mistake("void pixels of the prediction still counted in its area",
            lambda x, y, v: _dice(x, y, v, area=torch.sigmoid, known=torch.ones_like(v)),
            "The predicted area is a sum over pixels too: multiply the probabilities by valid before you sum them."),
    *(Mistake(_LOGITS[0], fn, _LOGITS[1]) for fn in (
        lambda x, y, v: _dice(x * v, y * v, torch.ones_like(v)), lambda x, y, v: _dice(x * v, y, torch.ones_like(v)))),
    Mistake(TRANSPOSED, lambda x, y, v: _dice(x, y, v).T,
            "The cost is [N, T]: a row per query.", issue("Visual-Behavior/detr-tensorflow", 14)),
)


def _split(a):
    return a, 1 - a


def _power(p_t, p, g):
    return (1 - p_t) ** g


def _focal(x, y, v, a, g, alpha=_split, weight=_power, mean=True):
    """The focal cost pair by pair, with knobs to get wrong: alpha gives the weights of positives and negatives."""
    x, y, v = x[:, None], y[None], v[None]  # [N, 1, P], [1, T, P], [1, 1, P]
    p = x.sigmoid()
    p_t = p * y + (1 - p) * (1 - y)
    alpha_t = alpha(a)[0] * y + alpha(a)[1] * (1 - y)
    total = (alpha_t * weight(p_t, p, g) * (F.softplus(-x) * y + F.softplus(x) * (1 - y)) * v).sum(-1)  # [N, T]
    return total / v.sum(-1) if mean else total


def _positive_minus_negative(x, y, v, a, g):
    """Deformable-DETR's cost of a class, used for masks: only the target's pixels, the other cost subtracted."""
    p = x.sigmoid()
    positive, negative = a * (1 - p) ** g * F.softplus(-x), (1 - a) * p ** g * F.softplus(x)
    return ((positive - negative) * v) @ y.T / v.sum()


def _focal_of_probabilities(x, y, v, a, g):
    p, y = torch.broadcast_tensors(x.sigmoid()[:, None], y[None])
    p_t = p * y + (1 - p) * (1 - y)
    loss = (a * y + (1 - a) * (1 - y)) * (1 - p_t) ** g * F.binary_cross_entropy_with_logits(p, y, reduction="none")
    return (loss * v).sum(-1) / v.sum()


FOCAL_MISTAKES = (
    Mistake("alpha on the wrong side", lambda *args: _focal(*args, alpha=lambda a: (1 - a, a)),
            "Positives get alpha = 0.25, negatives 0.75: gamma already quiets the many easy negatives.",
            issue("yatengLG/Focal-Loss-Pytorch", 4)),
    Mistake("alpha for positives and negatives alike", lambda *args: _focal(*args, alpha=lambda a: (a, a)),
            "Negatives get 1 - alpha.", issue("liuyuisanai/Focal-Loss", 4)),
    Mistake("alpha left out", lambda *args: _focal(*args, alpha=lambda a: (1, 1)),
            "Positives get the weight alpha, negatives 1 - alpha."),
    Mistake("gamma on the wrong side: p_t ** gamma", lambda *args: _focal(*args, weight=lambda p_t, p, g: p_t ** g),
            "That keeps the easy pixels and quiets the hard ones. The factor is (1 - p_t) ** gamma.",
            issue("open-mmlab/mmdetection", 2309)),
    Mistake("(1 - p) ** gamma on negatives too", lambda *args: _focal(*args, weight=lambda p_t, p, g: (1 - p) ** g),
            "On a negative pixel p_t is 1 - p, so the factor there is p ** gamma.", issue("yqyao/SSD_Pytorch", 32)),
    Mistake("no focal factor: plain cross-entropy with alpha",
            lambda *args: _focal(*args, weight=lambda p_t, p, g: torch.ones_like(p_t)),
            "Multiply each pixel by (1 - p_t) ** gamma."),
    Mistake("plain cross-entropy, without alpha and gamma",
            lambda *args: _focal(*args, alpha=lambda a: (1, 1),
                                 weight=lambda p_t, p, g: torch.ones_like(p_t)),
            "The focal cost is this with two weights: alpha_t and (1 - p_t) ** gamma."),
    Mistake("gamma 1, whatever the argument", lambda x, y, v, a, g: _focal(x, y, v, a, 1),
            "The factor is raised to the power gamma."),
    Mistake("gamma always 2", lambda x, y, v, a, g: _focal(x, y, v, a, 2), "Use the argument gamma."),
    Mistake("alpha always 0.25", lambda x, y, v, a, g: _focal(x, y, v, 0.25, g), "Use the argument alpha."),
    Mistake("alpha always 0.25 and gamma always 2", lambda x, y, v, a, g: _focal(x, y, v, 0.25, 2),
            "Use the arguments alpha and gamma."),
    Mistake("positives minus negatives on the target's pixels, as Deformable-DETR does for classes",
            _positive_minus_negative,
            "Pixels outside the target count here, with the other cost, and nothing is subtracted."),
    Mistake("the focal factor made from logits",
            lambda x, y, v, a, g: _focal(x, y, v, a, g, weight=lambda _, p, g: (
                1 - (p.logit() * y + (1 - p.logit()) * (1 - y))) ** g),
            "p_t is a probability: take the sigmoid first.", TINNUNCULUS),
    Mistake("sigmoid applied twice", lambda x, *args: _focal(x.sigmoid(), *args),
            "The cross-entropy with logits applies the sigmoid itself; give it logits.", TINNUNCULUS),
    Mistake("the cross-entropy with logits was given probabilities", _focal_of_probabilities,
            "binary_cross_entropy_with_logits applies the sigmoid itself; only the focal factor needs probabilities.",
            TINNUNCULUS),
    Mistake("a sum over pixels instead of the mean", lambda *args: _focal(*args, mean=False),
            "A large image would cost more than a small one, and the weight 20 would mean nothing."),
    Mistake("the mean over all pixels, void included in the count",
            lambda x, y, v, a, g: _focal(x, y, v, a, g) * v.mean(),
            "Divide by the number of valid pixels."),
    Mistake("void pixels counted", lambda x, y, v, a, g: _focal(x, y, torch.ones_like(v), a, g),
            "Where valid is 0 nobody knows the answer: those pixels cost nothing.",
            issue("facebookresearch/MaskFormer", 57)),
    Mistake(_LOGITS[0], lambda x, y, v, a, g: _focal(x * v, y, torch.ones_like(v), a, g) / v.mean(),
            "A logit of 0 costs: sigmoid(0) is 0.5. Multiply the cost of each pixel by valid, not the logits."),
    Mistake(_LOGITS[0], lambda x, y, v, a, g: _focal(x * v, y * v, torch.ones_like(v), a, g) / v.mean(),
            "A logit of 0 costs: sigmoid(0) is 0.5. Multiply the cost of each pixel by valid, not the logits."),
    *(Mistake("void pixels counted, though the mean is over the valid ones", fn,
              "Divide by the number of valid pixels, but let only these add to the sum: the cost of each pixel times "
              "valid, inside the target and outside.") for fn in (
        lambda x, y, v, a, g: _focal(x, y, torch.ones_like(v), a, g) / v.mean(),
        lambda x, y, v, a, g: _focal(x, y * v, torch.ones_like(v), a, g) / v.mean())),
    Mistake("the weight 20 in it", lambda *args: 20 * _focal(*args),
            "The weights 1, 20 and 1 come when the three costs are added. Leave it out here."),
    Mistake("the minus sign forgotten", lambda *args: -_focal(*args),
            "log p_t is negative, and a cost must fall when p_t grows: -log p_t."),
    Mistake("only the pixels of the target", lambda *args: _focal(*args, alpha=lambda a: (a, 0)),
            "Pixels outside the target cost too, or a mask of the whole image would be free."),
    Mistake(TRANSPOSED, lambda *args: _focal(*args).T,
            "The cost is [N, T]: a row per query.", issue("Visual-Behavior/detr-tensorflow", 14)),
)
