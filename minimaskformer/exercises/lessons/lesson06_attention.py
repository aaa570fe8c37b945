"""Lesson 06: the fixtures of attention, and the ways people get it wrong, with one head and with several."""
import torch

from ..core import Fixture, Mistake, issue
from .lesson05_maps import random

# --- attention with padding -----------------------------------------------------------------------------------------

def _attention_args(B, N, P, D, E, padding, seed):
    return (random(B, N, D, seed=seed), random(B, P, D, seed=seed + 1), random(B, P, E, seed=seed + 2),
            torch.tensor(padding, dtype=torch.bool))


# No two sizes alike, except once D and E; padding that differs from picture to picture and once stands in front.
ATTENTION_FIXTURES = (
    Fixture("2 pictures, 3 queries, 5 cells", _attention_args(2, 3, 5, 4, 2, [[0, 0, 0, 1, 1], [0, 0, 0, 0, 1]], 10)),
    Fixture("padding in front and in the middle", _attention_args(2, 2, 4, 9, 3, [[0, 1, 0, 0], [1, 0, 0, 1]], 20)),
    Fixture("nothing padded", _attention_args(3, 2, 4, 6, 6, [[0] * 4] * 3, 30)))


def _attend(q, k, v, padding, scale=lambda q, k, v: q.shape[-1] ** 0.5, inside=-torch.inf, axis=-1, after=None,
            weigh=None, which=lambda padding: padding):
    """Attention with knobs to get wrong."""
    scores = q @ k.mT / scale(q, k, v)  # [B, N, P]
    if inside is not None:
        scores = scores.masked_fill(which(padding)[:, None], inside)
    weights = scores.softmax(axis) if weigh is None else weigh(scores)
    if after is not None:
        weights = weights.masked_fill(padding[:, None], after)
    return weights @ v


def _with(**knobs):
    return lambda q, k, v, padding: _attend(q, k, v, padding, **knobs)


def _root(size):
    return _with(scale=lambda q, k, v: size(q, k, v) ** 0.5)


_ROOT = ("the root of another size", "D is the length of one query and one key: q.shape[-1].")
_AXIS = ("softmax over the wrong axis", "For each query the weights of the P cells add up to 1: the last axis of "
                                        "[B, N, P].")
_ZERO = ("the scores of padding set to 0", "exp(0) is 1, not 0: padding would still be read. Minus infinity.")
_NONE = ("no softmax", "Weights are positive and add up to 1 over the cells.")
_LEFT = ("the weights of padding set to 0 after the softmax",
         "The other weights then add up to less than 1. Set the *scores* to minus infinity, before the softmax.")
ATTENTION_MISTAKES = (
    Mistake("divided by D instead of its root", _with(scale=lambda q, k, v: q.shape[-1]),
            "A dot product of D random numbers is about as large as the root of D."),
    Mistake("not scaled", _with(scale=lambda q, k, v: 1), "Divide the scores by the root of D."),
    Mistake("multiplied by the root of D", _with(scale=lambda q, k, v: q.shape[-1] ** -0.5), "Divide."),
    Mistake("scaled after the softmax", lambda q, k, v, padding: _attend(
        q, k, v, padding, scale=lambda *_: 1) / q.shape[-1] ** 0.5,
            "The scores are scaled, not the weights: those must add up to 1."),
    Mistake(_ROOT[0], _root(lambda q, k, v: k.shape[1]), _ROOT[1]),
    Mistake(_ROOT[0], _root(lambda q, k, v: q.shape[1]), _ROOT[1]),
    Mistake(_ROOT[0], _root(lambda q, k, v: v.shape[-1]), _ROOT[1]),
    Mistake(_AXIS[0], _with(axis=1), _AXIS[1]),
    Mistake(_AXIS[0], _with(axis=0), _AXIS[1]),
    Mistake(_AXIS[0], _with(axis=1, inside=None, after=0.0), _AXIS[1]),
    Mistake("padding read like the rest", _with(inside=None),
            "Where `padding` is True there is no picture. Then what else is in the batch changes the answer.",
            issue("huggingface/transformers", 39382)),
    Mistake("padding the wrong way round: only padding is read", _with(which=lambda p: ~p),
            "True means: *not* picture. (PyTorch's functions disagree about this; its key_padding_mask is like ours.)"),
    Mistake("padding given as attn_mask, which says where to read", lambda q, k, v, padding: _attend(
        q, k, v, padding, which=lambda p: ~p, weigh=lambda s: s.softmax(-1).nan_to_num(0.0)),
            "scaled_dot_product_attention reads where its mask is True: give it ~padding, as [B, 1, P]."),
    Mistake(_LEFT[0], _with(inside=None, after=0.0), _LEFT[1]),
    Mistake(_ZERO[0], _with(inside=0.0), _ZERO[1]),
    Mistake("minus infinity times the mask: 0 times infinity is not a number", lambda q, k, v, padding: _attend(
        q, k, v, padding, inside=None, weigh=lambda s: (s + padding[:, None].to(s) * -torch.inf).softmax(-1)),
            "Where nothing is padded stands 0 * -inf. Replace scores instead: masked_fill, or torch.where."),
    Mistake("plus infinity for the scores of padding", _with(inside=torch.inf),
            "exp(inf) outweighs everything, and inf - inf is not a number. Minus infinity."),
    Mistake("padding added to the scores as a 1", lambda q, k, v, padding: _attend(
        q, k, v, padding, inside=None, weigh=lambda s: (s + padding[:, None].to(s)).softmax(-1)),
            "A bool added to a float is 1. Use masked_fill with minus infinity."),
    Mistake(_NONE[0], _with(weigh=lambda s: s), _NONE[1]),
    Mistake(_NONE[0], _with(weigh=lambda s: s, inside=0.0), _NONE[1]),
    Mistake("a sigmoid instead of the softmax", _with(weigh=lambda s: s.sigmoid()),
            "Cells compete: the weights of one query add up to 1."),
    Mistake("the weights without the values", lambda q, k, v, padding: _attend(
        q, k, torch.eye(k.shape[1], dtype=q.dtype).expand(len(q), -1, -1), padding),
            "The last step reads: weights @ v."),
    Mistake("the keys read instead of the values", lambda q, k, v, padding: _attend(q, k, k, padding),
            "Keys are compared, values are read."),
    Mistake("keys and values exchanged", lambda q, k, v, padding: _attend(q, v, k, padding),
            "Queries are compared with the keys, and the values are read."),
)


# --- several heads --------------------------------------------------------------------------------------------------

def _heads_args(B, N, P, C, heads, seed):
    weights = {"in_proj_weight": random(3 * C, C, seed=seed) * 0.6, "in_proj_bias": random(3 * C, seed=seed + 1),
               "out_proj.weight": random(C, C, seed=seed + 2) * 0.6, "out_proj.bias": random(C, seed=seed + 3)}
    q, k, v = (random(B, n, C, seed=seed + 4 + i) for i, n in enumerate((N, P, P)))
    return q, k, v, weights, heads


HEADS_FIXTURES = (  # heads and channels per head differ, so do N and P, and q, k and v are three different tensors
    Fixture("2 pictures, 3 queries, 5 cells, 8 channels in 2 heads", _heads_args(2, 3, 5, 8, 2, 40)),
    Fixture("1 picture, 4 queries, 3 cells, 6 channels in 3 heads; the weights in another order",
            tuple(dict(sorted(arg.items())) if isinstance(arg, dict) else arg
                  for arg in _heads_args(1, 4, 3, 6, 3, 60))))


HEADS_GROWING = tuple(_heads_args(1, cells, cells, 32, 4, cells) for cells in (4, 16, 64, 128, 256))  # as the encoder


def _split(x, heads):
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)  # [B, heads, N, d]


def _merge(x):
    return x.transpose(1, 2).flatten(2)  # [B, N, C]


def _cut(x, heads):
    return x.reshape(len(x), heads, x.shape[1], -1)  # the mistake: cells and channels mixed


def _glued(x):
    return x.reshape(len(x), x.shape[2], -1)


def _woven(x, heads):
    return x.unflatten(-1, (-1, heads)).permute(0, 3, 1, 2)


def _multi_head(q, k, v, weights, num_heads, split=_split, merge=_merge, thirds=(0, 1, 2), bias=True, out_bias=True,
                out=True, scale=lambda d, C: d ** 0.5, left=(False, False), axis=-1, mean=False, weigh=None,
                project="qkv"):
    """Multi-head attention with knobs to get wrong."""
    w, b = weights["in_proj_weight"].chunk(3), weights["in_proj_bias"].chunk(3)
    q, k, v = (x @ (w[i] if left[0] else w[i].T) + bias * b[i] if name in project else x
               for name, x, i in zip("qkv", (q, k, v), thirds))
    q, k, v = (split(x, num_heads) for x in (q, k, v))
    attention = q @ k.mT / scale(q.shape[-1], q.shape[-1] * num_heads)  # [B, heads, N, P]
    attention = attention.softmax(axis) if weigh is None else weigh(attention)
    if mean:
        attention = attention.mean(1, keepdim=True)
    read = merge(attention @ v)
    if not out:
        return read
    w = weights["out_proj.weight"]
    return read @ (w if left[1] else w.T) + out_bias * weights["out_proj.bias"]


def _heads_with(**knobs):
    return lambda q, k, v, weights, num_heads: _multi_head(q, k, v, weights, num_heads, **knobs)


def _one_bias(q, k, v, weights, num_heads):
    """in_proj_bias read as if it had C numbers."""
    weights = weights | {"in_proj_bias": weights["in_proj_bias"].chunk(3)[0].repeat(3)}
    return _multi_head(q, k, v, weights, num_heads)


def _thirds_by_head(q, k, v, weights, num_heads):
    """The rows of in_proj read as q, k, v of head 0, then q, k, v of head 1: other libraries store them so."""
    weights = weights | {name: w.unflatten(0, (num_heads, 3, -1)).transpose(0, 1).flatten(0, 2)
                         for name, w in weights.items() if name.startswith("in_proj")}
    return _multi_head(q, k, v, weights, num_heads)


_VIEW = ("heads cut across the queries",
         "[B, N, C] must become [B, N, heads, d] first, and then be transposed to [B, heads, N, d]. A plain view to "
         "[B, heads, N, d] has the right shape and mixes queries.")
_THIRDS = ("the thirds of in_proj in another order", "Rows 0 ... C-1 are for q, the next C for k, the last for v.")
_TWICE = ("a third of in_proj used twice", _THIRDS[1])
_SIDE = ("a weight used from the wrong side", "A linear layer is x @ weight.T + bias; F.linear does it.")
HEADS_MISTAKES = (
    Mistake(_VIEW[0], _heads_with(split=_cut, merge=_glued), _VIEW[1]),
    Mistake(_VIEW[0], _heads_with(split=_cut), _VIEW[1]),
    Mistake("heads put together without transposing back", _heads_with(merge=_glued),
            "From [B, heads, N, d] back to [B, N, heads, d], and only then flatten to [B, N, C]."),
    Mistake("every heads-th channel to a head", _heads_with(split=_woven),
            "A head owns d neighbouring channels: unflatten to (heads, d), not to (d, heads)."),
    Mistake("every heads-th channel to a head, there and back",
            _heads_with(split=_woven, merge=lambda x: x.permute(0, 2, 3, 1).flatten(2)),
            "A head owns d neighbouring channels: unflatten to (heads, d), not to (d, heads)."),
    Mistake("scaled by all C channels", _heads_with(scale=lambda d, C: C ** 0.5),
            "A head compares d = C / heads channels: divide by the root of d."),
    Mistake("scaled by the number of heads", lambda q, k, v, weights, n: _multi_head(
        q, k, v, weights, n, scale=lambda d, C: (C / d) ** 0.5), "The root of d, the channels of one head."),
    Mistake("divided by d instead of its root", _heads_with(scale=lambda d, C: d), "The root of d."),
    Mistake("not scaled", _heads_with(scale=lambda d, C: 1), "Divide the scores of a head by the root of d."),
    Mistake("one head only", lambda q, k, v, weights, n: _multi_head(q, k, v, weights, 1),
            "Each head has a softmax of its own over its own d channels."),
    Mistake("the heads share one attention, their mean", _heads_with(mean=True),
            "The mean over heads is for drawing. Each head reads with its own weights."),
    Mistake("out_proj left out", _heads_with(out=False), "It mixes what the heads have read."),
    Mistake("the bias of out_proj left out", _heads_with(out_bias=False), "F.linear(read, weight, bias)."),
    Mistake("the bias of in_proj left out", _heads_with(bias=False), "q, k and v have a third of in_proj_bias each."),
    Mistake("no bias at all", _heads_with(bias=False, out_bias=False), "Both projections have one."),
    *(Mistake(_SIDE[0], _heads_with(left=left), _SIDE[1]) for left in ((True, True), (True, False), (False, True))),
    *(Mistake(_THIRDS[0], _heads_with(thirds=thirds), _THIRDS[1])
      for thirds in ((1, 0, 2), (0, 2, 1), (2, 1, 0), (1, 2, 0), (2, 0, 1))),
    *(Mistake(_TWICE[0], _heads_with(thirds=thirds), _TWICE[1])
      for thirds in ((0, 0, 0), (0, 1, 1), (0, 0, 2), (0, 0, 1))),
    *(Mistake("not everything projected", _heads_with(project=project),
              "q, k and v each go through their own third of in_proj.")
      for project in ("q", "qk", "qv", "kv", "v", "")),
    Mistake("the rows of in_proj taken head by head", _thirds_by_head,
            "First all of q's rows, C of them, then k's, then v's. Cut in thirds first, into heads afterwards."),
    Mistake("the bias of q for k and v too", _one_bias, "in_proj_bias has three thirds, as in_proj_weight has."),
    Mistake("q added to what was read", lambda q, *rest: q + _multi_head(q, *rest),
            "That residual is the layer's business, in 06.4. Here: what is read, through out_proj."),
    Mistake("divided by C, all channels", _heads_with(scale=lambda d, C: C),
            "The root of d, the channels of one head."),
    Mistake("num_heads taken for the channels of one head", lambda q, k, v, weights, n: _multi_head(
        q, k, v, weights, q.shape[-1] // n), "unflatten(-1, (num_heads, -1)): heads first, their channels last."),
    Mistake("values made from k", lambda q, k, v, *rest: _multi_head(q, k, k, *rest),
            "In the decoder k carries positions, v does not: they are two different inputs."),
    Mistake("keys and values made from q", lambda q, k, v, *rest: _multi_head(q, q, q, *rest),
            "That is self-attention. Only q comes from the queries here."),
    Mistake("keys and values exchanged", lambda q, k, v, *rest: _multi_head(q, v, k, *rest),
            "k is compared, v is read."),
    Mistake("softmax over the wrong axis", _heads_with(axis=-2), "Over the cells: the last axis of [B, heads, N, P]."),
    Mistake(_NONE[0], _heads_with(weigh=lambda s: s), _NONE[1]),
    Mistake("softmax over the heads", _heads_with(axis=1), "Over the cells: the last axis of [B, heads, N, P]."),
)
