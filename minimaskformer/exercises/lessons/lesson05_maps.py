"""Lesson 05: the fixtures of GroupNorm, the step down and the dot product, and the ways people get them wrong."""
import torch
import torch.nn.functional as F

from ..core import Fixture, Mistake


def random(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- GroupNorm ------------------------------------------------------------------------------------------------------
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


# --- one step down --------------------------------------------------------------------------------------------------
# D = C, so that a transposed weight has a legal shape, and D != C; H != W; coarse values of either sign. An odd size in
# one example only, where a factor of 2 does not fit.
TOP_DOWN_FIXTURES = (
    Fixture("from 2 x 3 to 4 x 6", (random(2, 3, 2, 3, seed=1), random(2, 3, 4, 6, seed=2), random(3, 3, seed=3))),
    Fixture("from 3 x 2 to 5 x 4, an odd height",
            (random(2, 3, 3, 2, seed=4), random(2, 3, 5, 4, seed=5), random(3, 3, seed=6))),
    Fixture("from 1 x 2 to 2 x 4, 4 channels to 2",
            (random(1, 2, 1, 2, seed=11), random(1, 4, 2, 4, seed=12), random(2, 4, seed=13))))


def _down(coarse, feature, weight, mode="nearest", lateral=lambda y: y, coarse_map=lambda y: y, **options):
    y = lateral(torch.einsum("dc,bchw->bdhw", weight, feature))
    return y + F.interpolate(coarse_map(coarse), size=feature.shape[-2:], mode=mode, **options)


def down_with(**knobs):
    return lambda *args: _down(*args, **knobs)


def _alone(coarse, feature, weight):
    """The two summands."""
    zero = torch.zeros_like(coarse)
    return _down(coarse, feature, torch.zeros_like(weight)), _down(zero, feature, weight)


def _tiled(coarse, feature, weight):
    h, w = feature.shape[-2:]
    return _down(torch.zeros_like(coarse), feature, weight) + coarse.repeat(1, 1, 2, 2)[..., :h, :w]


def _doubled(coarse, feature, weight):
    return F.interpolate(coarse, scale_factor=2) + _alone(coarse, feature, weight)[1]


def _picked(index):
    """Each row and column copied from the coarse one that `index` names."""
    def wrong(coarse, feature, weight):
        rows, columns = ([index(i, few, many) for i in range(many)]
                         for few, many in zip(coarse.shape[-2:], feature.shape[-2:]))
        return _alone(coarse, feature, weight)[1] + coarse[..., rows, :][..., columns]
    return wrong


def _zeros_between(coarse, feature, weight):
    out = _down(torch.zeros_like(coarse), feature, weight)
    out[..., ::2, ::2] += coarse
    return out


_SIGN = "The lateral keeps its sign, so that it can subtract what the coarse map claims."
_COPY = "Nearest: each fine pixel gets a copy of the coarse cell it lies in."
TOP_DOWN_MISTAKES = (
    Mistake("bilinear upsampling", down_with(mode="bilinear"), _COPY),
    Mistake("bilinear upsampling with aligned corners", down_with(mode="bilinear", align_corners=True), _COPY),
    Mistake("bicubic upsampling", down_with(mode="bicubic"), _COPY),
    Mistake("nearest-exact, which reads other cells at odd sizes", down_with(mode="nearest-exact"),
            "Row i takes the coarse row i * h // H. At odd sizes the middle of a pixel lies elsewhere."),
    Mistake("twice the coarse size, whatever the feature's", _doubled,
            "Six cells do not fit a feature of five: the size comes from the feature, size=feature.shape[-2:]."),
    Mistake("i * h / H rounded to the nearest", _picked(lambda i, few, many: min(round(i * few / many), few - 1)),
            "Rounded down: i * h // H."),
    Mistake("first cell on first, last on last, and nearest between",
            _picked(lambda i, few, many: i * (few - 1) // (many - 1)), "Row i takes the coarse row i * h // H."),
    Mistake("the weight transposed", lambda coarse, feature, weight: _down(coarse, feature, weight.mT),
            "weight[d, c] says how much of channel c goes into channel d of the result."),
    Mistake("the weight applied to the sum",
            lambda coarse, feature, weight: torch.einsum(
                "dc,bchw->bdhw", weight, feature + F.interpolate(coarse, size=feature.shape[-2:])),
            "Only the feature goes through the weight; the coarse map has its D channels already."),
    Mistake("the coarse map repeated as a whole, like tiles", _tiled,
            "Each *cell* is repeated: repeat_interleave, not repeat."),
    Mistake("zeros between the coarse cells", _zeros_between, _COPY),
    Mistake("a ReLU on the lateral", down_with(lateral=F.relu), _SIGN),
    Mistake("a ReLU on the coarse map", down_with(coarse_map=F.relu),
            "The coarse map comes as it is; here it may be negative."),
    Mistake("a ReLU after the sum", lambda *args: _down(*args).relu(),
            "There is none here: the ReLU comes after the 3 x 3 convolution and its GroupNorm."),
    Mistake("the lateral missing", lambda *args: _alone(*args)[0], "Add the feature, through the weight."),
    Mistake("the coarse map missing", lambda *args: _alone(*args)[1], "Add the coarse map, upsampled."),
    Mistake("the mean instead of the sum", lambda *args: _down(*args) / 2, "A sum: lateral + upsampled."),
    Mistake("subtracted", lambda *args: _alone(*args)[0] - _alone(*args)[1], "A sum: lateral + upsampled."),
    Mistake("the coarse map minus the lateral the wrong way round", lambda *args: _alone(*args)[1] - _alone(*args)[0],
            "A sum: lateral + upsampled."),
    Mistake("a product", lambda *args: _alone(*args)[0] * _alone(*args)[1], "A sum: lateral + upsampled."),
    Mistake("concatenated", lambda *args: torch.cat(_alone(*args)[::-1], 1),
            "The channels stay D: the maps are added, channel by channel."),
    Mistake("concatenated", lambda *args: torch.cat(_alone(*args), 1),
            "The channels stay D. The two maps are added, channel by channel."),
    Mistake("the fine map brought down to the coarse size",
            lambda coarse, feature, weight: coarse + F.interpolate(_alone(coarse, feature, weight)[1],
                                                                   size=coarse.shape[-2:]),
            "The detail is in the fine map: the coarse one is brought to the fine size."),
)


# --- the dot product ------------------------------------------------------------------------------------------------
# B = 2 images that differ, N != C != H != W; in the second example N = H * W, where a wrong order has a legal shape.
MASK_FIXTURES = (
    Fixture("2 images, 3 queries, 4 channels, 2 x 5 pixels", (random(2, 3, 4, seed=7), random(2, 4, 2, 5, seed=8))),
    Fixture("6 queries, 3 channels, 2 x 3 pixels", (random(2, 6, 3, seed=9), random(2, 3, 2, 3, seed=10))))


def _dot(m, e):
    return torch.einsum("bnc,bchw->bnhw", m, e)


def _scrambled(m, e):
    product = e.flatten(2).mT @ m.mT  # [B, H*W, N]
    return product.reshape(len(m), m.shape[1], *e.shape[2:])


def _viewed(m, e):
    pixels = e.reshape(len(e), -1, e.shape[1])  # [B, H*W, C] in name only
    return (m @ pixels.mT).reshape(len(m), m.shape[1], *e.shape[2:])


MASK_MISTAKES = (
    Mistake("the sigmoid applied already", lambda m, e: _dot(m, e).sigmoid(),
            "These are logits; the losses of lesson 03 apply the sigmoid themselves."),
    Mistake("a softmax over the queries", lambda m, e: _dot(m, e).softmax(1),
            "Masks are judged one by one and may overlap; no softmax, and no sigmoid yet."),
    Mistake("a softmax over the pixels", lambda m, e: _dot(m, e).flatten(2).softmax(2).reshape(_dot(m, e).shape),
            "That is attention. A mask is not a distribution over pixels."),
    Mistake("a ReLU on the result", lambda m, e: _dot(m, e).relu(), "A pixel outside needs a negative logit."),
    Mistake("a ReLU on the pixel embeddings", lambda m, e: _dot(m, e.relu()), "Embeddings have a sign: the last "
            "convolution of the pixel decoder is bare."),
    Mistake("divided by the square root of C", lambda m, e: _dot(m, e) / m.shape[2] ** 0.5,
            "Attention does that, to keep its softmax soft. Here it is the plain dot product."),
    Mistake("the mean over channels", lambda m, e: _dot(m, e) / m.shape[2], "The sum over channels."),
    Mistake("cosines", lambda m, e: _dot(F.normalize(m, dim=2), F.normalize(e, dim=1)),
            "The lengths count: they are how a model says that it is sure."),
    Mistake("every image with the pixels of the first", lambda m, e: _dot(m, e[:1].expand_as(e)),
            "Image b's queries meet image b's pixels."),
    Mistake("every image with the queries of the first", lambda m, e: _dot(m[:1].expand_as(m), e),
            "Image b's queries meet image b's pixels."),
    Mistake("the pixels of all images added up", lambda m, e: torch.einsum("bnc,xchw->bnhw", m, e),
            "A letter that is in only one factor is summed over. b must be in both."),
    Mistake("the queries of all images added up", lambda m, e: torch.einsum("xnc,bchw->bnhw", m, e),
            "A letter that is in only one factor is summed over. b must be in both."),
    Mistake("masks cut at 0", lambda m, e: (_dot(m, e) > 0).to(m.dtype), "Logits are wanted, not their signs."),
    Mistake("summed over the batch", lambda m, e: _dot(m, e).sum(0, keepdim=True).expand_as(_dot(m, e)),
            "Keep the letter b in the result: einsum('bnc,bchw->bnhw', ...)."),
    Mistake("[B, H*W, N] read as [B, N, H, W] without transposing", _scrambled,
            "reshape moves no axis: transpose first, or multiply in the other order."),
    Mistake("[B, C, H, W] read as [B, H*W, C] without transposing", _viewed,
            "reshape moves no axis: flatten(2), and transpose where you need it."),
    Mistake("height and width exchanged", lambda m, e: _dot(m, e).mT, "[B, N, H, W]."),
    Mistake("channels last", lambda m, e: _dot(m, e).permute(0, 2, 3, 1), "[B, N, H, W]: queries before pixels."),
)
