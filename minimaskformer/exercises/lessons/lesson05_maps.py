"""Exercises 05.3 and 05.4, the step down and the dot product: fixtures, and the ways people get them wrong."""
import torch
import torch.nn.functional as F

from ..core import Fixture, Mistake


def random(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


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
