"""Exercise 06.5, the decoder: fixtures, and the ways people get it wrong."""
import torch
from torch import nn

from ..core import Fixture, Mistake, Remark, issue
from .lesson05_maps import random
from .lesson06_layer import random_layer, randomised


def _decoder_args(L, B, N, P, C, heads, seed):
    layers = nn.ModuleList([random_layer(C, heads, seed + i) for i in range(L)])
    memory, memory_positions = random(B, P, C, seed=seed + 20), random(B, P, C, seed=seed + 21)
    return (layers, randomised(nn.ModuleDict({"norm": nn.LayerNorm(C)}), seed + 10)["norm"],
            random(N, C, seed=seed + 22), memory, memory_positions)


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
