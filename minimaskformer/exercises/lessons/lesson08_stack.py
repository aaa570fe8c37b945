"""Lesson 08: fixtures of the instance rule, and the ways people get it wrong."""
import torch

from ..core import Fixture, Mistake, issue
from .lesson08_pixels import halves


def _uneven(seed, n, k, top=6):
    """Class logits [n, k] of which no two are alike: a tie would leave the order open."""
    return halves(seed, n, k, top=top) + 0.13 * torch.arange(k) + 0.04 * torch.arange(n)[:, None] ** 2 % 0.37


# Query 2 claims no pixel. Seeds that keep all mistakes apart, with clear gaps between neighbours in the ranking.
_EMPTY = [((2,), halves(1, 3, 4, top=5).abs().neg() - 0.5)]
STACK_FIXTURES = (
    Fixture("6 queries, 4 classes, the best 8 pairs",
            (_uneven(383, 6, 5), halves(384, 6, 3, 4, keep=_EMPTY), (0, 2), 8)),
    Fixture("9 queries, 3 classes, the best 4 pairs", (_uneven(1224, 9, 4), halves(1225, 9, 4, 3), (1, 2), 4)),
    Fixture("6 queries, 4 classes, all 24 pairs",
            (_uneven(133, 6, 5, top=4), halves(134, 6, 3, 4, keep=_EMPTY), (1, 3), 24)),
    Fixture("7 queries, 3 classes, the best 5 pairs: a blurred mask among them",
            (_uneven(2022, 7, 4), halves(2023, 7, 3, 3), (0, 2), 5)),
    Fixture("the best 2 pairs are stuff: nothing is left",
            (_uneven(7, 4, 4) + torch.tensor([9.0, 0, 0, 0]), halves(8, 4, 3, 5), (1, 2), 2)))


def _mean_inside(m, masks):
    return (m.sigmoid() * masks).flatten(1).sum(1) / masks.flatten(1).sum(1).clamp(min=1)


def _split(pairs, K):
    return pairs // K, pairs % K


def _stack(x, m, things, top_k, probs=lambda x: x.softmax(-1)[:, :-1], masks=lambda m: m > 0, quality=_mean_inside,
           score_first=False, stuff_first=False, single=False, drop_empty=True, sort=True, all_things=False,
           split=_split):
    """Instance inference with knobs to get wrong: (masks, labels, scores)."""
    p, inside = probs(x), masks(m)  # [N, K], [N, H, W]
    if single:
        p = torch.where(p == p.amax(1, keepdim=True), p, -1.0)
    isthing = torch.tensor([all_things or k in things for k in range(p.shape[1])])
    if stuff_first:
        p = torch.where(isthing, p, -1.0)
    ranked = p * quality(m, inside)[:, None] if score_first else p
    pairs = ranked.flatten().topk(min(top_k, p.numel())).indices
    values = p.flatten()[pairs]
    queries, labels = split(pairs, p.shape[1])
    kept = torch.isin(labels, isthing.nonzero()) & (values > -1)
    if drop_empty:
        kept = kept & inside.flatten(1).any(1)[queries]
    queries, labels, scores = queries[kept], labels[kept], values[kept] * quality(m, inside)[queries[kept]]
    if sort:
        order = scores.argsort(descending=True, stable=True)
        queries, labels, scores = queries[order], labels[order], scores[order]
    return inside[queries], labels, scores


def stack_with(**knobs):
    return lambda *args: _stack(*args, **knobs)


def _one(m, masks):
    return torch.ones(len(m), dtype=m.dtype)


def _as_map(x, m, things, top_k):
    """The stack flattened: each pixel belongs to the first mask that has it."""
    masks, labels, scores = _stack(x, m, things, top_k)
    return masks & (masks.cumsum(0) == 1), labels, scores


def _thresholded(x, m, things, top_k):
    masks, labels, scores = _stack(x, m, things, top_k)
    return masks[scores > 0.5], labels[scores > 0.5], scores[scores > 0.5]


def _answers(x):
    """Probabilities of each query's answer only; queries that say no object have none."""
    p = x.softmax(-1)
    return torch.where(p == p.amax(1, keepdim=True), p, -1.0)[:, :-1]


def _late(x, m, things, top_k):
    return tuple(part[:top_k] for part in _stack(x, m, things, 10**6))


def _best_queries(x, m, things, top_k):
    """All classes of the top_k queries that are surest of a class."""
    best = x.softmax(-1)[:, :-1].amax(1).topk(min(top_k, len(x))).indices.sort().values
    return _stack(x[best], m[best], things, 10**6)


def _scores_alone(*args):
    masks, labels, scores = _stack(*args, sort=False)
    return masks, labels, scores.sort(descending=True).values


def _places(x, m, things, top_k):
    masks, labels, scores = _stack(x, m, things, top_k)
    return masks, torch.tensor([things.index(c) for c in labels.tolist()], dtype=torch.int64), scores


def _sees(x):
    p = x.softmax(-1)
    return torch.where((p.argmax(1) == p.shape[1] - 1)[:, None], -1.0, p)[:, :-1]


_SINGLE = "A query that hesitates between two classes is in the list twice, with one mask and two scores."
STACK_MISTAKES = (
    Mistake("one class per query", stack_with(single=True), _SINGLE, issue("facebookresearch/Mask2Former", 14)),
    Mistake("one class per query, and none for those that say no object", stack_with(probs=_answers),
            f"{_SINGLE} And one that says \"no object\" with 0.6 may still say \"sheep\" with 0.4."),
    Mistake("stuff dropped before the top k", stack_with(stuff_first=True),
            "The best top_k of *all* pairs, then the things among them: stuff uses up places."),
    Mistake("the best top_k of the finished list", _late,
            "First the best top_k of all pairs by p_i(c), then the rest of the rule."),
    Mistake("the top k by p times the quality of the mask", stack_with(score_first=True),
            "The top_k pairs are chosen by p_i(c) alone. The quality of the mask comes in afterwards, for those."),
    Mistake("top_k not used", lambda x, m, things, k: _stack(x, m, things, 10**6), "Only the best top_k pairs."),
    Mistake("the best top_k queries instead of pairs", _best_queries,
            "top_k counts pairs (query, class): one query may use up several."),
    Mistake("query and class exchanged", stack_with(split=lambda pairs, K: (pairs % K, pairs // K)),
            "In the flattened [N, K], pair number n means query n // K and class n % K."),
    Mistake("the place among the things as label", _places, "The label is the class index itself."),
    Mistake("queries that say no object left out", stack_with(probs=_sees),
            "One that says \"no object\" with 0.6 may still say \"sheep\" with 0.4. It ranks lower, but it counts."),
    Mistake("the scores sorted, masks and labels not", _scores_alone,
            "One order for all three: order = scores.argsort(descending=True), and masks[order], labels[order]."),
    Mistake("scores before labels", lambda *args: tuple(_stack(*args)[i] for i in (0, 2, 1)),
            "(masks, labels, scores)."),
    Mistake("labels before masks", lambda *args: tuple(_stack(*args)[i] for i in (1, 0, 2)),
            "(masks, labels, scores)."),
    Mistake("the mask taken as logits >= 0", stack_with(masks=lambda m: m >= 0), "The mask is logits > 0."),
    Mistake("sorted from small to large", lambda *a: tuple(part.flip(0) for part in _stack(*a)), "Best score first."),
    Mistake("stuff kept", stack_with(all_things=True), "Only pairs whose class is in `things` are instances."),
    Mistake("the score without the mask", stack_with(quality=_one),
            "score = p_i(c) times the mean of m_i inside the mask: a blurred mask ranks lower."),
    Mistake("the mean of m over the whole picture",
            stack_with(quality=lambda m, masks: m.sigmoid().flatten(1).mean(1)),
            "Small objects would rank last. Average inside the mask only."),
    Mistake("the sum of m inside the mask",
            stack_with(quality=lambda m, masks: (m.sigmoid() * masks).flatten(1).sum(1)),
            "Large objects would rank first. The mean."),
    Mistake("the mask's share of the picture as its quality",
            stack_with(quality=lambda m, masks: masks.to(m.dtype).flatten(1).mean(1)),
            "The mean of m_i over the pixels inside the mask."),
    Mistake("the largest m instead of the mean", stack_with(quality=lambda m, masks: m.sigmoid().flatten(1).amax(1)),
            "The mean over the pixels inside the mask."),
    Mistake("the mean of the logits", stack_with(quality=lambda m, masks: (m * masks).flatten(1).sum(1)
                                                 / masks.flatten(1).sum(1).clamp(min=1)),
            "m_i is a probability: sigmoid before the mean."),
    Mistake("not sorted again", stack_with(sort=False),
            "The order of the top k is that of p_i(c). The score has another factor: sort by it, best first."),
    Mistake("empty masks kept", stack_with(drop_empty=False), "A mask without a pixel is not an instance: drop it."),
    Mistake("no object as one more class", stack_with(probs=lambda x: x.softmax(-1)),
            "\"No object\" is not a class and takes no place in the top k."),
    Mistake("no object dropped before the softmax", stack_with(probs=lambda x: x[:, :-1].softmax(-1)),
            "Then queries that see nothing fill the top of the list. Softmax over all K + 1 answers."),
    Mistake("class logits instead of probabilities", stack_with(probs=lambda x: x[:, :-1]), "p_i is a softmax."),
    Mistake("softmax over all pairs", stack_with(probs=lambda x: x[:, :-1].flatten().softmax(0).view(len(x), -1)),
            "Each query has a distribution of its own."),
    Mistake("masks made a map: each pixel to the best instance only", _as_map,
            "An instance result is a stack: masks may overlap, and each keeps all of its pixels.",
            issue("open-mmlab/mmdetection", 10941)),
    Mistake("instances below 0.5 left out", _thresholded,
            "Average precision wants them all, ranked. A threshold is for pictures.",
            issue("facebookresearch/Mask2Former", 153)),
    Mistake("probabilities cut at 0",
            stack_with(masks=lambda m: m.sigmoid() > 0),
            "sigmoid > 0 is true everywhere. The mask is logits > 0, or probabilities > 0.5."),
    Mistake("the mask cut at a logit of 0.5", stack_with(masks=lambda m: m > 0.5),
            "A probability of 0.5 is a logit of 0."),
)
