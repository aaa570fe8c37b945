"""Lesson 07: the fixtures of its first three exercises, and small stand-ins for the modules of a model.

A stand-in is a plain function that works in the type of its input, so one fixture serves float32 and float64. All
widths are alike on purpose: then a wrong wire gives wrong numbers and not an error, and the check can name it.
"""
import torch
import torch.nn.functional as F

from ..core import Fixture


def numbers(seed, *shape, scale=1.0):
    """Normal numbers with two decimals, the same on every machine; the global generator is left alone."""
    return (scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))).round(decimals=2)


def linear(seed, inputs, outputs):
    """(weight [outputs, inputs], bias [outputs]) as of nn.Linear."""
    return numbers(seed, outputs, inputs, scale=0.8), numbers(seed + 1, outputs)


def head(*layers):
    """A stand-in for an MLP: linear layers with ReLUs between them."""
    def run(x):
        for i, (weight, bias) in enumerate(layers):
            x = F.linear(F.relu(x) if i else x, weight.to(x), bias.to(x))
        return x
    return run


def mlp(seed, dim, outputs):
    return linear(seed, dim, dim), linear(seed + 2, dim, dim), linear(seed + 4, dim, outputs)


# --- 07.1: in the first example all weights are square, so that a forgotten transpose is not an error -----------------

MASK_FIXTURES = (
    Fixture("two images, 3 queries, 4 channels everywhere",
            (numbers(10, 2, 3, 4), mlp(11, 4, 4), numbers(20, 2, 4, 2, 3))),
    Fixture("one image, 2 queries, D = 5 and C = 3", (numbers(30, 1, 2, 5), mlp(31, 5, 3), numbers(40, 1, 3, 3, 2))))


# --- 07.2 -------------------------------------------------------------------------------------------------------------

def layer_norm(seed, dim):
    """A stand-in for a trained nn.LayerNorm: scale and shift are not 1 and 0."""
    scale, shift = 1 + numbers(seed, dim).abs(), numbers(seed + 1, dim)
    return lambda x: F.layer_norm(x, (dim,), scale.to(x), shift.to(x))


LAYERS_FIXTURES = (
    Fixture("3 layers, two images, 2 queries, 2 classes and no object",
            ([numbers(50 + i, 2, 2, 4, scale=1.5) for i in range(3)], layer_norm(55, 4), head(linear(57, 4, 3)),
             head(*mlp(60, 4, 4)), numbers(70, 2, 4, 2, 3))),
    Fixture("2 layers, one image, 3 queries, 3 classes and no object",
            ([numbers(80 + i, 1, 3, 4, scale=1.5) for i in range(2)], layer_norm(85, 4), head(linear(87, 4, 4)),
             head(*mlp(90, 4, 4)), numbers(98, 1, 4, 3, 2))))


# --- 07.3: a whole model of 4 channels --------------------------------------------------------------------------------

def mixed(maps, weight):
    """A 1 x 1 convolution."""
    return torch.einsum("dc,bchw->bdhw", weight.to(maps), maps)


def stand_ins(seed, num_queries, num_classes, num_layers):
    """Small stand-ins for a model's six modules, each with the true one's inputs, outputs and strides."""
    stages, smooth, project = (numbers(seed + i, 4, 4, 4, scale=0.7) for i in range(3))  # four 4 x 4 matrices each
    first, queries = numbers(seed + 3, 4, 3), numbers(seed + 4, num_queries, 4)

    def backbone(images):
        x, features = mixed(F.avg_pool2d(images, 4), first), []
        for i, weight in enumerate(stages):
            x = torch.tanh(mixed(F.avg_pool2d(x, 2) if i else x, weight))
            features.append(x)
        return features

    def pixel_decoder(features):
        y = mixed(features[-1], smooth[3])
        for feature, weight in zip(features[-2::-1], smooth):
            y = F.relu(F.interpolate(y, size=feature.shape[-2:]) + mixed(feature, weight))
        return mixed(y, smooth[0].T)

    def decoder(memory):
        batch, dim, height, width = memory.shape  # a map, as the true decoder wants it, not a list of cells
        cells = memory.reshape(batch, dim, height * width).mT  # [B, P, 4]
        x, states = torch.zeros_like(queries).to(memory), []  # [N, 4]
        for i in range(num_layers):
            weights = ((x + queries.to(memory)) @ cells.mT).softmax(-1)  # [B, N, P]
            x = x + weights @ cells @ project[1 + i].to(memory)
            states.append(F.layer_norm(x + 0.3 * queries.to(memory), (4,)))
        return states

    return {"backbone": backbone, "pixel_decoder": pixel_decoder, "input_proj": lambda x: mixed(x, project[0]),
            "decoder": decoder, "class_head": head(linear(seed + 5, 4, num_classes + 1)),
            "mask_head": head(*mlp(seed + 7, 4, 4))}


WIRING_FIXTURES = (
    Fixture("two images of 64 x 96, 3 queries", (numbers(100, 2, 3, 64, 96, scale=2.0), stand_ins(101, 3, 3, 3))),
    Fixture("one image of 96 x 32, 2 queries", (numbers(120, 1, 3, 96, 32, scale=2.0), stand_ins(121, 2, 4, 2))))
