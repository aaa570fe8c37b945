"""Exercise 04.5: mask losses that leave void pixels out, and the ways people leave them in."""
import torch
from torchvision.ops import sigmoid_focal_loss as pixel_focal

from ..core import Exercise, Fixture, Mistake, Remark, issue
from .lesson04_class import TINNUNCULUS


def void_losses(mask_logits, masks, valid):
    focal = (pixel_focal(mask_logits, masks, 0.25, 2.0) * valid).sum(1) / valid.sum(1).clamp(min=1)  # [M]
    probs, masks = mask_logits.sigmoid() * valid, masks * valid  # [M, P]: void pixels are in no sum
    dice = 1 - (2 * (probs * masks).sum(1) + 1) / (probs.sum(1) + masks.sum(1) + 1)  # [M]
    return focal, dice


def _focal(x, y, v):
    return void_losses(x, y, v)[0]


def _dice(x, y, v):
    return void_losses(x, y, v)[1]


def _nothing_void(x, y, v):
    return void_losses(x, y, torch.ones_like(v))


def _zeroed(x, y, v):
    return _nothing_void(x * v, y * v, v)


def _zeroed_logits_only(x, y, v):
    return _nothing_void(x * v, y, v)


def _half_zeroed(x, y, v):
    return pixel_focal(x * v, y * v, 0.25, 2.0).sum(1) / v.sum(1), _dice(x, y, v)


def _pooled(x, y, v):
    focal = (pixel_focal(x, y, 0.25, 2.0) * v).sum(1) / v.sum()
    return focal, _dice(x, y, v)


def _pooled_mean(x, y, v):
    focal = (pixel_focal(x, y, 0.25, 2.0) * v).sum(1) / v.sum() * len(v)
    return focal, _dice(x, y, v)


def _area(x, y, v, of_prediction, of_truth, one=1):
    """Dice with void pixels kept in one of the two areas."""
    p, t = x.sigmoid(), y
    areas = (p if of_prediction else p * v).sum(1) + (t if of_truth else t * v).sum(1)
    return _focal(x, y, v), 1 - (2 * (p * t * v).sum(1) + one) / (areas + one)


def _zeroed_somewhere(focal_of, dice_of):
    """void_losses of logits times valid: the focal and the dice that people make of them."""
    def wrong(x, y, v):
        focal = {"the mean over all": lambda: pixel_focal(x * v, y * v, 0.25, 2.0).mean(1),
                 "over valid": lambda: pixel_focal(x * v, y, 0.25, 2.0).sum(1) / v.sum(1),
                 "masks too, over valid": lambda: pixel_focal(x * v, y * v, 0.25, 2.0).sum(1) / v.sum(1),
                 "right": lambda: _focal(x, y, v)}
        dice = {"logits only": lambda: _nothing_void(x * v, y, v)[1], "masks too": lambda: _zeroed(x, y, v)[1],
                "right": lambda: _dice(x, y, v)}
        return focal[focal_of](), dice[dice_of]()
    return wrong


_HALF = ("logits times valid, and a sigmoid after it",
         "A logit of 0 is p = 0.5, not nothing: it costs in focal, and adds to the areas of dice. Apply valid after "
         "the loss of each pixel, and to the probabilities.")
LOGITS = torch.tensor([[2.1, -0.6, 0.9, -1.7, 1.4, -2.3], [-1.2, 0.5, 1.8, 2.4, -0.4, 0.7],
                       [0.3, -2.0, -0.8, 1.1, 2.7, -1.5]])  # 3 predictions, 6 pixels
MASKS = torch.tensor([[1.0, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1]])
THREAD = issue("facebookresearch/MaskFormer", 57)
AREAS = "An area of dice is a sum of probabilities: leave void pixels out of both areas, as out of the overlap."
void_exercise = Exercise(
    id="04.5", title="mask losses with void", name="void_losses", reference=void_losses, parts=("focal", "dice"),
    learns=("mask_logits",),
    fixtures=(
        Fixture("3 masks, void in other places for each", (LOGITS, MASKS, torch.tensor(
            [[1.0, 1, 1, 1, 0, 1], [1, 0, 1, 1, 0, 0], [0, 1, 1, 1, 1, 1]]))),
        Fixture("no void", (LOGITS[:2] * 0.6, MASKS[:2], torch.ones(2, 6))),
        Fixture("a crowd that lies over part of the mask", (LOGITS[1:].flip(1), MASKS[1:], torch.tensor(
            [[1.0, 1, 1, 0, 0, 1], [1, 0, 1, 1, 0, 1]])))),
    mistakes=(
        Mistake("void as negatives", _nothing_void,
                "So does the reference code. Here a pixel with valid = 0 must count nowhere.", THREAD),
        Mistake("void as negatives, also where it lies over the mask", lambda x, y, v: _nothing_void(x, y * v, v),
                "A zero in the target is a statement: not this. Void makes none. Leave those pixels out.", THREAD),
        Mistake("void as positives", lambda x, y, v: _nothing_void(x, torch.maximum(y, 1 - v), v),
                "valid is 0 where nobody knows. Such a pixel is neither inside nor outside."),
        Mistake("the focal mean over all pixels, void included in the count", lambda x, y, v: (
            (pixel_focal(x, y, 0.25, 2.0) * v).mean(1), _dice(x, y, v)),
                "The sum leaves void out, the mean must too: divide by the number of valid pixels of that mask."),
        Mistake("a sum instead of the mean in focal", lambda x, y, v: (
            (pixel_focal(x, y, 0.25, 2.0) * v).sum(1), _dice(x, y, v)),
                "Divide by the number of valid pixels of that mask."),
        Mistake("focal divided by the valid pixels of all masks", _pooled,
                "Each mask has its own number of valid pixels: sum valid along the pixels only."),
        Mistake("focal divided by the mean number of valid pixels", _pooled_mean,
                "Each mask has its own number of valid pixels: sum valid along the pixels only."),
        Mistake("valid applied to the logits", _zeroed_logits_only,
                "A logit of 0 is a probability of one half, and costs. Apply valid after the loss of each pixel, and "
                "to the probabilities."),
        Mistake("valid applied to logits, probabilities and masks", _half_zeroed,
                "A logit of 0 is a probability of one half, and costs. Apply valid after the loss of each pixel."),
        Mistake("pixel_focal was given probabilities", lambda x, y, v: (_focal(x.sigmoid(), y, v), _dice(x, y, v)),
                "pixel_focal applies the sigmoid itself; give it the logits.", TINNUNCULUS),
        Mistake("no +1 in dice", lambda x, y, v: (_focal(x, y, v), _area(x, y, v, False, False, 0)[1]),
                "Dice here has + 1 above and below the line, so that an empty pair costs 0 and not 0 / 0."),
        Mistake("valid applied to logits and masks", _zeroed,
                "A logit of 0 is a probability of one half, and costs. Apply valid after the loss of each pixel, and "
                "to the probabilities."),
        *(Mistake(_HALF[0], _zeroed_somewhere(*both), _HALF[1]) for both in (
            ("over valid", "logits only"), ("over valid", "right"), ("masks too, over valid", "masks too"),
            ("right", "logits only"), ("right", "masks too"), ("the mean over all", "right"))),
        Mistake("valid the wrong way round", lambda x, y, v: void_losses(x, y, 1 - v),
                "valid is 1 where the truth is known, 0 at void."),
        Mistake("void left out of focal only", lambda x, y, v: (_focal(x, y, v), _nothing_void(x, y, v)[1]),
                "Dice sees void through its sums: overlap and both areas."),
        Mistake("void left out of dice only", lambda x, y, v: (_nothing_void(x, y, v)[0], _dice(x, y, v)),
                "The mean over pixels of focal must leave void out as well."),
        Mistake("void left in both areas of dice", lambda x, y, v: _area(x, y, v, True, True), AREAS),
        Mistake("void left in the predicted area of dice", lambda x, y, v: _area(x, y, v, True, False), AREAS),
        Mistake("void left in the true area of dice", lambda x, y, v: _area(x, y, v, False, True), AREAS),
        Mistake("dice of logits, without the sigmoid", lambda x, y, v: (
            _focal(x, y, v), 1 - (2 * (x * v * y).sum(1) + 1) / ((x * v).sum(1) + (y * v).sum(1) + 1)),
                "Dice needs probabilities: take the sigmoid of the logits first."),
        Mistake("dice and focal exchanged", lambda x, y, v: void_losses(x, y, v)[::-1],
                "Return focal first, then dice."),
        Mistake("the mean over the masks", lambda x, y, v: tuple(a.mean() for a in void_losses(x, y, v)),
                "One value per mask, [M]: dividing by the number of masks comes later (04.3).")),
    hints=("A void pixel must not change the result, whatever its logit. In which sums does it appear?",
           "Focal: the loss of each pixel times valid, and the number of valid pixels below. Dice: probabilities and "
           "masks times valid, before any sum.",
           "focal = (pixel * valid).sum(1) / valid.sum(1); dice with p = sigmoid(x) * valid and y = masks * valid"),
    why="Leaving a pixel out means leaving it out of every sum, the one below the fraction line included. Then its "
        "gradient is exactly 0. The library does it in sigmoid_focal_loss and dice_loss, and in the matching cost.",
    remarks=(Remark((LOGITS[:1], MASKS[:1], torch.zeros(1, 6)),
                    "a mask that lies wholly in void gives 0 / 0 in yours. valid.sum(1).clamp(min=1) keeps it at 0."),))
