"""Many maps of one size, a few at a time: what inference needs so that large pictures are quick and fit in memory.

A hundred masks of a 12-megapixel photo are 5 GB; those that take part are enlarged, used and discarded one by one. This
is also faster on a CPU, where a pass over a map that is still in the cache costs a fraction of one from main memory. A
GPU gets as many at once as `CHUNK` allows. The host waits for it only in `threshold_into`.
"""
from typing import NamedTuple

import torch
import torch.nn.functional as F

CHUNK = 2**23  # at most this many float32 values (32 MiB) in one piece of work
CACHED = 2**18  # the same on a CPU (1 MiB)
BAND = 8  # rows of masks at the network's size that are enlarged together, times what a CPU's cache holds


def at_once(device, values):
    """How many items of a given number of values make one piece of work: at least 1."""
    return max(1, min(CHUNK, CACHED if torch.device(device).type == "cpu" else CHUNK) // max(1, values))


def answer_size(mask_logits, resize=None):
    """(H, W) of what `resize` makes of mask logits [N, h, w]; without `resize`, their own."""
    return tuple((resize(mask_logits[:0]) if resize else mask_logits).shape[-2:])


def enlarged(mask_logits, queries, resize=None):
    """Yield (part [n], mask_logits[part] as float32 [n, H, W], resized) for consecutive parts of a list of queries.

    The maps are copies: they may be changed in place.
    """
    height, width = answer_size(mask_logits, resize)
    for part in to_device(queries, mask_logits).split(at_once(mask_logits.device, height * width)):
        if len(part):
            maps = mask_logits.index_select(0, part)
            yield part, (resize(maps) if resize else maps).float()


class Largest:
    """The largest of many maps at each pixel, and which one it was; maps come in turn and are not kept.

    value float32 [H, W]; index() int64 [H, W]. Values are at least 0, and a tie goes to the earlier map, as in
    `argmax`. On a CPU this is several times faster than `argmax` or `torch.where`, which handle one value at a time.
    """

    def __init__(self, size, device):
        self.count = 0
        self.value, self.winner, self.better = (torch.zeros(*size, device=device) for _ in range(3))  # [H, W]

    def add(self, maps):
        """The next n maps, float32 [n, H, W]."""
        values, index = maps.max(0) if len(maps) > 1 else (maps[0], 0)
        torch.gt(values, self.value, out=self.better)  # 1.0 where it is the largest so far, else 0.0
        torch.maximum(self.winner, self.better.mul_(index + self.count), out=self.winner)
        torch.maximum(self.value, values, out=self.value)  # NaN stays NaN
        self.count += len(maps)

    def index(self):
        """Which map is the largest, int64 [H, W], counted from 0 in the order they came."""
        return self.winner.long()


def bilinear(maps, size):
    """Bilinear resize of [C, h, w] to [C, *size]; C may be 0."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    if len(maps) == 0:
        return maps.new_zeros(0, *size)
    return F.interpolate(maps[None], size=tuple(size), mode="bilinear", align_corners=False)[0]


class ToPicture(NamedTuple):
    """The way of mask logits [n, h, w] to the picture's size: to the padded input, cropped, then resized; called."""
    padded: tuple  # (height, width), as the others
    network: tuple  # the input without padding
    picture: tuple

    def __call__(self, mask_logits):
        return bilinear(bilinear(mask_logits, self.padded)[:, :self.network[0], :self.network[1]], self.picture)


def weighted_masks(weights, mask_logits):
    """Sum over n of weights[n, k] * m_n[h, w]: float32 [N, k] and mask logits [N, H, W] to [k, H, W]."""
    with torch.autocast(weights.device.type, enabled=False):  # would round the products to half precision
        return torch.einsum("nk,nhw->khw", weights, mask_logits.float().sigmoid())


def bands(mask_logits, padded, size):
    """Yield `bilinear(mask_logits, padded)[:, :size[0], :size[1]]` a few rows at a time.

    A band is computed from its own rows of the mask logits and one more on either side. With a factor of 4, the stride
    of mask logits, the weights of rows are exact, so it does not matter where a band begins: the values are the same.
    (To the last digit from H + W = 128 on; below that, torch uses another kernel.)
    """
    N, height, _ = mask_logits.shape
    factor = padded[0] // height
    rows = at_once(mask_logits.device, N * padded[1]) * BAND
    for top in range(0, size[0], rows):
        bottom = min(top + rows, size[0])
        first, last = max(0, top // factor - 1), min(height, -(-bottom // factor) + 1)
        band = bilinear(mask_logits[:, first:last], ((last - first) * factor, padded[1]))
        yield band[:, top - first * factor:bottom - first * factor, :size[1]]


def threshold_into(masks, mask_logits, queries, resize=None):
    """Write (enlarged mask logits > 0) of the n queries to masks[:n]; the pixels of each and its sum of m_i there.

    Returns two lists of n numbers, for which the host waits.
    """
    sums, done = [torch.zeros(2, 0, device=masks.device)], 0
    for part, logits in enlarged(mask_logits, queries, resize):  # [n], [n, H, W]
        torch.gt(logits, 0, out=masks[done:done + len(part)])
        inside = torch.gt(logits, 0, out=torch.empty_like(logits))  # 1.0 or 0.0: sums of bool are slow
        sums.append(torch.stack([inside.sum(2).sum(1), logits.sigmoid_().mul_(inside).sum(2).sum(1)]))  # [2, n]
        done += len(part)
    return torch.cat(sums, 1).tolist()


def put_in_order(maps, order):
    """maps[:M] = maps[order] in place, for order [M]: without a second copy of all of them."""
    rows = at_once(maps.device, len(order) * maps.shape[2])
    for top in range(0, maps.shape[1], rows):
        band = maps[:, top:top + rows]
        band[:len(order)] = band.index_select(0, order)


def to_device(values, like, dtype=torch.int64):
    """A list as a tensor on the device of another; the host does not wait."""
    return torch.tensor(values, dtype=dtype).to(like.device, non_blocking=True)
