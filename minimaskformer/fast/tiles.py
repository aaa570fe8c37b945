"""A large picture in overlapping tiles: where they lie, and how their answers become one without seams.

Semantic: scores are averaged where tiles overlap. Segments: two of one class in neighbouring tiles are the same one if
they agree where both tiles look (IoU above 0.5 there), and each pixel is answered by the tile in whose part it lies,
the overlap being cut in the middle. So what a tile sees only by its edge never decides.
"""
from dataclasses import dataclass

import torch

from .tile_segments import instances_of_groups, join_parts, panoptic_of_groups, parts_of


@dataclass(frozen=True)
class Tile:
    """A box that is looked at, and the part of the picture that it answers for; rows and columns, ends excluded."""
    box: tuple[int, int, int, int]  # top, left, bottom, right
    own: tuple[int, int, int, int]


def in_tiles(picture, task, answer, side, overlap, things):
    """The answer of a task for a picture [3, H, W], from those of its tiles, which have a side of so many pixels.

    answer(crop [3, h, w]): scores [K, h, w] for the semantic task, else what the task gives for a picture of that size.
    """
    height, width = picture.shape[1:]
    tiles = tiles_of(height, width, side, overlap)

    def look(tile):
        top, left, bottom, right = tile.box
        return answer(picture[:, top:bottom, left:right])
    if task == "semantic":
        return join_scores(tiles, look, height, width)
    parts, stuff = [], set()
    for number, tile in enumerate(tiles):
        result = look(tile)
        if task == "panoptic":
            segment_map, info = result
            stuff |= {s["category_id"] for s in info if not s["isthing"]}
            result = {"masks": (segment_map == s["id"] for s in info), "labels": [s["category_id"] for s in info],
                      "scores": [s.get("score", 1.0) for s in info]}  # a per-pixel model has none
        parts += parts_of(number, tile, result["labels"], result["scores"], result["masks"])
    groups = join_parts(tiles, parts, stuff)
    if task == "panoptic":
        return panoptic_of_groups(tiles, groups, things, height, width)
    return instances_of_groups(tiles, groups, height, width)


def tile_spans(length, side, overlap):
    """[(start, end, own start, own end)] of tiles along one axis: of one length, spread evenly, overlapping by at least
    `overlap` (a share of the side); own parts meet in the middle of the overlaps."""
    side = min(side, length)
    step = max(1, side - round(overlap * side))
    count = 1 + -(-(length - side) // step)
    starts = [round(i * (length - side) / max(1, count - 1)) for i in range(count)]
    cuts = [0, *((a + side + b) // 2 for a, b in zip(starts, starts[1:])), length]
    return [(start, start + side, *own) for start, own in zip(starts, zip(cuts, cuts[1:]))]


def tiles_of(height, width, side, overlap):
    """The `Tile`s of a picture, row by row. ValueError for an overlap outside [0, 0.5] or a side below 1."""
    if side < 1 or not 0 <= overlap <= 0.5:
        raise ValueError(f"tiles have a side from 1 pixel on and overlap by a share of it from 0 to 0.5, got {side} "
                         f"and {overlap}")
    return [Tile((top, left, bottom, right), (own_top, own_left, own_bottom, own_right))
            for top, bottom, own_top, own_bottom in tile_spans(height, side, overlap)
            for left, right, own_left, own_right in tile_spans(width, side, overlap)]


def join_scores(tiles, scores_of, height, width):
    """argmax over classes of the scores [K, h, w] of tiles, averaged where they overlap: int64 [H, W].

    scores_of(tile): asked for once each, row by row. Kept are one row of tiles' overlaps, never all scores: their sum
    decides like their mean. Near a tile's edge its scores count less, as it knows less of what lies around.
    """
    answer = torch.zeros(height, width, dtype=torch.int64)
    rows = [[tile for tile in tiles if tile.box[0] == top] for top in dict.fromkeys(tile.box[0] for tile in tiles)]
    above = None  # [K, a, W]: sums of earlier rows of tiles on the rows of pixels that the next one sees too
    for row, following in zip(rows, [*rows[1:], None]):
        top, _, bottom, _ = row[0].box
        done = following[0].box[0] if following else bottom  # rows of pixels up to here are complete
        below, left = None, None
        for tile, right_of in zip(row, [*row[1:], None]):
            x = tile.box[1]
            scores = scores_of(tile)
            total = scores * edge_weights(*scores.shape[1:], scores.device)  # [K, h, w]
            if left is not None:
                total[:, :, :left.shape[2]] += left
            end = right_of.box[1] if right_of else tile.box[3]  # columns up to here are complete
            left = total[:, :, end - x:].clone()
            total = total[:, :, :end - x]
            if above is not None:
                total[:, :above.shape[1]] += above[:, :, x:end]
            answer[top:done, x:end] = total[:, :done - top].argmax(0).cpu()
            if below is None:
                below = total.new_zeros(len(total), bottom - done, width)
            below[:, :, x:end] = total[:, done - top:]
        above = below
    return answer


def edge_weights(height, width, device):
    """Weights [h, w] in (0, 1]: 1 in the middle of a tile, falling towards its edges over a quarter of its side."""
    def ramp(length):
        steps = torch.arange(length, device=device)
        return ((torch.minimum(steps, length - 1 - steps) + 1) / max(1, length // 4)).clamp(max=1)
    return ramp(height)[:, None] * ramp(width)
