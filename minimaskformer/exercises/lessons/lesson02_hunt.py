"""The hunt of lesson 02: a small table of costs on which every wrong way to assign goes wrong."""
import itertools

import torch

from ..hunts import Hunt, all_whole
from .lesson02_assignment import assign_exercise

SIDE, LARGEST = 3, 9


def read(cost):
    """A list of rows as the argument of assign; ValueError if two assignments are equally good."""
    table = torch.as_tensor(cost, dtype=torch.float64)
    if table.ndim != 2 or not 1 <= table.shape[0] <= SIDE or not 1 <= table.shape[1] <= SIDE:
        raise ValueError(f"a table is a list of rows, one for each query, with a number for each target: at most "
                         f"{SIDE} rows of {SIDE} numbers, at least one of one.")
    if not all_whole(0, LARGEST, table):
        raise ValueError(f"costs are whole numbers from 0 to {LARGEST}.")
    tall = table if table.shape[0] >= table.shape[1] else table.T
    sums = sorted(sum(float(tall[i, j]) for j, i in enumerate(way))
                  for way in itertools.permutations(range(tall.shape[0]), tall.shape[1]))
    if len(sums) > 1 and sums[0] == sums[1]:
        raise ValueError(f"two assignments have the smallest sum, {sums[0]:.0f}: either would be right.")
    return (table.float(),)


BARGAIN = "somebody must want a bargain that costs the others more than it saves."
CYCLE = "a match of two, or one in which two trade places, is its own inverse. What is not?"
WISH = "as long as all wish for different ones, everybody can have what is cheapest."
assignment_hunt = Hunt(
    id="02.h", exercise=assign_exercise, arguments=read,
    task="Make one table of costs on which as many wrong versions of assign as you can go wrong: "
         "hunt(\"02.h\", cost) with a list of rows, one for each query; at most 3 x 3 whole numbers from 0 to 9, and "
         "only one best assignment.",
    looks={
        "query 0 with target 0, query 1 with target 1, ...": "the best match must not lie on the diagonal.",
        "each query takes its cheapest target": WISH,
        "each target takes its cheapest query": WISH,
        "the cheapest pair first, then the cheapest of the rest (greedy)":
            "the cheapest pair of the whole table must not belong to the best match: " + BARGAIN,
        "target by target, each taking its cheapest free query": "go through the columns from the left: " + BARGAIN,
        "query by query, each taking its cheapest free target": "go through the rows from the top: " + BARGAIN,
        "the dearest pair made as cheap as can be": "the best match must contain a pair that is dear, and worth it.",
        "the largest total instead of the smallest": "one row and one column leave nothing to choose.",
        "(targets, queries) instead of (queries, targets)": CYCLE,
        "the inverse permutation of the targets": CYCLE,
        "queries[targets]: indices used twice": CYCLE,
    },
    solution=([[4, 5, 8], [5, 0, 0], [0, 2, 4]],))

HUNTS = (assignment_hunt,)
