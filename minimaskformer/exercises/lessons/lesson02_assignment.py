"""The exercises of lesson 02 on the assignment: which query answers for which target."""
import itertools

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from ...matching import assign
from ..core import Exercise, Fixture, Mistake, issue
from .lesson02_masks import TINNUNCULUS

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


COST_LARGE = torch.rand(32, 11, generator=torch.Generator().manual_seed(0))  # a picture with one segment per class
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
    growing=tuple((COST_LARGE[:, :t],) for t in range(1, 12)),
    slow="with 32 queries and 11 targets it would not end. scipy.optimize.linear_sum_assignment does",
    why="scipy minimises the sum over all assignments in about N^3 steps, takes tall, wide and empty matrices, and "
        "returns rows in order. No gradient flows: the match is a decision, not a function to learn.")


# --- 02.5 from a match to the targets' order ------------------------------------------------------------------------

def query_of_target(queries, targets):
    return queries[targets.argsort()]  # [T]


def match_of(queries, targets):
    return torch.tensor(queries, dtype=torch.int64), torch.tensor(targets, dtype=torch.int64)


order_exercise = Exercise(
    id="02.5", title="the query of each target", name="query_of_target", reference=query_of_target,
    fixtures=(
        Fixture("3 targets in a cycle", match_of([0, 3, 4], [1, 2, 0])),
        Fixture("4 targets in a cycle", match_of([0, 2, 4, 7], [2, 0, 3, 1])),
        Fixture("2 targets, swapped", match_of([1, 5], [1, 0])),
        Fixture("no target", match_of([], []))),
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
