"""Targets: a label map or panoptic map as a set of (class, mask), and back (lesson 01).

MaskFormer is trained on sets. One image's target follows torchvision's detection convention,

    labels  int64 [T]        class index of each segment, 0 ... K-1
    masks   bool  [T, H, W]  its pixels
    valid   bool  [H, W]     False where nobody knows the answer (void and crowd): no loss, no matching cost there

and, because metrics need what training must not see (crowds), also the panoptic truth itself:

    segment_map    int32 [H, W]  segment id of each pixel, 0 is void
    segments_info  list of {"id", "category_id" (class index), "isthing", "iscrowd", "area"}

*Void* is a property of a pixel ("nobody labelled this"); *no object* is a property of a query ("I found nothing").
They never meet: void has no index, no-object is index K and occurs in predictions only.
"""

import torch

from .system.arguments import check_labels, check_map, check_segments, check_target, check_things

VOID = -1  # in our class maps: nobody knows the class. The 255 used in files could be a class of a data set with > 255


def panoptic_to_target(segment_map, segments_info, num_classes):
    """Turn a panoptic map into the set {(c_i, m_i)} the model is trained on (paper, section 3.2).

    segment_map: integer [H, W], 0 is void. segments_info: dicts with id, category_id in [0, K), isthing, iscrowd.
    Crowd segments are not targets; they and void make `valid` False. Segments without pixels are dropped.
    Raises ValueError for a class outside [0, K), a repeated id, or an id in the map that no entry describes.
    """
    segment_map = check_map(segment_map, "segment map")
    found = check_segments(segment_map, segments_info, num_classes)
    crowd = [s["id"] for s in segments_info if s.get("iscrowd", 0)]
    segments = [s for s in segments_info if not s.get("iscrowd", 0) and int(s["id"]) in found]
    ids = torch.tensor([s["id"] for s in segments], dtype=segment_map.dtype)
    masks = segment_map == ids[:, None, None]  # [T, H, W]
    labels = torch.tensor([s["category_id"] for s in segments], dtype=torch.int64)
    valid = segment_map != 0
    for i in crowd:
        valid &= segment_map != i
    return {"labels": labels, "masks": masks, "valid": valid,
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

    Ids count from 1 in the order of the set; pixels in no mask are 0 (void). Raises ValueError for a malformed target.
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


def label_map(target, num_classes):
    """The class of each pixel, int64 [H, W], from a set of (class, mask); -1 where nobody knows it (void, crowd).

    Void is what is not `valid`, and every pixel in no mask. Where masks overlap the later one wins.
    """
    labels, masks = target["labels"].cpu(), target["masks"].cpu().bool()
    check_labels(labels, num_classes)
    classes = torch.full(masks.shape[-2:], VOID, dtype=torch.int64)  # [H, W]
    for label, mask in zip(labels, masks):
        classes[mask] = label
    if "valid" in target:
        classes[~target["valid"].cpu().bool()] = VOID
    return classes


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
