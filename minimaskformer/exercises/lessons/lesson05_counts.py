"""Exercises 05.1 and 05.5, sizes and costs: the ways people get them wrong."""
from ..core import Mistake

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
