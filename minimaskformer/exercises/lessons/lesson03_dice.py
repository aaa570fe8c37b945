"""Lesson 03: the ways people get dice and the mean over known pixels wrong."""
import torch

from ..core import Mistake, issue
from .lesson02_masks import TINNUNCULUS
from .lesson03_masks import mean_sum

# --- dice -----------------------------------------------------------------------------------------------------------

def _dice(x, y, n, sigmoid=torch.sigmoid, area=None, pixels=(1, 2), two=2, above=1, below=1, power=1,
          reduce=lambda per_mask, n: per_mask.sum() / n):
    """The dice loss with knobs to get wrong."""
    p = sigmoid(x)
    areas = (p if area is None else area(x)) ** power
    return reduce(1 - (two * (p * y).sum(pixels) + above) / (areas.sum(pixels) + y.sum(pixels) + below), n)


def dice_with(**knobs):
    return lambda x, y, n: _dice(x, y, n, **knobs)


def _iou_loss(x, y, n):
    p = x.sigmoid()
    overlap = (p * y).sum((1, 2))
    return (1 - (overlap + 1) / (p.sum((1, 2)) + y.sum((1, 2)) - overlap + 1)).sum() / n


def _twice_iou(x, y, n):
    p = x.sigmoid()
    overlap = (p * y).sum((1, 2))
    return (1 - (2 * overlap + 1) / (p.sum((1, 2)) + y.sum((1, 2)) - overlap + 1)).sum() / n


def _mean_dice(x, y, n):
    p = x.sigmoid()
    return (1 - (2 * (p * y).mean((1, 2)) + 1) / (p.mean((1, 2)) + y.mean((1, 2)) + 1)).sum() / n


_POOLED = ("areas summed over all masks", "Each mask is divided by its own areas, or the sky decides what the duck "
           "is worth. Sum over pixels first, over masks last.", issue("ivadomed/ivadomed", 910))
_STRIP = ("the sums over one side of the image", "Both H and W are pixels: flatten(1), then sum(1).")
DICE_MISTAKES = (
    Mistake("no sigmoid", dice_with(sigmoid=lambda t: t),
            "The arguments are logits, and an area must be a sum of probabilities."),
    Mistake("sigmoid applied twice", dice_with(sigmoid=lambda t: t.sigmoid().sigmoid()),
            "A second sigmoid squeezes every pixel between 0.5 and 0.73.", TINNUNCULUS),
    Mistake("the sigmoid missing in the area of the prediction", dice_with(area=lambda t: t),
            "Overlap and areas must speak of the same probabilities.", issue("samvanstroud/hepattn", 44)),
    Mistake("a softmax over the masks", dice_with(sigmoid=lambda t: t.softmax(0)),
            "Then the masks compete for each pixel, and with one mask all is 1. Each mask is a yes or no of its own: a "
            "sigmoid."),
    Mistake("masks cut at 0.5", dice_with(sigmoid=lambda t: (t > 0).to(t.dtype)),
            "A threshold has no gradient: nothing could be learnt. Use the probabilities themselves."),
    Mistake("no +1 in numerator and denominator", dice_with(above=0, below=0),
            "The +1 keeps an empty pair from 0 / 0, and small masks calm."),
    Mistake("+1 only in the denominator", dice_with(above=0),
            "With +1 on both sides an empty pair costs 0; with one, it costs 1 although it is right.",
            issue("aim-uofa/AdelaiDet", 610)),
    Mistake("the +1 doubled with the overlap: 2 (overlap + 1)", dice_with(above=2),
            "The +1 stands beside 2 * overlap. With 2 above and 1 below, an empty pair would cost -1."),
    Mistake("+1 only in the numerator", dice_with(below=0), "An empty pair would be divided by zero."),
    Mistake("means instead of sums", _mean_dice,
            "The +1 is one pixel; beside means, which are below 1, it would drown both masks."),
    Mistake("the factor 2 missing", dice_with(two=1),
            "Both areas contain the overlap, so it counts twice: a perfect mask must cost 0."),
    Mistake("squared areas", dice_with(power=2),
            "V-Net squares in the denominator; MaskFormer adds plain areas. On soft masks they differ.",
            issue("DeepRegNet/DeepReg", 535)),
    Mistake(_POOLED[0], dice_with(pixels=(0, 1, 2)), *_POOLED[1:]),
    Mistake(_POOLED[0], dice_with(pixels=(0, 1, 2), reduce=lambda v, n: v), *_POOLED[1:]),
    Mistake(_STRIP[0], dice_with(pixels=1), _STRIP[1]),
    Mistake(_STRIP[0], dice_with(pixels=2), _STRIP[1]),
    Mistake("IoU instead of dice", _iou_loss,
            "Dice divides twice the overlap by the sum of both areas, not the union."),
    Mistake("twice the overlap divided by the union", _twice_iou,
            "That mixes IoU and dice and can fall below 0. Dice divides by the sum of both areas."),
    Mistake("the similarity instead of the loss (no 1 - ...)",
            lambda x, y, n: _dice(x, y, n, reduce=lambda v, n: (1 - v).sum() / n),
            "A perfect mask must cost 0.", issue("akirasosa/mobile-semantic-segmentation", 24)),
    Mistake("1 - ... after the sum over masks",
            lambda x, y, n: 1 - _dice(x, y, n, reduce=lambda v, n: (1 - v).sum() / n),
            "Each mask is 1 - dice; with 7 targets and 2 masks the difference is 5/7."),
    Mistake("the negative similarity", dice_with(reduce=lambda v, n: (v - 1).sum() / n),
            "Its gradient is the same; here the loss of a perfect mask is 0."),
    Mistake("the mean over masks instead of the sum / num_masks", dice_with(reduce=lambda v, n: v.mean()),
            "The masks given are those of one process, num_masks counts the batch. Sum, then divide by num_masks."),
    Mistake("the mean over masks, and / num_masks as well", dice_with(reduce=lambda v, n: v.mean() / n),
            "The *sum* over the masks, then / num_masks."),
    Mistake("num_masks not used: a sum over masks", dice_with(reduce=lambda v, n: v.sum()),
            "A batch with many masks would take larger steps. Divide by num_masks.", issue("faustomilletari/VNet", 13)),
    Mistake("one value per mask", dice_with(reduce=lambda v, n: v), "One number: the sum over the masks, / num_masks."),
)


# --- void -----------------------------------------------------------------------------------------------------------

def _per_mask(loss, valid, below=lambda known: known.clamp(min=1)):
    return (loss * valid).sum((1, 2)) / below(valid.sum((1, 2)))


_POOLED_VOID = ("known pixels counted over all masks together",
                "Each mask is a mean over its own known pixels; only then come the sum and num_masks.")
_STRIP_VOID = ("the mean over one side of the image", "Both H and W are pixels: flatten(1), then sum(1).")
_DROPPED = "the mean over masks instead of the sum / num_masks"
VALID_MISTAKES = (
    Mistake("void pixels counted", lambda x, v, n: mean_sum(x, n),
            "Where valid is 0 nobody knows the answer. The reference code does count them, as outside.",
            issue("facebookresearch/MaskFormer", 57)),
    Mistake("divided by all pixels", lambda x, v, n: mean_sum(x * v, n),
            "A mean over known pixels divides by their number, or an image with much void would count less."),
    Mistake("only the void pixels", lambda x, v, n: _per_mask(x, 1 - v).sum() / n,
            "valid is 1 where the truth is known."),
    Mistake(_POOLED_VOID[0], lambda x, v, n: (x * v).sum() / v.sum() / n, _POOLED_VOID[1]),
    Mistake(_POOLED_VOID[0], lambda x, v, n: (x * v).sum() / v.sum(), _POOLED_VOID[1]),
    Mistake("0 / 0 where nothing is known", lambda x, v, n: _per_mask(x, v, lambda known: known).sum() / n,
            "A mask without a known pixel must cost 0, and one nan would spoil the whole batch: clamp(min=1)."),
    Mistake("+1 in the denominator", lambda x, v, n: _per_mask(x, v, lambda known: known + 1).sum() / n,
            "That also makes every other mask cheaper. clamp(min=1) changes only the empty case."),
    Mistake("the sum over known pixels", lambda x, v, n: (x * v).sum() / n, "The mean: divide by their number."),
    Mistake(_DROPPED, lambda x, v, n: _per_mask(x, v).mean(), "Sum over the masks, then / num_masks."),
    Mistake("the mean over masks, and / num_masks as well", lambda x, v, n: _per_mask(x, v).mean() / n,
            "The *sum* over the masks, then / num_masks."),
    Mistake("divided by the masks that have a known pixel, not by num_masks",
            lambda x, v, n: _per_mask(x, v).sum() / (v.sum((1, 2)) > 0).sum(),
            "num_masks counts the targets of the whole batch, and is given."),
    Mistake("num_masks not used", lambda x, v, n: _per_mask(x, v).sum(), "Divide by num_masks."),
    Mistake(_STRIP_VOID[0], lambda x, v, n: ((x * v).sum(1) / v.sum(1).clamp(min=1)).sum() / n, _STRIP_VOID[1]),
    Mistake(_STRIP_VOID[0], lambda x, v, n: ((x * v).sum(2) / v.sum(2).clamp(min=1)).sum() / n, _STRIP_VOID[1]),
    Mistake("one value per mask", lambda x, v, n: _per_mask(x, v), "One number: the sum over the masks, / num_masks."),
)
