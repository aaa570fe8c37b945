"""Many maps of one size, a few at a time: what inference needs so that large pictures are quick and fit in memory.

A hundred masks of a 12-megapixel photo are 5 GB; those that take part are enlarged, used and forgotten one by one. That
is also faster on a CPU, where a pass over a map that is still in the cache costs a fraction of one from main memory. A
GPU gets as many at once as `CHUNK` allows. Nothing here makes the host wait for a GPU.
"""
import torch

CHUNK = 2**23  # at most this many float32 values (32 MiB) in one piece of work
CACHED = 2**18  # the same on a CPU (1 MiB)


def at_once(device, values):
    """How many items of so many values each make one piece of work: at least 1."""
    return max(1, min(CHUNK, CHUNK if torch.device(device).type == "cuda" else CACHED) // max(1, values))


def answer_size(mask_logits, resize=None):
    """(H, W) of what `resize` makes of mask logits [N, h, w]; without one, their own."""
    return tuple((resize(mask_logits[:0]) if resize else mask_logits).shape[-2:])


def enlarged(mask_logits, queries, resize=None):
    """Yield (part [n], mask_logits[part] as float32 [n, H, W], resized) for consecutive parts of a list of queries.

    The maps are copies: they may be changed in place.
    """
    height, width = answer_size(mask_logits, resize)
    queries = torch.tensor(queries, dtype=torch.int64).to(mask_logits.device, non_blocking=True)
    for part in queries.split(at_once(mask_logits.device, height * width)):
        if len(part):
            maps = mask_logits.index_select(0, part)
            yield part, (resize(maps) if resize else maps).float()


class Largest:
    """The largest of many maps at each pixel, and which one it was; maps come in turn and are not kept.

    value float32 [H, W]; index() int64 [H, W]. Values are at least 0, and a tie stays with the earlier map, as in
    `argmax`. On a CPU this is several times faster than `argmax` or `torch.where`, which do one value at a time.
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


def put_in_order(maps, order):
    """maps[:M] = maps[order] in place, for order [M]: without a second copy of all of them."""
    rows = at_once(maps.device, len(order) * maps.shape[2])
    for top in range(0, maps.shape[1], rows):
        band = maps[:, top:top + rows]
        band[:len(order)] = band.index_select(0, order)
