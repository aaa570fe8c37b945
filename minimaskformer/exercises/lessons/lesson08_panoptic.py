"""Lesson 08: fixtures of the panoptic rule's steps, and the ways people get them wrong."""
import torch

from ..core import Fixture, Mistake, issue

COLLIDE = issue("huggingface/transformers", 23461)


# --- the overlap test -----------------------------------------------------------------------------------------------

def _row(rest, *spans):
    """Mask probabilities of one query on a row of pixels: `rest`, and value on first ... last - 1 for each span."""
    mask = torch.full((2, 8), rest)
    for first, last, value in spans:
        mask.view(-1)[first:last] = value
    return mask


# Made so that every number the test could look at decides differently for some query: exactly 3/4 and 1/2 left, a mask
# with values between 0.5 and 0.5 / score, exactly 0.5, pixels won below 0.5, an empty own mask, nothing won at all.
_A = (torch.tensor([0.95, 0.85, 0.9, 0.99, 0.82, 0.88, 0.93]),
      torch.stack([_row(0.05, (0, 3, 0.9), (3, 4, 0.7)), _row(0.04, (3, 7, 0.95)),
                   _row(0.03, (7, 9, 0.9), (9, 11, 0.52)), _row(0.02, (9, 12, 0.8)),
                   _row(0.3, (12, 13, 0.9)), _row(0.01, (4, 5, 0.9), (6, 7, 0.6)),
                   _row(0.06, (14, 15, 0.45))]))
_B = (torch.tensor([0.9, 0.95, 0.85, 0.92, 0.83, 0.97]),
      torch.stack([_row(0.1, (0, 2, 0.9), (2, 4, 0.5)), _row(0.06, (2, 4, 0.8), (4, 6, 0.7)),
                   _row(0.05, (4, 6, 0.9), (6, 7, 0.6)), _row(0.02, (6, 9, 0.9), (9, 12, 0.55)),
                   _row(0.03, (9, 11, 0.9)), _row(0.07, (12, 13, 0.4))]))
_C = (torch.tensor([0.81, 0.96, 0.9, 0.87]),
      torch.stack([_row(0.02, (0, 6, 0.9)), _row(0.01, (0, 1, 0.9), (5, 6, 0.95), (10, 11, 0.9)),
                   _row(0.2, (8, 9, 0.7)), _row(0.05, (8, 9, 0.6))]))
_D = (torch.tensor([0.9, 0.95, 0.9, 0.85, 0.6]),
      torch.stack([_row(0.3, (0, 4, 0.9)), _row(0.02, (2, 6, 0.98)), _row(0.03, (6, 8, 0.9), (10, 12, 0.5)),
                   _row(0.04, (10, 13, 0.9), (13, 14, 0.8)), _row(0.05, (12, 14, 0.99))]))
# The first query is sure, and faintly present on the second's pixels: a sigmoid too many would give them to it. The
# third is exactly 0 outside its mask.
_E = (torch.tensor([0.95, 0.6, 0.9]),
      torch.stack([_row(0.02, (0, 6, 0.3), (6, 11, 0.9)), _row(0.01, (0, 6, 0.55)), _row(0.0, (11, 16, 0.9))]))
# The first query claims four pixels and would claim eight if 0.45 were enough; it wins only the four.
_F = (torch.tensor([0.9, 0.95, 0.8]),
      torch.stack([_row(0.02, (0, 4, 0.9), (4, 8, 0.45)), _row(0.05, (4, 8, 0.95), (8, 11, 0.9)),
                   _row(0.03, (12, 16, 0.9))]))
# The first keeps half of what it claims, but the surer half.
_G = (torch.tensor([0.95, 0.9]), torch.stack([_row(0.02, (0, 2, 0.95), (2, 4, 0.55)), _row(0.03, (2, 8, 0.9))]))
SURVIVE_FIXTURES = (
    Fixture("5 queries, threshold 0.6", (*_D, 0.6)), Fixture("7 queries, threshold 0.75", (*_A, 0.75)),
    Fixture("6 queries, threshold 0.5", (*_B, 0.5)), Fixture("4 queries, threshold 0", (*_C, 0.0)),
    Fixture("the second with threshold 0.9", (*_A, 0.9)), Fixture("3 queries, threshold 0.35", (*_E, 0.35)),
    Fixture("3 queries, one faint beside its mask, threshold 0.8", (*_F, 0.8)),
    Fixture("2 queries, threshold 0.6: half is left, the surer half", (*_G, 0.6)))


def _survive(s, m, t, won=None, own=lambda s, m: m >= 0.5, weigh=lambda s, m: s[:, None, None] * m,
             left=lambda won, own: won.flatten(1).sum(1) / own.flatten(1).sum(1).clamp(min=1e-9),
             passes=lambda ratio, t: ratio >= t, nonempty=lambda won, own: won.any(-1).any(-1) & own.any(-1).any(-1)):
    """The overlap test with knobs to get wrong."""
    winner = weigh(s, m).argmax(0)
    won_mask = winner == torch.arange(len(s))[:, None, None]  # [N, H, W]
    own_mask = own(s, m)
    won_mask = won_mask if won is None else won(won_mask, own_mask, m)
    return passes(left(won_mask, own_mask), t) & nonempty(won_mask, own_mask)


def survive_with(**knobs):
    return lambda s, m, t: _survive(s, m, t, **knobs)


def _greedy(scores, probs, t):
    """The surest first; what it covers is taken."""
    own, free, kept = probs >= 0.5, torch.ones(probs.shape[1:], dtype=torch.bool), torch.zeros(len(scores)).bool()
    for i in scores.argsort(descending=True):
        kept[i] = own[i].any() and (own[i] & free).sum() >= t * own[i].sum()
        free = free & ~own[i]
    return kept


def _soft(s, m, t):
    """Both areas weighed with the mask's probabilities."""
    won = (s[:, None, None] * m).argmax(0) == torch.arange(len(s))[:, None, None]  # [N, H, W]
    own = m >= 0.5
    left, claimed = ((m * part).flatten(1).sum(1) for part in (won, own))
    return won.any(-1).any(-1) & own.any(-1).any(-1) & (left / claimed.clamp(min=1e-9) >= t)


def _always(won, own):
    return torch.ones(len(won), dtype=torch.bool)


SURVIVE_MISTAKES = (
    Mistake("score times mask counted as the query's own area",
            survive_with(own=lambda s, m: s[:, None, None] * m >= 0.5),
            "The score decides who wins, but a query's own mask is m_i >= 0.5, whatever its score. Counting the "
            "product makes the own area smaller and the filter more lenient."),
    Mistake("more than the threshold instead of at least", survive_with(passes=lambda r, t: r > t),
            "Dropped is what keeps *less* than the threshold: exactly 0.75 of the mask is enough for 0.75."),
    Mistake("the mask taken as m > 0.5", survive_with(own=lambda s, m: m > 0.5), "The mask is m_i >= 0.5."),
    Mistake("only won pixels inside the own mask counted", survive_with(won=lambda won, own, m: won & own),
            "A query keeps every pixel it won, also those where its mask is below one half. So the ratio may pass 1."),
    Mistake("the ratio upside down", survive_with(left=lambda won, own: 1 / (
        won.flatten(1).sum(1).clamp(min=1e-9) / own.flatten(1).sum(1).clamp(min=1e-9))),
            "How much of the mask is *left*: pixels won / pixels of the mask."),
    Mistake("compared the wrong way: the dropped ones are True", lambda s, m, t: ~_survive(s, m, t),
            "True are the queries that stay."),
    Mistake("compared the wrong way: the dropped ones are True", survive_with(passes=lambda r, t: r < t),
            "True are the queries that stay."),
    Mistake("a sigmoid of what are probabilities already", lambda s, m, t: _survive(s, m.sigmoid(), t),
            "mask_probs are not logits. A second sigmoid lifts them all to one half or more."),
    Mistake("the mask taken as m > 0", survive_with(own=lambda s, m: m > 0),
            "That is for logits. For probabilities, the mask is m_i >= 0.5."),
    Mistake("the scores not used in the competition", survive_with(weigh=lambda s, m: m),
            "Pixels go to the largest score times mask."),
    Mistake("won pixels as a share of the picture",
            survive_with(left=lambda won, own: won.flatten(1).sum(1) / won[0].numel()),
            "Compare with the query's own mask, or every small object would be dropped."),
    Mistake("a ratio above 1 taken for a mistake, and dropped", survive_with(passes=lambda r, t: (r >= t) & (r <= 1)),
            "It may exceed 1: pixels nobody else wants are won with a mask below one half."),
    Mistake("queries with an empty own mask kept",
            survive_with(nonempty=lambda won, own: won.any(-1).any(-1)),
            "A query whose mask reaches one half nowhere claims nothing. It is dropped, at any threshold."),
    Mistake("queries that won nothing kept at threshold 0", survive_with(nonempty=lambda won, own: own.any(-1).any(-1)),
            "Without a pixel there is no segment, not even at threshold 0."),
    Mistake("empty ones kept at threshold 0", survive_with(nonempty=_always),
            "Without a pixel, or without a mask, there is no segment, not even at threshold 0."),
    Mistake("the own area as the sum of probabilities",
            survive_with(left=lambda won, own: won.flatten(1).sum(1) / own.flatten(1).sum(1), own=lambda s, m: m,
                         nonempty=lambda won, own: won.any(-1).any(-1) & (own >= 0.5).any(-1).any(-1)),
            "Count the pixels where the mask is at least one half."),
    Mistake("both areas as sums of probabilities", _soft,
            "Count pixels: those it won, and those where its mask is at least one half."),
    Mistake("the IoU of won pixels and mask",
            survive_with(left=lambda won, own: (won & own).flatten(1).sum(1) / (won | own).flatten(1).sum(1)),
            "The test divides by the own mask only; extra pixels do not count against the query."),
    Mistake("the threshold fixed at 0.8", lambda s, m, t: _survive(s, m, 0.8), "Use overlap_threshold."),
    Mistake("greedy: the surest query takes its whole mask first", _greedy,
            "That is non-maximum suppression's order. Here all compete at once, pixel by pixel: score times mask."),
    Mistake("pixels covered by another mask counted as lost, whoever won them",
            survive_with(won=lambda won, own, m: own & (own.sum(0) == 1)),
            "Where masks overlap, the larger score times mask wins the pixel; it is lost only for the others."),
)


# --- ids ------------------------------------------------------------------------------------------------------------

IDS_FIXTURES = (
    Fixture("two things, two pieces of stuff 3, more things", ([5, 3, 5, 3, 4, 3, 5, 1, 4], (4, 5))),
    Fixture("stuff twice in a row, stuff 0", ([0, 0, 2, 1, 0, 2, 2, 1, 3], (1, 2))),
    Fixture("only things", ([2, 1, 2], (1, 2))), Fixture("nobody survived", ([], (1, 2))))


def _ids(classes, things, merges=None, start=1, step=None, fresh=None):
    """segment_ids with knobs: merges(c, things, previous), step(count, id of the merge) after a merge."""
    merges = merges or (lambda c, things, previous: c not in things)
    ids, known, count = [], {}, start - 1
    for i, c in enumerate(classes):
        if c in known and merges(c, things, classes[i - 1]):
            ids.append(known[c])
            count = step(count, known[c]) if step else count
        else:
            count += 1
            known[c] = fresh(c, i) if fresh else count
            ids.append(known[c])
    return ids


def ids_with(**knobs):
    return lambda classes, things: _ids(classes, things, **knobs)


def _latest(classes, things):
    ids, count = [], 0
    for i, c in enumerate(classes):
        count += c in things or c not in classes[:i]
        ids.append(count)
    return ids


def _apart(classes, things):
    things_ids = iter(_ids([c for c in classes if c in things], things))
    stuff_ids = iter(_ids([c for c in classes if c not in things], things))
    return [next(things_ids if c in things else stuff_ids) for c in classes]


def _stuff_uncounted(classes, things):
    ids, known, count = [], {}, 0
    for c in classes:
        count += c in things
        ids.append(count if c in things else known.setdefault(c, count + 1))
    return ids


def _kind_first(first):
    """All things numbered before all stuff, or the other way round."""
    def wrong(classes, things):
        order = sorted(range(len(classes)), key=lambda i: (classes[i] in things) != first)
        ids = dict(zip(order, _ids([classes[i] for i in order], things)))
        return [ids[i] for i in range(len(classes))]
    return wrong


IDS_MISTAKES = (
    Mistake("the counter is set back by a merge", ids_with(step=lambda count, merged: merged),
            "After joining segment 2, the next thing becomes 3 again, which exists already. A merge must leave the "
            "counter alone.", COLLIDE),
    Mistake("stuff never merged", ids_with(merges=lambda c, things, previous: False),
            "Stuff of one class is one segment, in however many pieces."),
    Mistake("things merged too", ids_with(merges=lambda c, things, previous: True),
            "Two sheep are two segments. Only stuff is merged."),
    Mistake("things merged and stuff not", ids_with(merges=lambda c, things, previous: c in things),
            "The other way round: stuff has one segment per class."),
    Mistake("stuff merged only with the query just before it",
            ids_with(merges=lambda c, things, previous: c not in things and previous == c),
            "Other segments may lie between two pieces of grass: remember the id of each stuff class."),
    Mistake("all stuff in one segment",
            lambda classes, things: _ids([c if c in things else -1 for c in classes], things),
            "Sky and grass are two segments. Only pieces of one class are joined."),
    Mistake("the latest id for a merged piece", _latest,
            "It joins the segment of its own class: remember the id of each stuff class."),
    Mistake("a new piece of stuff not counted", _stuff_uncounted,
            "It is a segment like the others: the counter moves, or the next one gets the same id."),
    Mistake("things numbered first, then stuff", _kind_first(True), "In the order given, one counter for both."),
    Mistake("stuff numbered first, then things", _kind_first(False), "In the order given, one counter for both."),
    Mistake("ids from 0", ids_with(start=0), "0 is void. The first segment is 1."),
    Mistake("the place in the list as id", ids_with(fresh=lambda c, i: i + 1),
            "Ids count segments without gaps. A merged piece makes no new segment, so it uses no number."),
    Mistake("the class as id", lambda classes, things: list(classes), "Two sheep would have one id."),
    Mistake("class + 1 as id", lambda classes, things: [c + 1 for c in classes], "Two sheep would have one id."),
    Mistake("things and stuff counted apart", _apart,
            "Then a thing and a piece of stuff share an id. One counter for both."),
    Mistake("things counted, stuff with its class as id",
            lambda classes, things: [sum(d in things for d in classes[:i + 1]) if c in things else c
                                     for i, c in enumerate(classes)],
            "Then a thing and stuff may share an id. One counter for both."),
)
