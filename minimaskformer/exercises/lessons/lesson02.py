"""Exercises of lesson 02, Hungarian matching: the three costs, the assignment, and reading a match."""
import itertools

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment

from ...matching import assign, dice_cost, focal_cost
from ..core import Exercise, Fixture, Mistake, Remark, issue
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
           "(positive @ y.T + negative @ (1 - y).T) / number of valid pixels, both times valid"),
    why="Each pixel's cost has one of only two values, so the sums over pixels are two matrix products, without an "
        "[N, T, P] array. softplus(-x) is -log sigmoid(x) and cannot overflow.",
    remarks=(Remark((torch.tensor([[120.0, -120.0]]), torch.tensor([[0.0, 1.0]]), torch.ones(1, 2), 0.25, 2.0),
                    "with logits of +-120 yours is not finite: sigmoid rounds to 1, and log(0) follows. F.softplus "
                    "stays finite."),))


# --- 02.4 the assignment --------------------------------------------------------------------------------------------

# On this matrix every known wrong way gives another answer. A small or symmetric one hides most of them.
COST = torch.tensor([[0.88, 0.09, 0.71], [0.79, 0.80, 0.32], [0.80, 0.23, 0.36], [0.42, 0.54, 0.11],
                     [0.41, 0.00, 0.74]])
COST_NEGATIVE = torch.tensor([[-0.9, 1.3, -0.8, 0.6], [-1.0, -0.2, 0.9, 1.1], [-0.7, 1.4, 0.3, -0.5],
                              [0.2, -0.6, -1.2, 0.8]])


COST_MANY = torch.tensor([[0.5, -1.0, 1.7, 0.0], [-0.2, 1.7, 0.4, -1.1], [-0.9, 1.0, 1.0, 1.2], [-0.6, -0.7, 1.7, 1.0]])

COST_SPREAD = torch.tensor([[-1.3, -0.4, -2.1], [0.5, 0.9, -1.8], [0.8, 3.7, 0.1], [0.9, 1.6, 0.4]])


def _pairs(queries, targets):
    return torch.as_tensor(queries, dtype=torch.int64), torch.as_tensor(targets, dtype=torch.int64)


def _in_order(cost):
    n = min(cost.shape)
    return _pairs(range(n), range(n))


def _greedy(cost):
    """Always the cheapest free pair next."""
    cost, pairs = cost.clone(), []
    for _ in range(min(cost.shape)):
        i, j = divmod(int(cost.argmin()), cost.shape[1])
        pairs.append((i, j))
        cost[i], cost[:, j] = torch.inf, torch.inf
    return _pairs(*zip(*pairs)) if pairs else _pairs([], [])


def _target_by_target(cost):
    """Each target in turn takes its cheapest free query."""
    cost, queries = cost.clone(), []
    for j in range(min(cost.shape)):
        queries.append(int(cost[:, j].argmin()))
        cost[queries[-1]] = torch.inf
    return _pairs(queries, range(len(queries)))


def _query_by_query(cost):
    """Each query in turn takes its cheapest free target."""
    queries, targets = _target_by_target(cost.T)[::-1]
    return queries, targets


def _smallest_largest(cost):
    """The way whose dearest pair is cheapest; of these, the one of the smallest sum."""
    n, t = cost.shape
    if n < t:
        return _smallest_largest(cost.T)[::-1]
    ways = [_pairs(way, range(t)) for way in itertools.permutations(range(n), t)]
    return min(ways, key=lambda way: (float(cost[way].max()) if t else 0.0, float(cost[way].sum())))


def _tinnunculus(cost):
    queries, targets = assign(cost)
    return queries[targets], targets


_MIXED = ("queries[targets]: indices used twice",
          "Both vectors list the same pairs, position by position; indexing one with the other mixes pairs.",
          TINNUNCULUS)


def _inverse(cost):
    queries, targets = assign(cost)
    return queries, targets.argsort()


def _by_query(arrays):
    """The pairs of a match in one order: a match is a set."""
    if arrays[0].ndim == 1 and arrays[0].shape == arrays[1].shape:
        order = np.lexsort((arrays[1], arrays[0]))
        return [a[order] for a in arrays]
    return arrays


assign_exercise = Exercise(
    id="02.4", title="the assignment", name="assign", reference=assign, parts=("queries", "targets"),
    canonical=_by_query,
    fixtures=(
        Fixture("5 queries, 3 targets", (COST,)),
        Fixture("4 queries, 4 targets, negative costs", (COST_NEGATIVE,)),
        Fixture("4 queries, 4 targets", (COST_MANY,)),
        Fixture("4 queries, 3 targets, costs far apart", (COST_SPREAD,)),
        Fixture("more targets than queries", (COST.T.flip(0).contiguous(),)),
        Fixture("one target", (COST[:, 2:].contiguous(),)),
        Fixture("no target", (COST[:, :0],))),
    mistakes=(
        Mistake("query 0 with target 0, query 1 with target 1, ...", _in_order,
                "The order of the queries means nothing; the costs decide."),
        Mistake("each query takes its cheapest target", lambda c: _pairs(range(len(c)), c.argmin(1)),
                "Then one target has several queries and another none. A target is given away once."),
        Mistake("each target takes its cheapest query", lambda c: _pairs(c.argmin(0), range(c.shape[1])),
                "Two targets may want the same query; it can serve only one."),
        Mistake("the cheapest pair first, then the cheapest of the rest (greedy)", _greedy,
                "An early bargain can force an expensive pair later. The *sum* must be smallest."),
        Mistake("target by target, each taking its cheapest free query", _target_by_target,
                "The first targets take what later ones needed more. The *sum* must be smallest."),
        Mistake("query by query, each taking its cheapest free target", _query_by_query,
                "The first queries take what later ones needed more. The *sum* must be smallest."),
        Mistake("the dearest pair made as cheap as can be", _smallest_largest,
                "The sum over all pairs must be smallest, even if one of them costs much."),
        Mistake("only the first N targets considered", lambda c: assign(c[:, :len(c)]),
                "With more targets than queries, any target may be the one left out: choose by the costs."),
        Mistake("the largest total instead of the smallest", lambda c: _pairs(*linear_sum_assignment(c, maximize=True)),
                "These are costs: linear_sum_assignment minimises unless told otherwise."),
        Mistake("(targets, queries) instead of (queries, targets)", lambda c: assign(c)[::-1],
                "Rows of the cost are queries, and they come first.", issue("Visual-Behavior/detr-tensorflow", 35)),
        Mistake("the inverse permutation of the targets", _inverse,
                "targets[k] is the target of queries[k] already; leave it as it is."),
        Mistake(_MIXED[0], _tinnunculus, *_MIXED[1:]),
        Mistake(_MIXED[0], lambda c: (_tinnunculus(c)[0], torch.arange(min(c.shape))), *_MIXED[1:]),
        Mistake("only the first T queries considered", lambda c: assign(c[:c.shape[1]]),
                "Any query may be matched: there are more queries than targets for that very reason.")),
    hints=("How many ways are there to give 3 targets to 3 of 5 queries? Could you try them all?",
           "itertools.permutations(range(N), T) lists them; scipy's linear_sum_assignment finds the best at once.",
           "queries, targets = linear_sum_assignment(cost): rows, then columns; both as int64 tensors"),
    why="scipy minimises the sum over all assignments in about N^3 steps, takes tall, wide and empty matrices, and "
        "returns rows in order. No gradient flows: the match is a decision, not a function to learn.")


# --- 02.5 from a match to the targets' order ------------------------------------------------------------------------

def query_of_target(queries, targets):
    return queries[targets.argsort()]  # [T]


def _match(queries, targets):
    return torch.tensor(queries, dtype=torch.int64), torch.tensor(targets, dtype=torch.int64)


order_exercise = Exercise(
    id="02.5", title="the query of each target", name="query_of_target", reference=query_of_target,
    fixtures=(
        Fixture("3 targets in a cycle", _match([0, 3, 4], [1, 2, 0])),
        Fixture("4 targets in a cycle", _match([0, 2, 4, 7], [2, 0, 3, 1])),
        Fixture("2 targets, swapped", _match([1, 5], [1, 0])),
        Fixture("no target", _match([], []))),
    mistakes=(
        Mistake("queries[targets]", lambda q, t: q[t],
                "targets says where each query goes, not where each target comes from. You need its inverse. "
                "(With two targets both are the same: that is how this one passes toy tests.)", TINNUNCULUS),
        Mistake("the queries as they are", lambda q, t: q,
                "They are in the order of the queries; entry j must belong to target j."),
        Mistake("the targets as they are", lambda q, t: t, "Entry j must be a query index."),
        Mistake("the sorting order itself, not the queries in that order", lambda q, t: t.argsort(),
                "argsort tells at which position target j stands. Look up the query at that position.",
                issue("adisid001/Active-NLP", 5)),
        Mistake("the positions 0, 1, 2, ...", lambda q, t: q.argsort(), "Sort by target, not by query.")),
    hints=("In which position of `targets` does target 0 stand, and which query stands there?",
           "targets.argsort() lists those positions for target 0, 1, 2, ...",
           "queries[targets.argsort()]"),
    why="targets maps position to target; argsort of a permutation is its inverse and maps target to position. The "
        "library avoids the question: it keeps pairs and indexes both sides, mask_logits[queries] and masks[targets].")


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
        Fixture("5 queries, 3 targets", (torch.tensor([3, 0, 2]), *_match([0, 3, 4], [1, 2, 0]), 5, 4)),
        Fixture("every query matched", (torch.tensor([1, 0, 2, 1]), *_match([0, 1, 2, 3], [2, 0, 3, 1]), 4, 3)),
        Fixture("more targets than queries", (torch.tensor([0, 2, 1, 4, 3]), *_match([0, 1, 2], [4, 0, 2]), 3, 5)),
        Fixture("no target", (torch.zeros(0, dtype=torch.int64), *_match([], []), 4, 6)),
        Fixture("the last classes do not occur", (torch.tensor([1, 0]), *_match([2, 3], [1, 0]), 5, 7))),
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
