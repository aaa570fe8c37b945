"""Exercises of lesson 02, Hungarian matching: the three costs, the assignment, and reading a match."""
import torch
import torch.nn.functional as F

from ...matching import dice_cost, focal_cost
from ..core import Exercise, Fixture, Mistake, Remark, issue
from .lesson02_assignment import assign_exercise, match_of, order_exercise
from .lesson02_masks import DICE_MISTAKES, FOCAL_FIXTURES, FOCAL_MISTAKES, MASK_FIXTURES, TINNUNCULUS, TRANSPOSED

TITLE = "Hungarian matching"


# --- 02.1 the class cost --------------------------------------------------------------------------------------------

def class_cost(class_logits, labels):
    class_probs = class_logits.softmax(-1)  # [N, K+1]: no-object takes its share
    return -class_probs[:, labels]  # [N, T]


CLASS_LOGITS = torch.tensor([[2.0, 0.5, -1.0, 0.3], [-0.5, 1.5, 0.8, 2.2], [0.1, -1.2, 2.4, -0.7],
                             [1.1, 0.9, -0.3, 1.6]])  # 4 queries, 3 classes + no-object
class_exercise = Exercise(
    id="02.1", title="the class cost", name="class_cost", reference=class_cost,
    fixtures=(
        Fixture("4 queries, 3 targets, two of one class", (CLASS_LOGITS, torch.tensor([2, 0, 2]))),
        Fixture("more targets than queries", (CLASS_LOGITS[:2].flip(1), torch.tensor([1, 2, 0]))),
        Fixture("no target", (CLASS_LOGITS, torch.zeros(0, dtype=torch.int64)))),
    mistakes=(
        Mistake("the probability of the query's own answer, for every target",
                lambda x, c: -x.softmax(-1).amax(-1, keepdim=True).expand(-1, len(c)),
                "Being sure of a duck is no reason to get the sheep: column j needs the probability of target j's "
                "class."),
        Mistake("-log p, as in the loss, instead of -p", lambda x, c: -x.log_softmax(-1)[:, c],
                "The loss uses -log p, the matching cost -p: it stays between -1 and 0, the scale of the mask terms.",
                issue("facebookresearch/detr", 390)),
        Mistake("+p instead of -p", lambda x, c: x.softmax(-1)[:, c],
                "A cost must fall when the prediction gets better."),
        Mistake("1 - p instead of -p", lambda x, c: 1 - x.softmax(-1)[:, c],
                "It gives the same match, since every assignment pays the same extra; the cost here leaves the 1 out."),
        Mistake("a softmax over the queries instead of the classes", lambda x, c: -x.softmax(0)[:, c],
                "Each query has its own distribution: the probabilities of one row add up to 1."),
        Mistake("the no-object column dropped before the softmax", lambda x, c: -x[:, :-1].softmax(-1)[:, c],
                "A query that is sure to see nothing would look sure of some class. Softmax first, then pick columns.",
                issue("open-mmlab/mmdetection", 8753)),
        Mistake("a sigmoid instead of the softmax", lambda x, c: -x.sigmoid()[:, c],
                "Classes exclude each other, so they share one softmax; the sigmoid is for the masks."),
        Mistake("softmax applied twice", lambda x, c: -x.softmax(-1).softmax(-1)[:, c],
                "The arguments are logits. If a layer had already applied softmax, this one would flatten it.",
                TINNUNCULUS),
        Mistake("logits instead of probabilities", lambda x, c: -x[:, c], "Apply the softmax over the K + 1 classes."),
        Mistake("every label moved up by one, as if no-object were index 0", lambda x, c: -x.softmax(-1)[:, c + 1],
                "Here classes are 0 ... K-1 and no-object is the last column, K.", TINNUNCULUS),
        Mistake("every label moved down by one", lambda x, c: -x.softmax(-1)[:, c - 1],
                "Labels start at 0 here; label 0 would read the last column, no-object.",
                issue("fundamentalvision/Deformable-DETR", 102)),
        Mistake("all columns instead of the targets' classes", lambda x, c: -x.softmax(-1),
                "Column j of the result belongs to target j: pick the column of its class."),
        Mistake(TRANSPOSED, lambda x, c: -x.softmax(-1)[:, c].T,
                "The cost is [N, T]: a row per query.", issue("Visual-Behavior/detr-tensorflow", 14))),
    hints=("Which number says how much query i believes in the class of target j? Should a high one cost much?",
           "Softmax along the last axis, no-object included. Then index the columns with all labels at once.",
           "cost[i, j] = -softmax(class_logits[i])[labels[j]]"),
    why="-p lies between -1 and 0 like the other terms; -log p could be arbitrarily large and would drown the masks. "
        "The softmax includes no-object, so a query that expects nothing is no bargain for any target.",
    remarks=(Remark((torch.tensor([[200.0, 0.0, -200.0]]), torch.tensor([0, 1])),
                    "with a logit of 200 yours is not finite. torch's softmax first subtracts the largest logit."),))


# --- 02.2, 02.3 the mask costs --------------------------------------------------------------------------------------

dice_exercise = Exercise(
    id="02.2", title="the dice cost", name="dice_cost", reference=dice_cost, fixtures=MASK_FIXTURES,
    mistakes=DICE_MISTAKES,
    hints=("Three sums over pixels are enough for a pair. Which, and which of them needs both masks?",
           "The overlaps of all pairs are one matrix product [N, P] @ [P, T]; the areas are a column and a row to add.",
           "1 - (2 sum_p m_i y_j + 1) / (sum_p m_i + sum_p y_j + 1), all sums over valid pixels, m = sigmoid(logits)"),
    why="A matrix product computes all N x T overlaps without a loop over pairs, and the areas broadcast. "
        "Void pixels drop out by zeroing them in both masks before any sum.")

focal_exercise = Exercise(
    id="02.3", title="the focal cost", name="focal_cost", reference=focal_cost, fixtures=FOCAL_FIXTURES,
    mistakes=FOCAL_MISTAKES,
    hints=("A pixel costs one thing if the target covers it, another if not. Do these two depend on the target?",
           "Compute both for every query, [N, P] each. positive @ masks.T sums the first over each target's pixels.",
           "positive = alpha (1 - p)^gamma softplus(-x), negative = (1 - alpha) p^gamma softplus(x); "
           "(positive @ y.T + negative @ (1 - y).T) / number of valid pixels, both times valid "
           "(softplus(-x) = -log sigmoid(x))"),
    why="Each pixel's cost has one of only two values, so the sums over pixels are two matrix products, without an "
        "[N, T, P] array. softplus(-x) is -log sigmoid(x) and cannot overflow.",
    remarks=(Remark((torch.tensor([[120.0, -120.0]]), torch.tensor([[0.0, 1.0]]), torch.ones(1, 2), 0.25, 2.0),
                    "with logits of +-120 yours is not finite: sigmoid rounds to 1, and log(0) follows. F.softplus "
                    "stays finite."),))


# --- 02.6 what each query should learn ------------------------------------------------------------------------------

def query_classes(labels, queries, targets, num_queries, num_classes):
    classes = torch.full((num_queries,), num_classes, dtype=torch.int64)  # [N], all no-object
    classes[queries] = labels[targets]
    return classes


def _classes(labels, queries, targets, num_queries, fill):
    classes = torch.full((num_queries,), fill, dtype=torch.int64)
    classes[queries] = labels[targets]
    return classes


def _fill(num_queries, num_classes, queries, labels):
    classes = torch.full((num_queries,), num_classes, dtype=torch.int64)
    classes[queries] = labels
    return classes


_ORDER = ("the labels in the targets' order, not the match's",
          "queries[k] belongs to targets[k]: its class is labels[targets[k]].")
classes_exercise = Exercise(
    id="02.6", title="the class each query should learn", name="query_classes", reference=query_classes,
    fixtures=(
        Fixture("5 queries, 3 targets", (torch.tensor([3, 0, 2]), *match_of([0, 3, 4], [1, 2, 0]), 5, 4)),
        Fixture("every query matched", (torch.tensor([1, 0, 2, 1]), *match_of([0, 1, 2, 3], [2, 0, 3, 1]), 4, 3)),
        Fixture("more targets than queries", (torch.tensor([0, 2, 1, 4, 3]), *match_of([0, 1, 2], [4, 0, 2]), 3, 5)),
        Fixture("no target", (torch.zeros(0, dtype=torch.int64), *match_of([], []), 4, 6)),
        Fixture("the last classes do not occur", (torch.tensor([1, 0]), *match_of([2, 3], [1, 0]), 5, 7))),
    mistakes=(
        Mistake("no-object at index 0", lambda c, q, t, n, k: _classes(c, q, t, n, 0),
                "Index 0 is a real class here; no-object is the last one, K.", TINNUNCULUS),
        Mistake("no-object at index 0 and all classes moved up by one",
                lambda c, q, t, n, k: _classes(c + 1, q, t, n, 0),
                "That convention exists elsewhere. Here classes are 0 ... K-1 and no-object is K.",
                issue("facebookresearch/detr", 356)),
        Mistake("K taken from the largest label",
                lambda c, q, t, n, k: _classes(c, q, t, n, int(c.max()) + 1 if len(c) else k),
                "An image without the last class would have another no-object. Use num_classes."),
        Mistake("all classes moved up by one", lambda c, q, t, n, k: _classes(c + 1, q, t, n, k),
                "Classes are 0 ... K-1 already; only no-object is new, at K."),
        Mistake("no-object at index K - 1", lambda c, q, t, n, k: _classes(c, q, t, n, k - 1),
                "K - 1 is the last real class; the logits have K + 1 columns.", issue("facebookresearch/detr", 32)),
        Mistake("-1 for the unmatched", lambda c, q, t, n, k: _classes(c, q, t, n, -1),
                "Cross-entropy needs a class, and unmatched queries do have one: no-object, K."),
        Mistake("the unmatched ignored (-100)", lambda c, q, t, n, k: _classes(c, q, t, n, -100),
                "If they learnt nothing, nothing would stop duplicates. They learn no-object, K.",
                issue("facebookresearch/detr", 365)),
        Mistake(_ORDER[0], lambda c, q, t, n, k: _fill(n, k, q, c), _ORDER[1], TINNUNCULUS),
        Mistake(_ORDER[0], lambda c, q, t, n, k: _fill(n, k, q, c[:len(q)]), _ORDER[1], TINNUNCULUS),
        Mistake("the labels put into the first queries", lambda c, q, t, n, k: _fill(n, k, slice(len(c)), c),
                "Query 0 has no claim to target 0: put labels[targets] at the places `queries`."),
        Mistake("the inverse permutation", lambda c, q, t, n, k: _fill(n, k, q, c[t.argsort()]),
                "targets[k] is the target of queries[k] already; no inverse is needed here."),
        Mistake("queries[targets] as the place", lambda c, q, t, n, k: _fill(n, k, q[t], c),
                "queries[targets] pairs queries with the wrong targets; see exercise 02.5.", TINNUNCULUS),
        Mistake("no-object at index K + 1", lambda c, q, t, n, k: _classes(c, q, t, n, k + 1),
                "K classes have the indices 0 ... K-1, so no-object is K: num_classes itself, without + 1."),
        Mistake("no-object at 11, whatever num_classes is", lambda c, q, t, n, k: _classes(c, q, t, n, 11),
                "11 is right for Lakeland, which has 11 classes. Use num_classes."),
        Mistake("the target's index as its class", lambda c, q, t, n, k: _fill(n, k, q, t),
                "targets[k] says which target, not what it is. Its class is labels[targets[k]]."),
        Mistake("one-hot rows instead of class indices",
                lambda c, q, t, n, k: F.one_hot(query_classes(c, q, t, n, k), k + 1),
                "F.cross_entropy takes class indices, int64 [N].")),
    hints=("Most queries have no target. Which class do they learn?",
           "Start from a vector full of no-object, then write the matched ones: queries index the left side, targets "
           "the right.",
           "classes = torch.full((N,), K); classes[queries] = labels[targets]"),
    why="Unmatched queries learn no-object: that is what stops two queries from claiming one sheep. The loss gives "
        "them weight 0.1, because they are many (lesson 04).")


EXERCISES = [class_exercise, dice_exercise, focal_exercise, assign_exercise, order_exercise, classes_exercise]
