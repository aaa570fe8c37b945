"""The hunt of lesson 08: a few queries on one row of pixels that show what is wrong with the overlap test."""
import torch

from ..hunts import Hunt
from .lesson08 import surviving_exercise


def read_contest(scores, masks, overlap_threshold):
    """Lists as the arguments of surviving: the masks lie on one row of pixels."""
    scores, masks = torch.as_tensor(scores, dtype=torch.float32), torch.as_tensor(masks, dtype=torch.float32)
    if scores.ndim != 1 or masks.ndim != 2:
        raise ValueError("scores is a list of numbers, masks a list of rows, one for each query.")
    if not 1 <= len(scores) <= 4 or not 1 <= masks.shape[1] <= 6 or len(masks) != len(scores):
        raise ValueError(f"at most 4 queries and 6 pixels, at least one of each, and a mask for every query; yours are "
                         f"{len(scores)} scores and {len(masks)} masks of {masks.shape[1]} pixels.")
    if not all(((x >= 0) & (x <= 1)).all() for x in (scores, masks)):
        raise ValueError("scores and masks are probabilities, from 0 to 1.")
    if not isinstance(overlap_threshold, (int, float)) or not 0.1 <= overlap_threshold <= 1:
        raise ValueError("overlap_threshold is a number from 0.1 to 1.")
    order = (scores[:, None] * masks).sort(0, descending=True).values  # [N, P]
    if len(order) > 1 and (order[0] - order[1] < 1e-3).any():
        raise ValueError("two queries want a pixel equally much: change a score or a mask, so that somebody wins it.")
    return scores, masks[:, None], float(overlap_threshold)


NEAR = "some query must lie so near the threshold that this decides."
OVERLAP = "two masks must overlap, so that somebody loses pixels."
contest_hunt = Hunt(
    id="08.h", exercise=surviving_exercise, arguments=read_contest,
    task="Make one example for surviving that shows what is wrong with as many wrong versions as you can: "
         "hunt(\"08.h\", scores, masks, overlap_threshold) with at most 4 queries on one row of at most 6 pixels. "
         "scores: a number from 0 to 1 for each query; masks: a row of probabilities for each; overlap_threshold: from "
         "0.1 to 1.",
    looks={
        "score times mask counted as the query's own area": "a pixel with m above one half and score times m below "
                                                            "it, of a query that has just lost too much.",
        "more than the threshold instead of at least": "a query that keeps exactly the threshold.",
        "the mask taken as m > 0.5": "a pixel at exactly 0.5, of a query for which one pixel decides.",
        "only won pixels inside the own mask counted": "a query that wins a pixel outside its mask, and needs it.",
        "the ratio upside down": OVERLAP,
        "compared the wrong way: the dropped ones are True": "one query must stay, and one must go.",
        "a sigmoid of what are probabilities already": OVERLAP,
        "the mask taken as m > 0": f"a faint mask, above 0 and below one half. {NEAR}",
        "the scores not used in the competition": "the stronger mask must have the lower score, and lose by it.",
        "won pixels as a share of the picture": "a small object that keeps all it claims.",
        "a ratio above 1 taken for a mistake, and dropped": "a query that wins more than it claims.",
        "queries with an empty own mask kept": "a query whose mask reaches one half nowhere, and that wins a pixel.",
        "the own area as the sum of probabilities": NEAR,
        "the IoU of won pixels and mask": "a query that wins pixels outside its mask, and loses some inside.",
        "the threshold fixed at 0.8": "a query between your threshold and 0.8.",
        "greedy: the surest query takes its whole mask first": "a sure query with a weak mask, a strong one on it.",
        "pixels covered by another mask counted as lost, whoever won them": OVERLAP,
    },
    solution=([0.6, 0.9, 0.7, 1.0],
              [[0.9, 0.9, 0.95, 0.6, 0.35, 0.4], [0.05, 0.7, 0.05, 0.05, 0.3, 0.05], [0.0, 0.55, 0.9, 0.5, 0.0, 0.0],
               [0.02, 0.02, 0.02, 0.45, 0.02, 0.02]], 0.5))

HUNTS = (contest_hunt,)
