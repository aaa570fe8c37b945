"""The competition of panoptic inference: whole, or tile by tile, each without the masks that cannot matter there.

Bilinear values lie between the smallest and the largest of those they are made from. So the coarse logits around a tile
bound what a mask can be worth in it: one whose best is below another's worst wins no pixel there, and one that is
negative all around covers none. Of twenty masks about half are left in a tile, and the tile stays in the cache.
"""
import torch

from .large_maps import Largest, answer_size, bilinear, enlarged

TILE = 24, 32  # about so many coarse rows and columns
SAFE = 1e-5  # relative: bounds are this much wider, for rounding


def worth_tiling(mask_logits, resize):
    """Whether a tile enlarged by itself has the values of the whole: on a CPU, from sides of 32, by a whole factor.

    (From 32 on all tiles are large enough for the one kernel that torch takes for larger maps.)
    """
    return (mask_logits.device.type == "cpu" and min(mask_logits.shape[-2:]) >= 32
            and getattr(resize, "network", 0) == getattr(resize, "picture", 1)
            and resize.padded == tuple(4 * side for side in mask_logits.shape[-2:]))


def whole_competition(scores, mask_logits, kept, resize=None):
    """Step 2 of `panoptic_inference`: (winner int64 [H, W], an index into `kept`; pixels won; of its own mask; NaN?).

    The counts are int64 [n], the last a bool: whether NaN occurs. scores [N], mask_logits [N, h, w], kept: the n
    queries that take part; resize(mask logits) gives those at the answer's size.
    """
    largest, own = Largest(answer_size(mask_logits, resize), mask_logits.device), []
    for queries, logits in enlarged(mask_logits, kept, resize):  # [q], [q, H, W]
        mask_probs = logits.sigmoid_()
        inside = torch.ge(mask_probs, 0.5, out=torch.empty_like(mask_probs))  # of the mask alone, not score * mask
        own.append(inside.sum(2))  # [q, H]: rows are short enough to be counted exactly in float32
        largest.add(mask_probs.mul_(scores[queries, None, None]))
    winner, areas = largest.index(), torch.cat(own).long().sum(1)  # [H, W], [n]
    won = torch.zeros_like(areas).index_add_(0, winner.flatten(), areas.new_ones(1).expand(winner.numel()))
    return winner, won, areas, largest.value.sum().isnan()


def tiled_competition(scores, mask_logits, kept, resize):
    """`whole_competition`, to the last pixel, for what is `worth_tiling`."""
    size = resize.picture
    maps, scores = mask_logits[kept].float(), scores[kept]  # [n, h, w], [n]
    winner, counts = torch.empty(size, dtype=torch.int64), torch.zeros(2, len(kept), dtype=torch.int64)
    for rows in even_spans(maps.shape[1], TILE[0]):
        for columns in even_spans(maps.shape[2], TILE[1]):
            (top, above), (left, before) = (inner_and_outer(span) for span in (rows, columns))
            around = maps[:, above, before]  # the tile and one row or column more on each side
            queries = those_that_matter(scores, around.flatten(1))  # [q]
            logits = bilinear(around[queries], [4 * side for side in around.shape[1:]])[:, top, left]
            logits = logits[:, :size[0] - 4 * rows[0], :size[1] - 4 * columns[0]]  # without padding
            mask_probs = logits.sigmoid()  # [q, 4 * rows, 4 * columns]
            inside = torch.ge(mask_probs, 0.5, out=torch.empty_like(mask_probs))  # of the mask alone, not score * mask
            best = mask_probs.mul_(scores[queries, None, None]).max(0)[1]
            winner[4 * rows[0]:4 * rows[1], 4 * columns[0]:4 * columns[1]] = queries.take(best)
            won = best.flatten().bincount(minlength=len(queries))
            counts.index_add_(1, queries, torch.stack([won, inside.flatten(1).sum(1).long()]))
    return winner, *counts, maps.isnan().any()


def those_that_matter(scores, logits):
    """The queries int64 [q] that may win a pixel, or have one in their mask, between logits [n, P] of a place."""
    low, high = logits.aminmax(dim=1)  # [n]
    slack = SAFE * (1 + torch.maximum(low.abs(), high.abs()))
    worst, best = scores * (low - slack).sigmoid(), scores * (high + slack).sigmoid()
    useless = (best < worst.max() * (1 - SAFE)) & (high + slack < 0)  # never where something is NaN
    return useless.logical_not().nonzero().flatten()


def even_spans(length, step):
    """Consecutive (start, end) of about equal length, near `step`."""
    count = max(1, round(length / step))
    return [(length * i // count, length * (i + 1) // count, length) for i in range(count)]


def inner_and_outer(span):
    """Slices of a span: of itself in the enlarged piece, and of the piece, one more on each side, in the coarse map."""
    start, end, length = span
    first, last = max(0, start - 1), min(length, end + 1)
    return slice(4 * (start - first), 4 * (end - first)), slice(first, last)
