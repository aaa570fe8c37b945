"""Targets: a label map or panoptic map as a set of (class, mask), and back (lesson 01).

MaskFormer is trained on sets. One image's target is torchvision's detection convention,

    labels  int64 [T]        class index of each segment, 0 ... K-1
    masks   bool  [T, H, W]  its pixels
    valid   bool  [H, W]     False where nobody knows the answer (void and crowd): no loss, no matching cost there

and, because metrics need what training must not see (crowds), also the panoptic truth itself:

    segment_map    int32 [H, W]  segment id of each pixel, 0 is void
    segments_info  list of {"id", "category_id" (class index), "isthing", "iscrowd", "area"}

*Void* is a property of a pixel ("nobody labelled this"); *no object* is a property of a query ("I found nothing").
They never meet: void has no index, no-object is index K and occurs in predictions only.
"""
import math

import numpy as np
import torch

VOID = -1  # in our class maps: nobody knows the class. The 255 of files would be a class where there are more than 255


def panoptic_to_target(segment_map, segments_info, num_classes):
    """Turn a panoptic map into the set {(c_i, m_i)} the model is trained on (paper, section 3.2).

    segment_map: integer [H, W], 0 is void. segments_info: dicts with id, category_id in [0, K), isthing, iscrowd.
    Crowd segments are no targets; they and void make `valid` False. Segments without pixels are dropped.
    Raises ValueError for a class outside [0, K), a repeated id, or an id in the map that no entry describes.
    """
    segment_map = check_map(segment_map, "segment map")
    check_segments(segment_map, segments_info, num_classes)
    crowd = [s["id"] for s in segments_info if s.get("iscrowd", 0)]
    segments = [s for s in segments_info if not s.get("iscrowd", 0)]
    ids = torch.tensor([s["id"] for s in segments], dtype=segment_map.dtype)
    masks = segment_map == ids[:, None, None]  # [T, H, W]
    labels = torch.tensor([s["category_id"] for s in segments], dtype=torch.int64)
    kept = masks.flatten(1).any(1) if len(segments) else torch.zeros(0, dtype=torch.bool)
    valid = segment_map != 0
    for i in crowd:
        valid &= segment_map != i
    return {"labels": labels[kept], "masks": masks[kept], "valid": valid,
            "segment_map": segment_map.to(torch.int32), "segments_info": list(segments_info)}


def semantic_to_target(label_map, num_classes, things=(), ignore=255):
    """One (class, mask) per class that occurs in a label map: the set for semantic segmentation (section 3.2).

    label_map: integer [H, W] of class indices; `ignore` marks void pixels. Raises ValueError for any other value.
    """
    return panoptic_to_target(*semantic_to_panoptic(label_map, num_classes, things, ignore), num_classes)


def semantic_to_panoptic(label_map, num_classes, things=(), ignore=VOID):
    """A label map as a panoptic map: all pixels of one class are one segment, with the id class + 1 (section 4.1).

    label_map: integer [H, W] of class indices; `ignore` marks void pixels. Raises ValueError for any other value.
    """
    if 0 <= ignore < num_classes:
        raise ValueError(f"ignore={ignore} is the index of one of the {num_classes} classes, which would become void; "
                         f"choose -1 or a number from {num_classes} on, here and in the label map")
    label_map, things = check_map(label_map, "label map"), check_things(things, num_classes)
    present = [c for c in torch.unique(label_map).tolist() if c != ignore]
    check_labels(present, num_classes, "label map")
    segment_map = torch.where(label_map == ignore, 0, label_map + 1).to(torch.int32)
    return segment_map, [{"id": c + 1, "category_id": c, "isthing": c in things, "iscrowd": 0,
                          "area": int((label_map == c).sum())} for c in present]


def target_to_panoptic(target, things):
    """Back from the set to (segment map int32 [H, W], segments_info); where masks overlap the later one wins.

    Ids count from 1 in the order of the set; pixels in no mask are 0 (void). Raises ValueError for what is no target.
    """
    check_target(target)
    labels, masks, things = target["labels"], target["masks"].bool(), check_things(things)
    segment_map = torch.zeros(masks.shape[-2:], dtype=torch.int32)
    for i, mask in enumerate(masks):
        segment_map[mask] = i + 1
    info = [{"id": i + 1, "category_id": int(c), "isthing": int(c) in things, "iscrowd": 0,
             "area": int((segment_map == i + 1).sum())} for i, c in enumerate(labels)]
    return segment_map, info


def panoptic_to_semantic(segment_map, segments_info, ignore=255):
    """The label map int64 [H, W] of class indices that a panoptic map implies; void and crowd become `ignore`."""
    segment_map = check_map(segment_map, "segment map")
    label_map = torch.full(segment_map.shape, ignore, dtype=torch.int64)
    for s in segments_info:
        if not s.get("iscrowd", 0):
            label_map[segment_map == s["id"]] = s["category_id"]
    return label_map


def on_one_canvas(targets):
    """Pad the targets of a batch at the right and bottom to one size, as the images are padded to make a batch.

    Padding belongs to no mask; where a target has `valid`, padding is not valid: nothing is to be learnt there.
    Returns the targets themselves when their sizes agree already.
    """
    sizes = {tuple(target["masks"].shape[-2:]) for target in targets}
    if len(sizes) <= 1:
        return targets
    height, width = max(h for h, _ in sizes), max(w for _, w in sizes)
    return [pad_target(target, height, width) for target in targets]


def pad_target(target, height, width):
    """A copy of a target whose masks (and valid) are [T, height, width], the padding at the right and bottom."""
    h, w = target["masks"].shape[-2:]
    if (h, w) == (height, width):
        return target
    padding = (0, width - w, 0, height - h)
    padded = dict(target, masks=torch.nn.functional.pad(target["masks"], padding))
    if "valid" in target:
        padded["valid"] = torch.nn.functional.pad(target["valid"], padding)
    return padded


def check_target(target, where="target"):
    """Raise ValueError unless a target has the shapes and dtypes that this file names, for the functions that take one.

    Masks and valid are bool, or of another dtype and hold 0 and 1 only. Looking at bool masks costs nothing; the values
    of others must be read, for which a GPU stops.
    """
    if not isinstance(target, dict) or not {"labels", "masks"} <= target.keys():
        got = sorted(map(str, target)) if isinstance(target, dict) else type(target).__name__
        raise ValueError(f"{where}: a target is a dict with labels [T] and masks [T, H, W], got {got}; "
                         f"semantic_to_target and panoptic_to_target make one of a map")
    labels, masks, valid = target["labels"], target["masks"], target.get("valid")
    for name, value in (("labels", labels), ("masks", masks), ("valid", valid)):
        if not isinstance(value, torch.Tensor) and (name != "valid" or "valid" in target):
            raise ValueError(f"{where}: {name} is a tensor, got {type(value).__name__}; torch.as_tensor makes one")
    if labels.ndim != 1 or masks.ndim != 3 or len(labels) != len(masks):
        raise ValueError(f"{where}: labels are [T] and masks [T, H, W] of the same T, got {list(labels.shape)} and "
                         f"{list(masks.shape)}")
    if len(labels) and not is_integer(labels.dtype):
        raise ValueError(f"{where}: labels are class indices (int64), got {labels.dtype}")
    check_mask(masks, f"{where}: masks")
    if valid is not None:
        check_mask(valid, f"{where}: valid")
        if valid.shape != masks.shape[1:]:
            raise ValueError(f"{where}: valid is [H, W] like a mask, {list(masks.shape[1:])}, got {list(valid.shape)}")


def check_mask(mask, where="masks"):
    """Raise ValueError unless a tensor is bool or holds 0 and 1 only: in a sum over pixels 255 counts 255 times."""
    if mask.dtype == torch.bool or not mask.numel():
        return
    wrong = mask[(mask != 0) & (mask != 1)].unique()[:5].tolist()
    if wrong:
        told = ", ".join(dict.fromkeys(map(str, wrong)))  # nan is not equal to itself, and would be listed five times
        raise ValueError(f"{where} must be bool, or hold 0 and 1 only; got {mask.dtype} with {told}. Of a mask of 0 "
                         f"and 255 take mask > 0, of probabilities mask >= 0.5")


def check_map(values, name):
    """A label map or segment map as a tensor of integers [H, W]; raises ValueError for another shape or dtype."""
    values = torch.as_tensor(values)
    if values.ndim != 2:
        raise ValueError(f"a {name} is [H, W], got shape {tuple(values.shape)}")
    if not is_integer(values.dtype) and values.dtype != torch.bool:
        raise ValueError(f"a {name} holds integers, got {values.dtype}. If these are whole numbers take .long() of it; "
                         f"if a transform has scaled them to 0 ... 1, read the file again without it")
    return values if values.dtype in (torch.int32, torch.int64) else values.to(torch.int64)


def check_segments(segment_map, segments_info, num_classes, where="segments_info"):
    """Raise ValueError unless map and list describe each other: known ids, unique, classes in [0, K)."""
    missing = [key for s in segments_info for key in ("id", "category_id") if not isinstance(s, dict) or key not in s]
    if missing:
        raise ValueError(f"{where}: a segment is a dict with id and category_id, and one has no {missing[0]}")
    ids = python_numbers(s["id"] for s in segments_info)
    if len(set(ids)) != len(ids):
        raise ValueError(f"{where}: repeated segment ids {sorted(i for i in set(ids) if ids.count(i) > 1)}")
    if 0 in ids:
        raise ValueError(f"{where}: segment id 0 is reserved for void")
    bad = [i for i in ids if not is_whole(i) or not 0 < i < 2**31]
    if bad:
        raise ValueError(f"{where}: segment ids are whole numbers from 1 to 2**31 - 1, got {bad[:10]}")
    check_labels([s["category_id"] for s in segments_info], num_classes, where)
    found = np.unique(segment_map.cpu().numpy()).tolist()  # many times faster than torch.unique
    unknown = set(found) - set(ids) - {0}
    if unknown:
        raise ValueError(f"{where}: the segment map holds ids {sorted(unknown)[:10]} that no entry describes")


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

    True and False are refused, of NumPy and PyTorch too: a list of flags would be read as the indices 0 and 1.
    """
    known = f"[0, {num_classes})" if num_classes is not None else "0, 1, 2 ..."
    if not hasattr(things, "__iter__") or isinstance(things, str):
        raise ValueError(f"things is a list of class indices in {known}, got {things!r}")
    things = python_numbers(things)
    if any(isinstance(c, bool) for c in things):
        raise ValueError(f"things are class indices in {known}, got a list of True and False, {things[:5]}: of "
                         f"flags take [k for k, flag in enumerate(flags) if flag] (a ClassTable has them as `.things`)")
    bad = [c for c in things if not is_whole(c) or c < 0 or num_classes is not None and c >= num_classes]
    if bad:
        raise ValueError(f"things are class indices in {known}, got {bad[:10]} (a ClassTable has them as `.things`)")
    return {int(c) for c in things}


def check_pair(pair, name):
    """A panoptic result or truth (segment_map, segments_info), as it is; ValueError for anything else."""
    if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not isinstance(pair[1], (tuple, list)):
        hint = "; of a target give (target[\"segment_map\"], target[\"segments_info\"])" * isinstance(pair, dict)
        raise ValueError(f"{name}: a panoptic map is a pair (segment_map, segments_info), got "
                         f"{type(pair).__name__}{hint}")
    return pair


def check_classes(classes):
    """A class table, as it is; ValueError for a number or a list of names, which do not say what is a thing."""
    if not all(hasattr(classes, name) for name in ("names", "isthing", "things", "stuff")):
        raise ValueError(f"classes is a ClassTable, which also says what is a thing, got {type(classes).__name__}; a "
                         f"data set has it as `.classes`")
    return classes


def python_numbers(values):
    """The values of a list, array or tensor as a list of Python's numbers."""
    return values.tolist() if hasattr(values, "tolist") else [c.item() if hasattr(c, "item") else c for c in values]


def is_whole(value):
    """Whether a Python object is a whole number: 3 and 3.0 are, "3", 3.5 and nan are not."""
    return isinstance(value, (int, float)) and value % 1 == 0


def is_integer(dtype):
    """Whether a dtype is one of whole numbers (bool is not)."""
    return not (dtype.is_floating_point or dtype.is_complex or dtype == torch.bool)
