"""The hunt of lesson 02: one small pair of pictures that shows what is wrong with sixteen dice costs."""
import torch

from ..hunts import Hunt
from .lesson02 import dice_exercise


def read(logits, masks, valid):
    """Nested lists as the arguments of dice_cost."""
    logits, masks = (torch.tensor(rows, dtype=torch.float32) for rows in (logits, masks))
    valid = torch.tensor([valid], dtype=torch.float32)  # [1, P]
    if logits.ndim != 2 or masks.ndim != 2:
        raise ValueError("logits and masks are lists of rows, a row for each mask.")
    if not 1 <= len(logits) <= 2 or not 1 <= len(masks) <= 2 or not 1 <= logits.shape[1] <= 4:
        raise ValueError(f"at most 2 queries, 2 targets and 4 pixels, and at least one of each; yours has "
                         f"{len(logits)}, {len(masks)} and {logits.shape[1]}.")
    if logits.shape[1] != masks.shape[1] or logits.shape[1] != valid.shape[1]:
        raise ValueError(f"every row needs the same number of pixels; yours have {logits.shape[1]}, {masks.shape[1]} "
                         f"and {valid.shape[1]}.")
    if not all(((x == 0) | (x == 1)).all() for x in (masks, valid)) or not valid.any():
        raise ValueError("masks and valid hold 0 and 1, and at least one pixel is valid.")
    if not (logits.abs() <= 10).all():
        raise ValueError("logits lie between -10 and 10.")
    return logits, masks, valid


SURE = "logits like -10, 0 and 10 hide it: the probabilities 0, 1/2 and 1 behave alike. Take a query that is half sure."
VALUE = "the cost of the pair must not happen to be the same; almost any picture with half-sure pixels shows it."
dice_hunt = Hunt(
    id="02.h", exercise=dice_exercise, arguments=read,
    task="Make one example for dice_cost that shows what is wrong with as many wrong versions as you can: "
         "hunt(\"02.h\", logits, masks, valid) with at most 2 queries, 2 targets and 4 pixels. logits: a row of "
         "numbers between -10 and 10 for each query; masks: a row of 0 and 1 for each target; valid: 0 at void.",
    looks={
        "no sigmoid": VALUE,
        "sigmoid applied twice": VALUE,
        "the sigmoid missing in the area of the prediction": VALUE,
        "masks cut at 0.5": SURE,
        "no +1 in numerator and denominator": "where all masks are full or empty and right, 2/2 and 3/3 are the same.",
        "+1 only in the denominator": VALUE,
        "+1 only in the numerator": VALUE,
        "means instead of sums": "with one pixel, a mean is a sum.",
        "the factor 2 missing": "where nothing overlaps there is nothing to double.",
        "squared areas": "0 and 1 are their own squares: only a pixel that is not sure tells them apart.",
        "areas summed over all masks": "with one query and one target, all masks are the only mask.",
        "IoU instead of dice": "where nothing overlaps, union and sum of the areas are the same.",
        "the similarity instead of the cost (no 1 - ...)": "a cost of 1/2 is its own opposite.",
        "the negative similarity": VALUE,
        "void pixels counted": "void must cover something that a mask or a query claims.",
        "targets as rows and queries as columns": "a table with one row and one column is its own transpose.",
    },
    solution=([[1.0, -0.5, 2.0, 0.3], [-1.0, 0.7, -2.0, 1.5]], [[1, 0, 1, 1], [0, 1, 0, 0]], [1, 1, 1, 0]))

HUNTS = (dice_hunt,)
