"""The ways people get the targets of a fixed matching wrong."""
import torch

from ..core import Fixture, Mistake, issue
from .lesson02_masks import TINNUNCULUS


def _masks(*pictures):
    """Masks bool [T, H, W] from strings of rows: "xx. ..x"."""
    return torch.tensor([[[c == "x" for c in row] for row in picture.split()] for picture in pictures])


FIXED_FIXTURES = (
    Fixture("two sheep that overlap, K = 4, 5 queries",
            (torch.tensor([3, 1, 3]), _masks("xx.. xx..", "..xx ....", ".... .xx."), 5, 4)),
    Fixture("3 classes in another order, K = 5 = queries",
            (torch.tensor([4, 2, 0]), _masks("x.. x.. x..", ".xx .x. ...", "... ..x .xx"), 5, 5)),
    Fixture("three of one class, K = 3, 4 queries",
            (torch.tensor([1, 1, 0, 1]), _masks("xxx.. .....", "..xxx .....", "..... x....", "..... .xxxx"), 4, 3)),
    Fixture("2 classes of 3, 6 queries", (torch.tensor([2, 0]), _masks("xx. ...", "... .xx"), 6, 3)),
    Fixture("nothing but void, 4 queries", (torch.zeros(0, dtype=torch.int64), torch.zeros(0, 2, 3).bool(), 4, 3)))


def fixed_with(place=lambda labels: labels, merge=lambda old, new: old | new, absent=None, empty=False, name=None):
    """The targets of every query with knobs to get wrong."""
    def targets(labels, masks, num_queries, num_classes):
        nobody = num_classes if absent is None else absent(num_queries, num_classes)
        classes = torch.full((num_queries,), nobody)
        out = torch.zeros(num_queries, *masks.shape[1:], dtype=torch.int64)
        taken = set()
        for query, label, mask in zip(place(labels).tolist(), labels.tolist(), masks.long()):
            out[query] = merge(out[query], mask) if query in taken else mask
            classes[query] = label if name is None else name(query, label)
            taken.add(query)
        for query in set(range(num_queries)) - taken:
            out[query] = int(empty)
        return classes, out
    return targets


def _first(labels, masks, num_queries, num_classes):
    keep = torch.tensor([label not in labels[:j].tolist() for j, label in enumerate(labels.tolist())], dtype=torch.bool)
    return fixed_with()(labels[keep], masks[keep], num_queries, num_classes)


def _in_order_of_appearance(labels):
    order = list(dict.fromkeys(labels.tolist()))
    return torch.tensor([order.index(label) for label in labels.tolist()])


def _numbers(labels, masks, num_queries, num_classes):
    """Every query has the class of its own number, whether it is there or not."""
    out = fixed_with()(labels, masks, num_queries, num_classes)[1]
    return torch.arange(num_queries).clamp(max=num_classes), out


FIXED_MISTAKES = (
    Mistake("only the last instance of a class", fixed_with(merge=lambda old, new: new),
            "`masks[label] = mask` forgets the instance before. Query k has to draw all of class k: the union."),
    Mistake("only the first instance of a class", _first,
            "Query k has to draw all of class k: the union of its instances."),
    Mistake("the sum of the masks instead of the union", fixed_with(merge=lambda old, new: old + new),
            "Where two instances overlap the sum is 2, and a mask is 0 or 1. Use |, or any(0)."),
    Mistake("the overlap of the masks instead of the union", fixed_with(merge=lambda old, new: old & new),
            "& keeps what all instances share, | what any of them has."),
    Mistake("pixels in two instances left out", fixed_with(merge=lambda old, new: old ^ new),
            "A pixel covered twice is covered: | and not ^."),
    Mistake("query j for target j", fixed_with(place=lambda labels: torch.arange(len(labels))),
            "The place in the list means nothing: the label says which query answers."),
    Mistake("the k-th class that occurs to query k",
            fixed_with(place=lambda labels: labels.unique(return_inverse=True)[1]),
            "Fixed means fixed over all images: class 3 goes to query 3 even if classes 0 and 2 are not there."),
    Mistake("query k for the k-th class of the list", fixed_with(place=_in_order_of_appearance),
            "The order of the list means nothing: the label says which query answers."),
    Mistake("shifted by one query", fixed_with(place=lambda labels: labels + 1),
            "Class k goes to query k; no query is kept for no-object.", TINNUNCULUS),
    Mistake("no-object is class 0", fixed_with(absent=lambda n, k: 0),
            "0 is a real class. No-object is index K, the last column.", issue("facebookresearch/MaskFormer", 13)),
    Mistake("no-object is the number of queries", fixed_with(absent=lambda n, k: n),
            "The class head has K+1 columns, and no-object is the last of them: index K."),
    Mistake("no-object is -1", fixed_with(absent=lambda n, k: -1), "No-object has an index, K: a class to learn."),
    Mistake("no-object is K - 1", fixed_with(absent=lambda n, k: k - 1), "Classes are 0 ... K-1; no-object is K."),
    Mistake("absent classes keep their number", _numbers,
            "A query whose class is not in the image must say 'no object': that is what tells present from absent."),
    Mistake("absent classes keep their number", lambda *a: (torch.arange(a[2]), fixed_with()(*a)[1]),
            "A query whose class is not in the image must say 'no object', and so must every query from K on."),
    Mistake("full masks for absent classes", fixed_with(empty=True),
            "Nothing is to be drawn where the class is not: an empty mask."),
    Mistake("present queries all get class 0", fixed_with(name=lambda query, label: 0),
            "Query k learns to say class k."),
)
