"""The hunt of lesson 07: one mask of a few cells, and two sizes, that show what is wrong on the way back."""
import torch

from ..hunts import Hunt
from .lesson07_pictures import picture_exercise


def read_way_back(mask_logits, size, picture_size):
    """Nested lists as the arguments of to_picture, for one mask; the padded size is four times the mask's."""
    mask_logits = torch.as_tensor(mask_logits, dtype=torch.float32)
    if mask_logits.ndim != 2:
        raise ValueError("mask_logits is a list of rows.")
    if not all(1 <= side <= 3 for side in mask_logits.shape) or not (mask_logits.abs() <= 9).all():
        raise ValueError(f"the mask has at most 3 x 3 cells, with logits from -9 to 9; yours is "
                         f"{' x '.join(map(str, mask_logits.shape))}.")
    padded = tuple(4 * side for side in mask_logits.shape)
    for name, (height, width), most in (("size", size, padded), ("picture_size", picture_size, (12, 12))):
        if not all(isinstance(side, int) and 1 <= side <= limit for side, limit in zip((height, width), most)):
            raise ValueError(f"{name} is two whole numbers, (height, width), from 1 to {most[0]} and {most[1]}; yours "
                             f"is {(height, width)}.")
    return mask_logits[None], padded, tuple(size), tuple(picture_size)


CELLS = "cells that are all alike look alike however they are enlarged."
CROP = "where the image fills the padded input there is nothing to cut off."
way_back_hunt = Hunt(
    id="07.h", exercise=picture_exercise, arguments=read_way_back,
    task="Make one example for to_picture that shows what is wrong with as many wrong versions as you can: "
         "hunt(\"07.h\", mask_logits, size, picture_size) for one mask of at most 3 x 3 cells, a list of rows with "
         "logits from -9 to 9. Its padded input is four times as large; size: (height, width) of the image in it; "
         "picture_size: at most (12, 12).",
    looks={
        "no crop": CROP,
        "one resize, and nothing cut off": CROP,
        "cropped at stride 4, then one resize": "an image that ends between two cells cannot be cut out at stride 4.",
        "one step to the picture's scale, then the crop": "two steps and one differ if both resize.",
        "resized to `size` where `padded` was meant": CROP,
        "the second resize forgotten": "the picture must have another size than the image.",
        "align_corners=True": f"{CELLS} And both steps must resize.",
        "nearest instead of bilinear": f"{CELLS} And both steps must resize.",
        "bicubic instead of bilinear": CELLS,
        "antialiased": "antialiasing acts where something shrinks.",
        "sigmoid before resizing": CELLS,
        "sigmoid after the first resize": CELLS,
        "sigmoid at the end": CELLS,
        "masks cut at 0": CELLS,
        "cropped at the wrong corner": CROP,
        "cropped in the middle": CROP,
        "cropped to the picture's size": "a picture larger than the input cuts nothing off.",
        "the crop with height and width exchanged": "a square is the same either way.",
        "the picture with height and width exchanged": "a square is the same either way.",
    },
    solution=([[5, -3, 2], [-7, 4, 9], [1, -6, -2]], (7, 10), (9, 5)))

HUNTS = (way_back_hunt,)
