"""The hunt of lesson 03: two small masks that show what is wrong with twenty-five focal losses."""
import torch

from ..hunts import Hunt, all_whole
from .lesson03 import focal_exercise

MASKS, PIXELS, LARGEST = 2, 4, 9


def read(mask_logits, masks, num_masks, alpha, gamma):
    """Masks as lists of rows, and three numbers, as the arguments of sigmoid_focal_loss."""
    logits, truth = (torch.as_tensor(given, dtype=torch.float64) for given in (mask_logits, masks))
    if logits.ndim != 3 or logits.shape != truth.shape or not len(logits):
        raise ValueError("mask_logits and masks are lists of masks, each a list of rows, and of the same shape.")
    if len(logits) > MASKS or not 1 <= logits[0].numel() <= PIXELS:
        raise ValueError(f"at most {MASKS} masks of at most {PIXELS} pixels, and at least one of each.")
    if not all_whole(-LARGEST, LARGEST, logits):
        raise ValueError(f"logits are whole numbers from -{LARGEST} to {LARGEST}.")
    if not all_whole(0, 1, truth):
        raise ValueError("masks hold 0 and 1.")
    if num_masks not in range(1, LARGEST + 1) or gamma not in range(4) or not 0 <= alpha <= 1:
        raise ValueError(f"num_masks is a whole number from 1 to {LARGEST}, alpha a number from 0 to 1, gamma a whole "
                         f"number from 0 to 3.")
    return logits.float(), truth.float(), float(num_masks), float(alpha), float(gamma)


VALUE = "almost any pixel that is neither sure nor undecided shows it."
ALPHA = "alpha and 1 - alpha are the same for one alpha; and a pixel on one side only hides the other weight."
FACTOR = "where the focal factor is 1, or the same for all ways to write it, it cannot be seen."
COUNT = "with one mask, or as many masks as num_masks, several ways to count are the same."
OUTSIDE = "there must be pixels outside the mask that cost something."
focal_hunt = Hunt(
    id="03.h", exercise=focal_exercise, arguments=read,
    task="Make one example for sigmoid_focal_loss that shows what is wrong with as many wrong versions as you can: "
         "hunt(\"03.h\", mask_logits, masks, num_masks, alpha, gamma) with at most 2 masks of 4 pixels. mask_logits: "
         "for each mask a list of rows of whole numbers from -9 to 9; masks: the same of 0 and 1; num_masks from 1 to "
         "9; alpha from 0 to 1; gamma 0, 1, 2 or 3.",
    looks={
        "alpha on the wrong side": ALPHA,
        "alpha inside and outside alike": ALPHA,
        "no weight 1 - alpha outside": ALPHA,
        "alpha left out": ALPHA,
        "gamma on the wrong side: p_t ** gamma": FACTOR,
        "(1 - p) ** gamma outside too": FACTOR,
        "times gamma instead of to the power gamma": FACTOR,
        "no focal factor": FACTOR,
        "plain cross-entropy, without alpha and gamma": FACTOR,
        "the argument gamma not used": "whoever writes 2 into the code is right as long as gamma is 2.",
        "the argument alpha not used": "whoever writes 0.25 into the code is right as long as alpha is 0.25.",
        "the focal factor made from logits": VALUE,
        "p_t made from the weighted cross-entropy": FACTOR,
        "the cross-entropy averaged before it was weighted": "one pixel, or pixels that all cost the same, hide it.",
        "sigmoid applied twice": VALUE,
        "the cross-entropy with logits was given probabilities": VALUE,
        "only the pixels of the mask": OUTSIDE,
        "the minus sign missing": VALUE,
        "the mean over masks instead of the sum / num_masks": COUNT,
        "the mean over masks, and / num_masks as well": COUNT,
        "num_masks not used: a sum over masks": COUNT,
        "a sum over pixels instead of the mean": "with one pixel, a mean is a sum.",
        "divided by the number of pixels inside the masks": "a mask that covers all hides it. What else does?",
        "the mean over one side of the image": "a picture of one row, or of one column, hides it.",
        "one value per mask": "with one mask, the sum over masks is the loss of that mask.",
    },
    solution=([[[1, -2], [3, -1]], [[-1, 2], [1, 0]]], [[[1, 0], [0, 0]], [[0, 1], [1, 0]]], 5, 0.4, 3))

HUNTS = (focal_hunt,)
