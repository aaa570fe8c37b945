"""Lesson 08: fixtures of the general and the semantic rule, and the ways people get them wrong."""
import numpy as np
import torch
import torch.nn.functional as F

from ..core import Fixture, Mistake, issue
from .lesson02_masks import TINNUNCULUS

INDEX = issue("facebookresearch/MaskFormer", 13)


def halves(seed, *shape, top=6, keep=()):
    """Logits that are multiples of one half, the same on every machine; `keep`: (index, value) pairs to set."""
    values = torch.tensor(np.random.default_rng(seed).integers(-top, top + 1, shape) / 2, dtype=torch.float32)
    for at, value in keep:
        values[at] = value
    return values


# --- the general rule -----------------------------------------------------------------------------------------------

# Queries 1 and 4 say "no object" with sure masks; query 0 is less sure of its class than of its mask; index 0 of the
# kept list is never query 0 alone; pictures are not square. In the second, query 2 sees an object, is less than half
# sure, and wins the two pixels that nobody else wants.
_LONELY = (0, 1), (4, 2)
_SURE = [((1, 4), 7.0), ((1, 3), -1.0), ((0, 4), -2.0)]
GENERAL_FIXTURES = (
    Fixture("6 queries, 4 classes, 4 x 5 pixels", (halves(3, 6, 5, keep=_SURE), halves(4, 6, 4, 5))),
    Fixture("7 queries, 3 classes, 5 x 3 pixels",
            (halves(11, 7, 4, top=4, keep=[((0, 3), 6.0), ((2,), torch.tensor([0.5, 1.0, 0.0, 0.5]))]),
             halves(12, 7, 5, 3, keep=[*((np.s_[:, h, w], -3.0) for h, w in _LONELY),
                                       *((np.s_[2, h, w], 3.0) for h, w in _LONELY)]))),
    Fixture("every query says no object", (halves(5, 3, 4, top=3, keep=[(np.s_[:, 3], 5.0)]), halves(6, 3, 2, 3))))


def scores_and_classes(x):
    return x.softmax(-1).max(-1)


def _general(x, m, read=scores_and_classes, keep=lambda s, c, K: c != K, weigh=lambda s, m: s * m.sigmoid(), nothing=-1,
             number=True, floor=None):
    """General inference with knobs to get wrong."""
    scores, classes = read(x)
    kept = keep(scores, classes, x.shape[1] - 1).nonzero().flatten()
    if len(kept) == 0:
        return (torch.full(m.shape[1:], nothing),) * 2
    winner = weigh(scores[kept, None, None], m[kept]).argmax(0)  # [H, W]
    query_map, class_map = kept[winner], classes[kept][winner]
    if floor is not None:
        low = m.gather(0, query_map[None])[0] < floor
        query_map, class_map = query_map.masked_fill(low, -1), class_map.masked_fill(low, -1)
    return (query_map if number else winner), class_map


def general_with(**knobs):
    return lambda x, m: _general(x, m, **knobs)


def _voted(x, m):
    query_map, class_map = _general(x, m)
    voted = torch.einsum("nk,nhw->khw", x.softmax(-1)[:, :-1], m.sigmoid()).argmax(0)
    return query_map, torch.where(query_map < 0, -1, voted)


def _first(x):
    """No object taken to be index 0; classes come back shifted as that reading has them."""
    scores, classes = scores_and_classes(x)
    return scores, torch.where(classes == 0, x.shape[1] - 1, classes - 1)


def _classes_by_place(x, m):
    """The class looked up at the winner's place among the kept, in the list of all queries."""
    classes = scores_and_classes(x)[1]
    query_map, _ = _general(x, m)
    place, _ = _general(x, m, number=False)
    return query_map, torch.where(query_map < 0, -1, classes[place.clamp(min=0)])


def _removed_late(x, m):
    query_map, class_map = _general(x, m, keep=_everyone)
    nothing = class_map == x.shape[1] - 1
    return query_map.masked_fill(nothing, -1), class_map.masked_fill(nothing, -1)


def _zeroed(x, m):
    scores, classes = scores_and_classes(x)
    query_map = ((scores * (classes != x.shape[1] - 1))[:, None, None] * m.sigmoid()).argmax(0)
    return query_map, classes[query_map]


def _everyone(s, c, K):
    return torch.ones_like(c, dtype=torch.bool)


_LAST = "Here no object is the last index, K, and the classes count from 0."
GENERAL_MISTAKES = (
    Mistake("queries that say no object take part", general_with(keep=_everyone),
            "A query whose most likely answer is index K found nothing: whatever its mask shows, it must not win a "
            "pixel. Leave it out before the argmax."),
    Mistake("no object crossed out, so every query takes part with its best class",
            general_with(read=lambda x: x.softmax(-1)[:, :-1].max(-1), keep=_everyone),
            "First the most likely of all K + 1 answers; a query for which that is \"no object\" is out."),
    Mistake("no object dropped before the softmax",
            general_with(read=lambda x: x[:, :-1].softmax(-1).max(-1), keep=_everyone),
            "Renormalising makes a query that says \"no object\" with 99 % sure of something. Softmax over all K + 1."),
    Mistake("the class probability not used", general_with(weigh=lambda s, m: m.sigmoid() + 0 * s),
            "Queries compete with p_i(c_i) times their mask: a half-sure query needs a better mask to win."),
    Mistake("mask logits times score: the sigmoid is missing", general_with(weigh=lambda s, m: s * m),
            "m_i is a probability. With a negative logit, a *surer* query would lose."),
    Mistake("sigmoid applied twice", general_with(weigh=lambda s, m: s * m.sigmoid().sigmoid()),
            "The masks come as logits: one sigmoid.", TINNUNCULUS),
    Mistake("a softmax over queries, or exp, instead of the sigmoid", general_with(weigh=lambda s, m: s * m.softmax(0)),
            "Each mask is a sigmoid of its own; masks may overlap, and nothing makes them sum to one."),
    Mistake("the sum of probability and mask instead of the product", general_with(weigh=lambda s, m: s + m.sigmoid()),
            "A query should win only where class *and* mask are likely: multiply."),
    Mistake("places in the list of kept queries instead of query numbers", general_with(number=False),
            "After dropping some queries, place 2 of the rest is no longer query 2: look the number up."),
    Mistake("the class looked up by place in the list of kept queries", _classes_by_place,
            "The query is right. Its class stands at the query's own number: classes[query], not classes[place]."),
    Mistake("1 - p(no object) for the score",
            general_with(read=lambda x: (1 - x.softmax(-1)[:, -1], x.argmax(-1))),
            "That is how sure a query is to see *anything*. p_i(c_i) is the probability of the class it answers."),
    Mistake("class logits instead of probabilities", general_with(read=lambda x: x.max(-1)),
            "p_i is the softmax of the class logits."),
    Mistake("softmax twice", general_with(read=lambda x: scores_and_classes(x.softmax(-1))),
            "One softmax, over the classes.", TINNUNCULUS),
    Mistake("softmax over the queries", general_with(read=lambda x: x.softmax(0).max(-1)),
            "Each query has a distribution over its K + 1 answers: softmax over the last dimension."),
    Mistake("pixels where the winner's mask is below one half left out", general_with(floor=0.0),
            "The general rule has no mask threshold: the largest product wins, however small."),
    Mistake("pixels where the winner's mask is below one half left out", general_with(floor=0.25),
            "The general rule has no mask threshold: the largest product wins, however small."),
    Mistake("queries of score 0.5 or less left out", general_with(keep=lambda s, c, K: (c != K) & (s > 0.5)),
            "The most likely answer counts, even where it is less likely than one half."),
    Mistake("queries of score 0.8 or less left out", general_with(keep=lambda s, c, K: (c != K) & (s > 0.8)),
            "That filter belongs to panoptic inference."),
    Mistake("no object taken to be index 0", general_with(read=_first), _LAST, INDEX),
    Mistake("no object taken to be index 0", general_with(keep=lambda s, c, K: c != 0), _LAST, INDEX),
    Mistake("the two maps exchanged", lambda x, m: _general(x, m)[::-1], "First the query of each pixel, then its "
            "class."),
    Mistake("the class map taken from the semantic rule", _voted,
            "The class of a pixel is the class of the query that won it."),
    Mistake("queries that say no object removed after the contest", _removed_late,
            "Their pixels would be lost. They are out before the argmax, and somebody else wins."),
    Mistake("query 0 where every query says no object", _zeroed,
            "The argmax of products that are all alike is 0: ask whether any query is left. If none is, both maps are "
            "-1 everywhere."),
    Mistake("masks cut at one half before the contest", general_with(weigh=lambda s, m: s * (m > 0)),
            "The probabilities themselves compete: a surer mask wins over a less sure one."),
    Mistake("the index of no object where nobody answers",
            lambda x, m: tuple(torch.where(part < 0, x.shape[1] - 1, part) for part in _general(x, m)),
            "If every query says no object, both maps are -1 everywhere."),
    Mistake("0 where nobody answers", general_with(nothing=0),
            "0 is a query, and a class. If every query says no object, both maps are -1 everywhere."),
)


# --- semantic scores at another size --------------------------------------------------------------------------------

SCORES_FIXTURES = (
    Fixture("4 queries, 3 classes, 2 x 3 cells to 5 x 9 pixels",
            (halves(21, 4, 4), halves(22, 4, 2, 3) + 0.13, (5, 9))),
    Fixture("5 queries, 2 classes, 3 x 2 cells to 7 x 4 pixels",
            (halves(23, 5, 3), halves(24, 5, 3, 2) + 0.13, (7, 4))))


def upsample(maps, size, mode="bilinear", **options):
    return F.interpolate(maps[None], tuple(size), mode=mode, **options)[0]


def _probs(x):
    return x.softmax(-1)[:, :-1]


def _sum(p, m):
    return torch.einsum("nk,nhw->khw", p, m)


def _semantic(x, m, size, probs=_probs, masks=lambda m, size: upsample(m, size).sigmoid(), combine=_sum):
    return combine(probs(x), masks(m, size))


def scores_with(**knobs):
    return lambda x, m, size: _semantic(x, m, size, **knobs)


def _one_vote(x):
    p, best = x.softmax(-1), x.argmax(-1)
    return (p * F.one_hot(best, x.shape[1]))[:, :-1]


def _objects_only(x):
    return _probs(x) * (x.argmax(-1) != x.shape[1] - 1)[:, None]


def _normalised(p, m):
    scores = _sum(p, m)
    return scores / scores.sum(0)


SCORES_MISTAKES = (
    Mistake("probabilities upsampled instead of logits", scores_with(masks=lambda m, size: upsample(m.sigmoid(), size)),
            "Upsample the mask *logits*, then the sigmoid: edges stay sharp. (Upsampling the finished scores is the "
            "same mistake: the sum and bilinear weights may change places.)"),
    Mistake("nearest instead of bilinear", scores_with(masks=lambda m, size: upsample(m, size, "nearest").sigmoid()),
            "mode=\"bilinear\"; the default of F.interpolate is \"nearest\"."),
    Mistake("bicubic instead of bilinear", scores_with(masks=lambda m, size: upsample(m, size, "bicubic").sigmoid()),
            "mode=\"bilinear\"."),
    Mistake("align_corners=True",
            scores_with(masks=lambda m, size: upsample(m, size, align_corners=True).sigmoid()),
            "That takes pixels for points and stretches the outermost to the rim: every mask moves a little."),
    Mistake("height and width exchanged", lambda x, m, size: _semantic(x, m, tuple(size)[::-1]),
            "size is (H, W), as F.interpolate wants it."),
    Mistake("no object kept as a class", scores_with(probs=lambda x: x.softmax(-1)),
            "No object is not a class to vote for: drop the last column after the softmax."),
    Mistake("no object dropped before the softmax", scores_with(probs=lambda x: x[:, :-1].softmax(-1)),
            "Then a query that is sure to see nothing votes with full weight. Softmax first, drop the column after."),
    Mistake("no object taken to be index 0", scores_with(probs=lambda x: x.softmax(-1)[:, 1:]),
            "Here no object is the last index, K.", INDEX),
    Mistake("the mean over queries", scores_with(combine=lambda p, m: _sum(p, m) / len(p)),
            "A sum: whoever sees nothing adds nothing, and must not water down the others."),
    Mistake("the largest over queries instead of the sum",
            scores_with(combine=lambda p, m: torch.einsum("nk,nhw->nkhw", p, m).amax(0)),
            "That is close to the general rule. The semantic rule lets all queries add up."),
    Mistake("scores made to sum to one at each pixel", scores_with(combine=_normalised),
            "Nothing is normalised; it would not change the argmax, but it is another number."),
    Mistake("each query votes for its most likely answer only", scores_with(probs=_one_vote),
            "A query may give 0.5 to water and 0.4 to grass. Both count."),
    Mistake("each query votes with 1 for its most likely answer",
            scores_with(probs=lambda x: F.one_hot(x.argmax(-1), x.shape[1])[:, :-1].to(x.dtype)),
            "A vote weighs p_i(c), and a query votes for every class a little."),
    Mistake("queries that say no object left out", scores_with(probs=_objects_only),
            "The semantic rule leaves nobody out: the small rest of their probability counts too."),
    Mistake("the sigmoid is missing", scores_with(masks=upsample), "m_i is a probability: sigmoid."),
    Mistake("sigmoid applied twice", scores_with(masks=lambda m, size: upsample(m, size).sigmoid().sigmoid()),
            "One sigmoid.", TINNUNCULUS),
    Mistake("sigmoid before and after the upsampling",
            scores_with(masks=lambda m, size: upsample(m.sigmoid(), size).sigmoid()), "One sigmoid, after."),
    Mistake("a softmax over queries instead of the sigmoid",
            scores_with(masks=lambda m, size: upsample(m, size).softmax(0)), "Each mask is a sigmoid of its own."),
    Mistake("scores cut at 1", lambda *args: _semantic(*args).clamp(max=1),
            "They are sums of votes, no probabilities: several queries may answer for one pixel."),
    Mistake("1 - the product of all that is against it",
            scores_with(combine=lambda p, m: 1 - (1 - torch.einsum("nk,nhw->nkhw", p, m)).prod(0)),
            "A plain sum of the votes, even if it passes 1."),
    Mistake("hard masks", scores_with(masks=lambda m, size: (upsample(m, size) > 0).to(m.dtype)),
            "The probabilities themselves, not a threshold."),
    Mistake("softmax over the queries", scores_with(probs=lambda x: x.softmax(0)[:, :-1]),
            "Each query has a distribution over its K + 1 answers."),
    Mistake("a sigmoid instead of the softmax", scores_with(probs=lambda x: x[:, :-1].sigmoid()),
            "A query has one distribution over its K + 1 answers: softmax."),
    Mistake("softmax twice", scores_with(probs=lambda x: _probs(x.softmax(-1))), "One softmax.", TINNUNCULUS),
    Mistake("class logits instead of probabilities", scores_with(probs=lambda x: x[:, :-1]), "p_i is a softmax."),
    Mistake("the class map instead of the scores",
            lambda x, m, size: _semantic(x, m, size).argmax(0).to(x.dtype), "The scores [K, H, W], before the argmax."),
)
