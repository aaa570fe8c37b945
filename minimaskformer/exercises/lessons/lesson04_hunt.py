"""The hunt of lesson 04: the matches of one batch that show what is wrong with twenty ways to pick the pairs."""
import torch

from ..hunts import Hunt, all_whole
from .lesson04_class import numbers
from .lesson04_masks import different_masks, picking_exercise

QUERIES, PAIRS = 4, 4  # of each image; of the whole batch


def read(image_0, image_1, image_2):
    """Three matches, [queries, targets] each, as the arguments of matched_masks."""
    matches = [read_match(match) for match in (image_0, image_1, image_2)]
    if sum(len(queries) for queries, _ in matches) > PAIRS:
        raise ValueError(f"at most {PAIRS} pairs in all three images together.")
    return numbers(3, QUERIES, 2, 3, start=0.5), different_masks(*(len(chosen) for _, chosen in matches)), matches


def read_match(match):
    """[queries, targets] as two index vectors; every target of the image has a query."""
    queries, chosen = (torch.as_tensor(row, dtype=torch.float64) for row in match)
    if queries.ndim != 1 or queries.shape != chosen.shape:
        raise ValueError("a match is two lists of the same length: [queries, targets].")
    if not all_whole(0, QUERIES - 1, queries) or len(queries.unique()) < len(queries):
        raise ValueError(f"queries are whole numbers from 0 to {QUERIES - 1}, each at most once in an image.")
    if not torch.equal(chosen.sort().values, torch.arange(len(chosen), dtype=torch.float64)):
        raise ValueError("an image with T pairs has the targets 0 to T - 1, each once, in any order.")
    return queries.long(), chosen.long()


BOTH = "where a query and its target have the same number, the two vectors can be taken for each other."
LATER = "in image 0 every offset is 0: what matters is a pair in a later image."
picking_hunt = Hunt(
    id="04.h", exercise=picking_exercise, arguments=read,
    task="Make the matches of one batch that show what is wrong with as many wrong versions of matched_masks as you "
         "can: hunt(\"04.h\", image_0, image_1, image_2), a match [queries, targets] for each of three images. There "
         "are four queries in each image (0 to 3) and as many targets as pairs; at most four pairs in all.",
    looks={
        "the two results swapped": "there must be a pair.",
        "the index of the image forgotten: all predictions from image 0": LATER,
        "the queries of image 0 used for every image": "two images must differ in the queries that are matched.",
        "all images indexed with all queries": "there must be a pair.",
        "all masks of the target, in their own order": "targets in the order 0, 1, 2 hide it.",
        "the masks by the inverse permutation": "two targets that trade places are their own inverse. What is not?",
        "the queries brought into the targets' order, and the masks too": "two targets, or none in disorder, hide it.",
        "the queries in ascending order, the targets not": "queries in the order 0, 1, 2, 3 hide it.",
        "the images in the reverse order": "with the pairs of one image only, there is no order of the images.",
        "queries[targets] as the query": "targets in the order 0, 1, 2 hide it.",
        "queries and targets swapped": BOTH,
        "the predictions picked with the targets' indices": BOTH,
        "the masks picked with the queries' indices": BOTH,
        "the first queries instead of the matched ones": "some query with a small number must go without a target.",
        "everything joined first, and indexed without offsets": LATER,
        "the masks of the whole batch indexed without an offset":
            "target 0 of an image is also target 0 of the batch, unless an earlier image has targets of its own.",
        "the flat query index with an offset of T instead of N": LATER,
        "images without targets skipped before counting the images":
            "it needs an image without targets; and where does it have to stand, so that somebody is counted wrongly?",
        "sigmoid applied already": "there must be a pair.",
        "all predictions, matched or not": "there must be a pair.",
    },
    solution=([[3, 0, 1], [1, 2, 0]], [[], []], [[2], [0]]))

HUNTS = (picking_hunt,)
