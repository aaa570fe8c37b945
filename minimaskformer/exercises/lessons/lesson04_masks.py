"""Exercise 04.2: picking the matched masks of a batch, and the ways people tear the pairs apart."""
import numpy as np
import torch

from ..core import Exercise, Fixture, Mistake, issue
from .lesson04_class import TINNUNCULUS, match, numbers


def matched_masks(mask_logits, targets, matches):
    predictions = [mask_logits[b, queries] for b, (queries, _) in enumerate(matches)]  # B times [M_b, h, w]
    masks = [target["masks"][chosen] for target, (_, chosen) in zip(targets, matches)]  # B times [M_b, h, w]
    return torch.cat(predictions), torch.cat(masks).to(mask_logits.dtype)  # [M, h, w] both


def different_masks(*counts):
    """Targets of a batch of at most 4 images with that many masks each [2, 3], no two of them alike.

    The pixels are the digits of a number, in binary, but for the first two, which say which image a mask belongs to.
    """
    numbers_, made = iter((9, 2, 13, 5, 10, 11, 14, 1)), []
    for image, count in enumerate(counts):
        codes = [4 * next(numbers_) + image for _ in range(count)]
        bits = [[(code >> k) & 1 for k in range(6)] for code in codes]
        made.append({"masks": torch.tensor(bits, dtype=torch.bool).reshape(count, 2, 3)})
    return made


def _pairs(predictions, masks):
    """Both lists of matched masks from a function per image: predictions(b, q, t), masks(b, q, t)."""
    def both(mask_logits, targets, matches):
        x = [predictions(mask_logits, b, q, t, matches) for b, (q, t) in enumerate(matches)]
        y = [masks(targets, b, q, t) for b, (q, t) in enumerate(matches)]
        return torch.cat(x), torch.cat(y).to(mask_logits.dtype)
    return both


def _rightly(x, b, q, t, m):
    return x[b, q]


def _chosen(y, b, q, t):
    return y[b]["masks"][t]


def _without_offset(mask_logits, targets, matches):
    everything = torch.cat([t["masks"] for t in targets])
    picked = everything[torch.cat([t for _, t in matches])]
    return matched_masks(mask_logits, targets, matches)[0], picked.to(mask_logits.dtype)


def _skipping(mask_logits, targets, matches):
    pairs = [(t, m) for t, m in zip(targets, matches) if len(m[0])]
    return matched_masks(mask_logits, [t for t, _ in pairs], [m for _, m in pairs])


def _flat_offset(mask_logits, targets, matches):
    rows = torch.cat([q + b * len(targets[b]["masks"]) for b, (q, _) in enumerate(matches)])
    return mask_logits.flatten(0, 1)[rows], matched_masks(mask_logits, targets, matches)[1]


def _any_order_within_an_image(arrays):
    """The pairs of each image in one order: the loss is a sum over them. Images stay where they are."""
    if arrays[0].size and arrays[0].ndim == 3 and arrays[0].shape == arrays[1].shape:
        rows = np.concatenate([a.reshape(len(a), -1) for a in arrays], 1)
        image = arrays[1].reshape(len(rows), -1)[:, :2]  # as in different_masks
        begins = np.r_[False, (image[1:] != image[:-1]).any(1)]
        order = np.lexsort([*rows.T[::-1], begins.cumsum()])
        return [a[order] for a in arrays]
    return arrays


_UNSORTED = ("all masks of the target, in their own order",
             "The k-th prediction belongs to target targets[k]: index the masks with that vector.", TINNUNCULUS)
picking_exercise = Exercise(
    id="04.2", title="the matched masks of a batch", name="matched_masks", reference=matched_masks,
    learns=("mask_logits",),
    parts=("predictions", "masks"), canonical=_any_order_within_an_image,
    fixtures=(
        Fixture("two images of 3 targets", (numbers(2, 4, 2, 3, start=0.5), different_masks(3, 3), [
            match([0, 1, 3], [1, 2, 0]), match([0, 2, 3], [2, 0, 1])])),
        Fixture("the first image without target", (numbers(2, 4, 2, 3, start=1.7), different_masks(0, 3), [
            match([], []), match([0, 1, 2], [1, 2, 0])])),
        Fixture("more targets than queries", (numbers(2, 2, 2, 3, start=2.9), different_masks(3, 2), [
            match([0, 1], [2, 0]), match([0, 1], [1, 0])])),
        Fixture("no target in the whole batch", (numbers(2, 3, 2, 3, start=3.3), different_masks(0, 0), [
            match([], []), match([], [])])),
        Fixture("the queries of a match in any order", (numbers(2, 4, 2, 3, start=4.6), different_masks(3, 2), [
            match([3, 0, 2], [1, 2, 0]), match([2, 1], [0, 1])]))),
    mistakes=(
        Mistake("the two results swapped", lambda x, y, m: matched_masks(x, y, m)[::-1],
                "The predictions come first, then the masks."),
        Mistake("the index of the image forgotten: all predictions from image 0",
                _pairs(lambda x, b, q, t, m: x[0, q], _chosen),
                "Query 3 exists in every image. Pick from mask_logits[b], image by image."),
        Mistake("the queries of image 0 used for every image", _pairs(lambda x, b, q, t, m: x[b, m[0][0]], _chosen),
                "Every image has its own match: mask_logits[b] goes with matches[b]."),
        Mistake("all images indexed with all queries", lambda x, y, m: (
            x[:, torch.cat([q for q, _ in m])], matched_masks(x, y, m)[1]),
                "mask_logits[:, queries] takes these queries of *every* image. Index image and query together."),
        Mistake(_UNSORTED[0], _pairs(_rightly, lambda y, b, q, t: y[b]["masks"]), *_UNSORTED[1:]),
        Mistake(_UNSORTED[0], _pairs(_rightly, lambda y, b, q, t: y[b]["masks"][:len(q)]), *_UNSORTED[1:]),
        Mistake("the masks by the inverse permutation", _pairs(_rightly, lambda y, b, q, t: y[b]["masks"][t.argsort()]),
                "targets[k] is the target of queries[k] already; no inverse is needed here."),
        Mistake("the queries brought into the targets' order, and the masks too",
                _pairs(lambda x, b, q, t, m: x[b, q[t.argsort()]], _chosen),
                "Reorder one side or the other, not both."),
        Mistake("the queries in ascending order, the targets not",
                _pairs(lambda x, b, q, t, m: x[b, q.sort().values], _chosen),
                "The k-th query of a match belongs to its k-th target: sorting the queries, or picking them with a "
                "mask of yes and no, tears the pairs apart. Example 5 has queries in no order."),
        Mistake("the images in the reverse order", lambda x, y, m: matched_masks(x.flip(0), y[::-1], m[::-1]),
                "Within an image the order of the pairs is free, but image 0 comes first: the frame splits the rows "
                "by image again."),
        Mistake("queries[targets] as the query", _pairs(lambda x, b, q, t, m: x[b, q[t]], _chosen),
                "That pairs queries with the wrong targets: read both vectors side by side.", TINNUNCULUS),
        Mistake("queries and targets swapped", _pairs(
            lambda x, b, q, t, m: x[b, t], lambda y, b, q, t: y[b]["masks"][q]),
                "A match is (queries, targets), in this order.", issue("Visual-Behavior/detr-tensorflow", 35)),
        Mistake("the predictions picked with the targets' indices", _pairs(lambda x, b, q, t, m: x[b, t], _chosen),
                "Two vectors, two uses: queries index mask_logits[b], targets index the masks."),
        Mistake("the masks picked with the queries' indices", _pairs(_rightly, lambda y, b, q, t: y[b]["masks"][q]),
                "Two vectors, two uses: queries index mask_logits[b], targets index the masks."),
        Mistake("the first queries instead of the matched ones", _pairs(lambda x, b, q, t, m: x[b, :len(q)], _chosen),
                "Query 0 has no claim to a target: pick the queries that the match names."),
        Mistake("everything joined first, and indexed without offsets", lambda x, y, m: (
            x.flatten(0, 1)[torch.cat([q for q, _ in m])], _without_offset(x, y, m)[1]),
                "Indices of a match count within one image. Pick image by image, then join."),
        Mistake("the masks of the whole batch indexed without an offset", _without_offset,
                "Target 0 of image 1 is not target 0 of the batch: index each image's masks before joining them."),
        Mistake("the flat query index with an offset of T instead of N", _flat_offset,
                "In mask_logits.flatten(0, 1) query i of image b is at b * N + i."),
        Mistake("images without targets skipped before counting the images", _skipping,
                "An empty image still takes its place in the batch: the next one is mask_logits[1], not [0].",
                issue("NielsRogge/Transformers-Tutorials", 257)),
        Mistake("sigmoid applied already", lambda x, y, m: matched_masks(x.sigmoid(), y, m),
                "The losses take logits and apply the sigmoid themselves.", TINNUNCULUS),
        Mistake("all predictions, matched or not", lambda x, y, m: (x.flatten(0, 1), matched_masks(x, y, m)[1]),
                "Unmatched queries have no mask to learn. Pick the matched ones.")),
    hints=("Which image, which query, which target: how many numbers name one pair in a batch?",
           "Image by image: mask_logits[b][queries] and targets[b][\"masks\"][chosen]. Then join.",
           "torch.cat of all mask_logits[b, q], torch.cat of all targets[b][\"masks\"][t], for b, (q, t) in "
           "enumerate(matches)"),
    why="From here on it does not matter which image a mask came from: M predictions, M true masks, one pair per row. "
        "The library does the same with one index vector of images and one of queries, mask_logits[image, query].")
