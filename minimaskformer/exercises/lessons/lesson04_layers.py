"""Exercise 04.4: the whole criterion, match and losses over all layers, and the ways people put it together wrongly."""
import torch

from ... import losses
from ...matching import hungarian_match
from ..core import Exercise, Fixture, Mistake, issue
from .lesson04_class import numbers


def set_criterion(layers, targets, weights):
    num_masks = max(1, sum(len(target["labels"]) for target in targets))
    total = 0.0
    costs = weights["class"], weights["focal"], weights["dice"]
    for class_logits, mask_logits in layers:  # each layer has its own match
        matches = hungarian_match(class_logits, mask_logits, targets, *costs)
        x = torch.cat([mask_logits[b, queries] for b, (queries, _) in enumerate(matches)])  # [M, h, w]
        y = torch.cat([target["masks"][chosen] for target, (_, chosen) in zip(targets, matches)])  # [M, h, w]
        total = total + (weights["class"] * losses.classification_loss(class_logits, targets, matches)
                         + weights["focal"] * losses.sigmoid_focal_loss(x, y, num_masks)
                         + weights["dice"] * losses.dice_loss(x, y, num_masks))
    return total


def _layers(count, batch, queries, classes, start):
    return [(numbers(batch, queries, classes + 1, start=start + i),
             1.5 * numbers(batch, queries, 3, 4, start=2 * start + i)) for i in range(count)]


def _targets(*labels):
    """Targets of a batch with those labels; the masks, [T, 3, 4], are the bits of fixed numbers."""
    bits, made = iter((0b111100001100, 0b000011000011, 0b100110010111, 0b011000110000, 0b000000011111)), []
    for of_image in labels:
        rows = [[(n >> k) & 1 for k in range(12)] for n in (next(bits) for _ in of_image)]
        made.append({"labels": torch.tensor(of_image, dtype=torch.int64),
                     "masks": torch.tensor(rows, dtype=torch.bool).reshape(len(rows), 3, 4)})
    return made


def _criterion(layers, targets, weights, match_of=None, match_weights=None, num_masks=None, no_object_weight=0.1,
               inverse=False, probabilities=False):
    """set_criterion with knobs to get wrong; match_of: the layer whose match all use, if one."""
    num_masks = max(1, sum(len(t["labels"]) for t in targets)) if num_masks is None else num_masks
    costs, total = (match_weights or weights), 0.0
    for c, m in layers:
        matches = hungarian_match(*((c, m) if match_of is None else layers[match_of]), targets,
                                  costs["class"], costs["focal"], costs["dice"])
        if inverse:
            matches = [(queries, chosen.argsort()) for queries, chosen in matches]
        x = torch.cat([m[b, queries] for b, (queries, _) in enumerate(matches)])
        x = x.sigmoid() if probabilities else x
        y = torch.cat([t["masks"][chosen] for t, (_, chosen) in zip(targets, matches)])
        focal, dice = losses.sigmoid_focal_loss(x, y, 1), losses.dice_loss(x, y, 1)
        total = total + (weights["class"] * losses.classification_loss(c, targets, matches, no_object_weight)
                         + (weights["focal"] * focal + weights["dice"] * dice) / num_masks)
    return total


def _by_image(layers, targets, weights, reduce):
    """The criterion of each image by itself."""
    return reduce(torch.stack([set_criterion([(c[b:b + 1], m[b:b + 1]) for c, m in layers], targets[b:b + 1], weights)
                               for b in range(len(targets))]))


def _unmatched(layers, targets, weights):
    """Query k answers for target k."""
    num_masks, total = max(1, sum(len(t["labels"]) for t in targets)), 0.0
    for c, m in layers:
        order = [(torch.arange(len(t["labels"])),) * 2 for t in targets]
        x, y = torch.cat([m[b, q] for b, (q, _) in enumerate(order)]), torch.cat([t["masks"] for t in targets])
        total = total + (weights["class"] * losses.classification_loss(c, targets, order)
                         + weights["focal"] * losses.sigmoid_focal_loss(x, y, num_masks)
                         + weights["dice"] * losses.dice_loss(x, y, num_masks))
    return total


REFERENCE, OTHER = {"class": 1.0, "focal": 20.0, "dice": 1.0}, {"dice": 3.0, "class": 4.0, "focal": 5.0}
_MATCH = ("one match for all layers",
          "Each layer is judged by what it predicted itself, so it is matched anew: the match belongs inside the loop.",
          issue("facebookresearch/detr", 475))
criterion_exercise = Exercise(
    id="04.4", title="the whole criterion", name="set_criterion", reference=set_criterion,
    fixtures=(
        Fixture("three layers, two images", (_layers(3, 2, 4, 3, 1.5), _targets([2, 0, 1], [1]), REFERENCE)),
        Fixture("two layers, other weights in another order", (
            _layers(2, 2, 5, 4, 2.3), _targets([3], [0, 2, 2]), OTHER)),
        Fixture("one layer", (_layers(1, 1, 3, 2, 4.1), _targets([1, 0]), OTHER)),
        Fixture("no target in the whole batch", (_layers(2, 2, 3, 2, 5.2), _targets([], []), REFERENCE))),
    mistakes=(
        Mistake("the last layer only", lambda x, t, w: set_criterion(x[-1:], t, w),
                "Every layer is trained: loop over all of them.", issue("facebookresearch/detr", 85)),
        Mistake("the earlier layers only", lambda x, t, w: set_criterion(x[:-1], t, w) + torch.tensor(0.0),
                "The last layer is the one that answers in the end; it counts too."),
        Mistake(_MATCH[0], lambda x, t, w: _criterion(x, t, w, match_of=0), *_MATCH[1:]),
        Mistake(_MATCH[0], lambda x, t, w: _criterion(x, t, w, match_of=-1), *_MATCH[1:]),
        Mistake("the mean over the layers", lambda x, t, w: set_criterion(x, t, w) / len(x),
                "The layers are summed: six make a loss six times as large, and that is meant."),
        Mistake("the weights left out of the loss", lambda x, t, w: _criterion(
            x, t, dict.fromkeys(w, 1.0), match_weights=w), "The weights stand in the cost *and* in the loss."),
        Mistake("the weights 1, 20, 1 written into the code", lambda x, t, w: set_criterion(x, t, REFERENCE),
                "Use the argument `weights`, by name."),
        Mistake("the weights of the loss not given to the match",
                lambda x, t, w: _criterion(x, t, w, match_weights=REFERENCE),
                "hungarian_match has weights of its own, 1, 20 and 1 unless you pass yours: let cost and loss agree."),
        Mistake("the weights taken by position, not by name",
                lambda x, t, w: set_criterion(x, t, dict(zip(("class", "focal", "dice"), w.values()))),
                "A dictionary is read by name. The order of its entries is an accident."),
        Mistake("no floor of 1 under the number of masks", lambda x, t, w: _criterion(
            x, t, w, num_masks=torch.tensor(float(sum(len(a["labels"]) for a in t)))),
                "A batch may have no target at all, and 0 / 0 ends a training run."),
        Mistake("the mask losses not divided", lambda x, t, w: _criterion(x, t, w, num_masks=1),
                "Divide them by the number of targets in the batch."),
        Mistake("the mask losses divided by the number of images",
                lambda x, t, w: _criterion(x, t, w, num_masks=len(t)),
                "Count targets, not images."),
        Mistake("each image by itself, then the mean", lambda x, t, w: _by_image(x, t, w, torch.mean),
                "One number of masks and one weighted mean of the class loss for the whole batch."),
        Mistake("each image by itself, then the sum", lambda x, t, w: _by_image(x, t, w, torch.sum),
                "One number of masks and one weighted mean of the class loss for the whole batch."),
        Mistake("no object with weight 1", lambda x, t, w: _criterion(x, t, w, no_object_weight=1.0),
                "Leave the weight of the class loss at its default, 0.1."),
        Mistake("sigmoid applied already", lambda x, t, w: _criterion(x, t, w, probabilities=True),
                "Both mask losses take logits."),
        Mistake("the masks by the inverse permutation", lambda x, t, w: _criterion(x, t, w, inverse=True),
                "targets[k] is the target of queries[k] already."),
        Mistake("query k with target k, without a match", _unmatched,
                "The order of the queries means nothing: hungarian_match says who answers for what.")),
    hints=("What is done once for the batch, and what anew for each layer?",
           "Once: the number of masks. For each layer: the match, the class loss, and the two mask losses of the "
           "matched pairs (04.2), each with its weight. Add everything up.",
           "for class_logits, mask_logits in layers: matches = hungarian_match(class_logits, mask_logits, targets, "
           "w_class, w_focal, w_dice); total += w_class * classification_loss(...) + w_focal * sigmoid_focal_loss(x, "
           "y, num_masks) + w_dice * dice_loss(x, y, num_masks)"),
    why="Each layer answers for its own prediction, with its own match; heads and weights are shared. The library's "
        "SetCriterion computes the same for all layers at once, leaves void pixels out, and names every term.")
