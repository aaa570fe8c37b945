"""Exercises of lesson 03, the mask losses: cross-entropy, focal, dice, IoU, void pixels, the weighted total."""
import torch
import torch.nn.functional as F

from ..core import Exercise, Fixture, Mistake, Remark, issue
from .lesson03_dice import DICE_MISTAKES, VALID_MISTAKES
from .lesson03_masks import ENTROPY_MISTAKES, FOCAL_MISTAKES, MASK_FIXTURES, SURE_FIXTURES

TITLE = "The mask losses"


# --- 03.1 the cross-entropy of a pixel ------------------------------------------------------------------------------

def cross_entropy(mask_logits, masks):
    # -log sigmoid(x) = log(1 + exp(-x)) = softplus(-x), and -log(1 - sigmoid(x)) = softplus(x)
    return F.softplus(-mask_logits) * masks + F.softplus(mask_logits) * (1 - masks)  # [M, H, W]


entropy_exercise = Exercise(
    id="03.1", title="the cross-entropy of each pixel", name="cross_entropy", reference=cross_entropy,
    fixtures=SURE_FIXTURES, mistakes=ENTROPY_MISTAKES,
    hints=("How much probability did the model give to what is true, at a pixel inside and at one outside the mask?",
           "-log of that. Do not take the sigmoid first and the log after it: write both as one function of the logit.",
           "inside: -log sigmoid(x) = log(1 + exp(-x)) = F.softplus(-x); outside: F.softplus(x)"),
    why="In float32 a sigmoid is exactly 1 from a logit of about 17 on, and log(1 - 1) is minus infinity. "
        "softplus never forms that 1. It equals F.binary_cross_entropy_with_logits, which the library uses.")


# --- 03.2, 03.3 focal and dice --------------------------------------------------------------------------------------

def sigmoid_focal_loss(mask_logits, masks, num_masks, alpha=0.25, gamma=2.0):
    prob = mask_logits.sigmoid()
    p_t = prob * masks + (1 - prob) * (1 - masks)  # the probability given to what is true
    alpha_t = alpha * masks + (1 - alpha) * (1 - masks)
    cross_entropy = F.binary_cross_entropy_with_logits(mask_logits, masks, reduction="none")  # -log(p_t)
    loss = alpha_t * (1 - p_t) ** gamma * cross_entropy  # [M, H, W]
    return loss.flatten(1).mean(1).sum() / num_masks


def dice_loss(mask_logits, masks, num_masks):
    prob, masks = mask_logits.sigmoid().flatten(1), masks.flatten(1)  # [M, H*W]
    per_mask = 1 - (2 * (prob * masks).sum(1) + 1) / (prob.sum(1) + masks.sum(1) + 1)  # [M]
    return per_mask.sum() / num_masks


_SURE = Remark((torch.full((1, 1, 2), 200.0), torch.tensor([[[1.0, 0.0]]]), 1.0),
               "with a logit of 200 yours is not finite; see exercise 03.1.")

focal_exercise = Exercise(
    id="03.2", title="the focal loss", name="sigmoid_focal_loss", reference=sigmoid_focal_loss,
    learns=("mask_logits",),
    fixtures=(*MASK_FIXTURES, Fixture("3 masks, alpha 0.6 and gamma 3", (*MASK_FIXTURES[1].args, 0.6, 3.0))),
    mistakes=FOCAL_MISTAKES,
    hints=("Which pixels should hardly count: those with a large or those with a small p_t?",
           "Three factors per pixel: alpha_t, a power of (1 - p_t), the cross-entropy of 03.1. Then the mean over the "
           "pixels of each mask, the sum over masks, and one division.",
           "(alpha_t * (1 - p_t) ** gamma * cross_entropy).flatten(1).mean(1).sum() / num_masks, with alpha_t = alpha "
           "inside the mask and 1 - alpha outside"),
    why="The mean over pixels makes small and large images alike, the sum over masks divided by num_masks makes every "
        "mask of the batch alike. The library's function is this one with void pixels (03.5) and checks of the shapes.",
    remarks=(_SURE,))

dice_exercise = Exercise(
    id="03.3", title="the dice loss", name="dice_loss", reference=dice_loss, fixtures=MASK_FIXTURES,
    learns=("mask_logits",),
    mistakes=DICE_MISTAKES,
    hints=("Three sums over the pixels of one mask are enough. Which?",
           "Overlap, area of the prediction, area of the truth, for each mask by itself. Then the sum over masks.",
           "1 - (2 sum(p y) + 1) / (sum(p) + sum(y) + 1) per mask, summed and divided by num_masks"),
    why="Dividing by the mask's own areas is what makes a duck as important as the sky; pooling the masks first would "
        "undo it. The + 1 gives an empty pair the loss 0 and not 0 / 0.")


# --- 03.4 what a dice loss says in IoU ------------------------------------------------------------------------------

def iou_from_dice_loss(loss):
    dice = 1 - loss
    return dice / (2 - dice)


iou_exercise = Exercise(
    id="03.4", title="the IoU behind a dice loss", name="iou_from_dice_loss", reference=iou_from_dice_loss,
    fixtures=(Fixture("losses 0.1 to 0.9", (torch.tensor([0.1, 0.3, 0.5, 0.9]),)),
              Fixture("a perfect mask, a good one, no overlap", (torch.tensor([0.0, 0.2, 1.0]),)),
              Fixture("two layers of three masks", (torch.tensor([[0.8, 0.4, 0.05], [0.6, 0.25, 0.0]]),))),
    mistakes=(
        Mistake("dice given as IoU", lambda x: 1 - x, "Dice counts the overlap twice, so it is the larger of the two."),
        Mistake("the other way round: dice from IoU", lambda x: 2 * (1 - x) / (2 - x),
                "That formula makes a dice out of an IoU. Solve it for the IoU."),
        Mistake("the loss taken for the dice", lambda x: x / (2 - x), "A loss of 0 is a perfect mask: dice = 1 - loss.",
                issue("akirasosa/mobile-semantic-segmentation", 24)),
        Mistake("1 - IoU", lambda x: 2 * x / (1 + x),
                "That is what an IoU loss would be. The question is for the IoU itself."),
        Mistake("half the dice", lambda x: (1 - x) / 2, "A perfect mask has dice 1 and IoU 1."),
        Mistake("dice / (1 + dice)", lambda x: (1 - x) / (2 - x),
                "A perfect mask would get 1/2. Check the sign when you solve for the IoU."),
        Mistake("dice / (2 + dice)", lambda x: (1 - x) / (3 - x),
                "A perfect mask would get 1/3. Check the sign when you solve for the IoU."),
        Mistake("upside down", lambda x: (1 + x) / (1 - x), "An IoU is at most 1.")),
    hints=("Call the overlap I and the two areas A and B. What is the union, and what are IoU and dice?",
           "IoU = I / (A + B - I), dice = 2 I / (A + B). Divide both by A + B and get rid of I.",
           "dice = 2 IoU / (1 + IoU), so IoU = dice / (2 - dice), with dice = 1 - loss"),
    why="With I / (A + B) = dice / 2, IoU = (dice / 2) / (1 - dice / 2). Exact for hard masks and without the + 1; for "
        "soft ones a good guess. A dice loss of 1/3 is an IoU of 1/2: at that point a segment starts to count in PQ.")


# --- 03.5 void pixels -----------------------------------------------------------------------------------------------

def valid_mean(loss, valid, num_masks):
    loss, valid = loss.flatten(1), valid.flatten(1)  # [M, H*W]
    per_mask = (loss * valid).sum(1) / valid.sum(1).clamp(min=1)  # [M]
    return per_mask.sum() / num_masks


_LOSS = torch.tensor([[[0.9, 0.2, 0.1], [0.4, 0.7, 0.3]], [[0.05, 1.2, 0.6], [0.8, 0.15, 2.0]]])
_VALID = torch.tensor([[[1.0, 1, 0], [1, 1, 1]], [[1.0, 0, 0], [1, 1, 0]]])
valid_exercise = Exercise(
    id="03.5", title="the mean over known pixels", name="valid_mean", reference=valid_mean,
    fixtures=(Fixture("2 masks of two images, 3 targets in the batch", (_LOSS, _VALID, 3.0)),
              Fixture("a mask whose image is void everywhere",
                      (torch.cat([_LOSS.flip(2), _LOSS[:1] * 2]), torch.cat([_VALID[:1], 0 * _VALID[:1], _VALID[1:]]),
                       2.5)),
              Fixture("no mask at all", (torch.zeros(0, 2, 3), torch.zeros(0, 2, 3), 1.0))),
    mistakes=VALID_MISTAKES,
    hints=("How many pixels does each mask have an opinion on?",
           "Zero the void pixels, sum over the pixels of each mask, divide by that mask's own number of valid pixels.",
           "(loss * valid).sum(pixels) / valid.sum(pixels).clamp(min=1), summed over masks, / num_masks"),
    why="Each mask is averaged over its own known pixels, so a rock in one image does not change the weight of another "
        "image. clamp(min=1) turns 0 / 0 into 0 where nothing is known.")


# --- 03.6 the weighted total ----------------------------------------------------------------------------------------

def total_loss(losses, weights):
    return sum(weights[name.split("_")[0]] * value for name, value in losses.items())


def _terms(*layers):
    """The dict of a criterion: the auxiliary layers with numbers, the last without."""
    names = [f"_{i}" for i in range(len(layers) - 1)] + [""]
    return {kind + n: torch.tensor(v) for n, layer in zip(names, layers)
            for kind, v in zip(("class", "focal", "dice"), layer)}


def _sum(losses, weigh, keep=lambda name: True):
    return sum(weigh(name) * value for name, value in losses.items() if keep(name))


def _kind(name):
    return name.split("_")[0]


def _swapped(weights, name):
    return weights[{"focal": "dice", "dice": "focal"}.get(_kind(name), "class")]


_LATER = ("_5", "_6", "_7", "_8", "_9", "10")


def _layers(losses):
    return sum(_kind(name) == "class" for name in losses)


total_exercise = Exercise(
    id="03.6", title="the weighted total", name="total_loss", reference=total_loss,
    fixtures=(Fixture("3 layers, weights 1, 20, 1",
                      (_terms((2.5, 0.31, 0.92), (2.2, 0.14, 0.85), (1.9, 0.08, 0.71)),
                       {"class": 1.0, "focal": 20.0, "dice": 1.0})),
              Fixture("2 layers, weights 2, 5, 3", (_terms((1.3, 0.4, 0.9), (1.1, 0.22, 0.65)),
                                                    {"class": 2.0, "focal": 5.0, "dice": 3.0})),
              Fixture("12 layers, weights 0.5, 8, 4", (_terms(*((3 - 0.2 * i, 0.4 / (i + 1), 0.95 - 0.03 * i)
                                                                for i in range(12))),
                                                       {"class": 0.5, "focal": 8.0, "dice": 4.0})),
              Fixture("one layer only", (_terms((4.0, 0.5, 0.8)), {"class": 1.0, "focal": 20.0, "dice": 1.0}))),
    mistakes=(
        Mistake("the last layer only", lambda x, w: _sum(x, lambda n: w[_kind(n)], lambda n: "_" not in n),
                "Every decoder layer is trained: the terms with a number count as much as those without."),
        Mistake("the auxiliary layers only",
                lambda x, w: _sum(x, lambda n: w[_kind(n)], lambda n: "_" in n) + torch.tensor(0.0),
                "The terms without a number are the last layer's, the one that answers in the end."),
        Mistake("auxiliary terms with weight 1", lambda x, w: _sum(x, lambda n: w.get(n, 1.0)),
                "focal_0 is a focal term: its weight is that of its kind, the part before the underscore."),
        Mistake("no weights", lambda x, w: _sum(x, lambda n: 1.0), "Multiply each term by the weight of its kind."),
        Mistake("the weights of focal and dice exchanged", lambda x, w: _sum(x, lambda n: _swapped(w, n)),
                "Focal is a mean over all pixels and small; it is the one that gets the 20."),
        Mistake("the focal weight for dice too",
                lambda x, w: _sum(x, lambda n: w["class" if _kind(n) == "class" else "focal"]),
                "Dice has a weight of its own."),
        Mistake("at most six layers", lambda x, w: _sum(x, lambda n: w[_kind(n)], lambda n: n[-2:] not in _LATER),
                "The number of layers is the model's affair: go through the names that are there."),
        Mistake("the weights 1, 20, 1 written into the code",
                lambda x, w: total_loss(x, {"class": 1.0, "focal": 20.0, "dice": 1.0}), "Use the argument `weights`."),
        Mistake("the mean over the layers", lambda x, w: total_loss(x, w) / _layers(x),
                "The layers are summed: that is one reason why the total looks so large.",
                issue("NielsRogge/Transformers-Tutorials", 299)),
        Mistake("the mean over all terms", lambda x, w: total_loss(x, w) / len(x), "Sum them."),
        Mistake("divided by the sum of the weights", lambda x, w: total_loss(x, w) / sum(w.values()),
                "The weights are not normalised; the plain weighted sum is what the logs show."),
        Mistake("the class terms left out", lambda x, w: _sum(x, lambda n: w[_kind(n)], lambda n: _kind(n) != "class"),
                "The class loss is part of the total, with weight 1.")),
    hints=("Which weight belongs to a term called focal_0?",
           "The kind of a term is its name up to the underscore. Sum over all names.",
           "sum(weights[name.split(\"_\")[0]] * value for name, value in losses.items())"),
    why="Layers and terms are added, not averaged. With six layers of about 5 + 20 * 0.3 + 1 the first total is 72, "
        "and nothing is wrong with it.")


EXERCISES = [entropy_exercise, focal_exercise, dice_exercise, iou_exercise, valid_exercise, total_exercise]
