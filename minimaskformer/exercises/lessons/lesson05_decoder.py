"""Lesson 05: sizes, costs and the whole pixel decoder: fixtures, and the ways people get them wrong."""
import torch
import torch.nn.functional as F

from ...pixel_decoder import FPN
from ..core import Fixture, Mistake
from .lesson05_maps import random

# --- sizes ----------------------------------------------------------------------------------------------------------

def _sizes(height, width, divisibility, pad=lambda n, d: n + -n % d, divide=lambda n, s: -(-n // s),
           strides=(4, 8, 16, 32)):
    return [[divide(pad(n, divisibility), s) for n in (height, width)] for s in strides]


def sizes_with(**knobs):
    return lambda *args: _sizes(*args, **knobs)


def _unpadded(side, times):
    """What 3 x 3 convolutions with stride 2 leave of a side when nothing is padded."""
    return side if times == 0 else (_unpadded(side, times - 1) - 3) // 2 + 1


def _halved(side, times, halve):
    return side if times == 0 else _halved(halve(side), times - 1, halve)


_ROUNDED = "A side of 75 becomes 38, then 19, 10, 5, 3: each halving rounds up."
_STRIDES = "The strides of res2 to res5 are 4, 8, 16, 32."
SIZE_MISTAKES = (
    Mistake("rounded down", sizes_with(divide=lambda n, s: n // s), _ROUNDED),
    Mistake("rounded to the nearest", sizes_with(divide=lambda n, s: round(n / s)), _ROUNDED),
    Mistake("not rounded", sizes_with(divide=lambda n, s: n / s), f"A map has whole cells. {_ROUNDED}"),
    Mistake("convolutions without padding",
            lambda h, w, d: [[_unpadded(n + -n % d, times) for n in (h, w)] for times in (2, 3, 4, 5)],
            f"They have a padding of 1. {_ROUNDED}"),
    Mistake("one cell too many at each halving",
            lambda h, w, d: [[_halved(n + -n % d, times, lambda n: n // 2 + 1) for n in (h, w)]
                             for times in (2, 3, 4, 5)],
            "n // 2 + 1 is right for odd n alone: (n + 1) // 2 makes 256 of 512 and 38 of 75."),
    Mistake("the map at stride 2 given too", sizes_with(strides=(2, 4, 8, 16, 32)),
            "The first halving makes no map of its own: res2, at stride 4, is the first."),
    Mistake("all heights, then all widths", lambda *args: list(zip(*_sizes(*args))),
            "A pair (height, width) for each map."),
    Mistake("the maps padded instead of the image",
            lambda h, w, d: [[side + -side % d for side in sizes] for sizes in _sizes(h, w, 1)],
            "The image is padded, once; what the halvings leave of it is the size of a map."),
    Mistake("one cell added to every map", sizes_with(divide=lambda n, s: n // s + 1),
            "A side that divides gets no further cell."),
    Mistake("not padded", sizes_with(pad=lambda n, d: n), "First the sides grow to multiples of divisibility."),
    Mistake("padded although it was already a multiple", sizes_with(pad=lambda n, d: n + d - n % d),
            "512 is a multiple of 32 and stays 512: -side % divisibility is 0 then."),
    Mistake("cut down to a multiple", sizes_with(pad=lambda n, d: n // d * d), "Padding adds pixels."),
    Mistake("padded to multiples of 32 always", sizes_with(pad=lambda n, d: n + -n % 32),
            "divisibility may be 1: then nothing is padded."),
    Mistake("divisibility pixels added", sizes_with(pad=lambda n, d: n + d),
            "As few as lead to a multiple: -side % divisibility."),
    Mistake("padded to a square", lambda h, w, d: _sizes(max(h, w), max(h, w), d), "Each side by itself."),
    Mistake("width before height", lambda h, w, d: _sizes(w, h, d), "(height, width), as everywhere here."),
    Mistake("the coarsest map first", sizes_with(strides=(32, 16, 8, 4)), "res2, the finest, comes first."),
    Mistake("strides that begin at 2", sizes_with(strides=(2, 4, 8, 16)), _STRIDES),
    Mistake("strides that begin at 8", sizes_with(strides=(8, 16, 32, 64)), _STRIDES),
    Mistake("strides that begin at 1", sizes_with(strides=(1, 2, 4, 8)), _STRIDES),
    Mistake("the number of cells instead of the sides", lambda *args: [h * w for h, w in _sizes(*args)],
            "Two numbers per map: height and width."),
)


# --- cost -----------------------------------------------------------------------------------------------------------

def _cost(inputs, outputs, kernel, stride, height, width, parameters=lambda i, o, k: o * i * k * k,
          pixels=lambda h, w, s: -(-h // s) * -(-w // s), per_pixel=lambda p, i, o, k: p):
    count = parameters(inputs, outputs, kernel)
    return count, per_pixel(count, inputs, outputs, kernel) * pixels(height, width, stride)


def _without_zeros(inputs, outputs, kernel, stride, height, width):
    """Products with the padding's zeros left out."""
    def used(side):
        starts = range(-(kernel // 2), side - kernel // 2, stride)
        return sum(min(start + kernel, side) - max(start, 0) for start in starts)
    return outputs * inputs * kernel ** 2, outputs * inputs * used(height) * used(width)


def cost_with(**knobs):
    return lambda *args: _cost(*args, **knobs)


_SQUARE = "The kernel is kernel x kernel."
_PIXELS = "One product per weight and *output* pixel; the stride makes these fewer."
COST_MISTAKES = (
    Mistake("a bias counted", cost_with(parameters=lambda i, o, k: o * i * k * k + o),
            "These convolutions have no bias: the GroupNorm after them has one."),
    Mistake("a bias counted among the parameters",
            cost_with(parameters=lambda i, o, k: o * i * k * k + o, per_pixel=lambda p, i, o, k: p - o),
            "These convolutions have no bias: the GroupNorm after them has one."),
    Mistake("the kernel not squared", cost_with(parameters=lambda i, o, k: o * i * k), _SQUARE),
    Mistake("the kernel left out", cost_with(parameters=lambda i, o, k: o * i), _SQUARE),
    Mistake("the kernel squared in the parameters only", cost_with(per_pixel=lambda p, i, o, k: p // k), _SQUARE),
    Mistake("one number per weight and pixel, without the kernel", cost_with(per_pixel=lambda p, i, o, k: p // k ** 2),
            "At each output pixel all kernel x kernel weights are used."),
    Mistake("one input channel per filter", cost_with(parameters=lambda i, o, k: o * k * k),
            "Every output channel reads all input channels."),
    Mistake("the input channels left out of the multiply-adds", cost_with(per_pixel=lambda p, i, o, k: p // i),
            "Every output value is a sum over all input channels."),
    Mistake("the output channels left out of the multiply-adds", cost_with(per_pixel=lambda p, i, o, k: p // o),
            "That is the cost of one output channel."),
    Mistake("the pixels of the input", cost_with(pixels=lambda h, w, s: h * w), _PIXELS),
    Mistake("divided by the stride once", cost_with(pixels=lambda h, w, s: -(-h * w // s)),
            "The stride halves both sides: a quarter of the pixels."),
    Mistake("rounded down", cost_with(pixels=lambda h, w, s: (h // s) * (w // s)),
            "A side of 97 has 49 output pixels at stride 2."),
    Mistake("not rounded", cost_with(pixels=lambda h, w, s: h * w / s ** 2),
            "A side of 97 has 49 output pixels at stride 2."),
    Mistake("no padding: the kernel's margin lost",
            lambda i, o, k, s, h, w: (o * i * k * k, o * i * k * k * ((h - k) // s + 1) * ((w - k) // s + 1)),
            "With padding kernel // 2 the output has ceil(side / stride) pixels."),
    Mistake("the padding's zeros not counted", _without_zeros,
            "They are multiplied like the rest: every output pixel uses every weight."),
    Mistake("one output pixel too many a side", cost_with(pixels=lambda h, w, s: (h // s + 1) * (w // s + 1)),
            "ceil(side / stride): 32 pixels stay 32 at stride 1."),
    Mistake("a bias counted among the multiply-adds", cost_with(per_pixel=lambda p, i, o, k: p + o),
            "These convolutions have no bias: the GroupNorm after them has one."),
    Mistake("a padding of 1, whatever the kernel",
            lambda i, o, k, s, h, w: (o * i * k * k, o * i * k * k * ((h + 2 - k) // s + 1) * ((w + 2 - k) // s + 1)),
            "The padding is kernel // 2: 3 for a kernel of 7, 0 for one of 1."),
    Mistake("additions counted as well", cost_with(per_pixel=lambda p, i, o, k: 2 * p),
            "A multiply-add is one: a product that is added to a sum."),
    Mistake("multiply-adds before parameters", lambda *args: _cost(*args)[::-1], "(parameters, multiply_adds)."),
    Mistake("the parameters twice", cost_with(pixels=lambda h, w, s: 1), "Every output pixel uses every weight."),
)


# --- the whole pixel decoder ----------------------------------------------------------------------------------------

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
