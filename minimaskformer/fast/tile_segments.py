"""Segments that several tiles of a picture have seen, as one: two are the same if they agree where both tiles look."""
from dataclasses import dataclass
from itertools import combinations, product

import torch

SAME = 0.5  # IoU within the overlap, above which two segments are one: in a map each has at most one such partner
MASK_BYTES = 2**31  # of the masks of all instances of one picture


@dataclass(frozen=True)
class Part:
    """What one tile sees of a segment: its mask, cut to a box of the picture."""
    tile: int
    category_id: int
    score: float
    box: tuple[int, int, int, int]
    mask: torch.Tensor  # bool, of the box


def parts_of(number, tile, categories, scores, masks):
    """The `Part`s of a tile: masks bool [M, h, w], each cut to the box of its pixels; empty ones are left out."""
    found = []
    for k, score, mask in zip(categories, scores, masks):
        rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
        if len(rows):
            top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
            box = top + tile.box[0], left + tile.box[1], bottom + tile.box[0], right + tile.box[1]
            found.append(Part(number, int(k), float(score), box, mask[top:bottom, left:right].cpu().clone()))
    return found


def join_parts(tiles, parts, one_of_each=()):
    """Parts of all tiles as groups, one for each segment of the picture, best score first.

    one_of_each: classes of which there is one segment at most (stuff): all their parts are one group.
    """
    leader = list(range(len(parts)))

    def find(i):
        while leader[i] != i:
            i = leader[i]
        return i
    by_tile = [[i for i, part in enumerate(parts) if part.tile == number] for number in range(len(tiles))]
    for a, b in combinations(range(len(tiles)), 2):
        both = common(tiles[a].box, tiles[b].box)
        for i, j in same_segments(parts, by_tile[a], by_tile[b], both) if both else ():
            leader[max(find(i), find(j))] = min(find(i), find(j))
    groups = {}
    for i, part in enumerate(parts):
        single = part.category_id in one_of_each
        groups.setdefault(("class", part.category_id) if single else find(i), []).append(part)
    return sorted(groups.values(), key=lambda group: -max(part.score for part in group))


def same_segments(parts, some, others, box):
    """Pairs (i, j) of parts of two tiles that are one segment, by their masks in the box that both tiles see.

    Masks of one tile may overlap, so each part is given its best partner only, the best pairs first.
    """
    inside = {i: mask_inside(parts[i], box) for i in [*some, *others] if common(parts[i].box, box)}  # bool, of the box
    pairs = []
    for i, j in product((i for i in some if i in inside), (j for j in others if j in inside)):
        if parts[i].category_id == parts[j].category_id and common(parts[i].box, parts[j].box):
            either = int((inside[i] | inside[j]).sum())
            iou = int((inside[i] & inside[j]).sum()) / either if either else 0
            if iou > SAME:
                pairs.append((iou, i, j))
    taken, found = set(), []
    for _, i, j in sorted(pairs, key=lambda pair: (-pair[0], pair[1:])):
        if not {i, j} & taken:
            taken |= {i, j}
            found.append((i, j))
    return found


def common(a, b):
    """The box that two boxes share, or None."""
    top, left, bottom, right = max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])
    return (top, left, bottom, right) if top < bottom and left < right else None


def mask_inside(part, box):
    """The mask of a part inside a box of the picture: bool, of the box."""
    mask = torch.zeros(box[2] - box[0], box[3] - box[1], dtype=torch.bool)
    paste(part, box, mask, box[:2])
    return mask


def paste(part, box, canvas, corner, value=True):
    """Write a value where a part's mask is, inside a box of the picture, to a canvas whose first pixel is `corner`."""
    inside = common(part.box, box)
    if inside:
        top, left, bottom, right = inside
        mask = part.mask[top - part.box[0]:bottom - part.box[0], left - part.box[1]:right - part.box[1]]
        canvas[top - corner[0]:bottom - corner[0], left - corner[1]:right - corner[1]][mask] = value


def panoptic_of_groups(tiles, groups, things, height, width):
    """(segment_map int32 [H, W], segments_info) of joined parts; ids count from 1, best score first."""
    segment_map = torch.zeros(height, width, dtype=torch.int32)
    for number, group in enumerate(groups, start=1):
        for part in group:
            paste(part, tiles[part.tile].own, segment_map, (0, 0), number)
    areas = torch.bincount(segment_map.flatten(), minlength=len(groups) + 1).tolist()
    kept = [number for number in range(1, len(groups) + 1) if areas[number]]
    renumbered = torch.zeros(len(groups) + 1, dtype=torch.int32)
    renumbered[kept] = torch.arange(1, len(kept) + 1, dtype=torch.int32)
    return renumbered[segment_map], [
        {"id": new, "category_id": groups[old - 1][0].category_id, "isthing": groups[old - 1][0].category_id in things,
         "score": max(part.score for part in groups[old - 1]), "area": areas[old]}
        for new, old in enumerate(kept, start=1)]


def instances_of_groups(tiles, groups, height, width):
    """{"masks" bool [M, H, W], "labels", "scores"} of joined parts, best first, as many as MASK_BYTES hold.

    Raises ValueError if one with a score of 0.5 or more would not fit.
    """
    owned = [group for group in groups if any(common(part.box, tiles[part.tile].own) for part in group)]
    most = max(1, MASK_BYTES // (height * width))
    lost = sum(max(part.score for part in group) >= 0.5 for group in owned[most:])
    if lost:
        raise ValueError(f"{most + lost} instances in a picture of {width} x {height} would take more than "
                         f"{MASK_BYTES >> 30} GiB as masks: take the panoptic task, whose map holds any number, or cut "
                         f"the picture")
    masks = torch.zeros(min(most, len(owned)), height, width, dtype=torch.bool)
    for mask, group in zip(masks, owned):
        for part in group:
            paste(part, tiles[part.tile].own, mask, (0, 0))
    kept = masks.flatten(1).any(1)
    labels = torch.tensor([group[0].category_id for group in owned[:most]], dtype=torch.int64)
    scores = torch.tensor([max(part.score for part in group) for group in owned[:most]])
    return {"masks": masks[kept], "labels": labels[kept], "scores": scores[kept]}
