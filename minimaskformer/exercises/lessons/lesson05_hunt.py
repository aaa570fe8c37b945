"""The hunt of lesson 05: one small coarse map and one feature that show what is wrong with twenty steps down."""
import torch

from ..hunts import Hunt, all_whole
from .lesson05 import top_down_exercise


def read_step(coarse, feature, weight):
    """Nested lists as the arguments of top_down, for one image."""
    coarse, feature, weight = (torch.as_tensor(rows, dtype=torch.float32) for rows in (coarse, feature, weight))
    if coarse.ndim != 3 or feature.ndim != 3 or weight.ndim != 2:
        raise ValueError("coarse and feature are lists of channels, a channel is a list of rows; weight is a list of "
                         "rows.")
    (outputs, *small), (inputs, *large) = coarse.shape, feature.shape
    if not all(1 <= side <= 2 for side in (outputs, inputs, *small)) or not all(1 <= side <= 3 for side in large):
        raise ValueError(f"at most 2 channels, a coarse map of at most 2 x 2 and a feature of at most 3 x 3, and at "
                         f"least one of each; yours are {list(coarse.shape)} and {list(feature.shape)}.")
    if any(fine < few for fine, few in zip(large, small)):
        raise ValueError("the feature has no fewer rows and columns than the coarse map.")
    if list(weight.shape) != [outputs, inputs]:
        raise ValueError(f"weight has a row for each channel of coarse and a column for each of feature: "
                         f"{outputs} x {inputs}; yours is {len(weight)} x {weight.shape[1]}.")
    if not all_whole(-9, 9, coarse, feature, weight):
        raise ValueError("all are whole numbers from -9 to 9.")
    return coarse[None], feature[None], weight


CELLS = "a coarse map of one cell looks alike however it is enlarged; give it two that differ."
SIGN = "a ReLU leaves alone what is positive everywhere."
SUM = "at least one of the two summands must not be 0."
top_down_hunt = Hunt(
    id="05.h", exercise=top_down_exercise, arguments=read_step,
    task="Make one example for top_down that shows what is wrong with as many wrong versions as you can: "
         "hunt(\"05.h\", coarse, feature, weight) for one image. coarse: at most 2 channels of at most 2 x 2; feature: "
         "at most 2 channels of at most 3 x 3; weight: a row for each channel of coarse, a column for each of feature; "
         "whole numbers from -9 to 9.",
    looks={
        "bilinear upsampling": CELLS,
        "bilinear upsampling with aligned corners": CELLS,
        "bicubic upsampling": CELLS,
        "nearest-exact, which reads other cells at odd sizes": "whoever doubles never sees it: which side does not?",
        "twice the coarse size, whatever the feature's": "as long as the feature is twice as large, twice is right.",
        "the weight transposed": "a single number is its own transpose.",
        "the weight applied to the sum": "where the weight changes nothing it may go anywhere.",
        "the coarse map repeated as a whole, like tiles": CELLS,
        "zeros between the coarse cells": "the feature must be larger than the coarse map.",
        "a ReLU on the lateral": SIGN,
        "a ReLU on the coarse map": SIGN,
        "a ReLU after the sum": SIGN,
        "the lateral missing": "the lateral must say something.",
        "the coarse map missing": "the coarse map must say something.",
        "the mean instead of the sum": SUM,
        "subtracted": "nothing less nothing is nothing: the coarse map's part counts here.",
        "the coarse map minus the lateral the wrong way round": "the coarse map must say something.",
        "a product": "2 + 2 is 2 x 2; other numbers are less kind.",
        "concatenated": SUM,
        "the fine map brought down to the coarse size": "a feature that is the same everywhere has nothing to lose.",
    },
    solution=([[[5, -3], [-2, 4]]], [[[1, -2, 3], [-7, 2, 1], [0, 4, -6]], [[2, 1, 0], [-1, 3, -4], [1, 2, 2]]],
              [[2, -3]]))

HUNTS = (top_down_hunt,)
