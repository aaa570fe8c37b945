"""Exercises 04.2 and 04.5: picking the matched masks of a batch, and mask losses that leave void pixels out."""
import numpy as np
import torch
from torchvision.ops import sigmoid_focal_loss as pixel_focal

from ..core import Exercise, Fixture, Mistake, Remark, issue
from .lesson04_class import TINNUNCULUS, match, numbers

# --- 04.2 picking the matched masks -----------------------------------------------------------------------------------

def matched_masks(mask_logits, targets, matches):
    predictions = [mask_logits[b, queries] for b, (queries, _) in enumerate(matches)]  # B times [M_b, h, w]
    masks = [target["masks"][chosen] for target, (_, chosen) in zip(targets, matches)]  # B times [M_b, h, w]
    return torch.cat(predictions), torch.cat(masks).to(mask_logits.dtype)  # [M, h, w] both


def different_masks(*counts, size=(2, 3)):
    """Targets of a batch with that many masks each, no two of them alike: the digits of a number, in binary."""
    numbers_, made = iter((37, 11, 52, 22, 9, 44, 58, 3)), []
    for count in counts:
        bits = [[(n >> k) & 1 for k in range(size[0] * size[1])] for n in (next(numbers_) for _ in range(count))]
        made.append({"masks": torch.tensor(bits, dtype=torch.bool).reshape(count, *size)})
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


def _any_order(arrays):
    """The pairs in one order: the loss is a sum over them."""
    if arrays[0].size and arrays[0].ndim == 3 and arrays[0].shape == arrays[1].shape:
        rows = np.concatenate([a.reshape(len(a), -1) for a in arrays], 1)
        order = np.lexsort(rows.T[::-1])
        return [a[order] for a in arrays]
    return arrays


_UNSORTED = ("all masks of the target, in their own order",
             "The k-th prediction belongs to target targets[k]: index the masks with that vector.", TINNUNCULUS)
picking_exercise = Exercise(
    id="04.2", title="the matched masks of a batch", name="matched_masks", reference=matched_masks,
    learns=("mask_logits",),
    parts=("predictions", "masks"), canonical=_any_order,
    fixtures=(
        Fixture("two images of 3 targets", (numbers(2, 4, 2, 3, start=0.5), different_masks(3, 3), [
            match([0, 1, 3], [1, 2, 0]), match([0, 2, 3], [2, 0, 1])])),
        Fixture("the first image without target", (numbers(2, 4, 2, 3, start=1.7), different_masks(0, 3), [
            match([], []), match([0, 1, 2], [1, 2, 0])])),
        Fixture("more targets than queries", (numbers(2, 2, 2, 3, start=2.9), different_masks(3, 2), [
            match([0, 1], [2, 0]), match([0, 1], [1, 0])])),
        Fixture("no target in the whole batch", (numbers(2, 3, 2, 3, start=3.3), different_masks(0, 0), [
            match([], []), match([], [])]))),
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


# --- 04.5 mask losses with void ---------------------------------------------------------------------------------------

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
