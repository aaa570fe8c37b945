"""Exercise 05.6, the whole pixel decoder: fixtures, and the ways people get it wrong."""
import torch
import torch.nn.functional as F

from ...pixel_decoder import FPN
from ..core import Fixture, Mistake
from .lesson05_maps import random


def _weights(seed):
    """A small decoder's own weights: 64 channels (2 in each of the 32 groups), norms and bias not at their start."""
    g = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        weights = FPN([6, 10, 12, 14], dim=64, mask_dim=5).state_dict()
    for name, value in weights.items():
        if value.ndim == 1:
            value.copy_(torch.randn(value.shape, generator=g) * 0.4 + name.endswith("1.weight"))
    return weights


def _features(batch, sizes, seed):
    return [random(batch, c, *size, seed=seed + c) for c, size in zip((6, 10, 12, 14), sizes)]


def same_map(y):
    """The encoder of a model that has none."""
    return y


def add_mean(y):
    """A stand-in for the transformer encoder: every cell learns something about the whole map."""
    return y + 2 * y.mean((2, 3), keepdim=True) * y


# An odd size in one example, an encoder in another: so that only a size of the wrong kind fails in the odd one alone.
DECODER_FIXTURES = (
    Fixture("2 images, no encoder", (_features(2, ((8, 16), (4, 8), (2, 4), (1, 2)), 20), _weights(0), same_map)),
    Fixture("with an encoder; the weights in another order",
            (_features(2, ((8, 8), (4, 4), (2, 2), (1, 1)), 50), dict(sorted(_weights(1).items())), add_mean)),
    Fixture("1 image, odd sizes", (_features(1, ((9, 7), (5, 4), (3, 2), (2, 1)), 80), _weights(0), same_map)))


def _plain_norm(x, weight, bias):
    return F.group_norm(x, 32, weight, bias)


def _decode(features, weights, encoder, mode="nearest", norm=_plain_norm, lateral=lambda y: y, lateral_norm=True,
            smooth_act=lambda conv, norm, x: norm(conv(x)).relu(), merge=lambda lat, up: lat + up, outputs=(0, 1, 2, 3),
            encode=lambda encoder, p, i: encoder(p) if i == 1 else p, before=lambda encoder, y, i: y,
            last=lambda conv, p: conv(p), up_size=lambda lat: {"size": lat.shape[-2:]}, no_relu=None,
            level_lateral=lambda y, i: y):
    """The pixel decoder with knobs to get wrong."""
    def conv(x, name):
        return F.conv2d(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"), padding="same")

    def normed(x, name):
        return norm(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def smooth(x, i):
        level, i = i, outputs[i]
        if level == no_relu:
            return normed(conv(x, f"outputs.{i}.0.0"), f"outputs.{i}.0.1")
        return smooth_act(lambda y: conv(y, f"outputs.{i}.0.0"), lambda y: normed(y, f"outputs.{i}.0.1"), x)

    p = encode(encoder, smooth(features[3], 3), 3)
    for i in (2, 1, 0):
        lat = conv(features[i], f"laterals.{i}.0")
        lat = level_lateral(lateral(normed(lat, f"laterals.{i}.1") if lateral_norm else lat), i)
        up = F.interpolate(p, mode=mode, **up_size(lat))
        p = encode(encoder, smooth(before(encoder, merge(lat, up), i), i), i)
    return last(lambda y: conv(y, "mask_features"), p)


def decode_with(**knobs):
    return lambda *args: _decode(*args, **knobs)


def _classic(features, weights, encoder, **knobs):
    """The original feature pyramid: the sums themselves go down, each smoothed on the side."""
    sums = []

    def keep(conv, norm, x):
        sums.append(norm(conv(x)).relu())
        return x if len(sums) > 1 else sums[0]  # res5 has to be smoothed to have `dim` channels

    return _decode(features, weights, encoder, smooth_act=keep, last=lambda conv, p: conv(sums[-1]), **knobs)


_PYRAMID = ("the classic feature pyramid: unsmoothed sums go down",
            "Here the smoothed map goes down: p4 = smooth(lateral + up(p5)), and p3 is made from that p4.")
_ENCODER = "The encoder works on p3, after its smoothing; p2 is made from what it returns."
_LAST = "The last convolution is bare: its values go into a dot product and need both signs."
DECODER_MISTAKES = (
    Mistake("a ReLU on the laterals", decode_with(lateral=F.relu),
            "They keep their sign, so that they can subtract what the coarse map claims."),
    Mistake("no GroupNorm on the laterals", decode_with(lateral_norm=False), "lateral = GroupNorm(conv 1 x 1)."),
    Mistake("bilinear upsampling", decode_with(mode="bilinear"), "mode=\"nearest\": each cell is copied."),
    Mistake("nearest-exact upsampling", decode_with(mode="nearest-exact"),
            "It differs from \"nearest\" where a size is odd; the library and the reference use \"nearest\"."),
    Mistake("twice the coarse size, whatever the feature's",
            decode_with(up_size=lambda lat: {"scale_factor": 2}),
            "An odd feature is not twice its coarser neighbour: size=feature.shape[-2:]."),
    Mistake("no ReLU after the smoothing", decode_with(smooth_act=lambda conv, norm, x: norm(conv(x))),
            "smooth = ReLU(GroupNorm(conv 3 x 3))."),
    Mistake("the ReLU before the GroupNorm", decode_with(smooth_act=lambda conv, norm, x: norm(conv(x).relu())),
            "smooth = ReLU(GroupNorm(conv 3 x 3))."),
    Mistake("no GroupNorm in the smoothing", decode_with(smooth_act=lambda conv, norm, x: conv(x).relu()),
            "smooth = ReLU(GroupNorm(conv 3 x 3))."),
    Mistake("no ReLU in p2", decode_with(no_relu=0), "Every level is smoothed alike: ReLU(GroupNorm(conv 3 x 3))."),
    Mistake("no ReLU in p5", decode_with(no_relu=3), "Every level is smoothed alike: ReLU(GroupNorm(conv 3 x 3))."),
    Mistake("the encoder between the GroupNorm and the ReLU of p3",
            decode_with(no_relu=1, encode=lambda encoder, p, i: encoder(p).relu() if i == 1 else p), _ENCODER),
    Mistake("the encoder on res3", lambda f, w, encoder: _decode([f[0], encoder(f[1]), *f[2:]], w, same_map), _ENCODER),
    Mistake("the encoder on the lateral of res3",
            lambda f, w, encoder: _decode(f, w, same_map, level_lateral=lambda y, i: encoder(y) if i == 1 else y),
            _ENCODER),
    Mistake("the encoder applied twice", lambda f, w, encoder: _decode(f, w, lambda y: encoder(encoder(y))), _ENCODER),
    Mistake("a ReLU after the sum too", decode_with(merge=lambda lat, up: (lat + up).relu()),
            "The sum goes straight into the 3 x 3 convolution."),
    Mistake(_PYRAMID[0], _classic, _PYRAMID[1]),
    Mistake(_PYRAMID[0], lambda *args: _classic(*args, encode=lambda encoder, p, i: p), _PYRAMID[1]),
    Mistake("no GroupNorm anywhere", decode_with(norm=lambda x, w, b: x),
            "A GroupNorm follows every convolution but the last: laterals and smoothing."),
    Mistake("no way down: res2 alone", decode_with(merge=lambda lat, up: lat),
            "Add the coarser map, upsampled, or nothing of res3, res4 and res5 arrives."),
    Mistake("no laterals: res5 alone", decode_with(merge=lambda lat, up: up), "Add the lateral at each level."),
    Mistake("outputs counted from the coarse end", decode_with(outputs=(2, 1, 0, 3)),
            "outputs.0 makes p2, outputs.3 makes p5."),
    Mistake("the encoder left out", decode_with(encode=lambda encoder, p, i: p), _ENCODER),
    Mistake("the encoder on p2", decode_with(encode=lambda encoder, p, i: encoder(p) if i == 0 else p), _ENCODER),
    Mistake("the encoder on p4", decode_with(encode=lambda encoder, p, i: encoder(p) if i == 2 else p), _ENCODER),
    Mistake("the encoder on p5", decode_with(encode=lambda encoder, p, i: encoder(p) if i == 3 else p), _ENCODER),
    Mistake("the encoder on every level", decode_with(encode=lambda encoder, p, i: encoder(p)), _ENCODER),
    Mistake("the encoder before the smoothing",
            decode_with(encode=lambda encoder, p, i: p, before=lambda encoder, y, i: encoder(y) if i == 1 else y),
            _ENCODER),
    Mistake("a ReLU on the pixel embeddings", decode_with(last=lambda conv, p: conv(p).relu()), _LAST),
    Mistake("p2 itself, without the last convolution", decode_with(last=lambda conv, p: p),
            "The embeddings are mask_features(p2)."),
    Mistake("the bias of the last convolution left out",
            lambda f, w, e: _decode(f, {k: v for k, v in w.items() if k != "mask_features.bias"}, e),
            "mask_features has a bias: no GroupNorm follows that would undo it."),
    Mistake("GroupNorm without its weight and bias", decode_with(norm=lambda x, w, b: F.group_norm(x, 32)),
            "F.group_norm(x, 32, weight, bias): both were learnt."),
    Mistake("one group per channel", decode_with(norm=lambda x, w, b: F.group_norm(x, x.shape[1], w, b)),
            "There are 32 groups, here of two channels each."),
    Mistake("a single group", decode_with(norm=lambda x, w, b: F.group_norm(x, 1, w, b)),
            "There are 32 groups, here of two channels each."),
    Mistake("groups taken for the channels per group",
            decode_with(norm=lambda x, w, b: F.group_norm(x, x.shape[1] // 32, w, b)),
            "32 is the number of groups."),
    Mistake("BatchNorm statistics", decode_with(norm=lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True)),
            "GroupNorm: per image, over the channels of a group and all pixels."),
)
