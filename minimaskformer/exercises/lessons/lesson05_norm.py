"""Exercise 05.2, GroupNorm: fixtures, and the ways people get it wrong."""
import torch

from ..core import Fixture, Mistake
from .lesson05_maps import random

# Images of different brightness, groups of different scale, more channels per group than groups in one example and
# fewer in the other, and an eps that can be seen: with zero-mean noise and eps = 1e-5 most mistakes would hide.
_SHIFT = torch.tensor([1.0, -0.5, 2.0, 0.3, -1.2, 0.8])[:, None, None]
_BATCH = random(2, 6, 2, 3, seed=0) * torch.tensor([0.6, 1.5, 1.0, 3.0, 2.0, 0.4])[:, None, None] + _SHIFT
_BATCH[1] = 1.7 * _BATCH[1] + 1.0
_WEIGHT, _BIAS = torch.tensor([1.2, 0.7, -0.4, 1.6, 0.9, 2.0]), torch.tensor([0.1, -0.6, 0.4, 0.9, -0.2, 0.3])
GROUP_NORM_FIXTURES = (
    Fixture("2 images, 6 channels in 2 groups", (_BATCH, 2, _WEIGHT, _BIAS)),
    Fixture("6 channels in 3 groups, eps = 0.5", (_BATCH.flip(0, 3) - 0.4, 3, _WEIGHT.flip(0), _BIAS, 0.5)),
    Fixture("1 grey image: its groups are constant", (torch.full((1, 6, 2, 2), 2.0), 2, _WEIGHT, _BIAS)))


def _grouped(x, groups):
    return x.reshape(len(x), groups, -1)


def _norm(x, groups, weight, bias, eps=1e-5, view=_grouped, over=(2,), correction=0, scale=None, center=True,
          affine=lambda y, w, b: y * w + b):
    """GroupNorm with knobs to get wrong."""
    g = view(x, groups)
    mean, var = g.mean(over, keepdim=True), g.var(over, keepdim=True, correction=correction)
    divisor = (var + eps).sqrt() if scale is None else scale(g, var, over, eps)
    normed = ((g - mean if center else g) / divisor).reshape(x.shape)
    return affine(normed, weight[:, None, None], bias[:, None, None])


def norm_with(**knobs):
    return lambda x, groups, weight, bias, eps=1e-5: _norm(x, groups, weight, bias, eps, **knobs)


def _by_pixel(x, groups):
    return x.reshape(len(x), groups, x.shape[1] // groups, -1)


def _interleaved(x, groups, weight, bias, eps=1e-5):
    order = torch.arange(x.shape[1]).reshape(-1, groups).T.flatten()  # group 0: channels 0, G, 2G ...
    plain = norm_with(affine=lambda y, w, b: y)(x[:, order], groups, weight, bias, eps)
    return plain[:, order.argsort()] * weight[:, None, None] + bias[:, None, None]


def _batch_statistics(x, groups, weight, bias, eps=1e-5, by_group=True):
    g = x.reshape(len(x), groups, -1) if by_group else x.flatten(2)  # [B, G, ...] or [B, C, H*W]
    mean, var = g.mean((0, 2), keepdim=True), g.var((0, 2), keepdim=True, correction=0)
    return ((g - mean) / (var + eps).sqrt()).reshape(x.shape) * weight[:, None, None] + bias[:, None, None]


_GROUPS = "A group is a run of neighbouring channels: with 6 channels and 2 groups 0, 1, 2 and 3, 4, 5."
GROUP_NORM_MISTAKES = (
    Mistake("the groups' statistics taken over the batch", _batch_statistics,
            "Each image has its own mean and variance, or its result would depend on the others."),
    Mistake("BatchNorm: statistics per channel, over the batch",
            lambda *args: _batch_statistics(*args, by_group=False),
            "The statistics are per image and group. BatchNorm's change with the other images of the batch."),
    Mistake("the batch forgotten: cut into `groups` pieces, images and all",
            lambda x, groups, weight, bias, eps=1e-5: _norm(
                x.reshape(1, -1, *x.shape[2:]), groups, torch.ones_like(x[:, :, 0, 0].flatten()),
                torch.zeros_like(x[:, :, 0, 0].flatten()), eps).reshape(x.shape) * weight[:, None, None]
            + bias[:, None, None],
            "Each image has `groups` groups of its own: reshape to [B, groups, everything else]."),
    Mistake("statistics per column: one axis of the pixels forgotten",
            norm_with(view=lambda x, groups: x.reshape(len(x), groups, -1, x.shape[3])),
            "Over the group's channels and all pixels, rows *and* columns."),
    Mistake("statistics per row: one axis of the pixels forgotten",
            norm_with(view=lambda x, groups: x.reshape(len(x), groups, -1, *x.shape[2:]), over=(2, 4)),
            "Over the group's channels and all pixels, rows *and* columns."),
    Mistake("the mean of x ** 2 less the mean, which is not squared",
            norm_with(scale=lambda g, var, over, eps: (
                (g ** 2).mean(over, keepdim=True) - g.mean(over, keepdim=True) + eps).sqrt()),
            "The variance is the mean of (x - mean) ** 2, or the mean of x ** 2 less mean ** 2."),
    Mistake("InstanceNorm: every channel its own group",
            lambda x, groups, *rest: _norm(x, x.shape[1], *rest), "A group's channels share one mean and variance."),
    Mistake("one group of all channels", lambda x, groups, *rest: _norm(x, 1, *rest),
            "There are `groups` means per image, each over C / groups channels."),
    Mistake("groups taken for the channels per group",
            lambda x, groups, *rest: _norm(x, x.shape[1] // groups, *rest), "groups is the number of groups."),
    Mistake("channels dealt out to the groups in turn", _interleaved, _GROUPS),
    Mistake("statistics per pixel and group", norm_with(view=_by_pixel), "Over the group's channels *and* all pixels."),
    Mistake("LayerNorm: statistics per pixel, over all channels",
            lambda x, groups, *rest: _norm(x, 1, *rest, view=_by_pixel),
            "That is a transformer's norm. Here: over the channels of a group *and* all pixels."),
    Mistake("the unbiased variance (n - 1)", norm_with(correction=1),
            "torch's var divides by n - 1 unless you say correction=0; normalisations divide by n."),
    Mistake("eps outside the square root", norm_with(scale=lambda g, var, over, eps: var.sqrt() + eps),
            "sqrt(var + eps). With eps = 1e-5 there is hardly a difference; with example 2's 0.5 there is."),
    Mistake("torch's std (it divides by n - 1), with eps outside the root",
            norm_with(correction=1, scale=lambda g, var, over, eps: var.sqrt() + eps),
            "Two things: std and var divide by n - 1 unless you say correction=0, and it is sqrt(var + eps)."),
    Mistake("torch's std (it divides by n - 1), without eps",
            norm_with(correction=1, scale=lambda g, var, over, eps: var.sqrt()),
            "Two things: std and var divide by n - 1 unless you say correction=0, and it is sqrt(var + eps)."),
    Mistake("eps left out", norm_with(scale=lambda g, var, over, eps: var.sqrt()),
            "A constant group would be 0 / 0: sqrt(var + eps)."),
    Mistake("the argument eps not used", lambda x, groups, weight, bias, eps=1e-5: _norm(x, groups, weight, bias),
            "Example 2 has another eps."),
    Mistake("divided by the variance", norm_with(scale=lambda g, var, over, eps: var + eps),
            "By its square root, the standard deviation."),
    Mistake("the mean not subtracted", norm_with(center=False), "(x - mean) / sqrt(var + eps)."),
    Mistake("RMSNorm: the mean not subtracted, neither above nor in the variance",
            norm_with(center=False, scale=lambda g, var, over, eps: ((g ** 2).mean(over, keepdim=True) + eps).sqrt()),
            "(x - mean) / sqrt(var + eps): the mean is taken off first."),
    Mistake("weight and bias before the normalisation",
            lambda x, groups, weight, bias, eps=1e-5: _norm(
                x * weight[:, None, None] + bias[:, None, None], groups, weight, bias, eps, affine=lambda y, w, b: y),
            "First normalise, then * weight[c] + bias[c]: otherwise the normalisation undoes them."),
    Mistake("only the mean subtracted", norm_with(scale=lambda g, var, over, eps: 1.0),
            "Then divide by sqrt(var + eps)."),
    Mistake("the mean square for the variance",
            norm_with(scale=lambda g, var, over, eps: ((g ** 2).mean(over, keepdim=True) + eps).sqrt()),
            "The variance is the mean of (x - mean) ** 2."),
    Mistake("weight and bias left out", norm_with(affine=lambda y, w, b: y), "Last comes * weight[c] + bias[c]."),
    Mistake("the bias left out", norm_with(affine=lambda y, w, b: y * w), "Last comes * weight[c] + bias[c]."),
    Mistake("the weight left out", norm_with(affine=lambda y, w, b: y + b), "Last comes * weight[c] + bias[c]."),
    Mistake("weight and bias exchanged", norm_with(affine=lambda y, w, b: y * b + w), "* weight[c], + bias[c]."),
    Mistake("the bias scaled too", norm_with(affine=lambda y, w, b: (y + b) * w), "* weight first, then + bias."),
    Mistake("1 + weight", norm_with(affine=lambda y, w, b: y * (1 + w) + b), "weight is the factor itself."),
)
