"""Lesson 08: fixtures of the whole panoptic rule, and the ways people get it wrong."""
import torch

from ..core import Fixture, Mistake, issue
from .lesson02_masks import TINNUNCULUS
from .lesson08_panoptic import COLLIDE, _ids, _survive, ids_with
from .lesson08_pixels import INDEX, halves, scores_and_classes


def _predictions(seed, K, *rows):
    """Queries from rows (class, logit, first pixel, last pixel + 1) on 4 x 6 pixels, with a runner-up class, and noise.

    The mask is about +2.5 on the pixels of the span and about -3 elsewhere; two pixels in the corner nobody wants.
    """
    class_logits, mask_logits = torch.zeros(len(rows), K + 1), halves(seed, len(rows), 4, 6, top=3) - 3
    for i, (c, logit, first, last) in enumerate(rows):
        class_logits[i, (c + 1) % (K + 1)] = 0.5
        class_logits[i, c] = logit
        mask_logits[i].view(-1)[first:last] += 5.5
    return class_logits, mask_logits


# Classes 0 and 1 are stuff (1 comes twice), 2 and 3 things, 4 is no object. In query order: a sure thing; stuff; no
# object over everything; a thing that loses most of its mask; the same stuff again; a thing that is not sure; a query
# torn between nothing and stuff; things. The seeds were searched for: they keep all mistakes apart.
_MEADOW = _predictions(46, 4, (2, 5.0, 0, 4), (1, 4.5, 4, 8), (4, 6.0, 0, 24), (3, 3.6, 6, 11), (1, 4.0, 8, 11),
                       (2, 1.9, 12, 15), (4, 4.0, 14, 18), (3, 5.5, 15, 19), (0, 3.4, 14, 15), (2, 3.8, 18, 22))
_MEADOW[0][6, 0] = 3.9
_LAKE = _predictions(56, 4, (0, 4.2, 0, 6), (3, 3.1, 5, 9), (2, 2.3, 9, 12), (0, 3.7, 12, 14), (3, 2.8, 8, 12),
                     (4, 1.5, 13, 17), (1, 2.0, 16, 20), (3, 4.4, 18, 22), (0, 2.2, 3, 8))
# The second query's mask reaches one half nowhere, and it wins the last two pixels all the same.
_RIDGE = (torch.tensor([[0.0, 0, 4, 0, 0], [4, 0, 0, 0, 0], [0, 0, 0, 4.5, 0], [0, 0, 0, 0, 5]]),
          torch.tensor([[3.0] * 4 + [-3] * 4, [-5] * 6 + [-0.7] * 2, [-3.5] * 4 + [3] * 2 + [-4] * 2,
                        [2] * 8]).view(4, 2, 4))
# One is exactly as sure as the threshold, and that is not enough; in the other, cells at logit 0 are part of the mask.
_SURE = torch.tensor([[0, -1e4, -1e4], [-1e4, 0, -1e4]]), halves(7, 2, 3, 4)
_LEVEL = (torch.tensor([[0.0, 5, 0, 0, 0], [0, 0, 6, 0, 0], [5, 0, 0, 0, 0]]),
          torch.tensor([[3.0] * 3 + [0.0] * 3 + [-3] * 4, [-4] * 3 + [2.0] * 3 + [3.0] + [-4] * 3,
                        [-5] * 7 + [3.0] * 3]).view(3, 2, 5))
# The second piece of stuff is nearly all hidden by the first; the two together would keep everything.
_PIECES = (torch.tensor([[5.0, 0, 0], [3.5, 0, 0], [0, 5, 0]]),
           torch.tensor([[3.0] * 4 + [-4] * 6, [-4] + [3.0] * 4 + [-4] * 5, [-4] * 5 + [3.0] * 5]).view(3, 2, 5))
# The second is hidden by the first everywhere: it wins nothing, and at threshold 0 that is still not enough. The last
# two: the first claims four pixels and wins eight, twice as many as it claims.
_HIDDEN = (torch.tensor([[0.0, 0, 5, 0, 0], [0, 0, 0, 3, 0], [0, 0, 5, 0, 0]]),
           torch.tensor([[3.0] * 5 + [-4] * 5, [1.0] * 4 + [-5] * 6, [-4] * 5 + [3.0] * 5]).view(3, 2, 5))
_WIDE = (torch.tensor([[0.0, 0, 5, 0, 0], [0, 0, 0, 5, 0]]),
         torch.tensor([[3.0] * 4 + [-1] * 4 + [-4] * 2, [-4] * 8 + [3.0] * 2]).view(2, 2, 5))
MAP_FIXTURES = (
    Fixture("10 queries, thresholds 0.8 and 0.75", (*_MEADOW, (2, 3), 0.8, 0.75)),
    Fixture("9 queries, thresholds 0.5 and 0.6", (*_LAKE, (2, 3), 0.5, 0.6)),
    Fixture("the first with thresholds 0.4 and 0.3", (*_MEADOW, (2, 3), 0.4, 0.3)),
    Fixture("nobody is sure enough", (*_LAKE, (2, 3), 0.99, 0.5)),
    Fixture("4 queries, one with an empty mask", (*_RIDGE, (2, 3), 0.6, 0.5)),
    Fixture("the second with other things", (*_LAKE, (0, 1), 0.5, 0.3)),
    Fixture("2 pieces of stuff, one hidden by the other", (*_PIECES, (1,), 0.5, 0.5)),
    Fixture("2 queries, exactly as sure as the threshold", (*_SURE, (1,), 1.0, 0.0)),
    Fixture("3 queries, masks with cells at one half", (*_LEVEL, (2, 3), 0.5, 0.8)),
    Fixture("3 queries, one hidden, overlap threshold 0", (*_HIDDEN, (2, 3), 0.5, 0.0)),
    Fixture("2 queries, one wins more than it claims", (*_WIDE, (2, 3), 0.5, 0.8)))


def _map(x, m, things, score_threshold, overlap_threshold, read=scores_and_classes,
         keep=lambda s, c, K, t: (c != K) & (s > t), probs=torch.sigmoid, test=None, turn=lambda passed: passed,
         ids=_ids, numbers=None, runner_up=False, floor=False, late=None, void=0, paint=False,
         weigh=lambda s, m: s[:, None, None] * m):
    """The panoptic rule with knobs to get wrong."""
    scores, classes = read(x)
    K, p = x.shape[1] - 1, probs(m)
    kept = keep(scores, classes, K, score_threshold).nonzero().flatten()
    if len(kept) == 0:
        return torch.full(m.shape[1:], void)
    s, c, p = scores[kept], classes[kept], p[kept]
    stays = turn(_survive(s, p, overlap_threshold, weigh=weigh, **test or {}))
    if late is not None:
        stays = stays & late(s, c, K, score_threshold)
    if numbers is None:
        queue = iter(ids(c[stays].tolist(), things))
        names = [next(queue) if stay else void for stay in stays.tolist()]
    else:
        names = [n if stay else void for n, stay in zip(numbers(kept.tolist(), c.tolist(), things), stays.tolist())]
    products = weigh(s, p)
    if runner_up:
        products = torch.where(stays[:, None, None], products, -1.0)
    winner = products.argmax(0)  # [H, W]
    segment_map = torch.tensor(names)[winner]
    if floor:
        segment_map = segment_map.masked_fill(p.gather(0, winner[None])[0] < 0.5, void)
    if paint:
        segment_map = torch.full_like(segment_map, void)
        for name, mask in zip(names, p >= 0.5):
            segment_map[mask] = name
    return segment_map


def map_with(**knobs):
    return lambda *args: _map(*args, **knobs)


def _first(x):
    """No object taken to be index 0; classes come back shifted as that reading has them."""
    scores, classes = scores_and_classes(x)
    return scores, torch.where(classes == 0, x.shape[1] - 1, classes - 1)


def _stuff_judged_by_class(x, m, things, score_threshold, overlap_threshold):
    """Pieces of one stuff class pass the overlap test together, or fail together."""
    scores, classes = scores_and_classes(x)
    kept = ((classes != x.shape[1] - 1) & (scores > score_threshold)).nonzero().flatten()
    segment_map, known, count = torch.zeros(m.shape[1:], dtype=torch.int32), {}, 0
    if len(kept) == 0:
        return segment_map
    own = m[kept].sigmoid() >= 0.5
    winner = (scores[kept, None, None] * m[kept].sigmoid()).argmax(0)
    for place, c in enumerate(classes[kept].tolist()):
        group = [place] if c in things else [i for i, k in enumerate(classes[kept].tolist()) if k == c]
        won = torch.isin(winner, torch.tensor(group))
        claimed = own[group].any(0)
        if c in known or not won.any() or not claimed.any() or won.sum() / claimed.sum() < overlap_threshold:
            continue
        count += 1
        segment_map[won] = count
        if c not in things:
            known[c] = count
    return segment_map


def _by_score(x, m, *rest):
    order = scores_and_classes(x)[0].argsort(descending=True)
    return _map(x[order], m[order], *rest)


_NO_TEST = "Step 3 drops a query that won too little of its own mask."
MAP_MISTAKES = (
    Mistake("queries that say no object take part", map_with(keep=lambda s, c, K, t: s > t),
            "A query may be very sure to see *nothing*: sure is not enough, its answer must be a class."),
    Mistake("no object crossed out, so every query has an object class",
            map_with(read=lambda x: x.softmax(-1)[:, :-1].max(-1), keep=lambda s, c, K, t: s > t),
            "First the most likely of all K + 1 answers. If that is \"no object\" the query is out, even where its "
            "second answer passes the threshold."),
    Mistake("no object dropped before the softmax",
            map_with(read=lambda x: x[:, :-1].softmax(-1).max(-1), keep=lambda s, c, K, t: s > t),
            "Renormalising turns \"probably nothing\" into a sure sheep. Softmax over all K + 1 answers."),
    Mistake("the score threshold the wrong way round", map_with(keep=lambda s, c, K, t: (c != K) & (s <= t)),
            "Kept are the queries *above* the threshold."),
    Mistake("no score threshold", map_with(keep=lambda s, c, K, t: c != K), "Step 1: p_i(c_i) > score_threshold."),
    Mistake("at least the score threshold instead of more", map_with(keep=lambda s, c, K, t: (c != K) & (s >= t)),
            "Kept is who is *more* sure than the threshold: exactly as sure is not enough."),
    Mistake("no object taken to be index 0", map_with(read=_first),
            "Here no object is the last index, K, and the classes count from 0.", INDEX),
    Mistake("the own mask taken as m > 0.5", map_with(test={"own": lambda s, m: m > 0.5}),
            "The own mask is m_i >= 0.5: a cell at one half belongs to it."),
    Mistake("stuff of one class put through the overlap test together", _stuff_judged_by_class,
            "Each query is tested by itself; pieces of stuff are joined afterwards."),
    Mistake("unsure queries removed after the competition", map_with(keep=lambda s, c, K, t: c != K,
                                                                     late=lambda s, c, K, t: s > t),
            "They must not win pixels from the others: remove them before the argmax."),
    Mistake("no-object queries removed after the competition", map_with(keep=lambda s, c, K, t: s > t,
                                                                        late=lambda s, c, K, t: c != K),
            "They must not win pixels from the others: remove them before the argmax."),
    Mistake("score times mask in the overlap test",
            map_with(test={"own": lambda s, m: s[:, None, None] * m >= 0.5}),
            "The own mask is m_i >= 0.5, whatever the score: with the product it looks smaller, and the filter "
            "becomes more lenient."),
    Mistake("no overlap test", map_with(turn=torch.ones_like), _NO_TEST),
    Mistake("no overlap test", map_with(test={"passes": lambda r, t: r >= 0}), _NO_TEST),
    Mistake("the overlap test the wrong way round", map_with(turn=torch.logical_not),
            "Dropped is what won *less* than the threshold."),
    Mistake("more than the overlap threshold instead of at least", map_with(test={"passes": lambda r, t: r > t}),
            "Dropped is what keeps *less* than the threshold: exactly 0.75 of the mask is enough for 0.75."),
    Mistake("queries with an empty own mask kept", map_with(test={"nonempty": lambda won, own: won.any(-1).any(-1)}),
            "A query whose mask reaches one half nowhere claims nothing. It is dropped, whatever it won."),
    Mistake("queries that won nothing numbered at threshold 0",
            map_with(test={"nonempty": lambda won, own: own.any(-1).any(-1)}),
            "Without a pixel there is no segment, not even at threshold 0: ids would have gaps."),
    Mistake("a ratio above 1 taken for a mistake, and dropped",
            map_with(test={"passes": lambda r, t: (r >= t) & (r <= 1)}),
            "It may exceed 1: pixels nobody else wants are won with a mask below one half."),
    Mistake("the IoU of won pixels and mask", map_with(test={"left": lambda won, own: (
        (won & own).flatten(1).sum(1) / (won | own).flatten(1).sum(1))}),
            "The test divides by the own mask only; extra pixels do not count against the query."),
    Mistake("only won pixels inside the own mask counted",
            map_with(test={"won": lambda won, own, m: won & own}),
            "A query keeps every pixel it won, even where its mask is below one half.",
            issue("facebookresearch/MaskFormer", 54)),
    Mistake("the pixels of a dropped segment given to the runner-up", map_with(runner_up=True),
            "They become void: the best answer for them has just been found too weak, and the second best is weaker."),
    Mistake("pixels where the winner's mask is below one half void", map_with(floor=True),
            "The largest score times mask wins the pixel, even where every mask is below one half."),
    Mistake("masks painted one after the other", map_with(paint=True),
            "Pixels go to the largest score times mask, not to the last query."),
    Mistake("the scores not used in the competition", map_with(weigh=lambda s, m: m),
            "Pixels go to the largest score times mask."),
    Mistake("stuff never merged", map_with(ids=ids_with(merges=lambda c, things, previous: False)),
            "Stuff of one class is one segment."),
    Mistake("things merged too", map_with(ids=ids_with(merges=lambda c, things, previous: True)),
            "Two sheep are two segments. Only stuff is merged."),
    Mistake("things merged and stuff not", map_with(ids=ids_with(merges=lambda c, things, previous: c in things)),
            "The other way round: `things` are the classes that are never merged."),
    Mistake("the counter is set back by a merge", map_with(ids=ids_with(step=lambda count, merged: merged)),
            "After a merge the counter must go on where it was, or two segments share an id.", COLLIDE),
    Mistake("a merge uses up a number", map_with(ids=ids_with(step=lambda count, merged: count + 1)),
            "A piece that joins an old segment is no new one: ids have no gaps."),
    Mistake("ids from 0", map_with(ids=ids_with(start=0)), "0 is void. The first segment is 1."),
    Mistake("dropped segments use up numbers", map_with(numbers=lambda kept, c, things: _ids(c, things)),
            "Count only the segments that stay: ids have no gaps."),
    Mistake("numbered from the surest query down", _by_score,
            "Number in query order. (Any order would be a panoptic map, but the check wants this one.)"),
    Mistake("the query number + 1 as id", map_with(numbers=lambda kept, c, things: [i + 1 for i in kept]),
            "Ids count the segments, and stuff of one class shares one."),
    Mistake("the class + 1 as id", map_with(numbers=lambda kept, c, things: [k + 1 for k in c]),
            "That is a semantic map: two sheep would be one segment."),
    Mistake("void as -1", map_with(void=-1), "Void is 0."),
    Mistake("the score threshold fixed at 0.8", lambda x, m, things, s, o: _map(x, m, things, 0.8, o),
            "Use score_threshold."),
    Mistake("the overlap threshold fixed at 0.8", lambda x, m, things, s, o: _map(x, m, things, s, 0.8),
            "Use overlap_threshold."),
    Mistake("both thresholds fixed at 0.8", lambda x, m, things, s, o: _map(x, m, things, 0.8, 0.8),
            "Use score_threshold and overlap_threshold."),
    Mistake("the two thresholds exchanged", lambda x, m, things, s, o: _map(x, m, things, o, s),
            "score_threshold is about the class, overlap_threshold about the mask."),
    Mistake("sigmoid applied twice", map_with(probs=lambda m: m.sigmoid().sigmoid()), "One sigmoid.", TINNUNCULUS),
    Mistake("mask logits taken for probabilities", map_with(probs=lambda m: m),
            "m_i is the sigmoid of the mask logits."),
)
