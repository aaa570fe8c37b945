"""Exercise 07.1: the ways people get the mask head wrong."""
import torch
import torch.nn.functional as F

from ..core import Mistake
from .lesson02_masks import TINNUNCULUS

EINSUM = "bnc,bchw->bnhw"
LOGITS = "The model gives logits; the loss and the inference rules take the sigmoid themselves. "


def identity(x):
    return x


def _masks(states, layers, pixels, acts=(identity, F.relu, F.relu, identity), which=(0, 1, 2), linear=F.linear,
           product=lambda e, p: torch.einsum(EINSUM, e, p)):
    """Mask logits with knobs to get wrong: acts are applied before each layer and after the last."""
    x = acts[0](states)
    for act, i in zip(acts[1:], which):
        x = act(linear(x, *layers[i]))
    return product(x, pixels)


def masks_with(**knobs):
    return lambda states, layers, pixels: _masks(states, layers, pixels, **knobs)


def _after(change):
    return masks_with(product=lambda e, p: change(torch.einsum(EINSUM, e, p), p))


def _reshaped(e, p):
    B, C, h, w = p.shape
    return (e @ p.reshape(B, h * w, C).mT).reshape(B, -1, h, w)


def _without_last_bias(states, layers, pixels):
    weight, bias = layers[-1]
    return _masks(states, (*layers[:-1], (weight, 0 * bias)), pixels)


def _residual(states, layers, pixels):
    (w1, b1), (w2, b2), (w3, b3) = layers
    x = states + F.relu(F.linear(F.relu(F.linear(states, w1, b1)), w2, b2))
    return torch.einsum(EINSUM, F.linear(x, w3, b3), pixels)


MASK_MISTAKES = (
    Mistake("a ReLU after the last layer too", masks_with(acts=(identity, F.relu, F.relu, F.relu)),
            "The mask embedding is read by a dot product and must be free to be negative."),
    Mistake("no ReLU at all", masks_with(acts=(identity,) * 4),
            "Three linear layers without anything between them are one linear layer."),
    Mistake("no ReLU after the second layer", masks_with(acts=(identity, F.relu, identity, identity)),
            "A ReLU after each layer but the last: there are two."),
    Mistake("no ReLU after the first layer", masks_with(acts=(identity, identity, F.relu, identity)),
            "A ReLU after each layer but the last: there are two."),
    Mistake("a ReLU before the first layer", masks_with(acts=(F.relu,) * 3 + (identity,)),
            "The states come from a LayerNorm and half of them are negative; they carry meaning."),
    Mistake("GELU for ReLU", masks_with(acts=(identity, F.gelu, F.gelu, identity)), "The paper's MLP has ReLUs."),
    Mistake("one hidden layer instead of two",
            lambda s, layers, p: _masks(s, layers, p, which=(0, 2), acts=(identity, F.relu, identity)),
            "The mask head has two hidden layers: three linear layers in all.", TINNUNCULUS),
    Mistake("no mask head: the states themselves multiplied with the pixels",
            lambda s, layers, p: torch.einsum(EINSUM, s, p),
            "The three layers turn a state into a mask embedding. The same state also feeds the class head."),
    Mistake("two layers: the last one left out",
            lambda s, layers, p: _masks(s, layers, p, which=(0, 1), acts=(identity, F.relu, identity)),
            "The mask head has two hidden layers: three linear layers in all."),
    Mistake("weights not transposed", masks_with(linear=lambda x, w, b: x @ w + b),
            "A weight is stored as [outputs, inputs]: x @ weight.T + bias, which is F.linear."),
    Mistake("the biases left out", masks_with(linear=lambda x, w, b: x @ w.T), "Each layer adds its bias."),
    Mistake("the last bias left out", _without_last_bias, "Each of the three layers adds its bias."),
    Mistake("the states added after the hidden layers, as in a residual block",
            _residual, "The mask head is a plain MLP: nothing is added to what comes out of a layer."),
    Mistake("sigmoid applied", _after(lambda m, p: m.sigmoid()), LOGITS + "A second one would squeeze all masks.",
            TINNUNCULUS),
    Mistake("softmax over the queries", _after(lambda m, p: m.softmax(1)),
            LOGITS + "Masks of different queries do not compete inside the model."),
    Mistake("divided by the square root of C", _after(lambda m, p: m / p.shape[1] ** 0.5),
            "That is attention's habit. Here the plain dot product is the logit."),
    Mistake("the mean over channels instead of the sum", _after(lambda m, p: m / p.shape[1]),
            "A dot product sums over the channels."),
    Mistake("both embeddings normalised to length 1",
            masks_with(product=lambda e, p: torch.einsum(EINSUM, F.normalize(e, dim=2), F.normalize(p, dim=1))),
            "That is the cosine, which cannot leave -1 ... 1: no mask could ever be sure."),
    Mistake("height and width exchanged", _after(lambda m, p: m.mT), "The result is [B, N, h, w]."),
    Mistake("the pixels read in the wrong order", masks_with(product=_reshaped),
            "reshape does not exchange axes. [B, C, h, w] becomes [B, h*w, C] by flatten(2).mT."),
    Mistake("the first image's pixels for every image",
            masks_with(product=lambda e, p: torch.einsum("bnc,chw->bnhw", e, p[0])),
            "Each image has pixel embeddings of its own: the letter b must be in both factors."),
    Mistake("the pixels of all images added up",
            masks_with(product=lambda e, p: torch.einsum("bnc,xchw->bnhw", e, p)),
            "A letter that is in only one factor is summed over. b must be in both."),
)
