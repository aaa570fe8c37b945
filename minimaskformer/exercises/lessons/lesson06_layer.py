"""Exercise 06.4, one decoder layer: fixtures, and the ways people get its wiring wrong."""
from types import SimpleNamespace

import torch

from ...transformer import DecoderLayer
from ..core import Fixture, Mistake, Remark, issue
from .lesson05_maps import random


def random_layer(dim, num_heads, seed):
    """A library layer in eval mode whose every parameter is random: fresh norms and biases would hide mistakes."""
    return randomised(DecoderLayer(dim, num_heads, 2 * dim, 0.1), seed)


def randomised(module, seed):
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        parameter.data = centre + 0.5 * torch.randn(parameter.shape, generator=generator)
    return module.requires_grad_(False).eval()


def _inputs(B, N, P, C, seed):
    return tuple(random(B, n, C, seed=seed + i) for i, n in enumerate((N, N, P, P)))


LAYER_FIXTURES = (
    Fixture("2 pictures, 3 queries, 5 cells", (random_layer(8, 2, 1), *_inputs(2, 3, 5, 8, 100))),
    Fixture("another layer, 1 picture, 4 queries, 6 cells", (random_layer(12, 3, 2), *_inputs(1, 4, 6, 12, 200))))


def _functions(layer):
    """A layer as the learner's model has it: its parts as functions of the same arguments, and nothing else."""
    def function(part):
        return lambda *args, **kwargs: part(*args, **kwargs)
    return SimpleNamespace(**{name: function(part) for name, part in layer.named_children() if name != "dropout"})


LAYER_IN_MODEL = Remark((_functions(LAYER_FIXTURES[0].args[0]), *LAYER_FIXTURES[0].args[1:]),
                        "There the parts of a layer are functions: call them, and use nothing else of it.")
SELF = dict(q=True, k=True, v=False)  # what the positions are added to
CROSS = dict(q=True, k=True, v=False)


def _add(x, positions, where):
    return [x + positions if where[name] else x for name in "qkv"]


def _layer(layer, x, positions, memory, memory_positions, self_at=SELF, cross_at=CROSS, norms=(1, 2, 3),
           order=("self", "cross", "mlp"), wrap=lambda x, f, norm: norm(x + f(x)), keys=None):
    """A decoder layer with knobs to get wrong."""
    def self_attention(x):
        return layer.self_attn(*_add(x, positions, self_at))[0]

    def cross_attention(x):
        q = x + positions if cross_at["q"] else x
        k, v = (memory + memory_positions if cross_at[name] else memory for name in "kv")
        k = k if keys is None else keys
        return layer.cross_attn(q, k, v)[0]

    steps = {"self": self_attention, "cross": cross_attention, "mlp": layer.mlp}
    for step, norm in zip(order, norms):
        x = wrap(x, steps[step], getattr(layer, f"norm{norm}") if norm else lambda x: x)
    return x


def _with(**knobs):
    return lambda *args: _layer(*args, **knobs)


def _no_residual(skipped):
    """The residual left out at the steps whose norm is in `skipped`."""
    def wrong(layer, *args):
        def wrap(x, f, norm):
            return norm(f(x)) if norm in [getattr(layer, f"norm{n}") for n in skipped] else norm(x + f(x))
        return _layer(layer, *args, wrap=wrap)
    return wrong


def _carried(layer, x, positions, memory, memory_positions):
    return _layer(layer, x + positions, 0 * positions, memory, memory_positions)


def _residual_of_q(steps):
    """The residual taken from x + positions, the input of the attention, at the steps with these norms."""
    def wrong(layer, x, positions, memory, memory_positions):
        def wrap(x, f, norm):
            return norm(x + positions * (norm in [getattr(layer, f"norm{n}") for n in steps]) + f(x))
        return _layer(layer, x, positions, memory, memory_positions, wrap=wrap)
    return wrong


def _stale_query(layer, x, positions, memory, memory_positions):
    """The cross-attention asks with the queries from before the self-attention."""
    after = layer.norm1(x + layer.self_attn(x + positions, x + positions, x)[0])
    after = layer.norm2(after + layer.cross_attn(x + positions, memory + memory_positions, memory)[0])
    return layer.norm3(after + layer.mlp(after))


def _stale_residual(added_to):
    """One step added to an earlier x than the one before it: 0 the x that came in, 1 that after the self-attention."""
    def wrong(layer, x, positions, memory, memory_positions):
        states = [x, layer.norm1(x + layer.self_attn(x + positions, x + positions, x)[0])]
        read = layer.cross_attn(states[1] + positions, memory + memory_positions, memory)[0]
        states.append(layer.norm2(states[added_to[0]] + read))
        return layer.norm3(states[added_to[1]] + layer.mlp(states[2]))
    return wrong


def _asked_by_positions(layer, x, positions, memory, memory_positions):
    x = layer.norm1(x + layer.self_attn(positions, positions, x)[0])
    x = layer.norm2(x + layer.cross_attn(positions, memory + memory_positions, memory)[0])
    return layer.norm3(x + layer.mlp(x))


def _exchanged(layer, x, positions, memory, memory_positions):
    x = layer.norm1(x + layer.cross_attn(x + positions, x + positions, x)[0])
    x = layer.norm2(x + layer.self_attn(x + positions, memory + memory_positions, memory)[0])
    return layer.norm3(x + layer.mlp(x))


_VALUES = ("positions added to the values too",
           "Positions decide who reads whom. What is read is x, or memory, without them.")
_MISSING = ("positions missing where things are compared",
            "query_positions go to x wherever it asks or is asked; memory_positions go to the keys made of memory.")
_RESIDUAL = ("a residual forgotten", "Each step adds to what is there: norm(x + step(x)).")
_NORMS = ("a norm left out", "Each of the three steps ends with its own norm.")
_MIXED = ("the norms in another order", "norm1 after the self-attention, norm2 after the cross-attention, norm3 last.")
_ORDER = ("the steps in another order", "First the queries talk to each other, then they read the picture, then the "
                                        "MLP.")
_HALF = ("a step left out", "Three steps: self-attention, cross-attention, MLP.")
_NO = dict(q=False, k=False, v=False)
LAYER_MISTAKES = (
    Mistake(_VALUES[0], _with(self_at=SELF | {"v": True}), _VALUES[1]),
    Mistake(_VALUES[0], _with(cross_at=CROSS | {"v": True}), _VALUES[1]),
    Mistake(_VALUES[0], _with(self_at=SELF | {"v": True}, cross_at=CROSS | {"v": True}), _VALUES[1]),
    Mistake("no positions at all", _with(self_at=_NO, cross_at=_NO),
            "Without query positions all queries of the first layer are alike, and stay alike."),
    *(Mistake(_MISSING[0], _with(self_at=self_at, cross_at=cross_at), _MISSING[1]) for self_at, cross_at in (
        (_NO, CROSS), (SELF | {"q": False}, CROSS), (SELF | {"k": False}, CROSS), (SELF, _NO),
        (SELF, CROSS | {"q": False}), (SELF, CROSS | {"k": False}), (_NO, CROSS | {"q": False}))),
    Mistake("the norm before each step (pre-norm)", _with(wrap=lambda x, f, norm: x + f(norm(x))),
            "The published weights are post-norm: norm(x + step(x)). Pre-norm would need one more norm at the end, and "
            "other weights."),
    Mistake("the norm on the step alone, not on the sum", _with(wrap=lambda x, f, norm: x + norm(f(x))),
            "norm(x + step(x)): the sum is normalised."),
    *(Mistake(_RESIDUAL[0], _no_residual(skipped), _RESIDUAL[1])
      for skipped in ((1,), (2,), (3,), (1, 2), (1, 3), (2, 3), (1, 2, 3))),
    *(Mistake(_NORMS[0], _with(norms=norms), _NORMS[1])
      for norms in ((0, 2, 3), (1, 0, 3), (1, 2, 0), (0, 0, 3), (0, 2, 0), (1, 0, 0), (0, 0, 0))),
    *(Mistake(_MIXED[0], _with(norms=norms), _MIXED[1])
      for norms in ((2, 1, 3), (1, 3, 2), (3, 2, 1), (1, 1, 1), (2, 3, 1), (3, 1, 2), (1, 1, 2), (1, 1, 3), (1, 2, 2))),
    *(Mistake(_ORDER[0], _with(order=order, norms=norms), _ORDER[1]) for order, norms in (
        (("cross", "self", "mlp"), (2, 1, 3)), (("cross", "self", "mlp"), (1, 2, 3)),
        (("self", "mlp", "cross"), (1, 3, 2)), (("self", "mlp", "cross"), (1, 2, 3)))),
    *(Mistake(_HALF[0], _with(order=order, norms=norms), _HALF[1]) for order, norms in (
        (("cross", "mlp"), (2, 3)), (("self", "mlp"), (1, 3)), (("self", "cross"), (1, 2)))),
    *(Mistake("positions carried along in x", wrong,
              "Add them anew wherever something is compared; x itself, and so the residual, stays without.",
              issue("facebookresearch/detr", 55))
      for wrong in (_carried, *(_residual_of_q(steps) for steps in ((1,), (2,), (1, 2), (1, 2, 3))))),
    Mistake("query positions added to x once and for all, and to the question of the cross-attention again",
            lambda layer, x, positions, *memory: _layer(layer, x + positions, positions, *memory, self_at=_NO),
            "x itself stays without positions: they are added wherever something is compared."),
    Mistake("memory_positions added to memory itself, and to the keys again",
            lambda layer, x, positions, memory, m: _layer(layer, x, positions, memory + m, m),
            "Once, and to the keys only; what is read is memory as it came."),
    *(Mistake("a step added to an old x", _stale_residual(added_to),
              "Each step adds to what the step before it has left: norm2(x + read) with norm1's x, and so on.")
      for added_to in ((0, 2), (1, 1), (1, 0))),
    Mistake("the cross-attention asks with the old x", _stale_query,
            "It asks with what the self-attention and norm1 have made of x."),
    Mistake("the keys made of memory_positions alone",
            lambda layer, x, positions, memory, m: _layer(layer, x, positions, memory, m, cross_at=CROSS, keys=m),
            "memory + memory_positions: what a cell holds and where it lies."),
    Mistake("query_positions alone compared", _asked_by_positions,
            "x + query_positions, wherever queries are compared."),
    Mistake("self_attn and cross_attn exchanged", _exchanged,
            "self_attn is for the queries among themselves, cross_attn for the picture."),
)
