"""The hunt of lesson 06: two queries and four cells that show what is wrong with seventeen attentions."""
import torch

from ..hunts import Hunt, all_whole
from .lesson06 import attention_exercise


def read_attending(q, k, v, padding):
    """Nested lists as the arguments of attention, for one picture."""
    q, k, v, padding = (torch.as_tensor(rows, dtype=torch.float32) for rows in (q, k, v, padding))
    if not q.ndim == k.ndim == v.ndim == 2 or padding.ndim != 1:
        raise ValueError("q, k and v are lists of rows, padding is a list with a number for each cell.")
    (N, D), P, E = q.shape, len(k), v.shape[1]
    if not 1 <= N <= 2 or not 1 <= P <= 4 or not 1 <= D <= 3 or not 1 <= E <= 3:
        raise ValueError(f"at most 2 queries, 4 cells and 3 channels, and at least one of each; yours has {N}, {P} and "
                         f"{D} to compare, {E} to read.")
    if k.shape[1] != D or len(v) != P or len(padding) != P:
        raise ValueError(f"a key is as long as a query, and every cell has a key, a value and a padding: yours have "
                         f"{k.shape[1]} and {D} channels; {P} keys, {len(v)} values, {len(padding)} paddings.")
    if not all_whole(-3, 3, q, k, v):
        raise ValueError("q, k and v hold whole numbers from -3 to 3.")
    if not all_whole(0, 1, padding) or padding.all():
        raise ValueError("padding holds 0 and 1, and at least one cell is picture: 0.")
    return q[None], k[None], v[None], padding.bool()[None]


ROOT = "the root of 1 is 1: with one channel, scaled and unscaled are the same."
PADDED = "a cell must be padding, and have a value that the others have not."
PLAIN = "some cell's value must not be 0, and cells must differ."
attention_hunt = Hunt(
    id="06.h", exercise=attention_exercise, arguments=read_attending,
    task="Make one example for attention that shows what is wrong with as many wrong versions as you can: "
         "hunt(\"06.h\", q, k, v, padding) for one picture with at most 2 queries, 4 cells and 3 channels. q: a row "
         "for each query; k and v: a row for each cell; whole numbers from -3 to 3; padding: 1 where there is no "
         "picture.",
    looks={
        "divided by D instead of its root": ROOT,
        "not scaled": ROOT,
        "multiplied by the root of D": ROOT,
        "scaled after the softmax": ROOT,
        "the root of another size": "D, the number of queries, that of cells and that of what is read must all differ.",
        "softmax over the wrong axis": PLAIN,
        "padding read like the rest": PADDED,
        "padding the wrong way round: only padding is read": PLAIN,
        "padding given as attn_mask, which says where to read": PLAIN,
        "the weights of padding set to 0 after the softmax": PADDED,
        "the scores of padding set to 0": PADDED,
        "padding added to the scores as a 1": PADDED,
        "no softmax": PLAIN,
        "a sigmoid instead of the softmax": PLAIN,
        "the weights without the values": "values must not be such that they only repeat the weights.",
        "the keys read instead of the values": "a cell's key must not be its value.",
        "keys and values exchanged": "a cell's key must not be its value.",
    },
    solution=([[2, -1, 1], [0, 3, -2]], [[1, 0, 2], [0, 1, -1], [-1, 2, 0], [2, 2, 1]], [[3], [-2], [1], [2]],
              [0, 0, 0, 1]))

HUNTS = (attention_hunt,)
