"""Objects with masks of their own, which may overlap, as a target; and the same painted into one map."""
import numpy as np
import torch


def objects_target(objects, size, background=None):
    """The target of a picture: labels, masks, valid, segment_map, segments_info (forms: `targets`).

    objects: [(class index, iscrowd, mask bool [H, W])]; each that is not a crowd is one mask of the target, as it is.
    valid: False where there is a crowd and no other mask. background: the class index of the pixels in no mask, which
    are then one more mask and segment; None: they are not a segment, but known to be in no mask.
    """
    segment_map, info = flatten_objects(objects, size, background)
    covered, crowd = union([mask for *_, mask in objects], size), union([m for _, c, m in objects if c], size)
    single = [(category, mask) for category, iscrowd, mask in objects if not iscrowd]
    if background is not None and not covered.all():
        single.append((background, ~covered))
    masks = stacked([mask for _, mask in single], size)  # [T, H, W]
    return {"labels": torch.tensor([category for category, _ in single], dtype=torch.int64),
            "masks": torch.from_numpy(masks), "valid": torch.from_numpy(~crowd | masks.any(axis=0)),
            "segment_map": segment_map, "segments_info": info}


def flatten_objects(objects, size, background=None):
    """(segment_map, segments_info): crowds lowest, then large before small. Ids count from 1 in the objects' order."""
    segment_map = np.zeros(size, dtype=np.int32)
    for i in sorted(range(len(objects)), key=lambda i: (not objects[i][1], -objects[i][2].sum())):
        segment_map[objects[i][2]] = i + 1
    rows = [(i + 1, category, True, iscrowd) for i, (category, iscrowd, _) in enumerate(objects)]
    if background is not None:
        rows.append((len(objects) + 1, background, False, 0))
        segment_map[segment_map == 0] = len(objects) + 1
    areas = np.bincount(segment_map.ravel(), minlength=len(objects) + 2)
    info = [{"id": i, "category_id": category, "isthing": isthing, "iscrowd": iscrowd, "area": int(areas[i])}
            for i, category, isthing, iscrowd in rows if areas[i]]
    return torch.from_numpy(segment_map), info


def stacked(masks, size):
    """Masks as one array bool [T, H, W], even if there are none."""
    return np.stack(masks) if masks else np.zeros((0, *size), dtype=bool)


def union(masks, size):
    """The pixels that are in any of the masks, bool [H, W]."""
    return np.any([np.zeros(size, dtype=bool), *masks], axis=0)
