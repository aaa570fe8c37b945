"""Exercise 04.4: the whole criterion, match and losses over all layers, and the ways people put it together wrongly."""
import torch

from ... import losses
from ...matching import hungarian_match
from ..core import Exercise, Fixture, Mistake, issue
from .lesson04_class import numbers


def set_criterion(layers, targets, weights, match, class_loss, mask_losses):
    total = 0.0
    for class_logits, mask_logits in layers:
        matches = match(class_logits, mask_logits, targets, weights)  # each layer has its own
        focal, dice = mask_losses(mask_logits, targets, matches)
        total = total + (weights["class"] * class_loss(class_logits, targets, matches)
                         + weights["focal"] * focal + weights["dice"] * dice)
    return total


# --- the three functions that it is given, at the size of the prediction and without void -----------------------------

REFERENCE, OTHER = {"class": 1.0, "focal": 20.0, "dice": 1.0}, {"dice": 3.0, "class": 4.0, "focal": 5.0}


def match(class_logits, mask_logits, targets, weights=REFERENCE):
    return hungarian_match(class_logits, mask_logits, targets, weights["class"], weights["focal"], weights["dice"])


def mask_losses(mask_logits, targets, matches):
    num_masks = max(1, sum(len(target["labels"]) for target in targets))
    x = torch.cat([mask_logits[b, queries] for b, (queries, _) in enumerate(matches)])  # [M, h, w]
    y = torch.cat([target["masks"][chosen] for target, (_, chosen) in zip(targets, matches)])  # [M, h, w]
    return losses.sigmoid_focal_loss(x, y, num_masks), losses.dice_loss(x, y, num_masks)


GIVEN = match, losses.classification_loss, mask_losses


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


# --- wrong ways ------------------------------------------------------------------------------------------------------

def _of_layer(chosen):
    """One match, that of the chosen layer, for all."""
    def wrong(x, t, w, match, *given):
        matches = match(*x[chosen], t, w)
        return set_criterion(x, t, w, lambda *layer: matches, *given)
    return wrong


def _by_image(x, t, w, *given, reduce):
    return reduce(torch.stack([set_criterion([(c[b:b + 1], m[b:b + 1]) for c, m in x], t[b:b + 1], w, *given)
                               for b in range(len(t))]))


def _unmatched(x, t, w, match, *given):
    return set_criterion(x, t, w, lambda *layer: [(torch.arange(len(a["labels"])),) * 2 for a in t], *given)


def _exchanged(x, t, w, match, class_loss, mask_losses):
    return set_criterion(x, t, w, match, class_loss, lambda *layer: mask_losses(*layer)[::-1])


def _divided(number):
    def wrong(x, t, w, match, class_loss, mask_losses):
        return set_criterion(x, t, w, match, class_loss, lambda *layer: [v / number(t) for v in mask_losses(*layer)])
    return wrong


def _inverse(x, t, w, match, *given):
    return set_criterion(x, t, w, lambda *layer: [(q, chosen.argsort()) for q, chosen in match(*layer)], *given)


_MATCH = ("one match for all layers",
          "Each layer is judged by what it predicted itself, so it is matched anew: the match belongs inside the loop.",
          issue("facebookresearch/detr", 475))
_IMAGES = "One number of masks and one weighted mean of the class loss for the whole batch."
criterion_exercise = Exercise(
    id="04.4", title="the whole criterion", name="set_criterion", reference=set_criterion,
    learns=("layers",),
    fixtures=(
        Fixture("three layers, two images", (_layers(3, 2, 4, 3, 1.5), _targets([2, 0, 1], [1]), REFERENCE, *GIVEN)),
        Fixture("two layers, other weights in another order", (
            _layers(2, 2, 5, 4, 2.3), _targets([3], [0, 2, 2]), OTHER, *GIVEN)),
        Fixture("one layer", (_layers(1, 1, 3, 2, 4.1), _targets([1, 0]), OTHER, *GIVEN)),
        Fixture("no target in the whole batch", (_layers(2, 2, 3, 2, 5.2), _targets([], []), REFERENCE, *GIVEN))),
    mistakes=(
        Mistake("the last layer only", lambda x, *given: set_criterion(x[-1:], *given),
                "Every layer is trained: loop over all of them.", issue("facebookresearch/detr", 85)),
        Mistake("the earlier layers only", lambda x, *given: set_criterion(x[:-1], *given) + torch.tensor(0.0),
                "The last layer is the one that answers in the end; it counts too."),
        Mistake(_MATCH[0], _of_layer(0), *_MATCH[1:]),
        Mistake(_MATCH[0], _of_layer(-1), *_MATCH[1:]),
        Mistake("the mean over the layers", lambda x, *given: set_criterion(x, *given) / len(x),
                "The layers are summed: six make a loss six times as large, and that is meant."),
        Mistake("the weights left out of the loss", lambda x, t, w, match, *given: set_criterion(
            x, t, dict.fromkeys(w, 1.0), lambda c, m, t, _: match(c, m, t, w), *given),
                "The weights stand in the cost *and* in the loss."),
        Mistake("the class loss without its weight", lambda x, t, w, match, *given: set_criterion(
            x, t, w | {"class": 1.0}, lambda c, m, t, _: match(c, m, t, w), *given),
                "All three losses have a weight, the class loss too. (It is 1 in the paper, which hides this.)"),
        Mistake("the weights 1, 20, 1 written into the code", lambda x, t, w, *given: set_criterion(
            x, t, REFERENCE, *given), "Use the argument `weights`, by name."),
        Mistake("the weights of the loss not given to the match", lambda x, t, w, match, *given: set_criterion(
            x, t, w, lambda c, m, t, _: match(c, m, t), *given),
                "match has weights of its own, 1, 20 and 1, unless you pass yours: let cost and loss agree."),
        Mistake("the weights taken by position, not by name", lambda x, t, w, *given: set_criterion(
            x, t, dict(zip(("class", "focal", "dice"), w.values())), *given),
                "A dictionary is read by name. The order of its entries is an accident."),
        Mistake("focal and dice exchanged", _exchanged, "mask_losses returns focal first, then dice."),
        Mistake("the mask losses divided by the number of targets again", _divided(
            lambda t: max(1, sum(len(a["labels"]) for a in t))),
                "mask_losses has done that already (04.3)."),
        Mistake("the mask losses divided by the number of images", _divided(len),
                "mask_losses has divided by the number of targets already (04.3); images are not counted at all."),
        Mistake("each image by itself, then the mean", lambda *given: _by_image(*given, reduce=torch.mean), _IMAGES),
        Mistake("each image by itself, then the sum", lambda *given: _by_image(*given, reduce=torch.sum), _IMAGES),
        Mistake("no object with weight 1", lambda x, t, w, match, class_loss, mask: set_criterion(
            x, t, w, match, lambda *layer: class_loss(*layer, 1.0), mask),
                "Leave the weight of the class loss at its default, 0.1."),
        Mistake("sigmoid applied already", lambda x, t, w, match, class_loss, mask_losses: set_criterion(
            x, t, w, match, class_loss, lambda m, *rest: mask_losses(m.sigmoid(), *rest)),
                "Both mask losses take logits."),
        Mistake("the masks by the inverse permutation", _inverse, "targets[k] is the target of queries[k] already."),
        Mistake("query k with target k, without a match", _unmatched,
                "The order of the queries means nothing: match says who answers for what.")),
    hints=("What is done once for the batch, and what anew for each layer?",
           "For each layer: its match, its class loss, the two mask losses of its matched pairs, each with its weight. "
           "Add everything up, over all layers.",
           "for class_logits, mask_logits in layers: matches = match(class_logits, mask_logits, targets, weights); "
           "focal, dice = mask_losses(mask_logits, targets, matches); total += w_class * class_loss(class_logits, "
           "targets, matches) + w_focal * focal + w_dice * dice"),
    why="Each layer answers for its own prediction, with its own match; heads and weights are shared. In your "
        "MaskFormer the three functions are your own: the costs and the assignment of lesson 02, the class loss of "
        "04.1, and the mask losses of lesson 03 on the pairs of 04.2, divided as in 04.3 and without void as in 04.5.")
