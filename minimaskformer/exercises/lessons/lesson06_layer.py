"""Lesson 06: the fixtures of a decoder layer and of the decoder, and the ways people get their wiring wrong."""
from types import SimpleNamespace

import torch
from torch import nn

from ...transformer import DecoderLayer
from ..core import Fixture, Mistake, Remark, issue


def _random(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


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
    return tuple(_random(B, n, C, seed=seed + i) for i, n in enumerate((N, N, P, P)))


# --- one layer ------------------------------------------------------------------------------------------------------

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


# --- the decoder ----------------------------------------------------------------------------------------------------

def _decoder_args(L, B, N, P, C, heads, seed):
    layers = nn.ModuleList([random_layer(C, heads, seed + i) for i in range(L)])
    memory, memory_positions = _random(B, P, C, seed=seed + 20), _random(B, P, C, seed=seed + 21)
    return (layers, randomised(nn.ModuleDict({"norm": nn.LayerNorm(C)}), seed + 10)["norm"],
            _random(N, C, seed=seed + 22), memory, memory_positions)


DECODER_FIXTURES = (
    Fixture("3 layers, 2 pictures, 4 queries, 5 cells", _decoder_args(3, 2, 4, 5, 8, 2, 300)),
    Fixture("2 layers, 1 picture, 2 queries, 6 cells", _decoder_args(2, 1, 2, 6, 6, 3, 400)))
_LAYERS, _NORM, *_REST = DECODER_FIXTURES[0].args
DECODER_IN_MODEL = Remark(
    ([lambda *args, layer=layer, **kwargs: layer(*args, **kwargs) for layer in _LAYERS], lambda x: _NORM(x), *_REST),
    "There the layers, in a list, and the norm are functions: call them, and use nothing else of them.")


def _decode(layers, norm, query_positions, memory, memory_positions, start=lambda p: 0 * p, carry=lambda x, norm: x,
            final=lambda x, norm, last: norm(x), positions_at=lambda i: 1, which=lambda layers: layers, reset=False,
            initial=False):
    """The decoder with knobs to get wrong."""
    positions = query_positions.expand(len(memory), -1, -1)  # [B, N, C]
    x = start(positions)
    states = [final(x, norm, False)] if initial else []
    for i, layer in enumerate(which(layers)):
        x = layer(start(positions) if reset else x, positions_at(i) * positions, memory, memory_positions)[0]
        states.append(final(x, norm, i == len(layers) - 1))
        x = carry(x, norm)
    return torch.stack(states)  # [L, B, N, C]


def _decoder_with(**knobs):
    return lambda *args: _decode(*args, **knobs)


def _memory_positions(to_memory, to_keys):
    return lambda layers, norm, query_positions, memory, positions: _decode(
        layers, norm, query_positions, memory + to_memory * positions, to_keys * positions)


_CONTENT = ("the learned queries as the start instead of zeros",
            "x starts at zero; the learned table is a *position*, added anew in each layer. (Other models do start "
            "there; these weights do not fit them.)")
DECODER_MISTAKES = (
    Mistake(_CONTENT[0], _decoder_with(start=lambda p: p, positions_at=lambda i: 0), _CONTENT[1],
            issue("facebookresearch/detr", 225)),
    Mistake("x starts at the learned queries, and they are positions as well", _decoder_with(start=lambda p: p),
            "x starts at zero; the learned table is only a position.", issue("facebookresearch/detr", 225)),
    Mistake("x starts at one", _decoder_with(start=lambda p: 0 * p + 1), "Zeros."),
    Mistake("the final norm left out", _decoder_with(final=lambda x, norm, last: x),
            "Every state goes through the one shared norm before anybody reads it."),
    Mistake("the final norm on the last state only", _decoder_with(final=lambda x, norm, last: norm(x) if last else x),
            "Every layer is read by the same heads, so every state goes through the shared norm. (One widespread port "
            "skips it for the earlier layers.)"),
    Mistake("the normed state handed to the next layer", _decoder_with(carry=lambda x, norm: norm(x)),
            "The next layer gets x as the layer before left it; the shared norm is for reading only."),
    Mistake("the first layer used L times", _decoder_with(which=lambda layers: [layers[0]] * len(layers)),
            "Each layer has weights of its own."),
    Mistake("the layers backwards", _decoder_with(which=lambda layers: list(layers)[::-1]), "layers[0] is first."),
    Mistake("every layer starts at zero again", _decoder_with(reset=True), "x goes from layer to layer."),
    Mistake("query positions in the first layer only", _decoder_with(positions_at=lambda i: int(i == 0)),
            "They are added anew in each layer."),
    Mistake("x and query_positions exchanged in the call", lambda layers, *rest: _decode(
        [lambda x, p, *memory, layer=layer: layer(p, x, *memory) for layer in layers], *rest),
            "layer(x, query_positions, memory, memory_positions)."),
    Mistake("memory and memory_positions exchanged in the call",
            lambda layers, norm, p, memory, positions: _decode(layers, norm, p, positions, memory),
            "layer(x, query_positions, memory, memory_positions)."),
    Mistake("x added to what a layer returns", lambda layers, *rest: _decode(
        [lambda x, *others, layer=layer: (x + layer(x, *others)[0], None) for layer in layers], *rest),
            "A layer returns the new x: it has added its steps to the old one already."),
    Mistake("the shared norm before each layer too", lambda layers, norm, *rest: _decode(
        [lambda x, *others, layer=layer: layer(norm(x), *others) for layer in layers], norm, *rest),
            "The shared norm is for reading only: the next layer gets x as the layer before left it."),
    Mistake("the last state in every place", lambda *args: _decode(*args)[-1:].expand_as(_decode(*args)),
            "Each layer's state is kept as it was after that layer."),
    Mistake("no query positions", _decoder_with(positions_at=lambda i: 0),
            "Then all queries start alike and stay alike."),
    Mistake("no memory_positions", _memory_positions(0, 0), "Each layer is given them, and adds them to its keys."),
    *(Mistake("memory_positions added to memory itself", _memory_positions(1, again),
              "Hand both to the layer as they are: it adds the positions to the keys only.") for again in (0, 1)),
    Mistake("the start counted as a state", _decoder_with(initial=True),
            "L layers, L states. At the start all queries are alike, and there is nothing to train."),
    Mistake("the last state only", lambda *args: _decode(*args)[-1],
            "All L of them: each gets the loss (lesson 04)."),
    Mistake("the last state first", lambda *args: _decode(*args).flip(0), "The state after layer 0 comes first."),
    Mistake("pictures before layers", lambda *args: _decode(*args).transpose(0, 1), "[L, B, N, C]: torch.stack."),
    Mistake("the layers side by side in the batch", lambda *args: _decode(*args).flatten(0, 1),
            "[L, B, N, C]: torch.stack, not torch.cat."),
)
