"""Lesson 06: the ways people get sine positions wrong, and the order of queries, and what queries answer."""
import math

import torch
import torch.nn.functional as F

from ..core import Fixture, Mistake

# --- sine positions -------------------------------------------------------------------------------------------------

POSITION_FIXTURES = (  # height and width differ, and so does the temperature
    Fixture("3 rows, 5 columns, 8 channels", (3, 5, 8)),
    Fixture("4 rows, 2 columns, 12 channels, temperature 100", (4, 2, 12, 100.0)),
    Fixture("2 rows, 6 columns, 16 channels, temperature 20", (2, 6, 16, 20.0)))


def _angles(n):
    return 2 * math.pi * torch.arange(1, n + 1, dtype=torch.float64) / n


def _interleaved(angle):
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)  # [n, dim/4] to [n, dim/2]


def _exponents(dim):
    return 2 * torch.arange(dim // 4) / (dim // 2)


def _positions(height, width, dim, temperature=10_000.0, angles=_angles, pair=_interleaved, exponents=_exponents,
               power=-1):
    """Sine positions with knobs to get wrong."""
    frequency = temperature ** (power * exponents(dim).double())  # [dim/4]
    y, x = (pair(angles(n)[:, None] * frequency).T for n in (height, width))  # [dim/2, n]
    return torch.cat([y[:, :, None].expand(-1, -1, width), x[:, None, :].expand(-1, height, -1)])


def _with(**knobs):
    return lambda height, width, dim, temperature=10_000.0: _positions(height, width, dim, temperature, **knobs)


def _then(change):
    return lambda *args: change(_positions(*args))


def _unpaired(scale):
    """Every channel has a wavelength of its own: sin and cos no longer belong together."""
    def positions(height, width, dim, temperature=10_000.0):
        frequency = temperature ** (-scale * torch.arange(dim // 2).double() / (dim // 2))  # [dim/2]
        halves = []
        for n in (height, width):
            angle = _angles(n)[:, None] * frequency  # [n, dim/2]
            halves.append(torch.stack([angle[:, 0::2].sin(), angle[:, 1::2].cos()], -1).flatten(1).T)
        y, x = halves
        return torch.cat([y[:, :, None].expand(-1, -1, width), x[:, None, :].expand(-1, height, -1)])
    return positions


def _same_side(height, width, dim, temperature=10_000.0):
    side = max(height, width)
    return _positions(height, width, dim, temperature, angles=lambda n: _angles(side)[:n])


def _one_side(which):
    """Both axes divided by the height, 0, or by the width, 1."""
    def positions(*args):
        return _positions(*args, angles=lambda n: _angles(n) * n / args[which])
    return positions


def _added(height, width, dim, temperature=10_000.0):
    frequency = temperature ** -(2 * torch.arange(dim // 2).double() / dim)
    y, x = (_interleaved(_angles(n)[:, None] * frequency).T for n in (height, width))  # [dim, n]
    return y[:, :, None] + x[:, None, :]


def _same_half(which):
    """One axis in both halves."""
    def positions(*args):
        half = _positions(*args).chunk(2)[which]  # [dim/2, H, W]
        return torch.cat([half, half])
    return positions


_AXES = ("one axis in both halves", "The first half of the channels encodes y, the second x. With one of them alone, "
                                    "rows or columns cannot be told apart.")
_PAIRS = ("sin and cos of different wavelengths",
          "Channels 2i and 2i + 1 are the sine and the cosine of one angle: the exponent belongs to the pair i.")
POSITION_MISTAKES = (
    Mistake("x and y exchanged", _then(lambda p: p.roll(len(p) // 2, 0)),
            "The first half of the channels encodes y, the row."),
    Mistake(_AXES[0], _same_half(0), _AXES[1]),
    Mistake(_AXES[0], _same_half(1), _AXES[1]),
    Mistake("y and x in alternation", _then(lambda p: torch.stack(p.chunk(2), 1).flatten(0, 1)),
            "All channels of y, then all of x: torch.cat. Only sin and cos alternate."),
    Mistake("all sines, then all cosines", _with(pair=lambda a: torch.cat([a.sin(), a.cos()], -1)),
            "They alternate: sin, cos, sin, cos. A model trained with one order reads nonsense in the other."),
    Mistake("cosine before sine", _with(pair=lambda a: torch.stack([a.cos(), a.sin()], -1).flatten(1)),
            "Even channels are sines."),
    Mistake("rows counted from 0", _with(angles=lambda n: _angles(n) - 2 * math.pi / n),
            "t runs from 1 to H: the last row has 2 pi, the first a little more than 0."),
    Mistake("rows counted from 0, and H - 1 as the last",
            _with(angles=lambda n: torch.linspace(0, 2 * math.pi, n, dtype=torch.float64)),
            "t runs from 1 to H and is divided by H."),
    Mistake("the middles of the cells", _with(angles=lambda n: _angles(n) - math.pi / n),
            "Sensible, but not what the reference does: t / H with t = 1 ... H."),
    Mistake("not normalised", _with(angles=lambda n: torch.arange(1, n + 1, dtype=torch.float64)),
            "y = 2 pi t / H: the last row of every picture has the same position, however large it is."),
    Mistake("2 pi left out", _with(angles=lambda n: _angles(n) / (2 * math.pi)),
            "y runs to 2 pi, so that the shortest wave goes once over the picture."),
    Mistake("pi instead of 2 pi", _with(angles=lambda n: _angles(n) / 2), "y runs to 2 pi."),
    Mistake("both axes divided by the longer side", _same_side, "y by the height, x by the width."),
    Mistake("both axes divided by the height", _one_side(0), "y by the height, x by the width."),
    Mistake("both axes divided by the width", _one_side(1), "y by the height, x by the width."),
    Mistake("sines only", _with(pair=lambda a: torch.stack([a.sin(), a.sin()], -1).flatten(1)),
            "Channel 2i is the sine of the angle, channel 2i + 1 its cosine."),
    Mistake("pairs counted from 1", _with(exponents=lambda dim: _exponents(dim) + 2 / (dim // 2)),
            "i runs from 0: the first pair has the wavelength 1."),
    Mistake("exponents from 0 to 1, both included", _with(exponents=lambda dim: torch.linspace(0, 1, dim // 4)),
            "2i / (dim/2) for i = 0 ... dim/4 - 1: the last is less than 1."),
    Mistake("the exponent is half of what it should be", _with(exponents=lambda dim: _exponents(dim) / 2),
            "Pair i of dim/2 channels has the exponent 2i / (dim/2); each axis has only dim/2 channels."),
    Mistake("the exponent is twice what it should be", _with(exponents=lambda dim: _exponents(dim) * 2),
            "Pair i has the exponent 2i / (dim/2), with i = 0 ... dim/4 - 1."),
    Mistake("all pairs have the wavelength of the first", _with(exponents=lambda dim: 0 * _exponents(dim)),
            "The exponent 2i / (dim/2) is a fraction: a whole-number division // makes it 0."),
    Mistake(_PAIRS[0], _unpaired(1), _PAIRS[1]),
    Mistake(_PAIRS[0], _unpaired(2), _PAIRS[1]),
    Mistake("multiplied by temperature ** ... instead of divided", _with(power=1),
            "Waves get longer from pair to pair: divide the angle."),
    Mistake("the argument temperature not used", lambda h, w, dim, temperature=0: _positions(h, w, dim),
            "Examples 2 and 3 have another temperature."),
    Mistake("y and x added instead of side by side", _added,
            "Half of the channels for y, half for x. A sum could not be taken apart again."),
    Mistake("the picture lies on its side", _then(lambda p: p.transpose(1, 2)), "[dim, height, width]: rows first."),
    Mistake("channels last", _then(lambda p: p.permute(1, 2, 0)), "[dim, height, width], as a feature map."),
)


# --- the order of queries -------------------------------------------------------------------------------------------

def _states(B, N, C, seed):
    return torch.randn(B, N, C, generator=torch.Generator().manual_seed(seed))


ORDER_FIXTURES = (  # no order is its own inverse: a swap of two would hide the mistake
    Fixture("4 queries, 2 pictures", (_states(2, 4, 3, 0), torch.tensor([2, 0, 3, 1]))),
    Fixture("5 queries, 5 pictures, 5 channels", (_states(5, 5, 5, 1), torch.tensor([1, 3, 0, 4, 2]))))
_OVER = ("rows overwritten before they were moved",
         "`states` was changed in place while it was still being read. Write into a new tensor.")


def _overwritten(states, places, sources):
    for place, source in zip(places.tolist(), sources.tolist()):
        states[:, place] = states[:, source]
    return states


_AXIS = ("the wrong axis", "The queries are axis 1 of [B, N, C]: states[:, index].")
ORDER_MISTAKES = (
    Mistake("order itself instead of its inverse", lambda s, o: s[:, o],
            "Query order[i] of the original now sits at i. You want the place i at which query j sits: order[i] = j.",
            "https://github.com/tinnunculus/MaskFormer/blob/37694d45606f9b32bd85250cadf5f4adccb5e854/maskformer.ipynb"),
    Mistake("still in the new order", lambda s, o: s, "Row i belongs to query order[i]; put it there."),
    Mistake("the order applied a second time", lambda s, o: s[:, o][:, o],
            "Once more the same way goes further away. The inverse: order.argsort()."),
    Mistake("reversed", lambda s, o: s.flip(1), "The order is given, it is not simply backwards."),
    Mistake("the inverse, backwards", lambda s, o: s[:, o.argsort(descending=True)],
            "argsort in its usual, ascending direction is the inverse."),
    Mistake("the values sorted", lambda s, o: s.sort(1).values, "Move whole rows; `order` says where to."),
    Mistake(_OVER[0], lambda s, o: _overwritten(s, o, o.sort().values), _OVER[1]),
    Mistake(_OVER[0], lambda s, o: _overwritten(s, o.sort().values, o.argsort()), _OVER[1]),
    Mistake(_AXIS[0], lambda s, o: s[o.argsort()], _AXIS[1]),
    Mistake(_AXIS[0], lambda s, o: s[o], _AXIS[1]),
    Mistake(_AXIS[0], lambda s, o: s[..., o.argsort()], _AXIS[1]),
    Mistake(_AXIS[0], lambda s, o: s[..., o], _AXIS[1]),
)


# --- what a query answers -------------------------------------------------------------------------------------------

HISTOGRAM_FIXTURES = (  # scenes, queries and classes in different numbers; no-object often wins, and twice barely
    Fixture("6 scenes, 3 queries, 4 classes and no object", (2 * _states(6, 3, 5, 3) + _states(1, 1, 5, 4),)),
    Fixture("9 scenes, 4 queries, 2 classes and no object", (2 * _states(9, 4, 3, 5),)),
    Fixture("5 scenes, 2 queries, and nobody says no object", (_states(5, 2, 4, 6) - torch.tensor([0.0, 0, 0, 9]),)))


def _count(answers, classes):
    return F.one_hot(answers, classes).sum(0)


def _histogram(x):
    return _count(x.argmax(-1), x.shape[-1])


_SOFTMAX = "Answers compete within one query: over the last axis. (For the argmax no softmax is needed.)"
HISTOGRAM_MISTAKES = (
    Mistake("classes in rows, queries in columns", lambda x: _histogram(x).T, "[N, K+1]: one row per query."),
    Mistake("no object left out of the count", lambda x: _histogram(x)[:, :-1],
            "How often a query is silent belongs to its portrait: K + 1 columns."),
    Mistake("no object not counted: its column stays 0",
            lambda x: F.pad(_histogram(x)[:, :-1], (0, 1)), "It is an answer like the others: K + 1 counts per query."),
    Mistake("no object dropped before the argmax", lambda x: _count(x[..., :-1].argmax(-1), x.shape[-1] - 1),
            "Then a silent query seems to answer with its second choice."),
    Mistake("no object dropped before the argmax, with an empty column for it",
            lambda x: _count(x[..., :-1].argmax(-1), x.shape[-1]),
            "Then a silent query seems to answer with its second choice."),
    Mistake("the number of classes taken from the answers", lambda x: F.one_hot(x.argmax(-1)).sum(0),
            "F.one_hot(answers) and bincount(answers) make as many columns as the largest answer needs. Say how many: "
            "num_classes=K + 1, minlength=K + 1."),
    Mistake("the same answer in several scenes counted once", lambda x: (_histogram(x) > 0).long(),
            "counts[n, answer] += 1 with lists of indices adds 1 once, however often a place is named."),
    Mistake("probabilities summed", lambda x: x.softmax(-1).sum(0), "Count answers: one per scene and query."),
    Mistake("a softmax over the scenes before the argmax", lambda x: _histogram(x.softmax(0)), _SOFTMAX),
    Mistake("a softmax over the queries before the argmax", lambda x: _histogram(x.softmax(1)), _SOFTMAX),
    Mistake("shares instead of counts", lambda x: _histogram(x) / len(x), "Whole numbers: how many of the S scenes."),
    Mistake("all queries together", lambda x: _histogram(x).sum(0), "One row per query."),
    Mistake("all scenes apart", lambda x: F.one_hot(x.argmax(-1), x.shape[-1]), "Sum over the scenes, axis 0."),
    Mistake("summed over the queries", lambda x: F.one_hot(x.argmax(-1), x.shape[-1]).sum(1),
            "That is what each *scene* holds. Sum over the scenes, axis 0."),
    Mistake("the best query of each class", lambda x: _count(x.argmax(1), x.shape[1]).T,
            "Here every query answers for itself: the argmax goes over the classes, the last axis."),
    Mistake("every logit above 0 counted", lambda x: (x > 0).sum(0), "One answer per query: the largest logit."),
    Mistake("every probability above one half counted", lambda x: (x.softmax(-1) > 0.5).sum(0),
            "The largest wins, even below one half."),
    Mistake("the smallest instead of the largest", lambda x: _count(x.argmin(-1), x.shape[-1]), "argmax."),
    Mistake("the mean over the scenes first", lambda x: F.one_hot(x.mean(0).argmax(-1), x.shape[-1]),
            "Let each scene vote, then count."),
)
