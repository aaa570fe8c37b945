"""Exercises of lesson 00, start here: reading what the model gives, before knowing how it works."""
import torch
from scipy import ndimage

from ...targets import panoptic_to_semantic
from ..core import Exercise, Fixture, Mistake, issue
from .lesson00_pixels import query_exercise

TITLE = "Start here"


def _segments(*rows):
    """segments_info from rows (id, category_id, isthing, area)."""
    return [{"id": i, "category_id": c, "isthing": thing, "score": 0.9, "area": area} for i, c, thing, area in rows]


# Segment 4 lies in two pieces, segments 2 and 5 touch, and no list is in the order of its ids.
MAP = torch.tensor([[1, 1, 1, 1, 1, 1, 1, 1],
                    [1, 4, 3, 4, 1, 2, 2, 0],
                    [3, 4, 3, 4, 3, 2, 5, 5],
                    [3, 3, 3, 3, 3, 5, 5, 5]], dtype=torch.int32)
INFO = _segments((4, 2, True, 4), (1, 0, False, 10), (5, 2, True, 5), (3, 3, False, 9), (2, 2, True, 3))
GAPS = torch.tensor([[7, 7, 7, 12, 12, 0],
                     [7, 3, 3, 12, 9, 9],
                     [7, 3, 3, 3, 9, 12],
                     [0, 3, 7, 7, 12, 12]], dtype=torch.int32)
GAPS_INFO = _segments((9, 7, True, 3), (3, 1, False, 6), (12, 5, True, 6), (7, 3, False, 7))


# --- 00.1 counting --------------------------------------------------------------------------------------------------

def count(segment_map, segments_info, category):
    return sum(s["category_id"] == category for s in segments_info)


def _regions(segment_map, segments_info, category):
    mask = sum(segment_map == s["id"] for s in segments_info if s["category_id"] == category)
    return ndimage.label(mask)[1] if isinstance(mask, torch.Tensor) else 0


count_exercise = Exercise(
    id="00.1", title="count the sheep", name="count", reference=count,
    fixtures=(
        Fixture("three of the class, two of them touching, one in two pieces", (MAP, INFO, 2)),
        Fixture("one of the class, in two pieces", (GAPS, GAPS_INFO, 5)),
        Fixture("stuff, in two pieces", (GAPS, GAPS_INFO, 3)),
        Fixture("none of the class", (MAP, INFO, 1)),
        Fixture("no segment at all", (0 * MAP, [], 0))),
    mistakes=(
        Mistake("the connected regions of the class counted", _regions,
                "Two sheep that touch are one region, a sheep behind a tree is two. The segments know better."),
        Mistake("all segments counted", lambda m, s, c: len(s), "Count only the entries of that class."),
        Mistake("all things counted", lambda m, s, c: sum(t["isthing"] for t in s),
                "Houses and ducks are things too. Count only the entries of that class."),
        Mistake("the pixels counted instead of the segments",
                lambda m, s, c: sum(t["area"] for t in s if t["category_id"] == c),
                "`area` is a number of pixels. One entry is one segment, however large."),
        Mistake("the class compared with the segment's id", lambda m, s, c: sum(t["id"] == c for t in s),
                "`id` only says which pixels are meant. The class is under `category_id`."),
        Mistake("the pixels of the map that hold the class number", lambda m, s, c: int((m == c).sum()),
                "The map holds segment ids, not classes; which id has which class is in segments_info."),
        Mistake("every class moved up by one", lambda m, s, c: sum(t["category_id"] == c + 1 for t in s),
                "Class indices start at 0 here, and `category` is such an index already.",
                issue("fundamentalvision/Deformable-DETR", 102)),
        Mistake("only whether there is one", lambda m, s, c: int(any(t["category_id"] == c for t in s)),
                "A semantic map can say no more than that. A panoptic result can: count the entries.")),
    hints=("One entry of segments_info is one segment. Do you need the map at all?",
           "Each entry is a dictionary; its `category_id` is the class index. How many entries have the one asked for?",
           "sum(s[\"category_id\"] == category for s in segments_info)"),
    why="The model has already decided which pixels belong together: one query, one thing, one entry. Looking for "
        "connected regions in the map undoes that, wherever two sheep touch or a tree hides the middle of one.")


# --- 00.2 no object -------------------------------------------------------------------------------------------------

def says_no_object(class_logits):
    return class_logits.argmax(-1) == class_logits.shape[-1] - 1  # [N, K+1] -> [N]


NO_LOGITS = torch.tensor([[0.2, 1.9, -0.4, 0.7], [1.3, 0.6, 0.8, 1.4], [2.4, -0.3, 0.5, 1.2],
                          [-1.0, 0.3, 1.2, -0.6], [0.6, 0.4, -0.5, -0.2], [-2.2, -2.6, -3.0, -0.4]])
NO_LOGITS_2 = torch.tensor([[1.5, -0.2, 1.1], [-0.8, 0.1, 2.3], [0.4, 1.4, -0.9], [-1.3, -0.7, -0.6], [0.3, 0.2, 0.1]])
no_object_exercise = Exercise(
    id="00.2", title="who says no object", name="says_no_object", reference=says_no_object,
    fixtures=(
        Fixture("6 queries, 3 classes and no object", (NO_LOGITS,)),
        Fixture("5 queries, 2 classes and no object", (NO_LOGITS_2,))),
    mistakes=(
        Mistake("no object at index 0", lambda x: x.argmax(-1) == 0,
                "Index 0 is a real class here. No object comes after all classes, at index K.",
                issue("facebookresearch/detr", 356)),
        Mistake("no object at index K - 1", lambda x: x.argmax(-1) == x.shape[-1] - 2,
                "With K classes the real ones are 0 ... K-1, so a row has K + 1 numbers and no object is index K.",
                issue("facebookresearch/detr", 32)),
        Mistake("compared with an index that argmax never gives here (-1, K + 1, or Lakeland's 11)",
                lambda x: x.argmax(-1) == -1,
                "argmax of K + 1 numbers is one of 0 ... K, and no object is K. -1 means the last only when indexing."),
        Mistake("unsure queries (largest probability below 0.5)", lambda x: x.softmax(-1).max(-1).values < 0.5,
                "Being unsure which class is not the same as saying there is nothing. No object is an answer of its "
                "own."),
        Mistake("queries less than 0.8 sure", lambda x: x.softmax(-1).max(-1).values < 0.8,
                "That is the panoptic rule's filter. A query that is 0.9 sure to see nothing does say no object."),
        Mistake("no object only where its probability is above 0.5", lambda x: x.softmax(-1)[:, -1] > 0.5,
                "It need not reach one half, only be larger than each of the others."),
        Mistake("no object where its logit is above 0", lambda x: x[:, -1] > 0,
                "A logit means nothing by itself. Compare it with the others of its row."),
        Mistake("the queries that do see an object", lambda x: x.argmax(-1) != x.shape[-1] - 1,
                "That is the opposite: True should mean no object."),
        Mistake("the numbers of the queries instead of True or False for each",
                lambda x: (x.argmax(-1) == x.shape[-1] - 1).nonzero().flatten(),
                "The answer has one entry per query: leave out the nonzero."),
        Mistake("how many, not which", lambda x: (x.argmax(-1) == x.shape[-1] - 1).sum(),
                "The answer has one entry per query: leave out the sum."),
        Mistake("a softmax over the queries before the comparison",
                lambda x: x.softmax(0).argmax(-1) == x.shape[-1] - 1,
                "Each query has its own distribution: compare within a row, along the last axis.")),
    hints=("A query's most likely answer is one of K + 1. Which of these is \"no object\"?",
           "argmax along the last axis gives each query's answer. What is the index of the last column?",
           "class_logits.argmax(-1) == class_logits.shape[-1] - 1"),
    why="No object is an answer like any other, at index K, the last. It wins by being the largest of its row. The "
        "softmax does not change which one is largest, so logits are enough.")


# --- 00.3 from panoptic to semantic ---------------------------------------------------------------------------------

def _in_place(segment_map, segments_info, ignore, void=True):
    """Relabelling a copy while reading from it: a class already written may be taken for the id of a later segment."""
    out = segment_map.long()
    if void:
        out[out == 0] = ignore
    for s in segments_info:
        out[out == s["id"]] = s["category_id"]
    return out


def _in_place_void_last(segment_map, segments_info, ignore):
    out = _in_place(segment_map, segments_info, ignore, void=False)
    out[out == 0] = ignore
    return out


def _semantic(segment_map, segments_info, ignore, shift=0, keep=lambda s: True):
    out = torch.full(segment_map.shape, ignore)
    for s in segments_info:
        if keep(s):
            out[segment_map == s["id"]] = s["category_id"] + shift
    return out


def _zero_means_void(segment_map, segments_info, ignore):
    out = _semantic(segment_map, segments_info, 0)
    out[out == 0] = ignore
    return out


_RELABELLED = ("a map changed while it is being read",
               "A class you wrote may equal the id of a later segment, and is then changed again. Read from the old "
               "map, write into a new one.")
_VOID = "Pixels with id 0 belong to no segment: give them `ignore`."
semantic_exercise = Exercise(
    id="00.3", title="from panoptic to semantic", name="panoptic_to_semantic", reference=panoptic_to_semantic,
    fixtures=(
        Fixture("5 segments, a void pixel", (MAP, INFO, 255)),
        Fixture("ids with gaps, void in two corners", (GAPS, GAPS_INFO, 255)),
        Fixture("the same with ignore = -1", (GAPS, GAPS_INFO, -1)),
        Fixture("no segment at all", (0 * MAP, [], 100))),
    mistakes=(
        Mistake("the segment ids as they are", lambda m, s, i: m.long(),
                "An id says which segment a pixel belongs to, nothing about its class.",
                issue("lojzezust/lars_evaluator", 1)),
        Mistake("void left at 0", lambda m, s, i: _semantic(m, s, 0), f"0 is a class, the first one. {_VOID}"),
        Mistake("void always at 255", lambda m, s, i: _semantic(m, s, 255), f"255 is only the usual value. {_VOID}"),
        Mistake("void always at -1", lambda m, s, i: _semantic(m, s, -1), _VOID),
        Mistake("every 0 of the result turned into `ignore`", _zero_means_void,
                "Class 0 is lost that way. Void is where the *segment map* is 0: fill the new map with `ignore`."),
        Mistake("segments_info[id - 1]: the id taken as a place in the list",
                lambda m, s, i: torch.tensor([t["category_id"] for t in s])[(m.long() - 1) % len(s)],
                "Ids need not be 1, 2, 3 in the order of the list. Look at each entry's own `id`."),
        Mistake(_RELABELLED[0], lambda m, s, i: _in_place(m, s, i, void=False), _RELABELLED[1]),
        Mistake(_RELABELLED[0], _in_place, _RELABELLED[1]),
        Mistake(_RELABELLED[0], _in_place_void_last, f"{_RELABELLED[1]} Class 0 was lost as well."),
        Mistake("every class moved up by one", lambda m, s, i: _semantic(m, s, i, shift=1),
                "`category_id` is a class index from 0 already: write it as it is.",
                issue("fundamentalvision/Deformable-DETR", 102)),
        Mistake("only the things written", lambda m, s, i: _semantic(m, s, i, keep=lambda t: t["isthing"]),
                "Sky and grass are segments too: use every entry."),
        Mistake("only the stuff written", lambda m, s, i: _semantic(m, s, i, keep=lambda t: not t["isthing"]),
                "Sheep and houses are segments too: use every entry.")),
    hints=("Each pixel knows its segment, each segment its class. What about pixels of no segment?",
           "Start from a new map full of `ignore`, then write one segment after the other.",
           "label_map[segment_map == s[\"id\"]] = s[\"category_id\"] for each s in segments_info"),
    why="A panoptic result contains the semantic map: forget who is who, keep what is what. The other way round is "
        "impossible. (The library also leaves crowds out; those occur in the truth, never in a prediction.)")


EXERCISES = [count_exercise, no_object_exercise, semantic_exercise, query_exercise]
