"""What callers pass, checked once at the public entry points, so that inner functions need no checks."""
import math

import numpy as np
import torch


def check_target(target, where="target"):
    """Raise ValueError unless a target has the shapes and dtypes that targets.py names, for functions that take one.

    Masks and valid are bool, or of another dtype and hold only 0 and 1. Checking bool masks costs nothing; the values
    of others must be read, for which a GPU has to stop.
    """
    if not isinstance(target, dict) or not {"labels", "masks"} <= target.keys():
        got = sorted(map(str, target)) if isinstance(target, dict) else type(target).__name__
        raise ValueError(f"{where}: a target is a dict with labels [T] and masks [T, H, W], got {got}; "
                         f"semantic_to_target and panoptic_to_target make one from a map")
    labels, masks, valid = target["labels"], target["masks"], target.get("valid")
    for name, value in (("labels", labels), ("masks", masks), ("valid", valid)):
        if not isinstance(value, torch.Tensor) and (name != "valid" or "valid" in target):
            raise ValueError(f"{where}: {name} is a tensor, got {type(value).__name__}; torch.as_tensor makes one")
    if labels.ndim != 1 or masks.ndim != 3 or len(labels) != len(masks):
        raise ValueError(f"{where}: labels are [T] and masks [T, H, W] with the same T, got {list(labels.shape)} and "
                         f"{list(masks.shape)}")
    if len(labels) and not is_integer(labels.dtype):
        raise ValueError(f"{where}: labels are class indices (int64), got {labels.dtype}")
    check_mask(masks, f"{where}: masks")
    if valid is not None:
        check_mask(valid, f"{where}: valid")
        if valid.shape != masks.shape[1:]:
            raise ValueError(f"{where}: valid is [H, W] like a mask, {list(masks.shape[1:])}, got {list(valid.shape)}")


def check_mask(mask, where="masks"):
    """Raise ValueError unless a tensor is bool or holds only 0 and 1: in a sum over pixels 255 counts 255 times."""
    if mask.dtype == torch.bool or not mask.numel():
        return
    wrong = mask[(mask != 0) & (mask != 1)].unique()[:5].tolist()
    if wrong:
        told = ", ".join(dict.fromkeys(map(str, wrong)))  # nan is not equal to itself, and would be listed five times
        raise ValueError(f"{where} must be bool, or hold 0 and 1 only; got {mask.dtype} with {told}. For a mask of 0 "
                         f"and 255 take mask > 0, for probabilities mask >= 0.5")


def check_map(values, name):
    """A label map or segment map as a tensor of integers [H, W]; raises ValueError for another shape or dtype."""
    values = torch.as_tensor(values)
    if values.ndim != 2:
        raise ValueError(f"a {name} is [H, W], got shape {tuple(values.shape)}")
    if not is_integer(values.dtype) and values.dtype != torch.bool:
        raise ValueError(f"a {name} holds integers, got {values.dtype}. If these are whole numbers, use .long(); "
                         f"if a transform has scaled them to 0 ... 1, read the file again without it")
    return values if values.dtype in (torch.int32, torch.int64) else values.to(torch.int64)


def check_segments(segment_map, segments_info, num_classes, where="segments_info"):
    """Raise ValueError unless map and list describe each other: known ids, unique, classes in [0, K).

    Returns the set of numbers that the map holds.
    """
    missing = [key for s in segments_info for key in ("id", "category_id") if not isinstance(s, dict) or key not in s]
    if missing:
        raise ValueError(f"{where}: a segment is a dict with id and category_id, but one has no {missing[0]}")
    ids = python_numbers(s["id"] for s in segments_info)
    if len(set(ids)) != len(ids):
        raise ValueError(f"{where}: repeated segment ids {sorted(i for i in set(ids) if ids.count(i) > 1)}")
    if 0 in ids:
        raise ValueError(f"{where}: segment id 0 is reserved for void")
    bad = [i for i in ids if not is_whole(i) or not 0 < i < 2**31]
    if bad:
        raise ValueError(f"{where}: segment ids are whole numbers from 1 to 2**31 - 1, got {bad[:10]}")
    check_labels([s["category_id"] for s in segments_info], num_classes, where)
    found = set(numbers_in(segment_map.cpu().numpy()))
    unknown = found - set(ids) - {0}
    if unknown:
        raise ValueError(f"{where}: the segment map holds ids {sorted(unknown)[:10]} that no entry describes")
    return found


def numbers_in(array):
    """The different numbers of an integer array, sorted: a list. Many times faster than torch.unique."""
    if array.size and array.min() >= 0 and array.max() < array.size:  # then counting is cheaper than sorting or hashing
        return np.flatnonzero(np.bincount(array.ravel())).tolist()
    return np.unique(array).tolist()


def check_labels(labels, num_classes, where="labels"):
    """Raise ValueError if a label is not a class index in [0, K); K itself is 'no object' and never a target."""
    bad = sorted({c for c in python_numbers(labels) if not is_whole(c) or not 0 <= c < num_classes},
                 key=lambda c: c if is_whole(c) else math.inf)
    if bad:
        raise ValueError(f"{where}: labels {bad[:10]} are outside [0, {num_classes}): classes are 0 ... "
                         f"{num_classes - 1}, {num_classes} means 'no object' and is never a target, void pixels "
                         f"belong to no mask")


def check_things(things, num_classes=None):
    """The set of thing class indices; raises ValueError for anything but integers in [0, K) (or from 0 on).

    True and False are refused, NumPy's and PyTorch's too: a list of flags would be read as the indices 0 and 1.
    """
    known = f"[0, {num_classes})" if num_classes is not None else "0, 1, 2 ..."
    if not hasattr(things, "__iter__") or isinstance(things, str):
        raise ValueError(f"things is a list of class indices in {known}, got {things!r}")
    things = python_numbers(things)
    if any(isinstance(c, bool) for c in things):
        raise ValueError(f"things are class indices in {known}, got a list of True and False, {things[:5]}: from "
                         f"flags take [k for k, flag in enumerate(flags) if flag] (a ClassTable has them as `.things`)")
    bad = [c for c in things if not is_whole(c) or c < 0 or num_classes is not None and c >= num_classes]
    if bad:
        raise ValueError(f"things are class indices in {known}, got {bad[:10]} (a ClassTable has them as `.things`)")
    return {int(c) for c in things}


def check_pair(pair, name):
    """A panoptic result or truth (segment_map, segments_info), as it is; ValueError for anything else."""
    if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not isinstance(pair[1], (tuple, list)):
        hint = "; for a target give (target[\"segment_map\"], target[\"segments_info\"])" * isinstance(pair, dict)
        raise ValueError(f"{name}: a panoptic map is a pair (segment_map, segments_info), got "
                         f"{type(pair).__name__}{hint}")
    return pair


def check_classes(classes):
    """A class table, as it is; ValueError for a number or a list of names, which do not say which are things."""
    if not all(hasattr(classes, name) for name in ("names", "isthing", "things", "stuff")):
        raise ValueError(f"classes is a ClassTable, which also says what is a thing, got {type(classes).__name__}; a "
                         f"data set has it as `.classes`")
    return classes


def python_numbers(values):
    """The values of a list, array or tensor as a list of Python numbers."""
    return values.tolist() if hasattr(values, "tolist") else [c.item() if hasattr(c, "item") else c for c in values]


def is_whole(value):
    """Whether a Python object is a whole number: 3 and 3.0 are, "3", 3.5 and nan are not."""
    return isinstance(value, (int, float)) and value % 1 == 0


def is_integer(dtype):
    """Whether a dtype holds whole numbers (bool does not)."""
    return not (dtype.is_floating_point or dtype.is_complex or dtype == torch.bool)


def check_predictions(class_logits, mask_logits):
    """Return K; raise ValueError unless the two are [N, K+1] and [N, H, W] for one image, with K at least 1."""
    if class_logits.ndim != 2 or mask_logits.ndim != 3 or len(class_logits) != len(mask_logits):
        raise ValueError(f"class_logits [N, K+1] and mask_logits [N, H, W] are for one image, with the same N, "
                         f"got {list(class_logits.shape)} and {list(mask_logits.shape)}; from a batch, pass one image")
    if class_logits.shape[1] < 2:
        raise ValueError(f"class_logits {list(class_logits.shape)} need at least one class before 'no object'")
    return class_logits.shape[1] - 1


def check_fraction(name, value):
    """Raise ValueError unless a threshold is a number in [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be in [0, 1], got {value}")


def check_numbers(values):
    """Raise FloatingPointError if one of a list is NaN."""
    if any(value != value for value in values):
        raise FloatingPointError("class_logits or mask_logits hold NaN, so there is no answer: are the model's weights "
                                 "finite? Take an earlier checkpoint")


def check_batch(targets, size):
    """Raise ValueError unless targets is a list of as many targets as the batch has images."""
    if isinstance(targets, dict) or len(targets) != size or not size:
        told = "one target" if isinstance(targets, dict) else f"{len(targets)} targets"
        raise ValueError(f"{told} for a batch of {size} images: targets is a list with one for each image")


def check_costs(costs, sizes):
    """Raise ValueError naming layer, image, query and target of the first cost [L, N, S] that is not finite."""
    if costs.isfinite().all():
        return
    for layer, layer_costs in enumerate(costs):
        for image, own in enumerate(layer_costs.split(sizes, dim=1)):
            for query, target in (~own.isfinite()).nonzero().tolist():
                raise ValueError(
                    f"the matching cost of decoder layer {layer}, image {image} of the batch, query {query}, target "
                    f"{target} is {own[query, target]:.3g}: the prediction is not finite. Usual causes: a learning "
                    f"rate too large, half precision overflowing, or bad input pixels")
