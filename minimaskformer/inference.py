"""Inference: from N pairs (class probabilities p_i, mask m_i) to one answer per pixel or per instance (lesson 08).

All functions take ONE image: class_logits [N, K+1] (no object last) and mask_logits [N, H, W], already at the size of
the answer; any float dtype, CPU or GPU; they compute in float32 and leave their inputs as they are. The general rule
gives each pixel to the query with the largest p_i(c_i) * m_i[h, w]; the others refine it for their task:

    semantic   sums over queries instead of choosing one
    instance   ranks (query, class) pairs; masks may overlap
    panoptic   drops unsure queries, and segments of which too little is left

With `resize`, mask_logits may be coarse, [N, h, w]: resize(mask_logits[some]) must give those at the answer's size.
Then only the masks that take part are enlarged, a few at a time (fast/large_maps.py).

On a GPU the host waits for the device only where it needs a number to go on: never in semantic, once per picture in
general (which queries are left?), twice in panoptic and instance (which are left, and how large are they?). In the last
two NaN is an error, because it shows in those numbers; `MaskFormer.predict` checks everything the network returned.
"""
import math
from dataclasses import dataclass

import torch

from .fast.competition import tiled_competition, whole_competition, worth_tiling
from .fast.large_maps import Largest, answer_size, at_once, enlarged, put_in_order, threshold_into, to_device
from .system.arguments import check_fraction, check_numbers, check_predictions, check_things


@torch.no_grad()
def general_inference(class_logits, mask_logits, resize=None):
    """Give each pixel to one query: argmax over {i: c_i is not no-object} of p_i(c_i) * m_i[h, w] (section 3.4).

    c_i is the most likely class of query i. Returns (query_map, class_map), int64 [H, W]; both are -1 everywhere when
    every query says "no object". Raises ValueError for shapes that do not fit, FloatingPointError for a NaN class.
    """
    num_classes = check_predictions(class_logits, mask_logits)
    scores, classes = class_logits.float().softmax(-1).max(-1)  # [N, K+1] -> [N]
    table = torch.stack([scores, classes.float()]).T.tolist()  # the wait
    check_numbers([score for score, _ in table])
    kept = [i for i, (_, c) in enumerate(table) if c != num_classes]
    if not kept:
        nothing = classes.new_full(answer_size(mask_logits, resize), -1)
        return nothing, nothing.clone()
    largest = Largest(answer_size(mask_logits, resize), mask_logits.device)
    for queries, logits in enlarged(mask_logits, kept, resize):  # [n], [n, H, W]
        largest.add(logits.sigmoid_().mul_(scores[queries, None, None]))
    query_map = to_device(kept, mask_logits)[largest.index()]  # [H, W]
    return query_map, classes[query_map]


def semantic_scores(class_logits, mask_logits):
    """Sum over queries: score(c, h, w) = sum_i p_i(c) * m_i[h, w] for c other than no object (section 3.4).

    Returns float32 [K, H, W]. The last column is dropped after the softmax and nothing is renormalised, so this is not
    a probability: two sure queries on one pixel give 2. Differentiable. Raises ValueError for shapes that do not fit.
    """
    check_predictions(class_logits, mask_logits)
    with torch.autocast(class_logits.device.type, enabled=False):  # would round the products to half precision
        class_probs = class_logits.float().softmax(-1)[:, :-1]  # [N, K+1] -> [N, K]
        mask_probs = mask_logits.float().sigmoid()  # [N, H, W]
        return torch.einsum("nk,nhw->khw", class_probs, mask_probs)  # [K, H, W]


@torch.no_grad()
def semantic_inference(class_logits, mask_logits):
    """The class with the largest semantic score: argmax_c sum_i p_i(c) * m_i[h, w] (section 3.4), int64 [H, W].

    No pixel needs another, so a few rows are done at a time: all scores of 150 classes of a large picture would not
    fit into memory.
    """
    num_classes = check_predictions(class_logits, mask_logits)
    N, H, W = mask_logits.shape
    class_probs = class_logits.float().softmax(-1)[:, :-1]  # [N, K+1] -> [N, K]
    rows, bands = at_once(mask_logits.device, max(N, num_classes) * W), []
    with torch.autocast(class_logits.device.type, enabled=False):
        for top in range(0, H, rows):
            mask_probs = mask_logits[:, top:top + rows].flatten(1).float().sigmoid()  # [N, rows * W]
            bands.append((mask_probs.T @ class_probs).max(1)[1])  # [rows * W, K] -> [rows * W]
    return torch.cat(bands).view(H, W) if bands else class_probs.new_zeros(H, W, dtype=torch.int64)


@torch.no_grad()
def per_pixel_inference(pixel_logits, resize=None):
    """The class with the largest score at each pixel, int64 [H, W], of a per-pixel baseline's scores [K, h, w].

    As in the reference, logits and not probabilities are resized (see above), and argmax comes last.
    """
    size = answer_size(pixel_logits, resize)
    largest, least = Largest(size, pixel_logits.device), pixel_logits.min()  # which takes values from 0 on
    for _, scores in enlarged(pixel_logits, list(range(len(pixel_logits))), resize):  # [k, H, W]
        largest.add(scores.sub_(least))
    return largest.index()


@torch.no_grad()
def instance_inference(class_logits, mask_logits, things, top_k=100, resize=None):
    """The `top_k` most likely (query, class) pairs, thing classes only: Mask2Former's rule.

    score = p_i(c) * (mean of m_i over the mask), mask = (mask logits > 0). MaskFormer's paper has no instance task.
    `things` are class indices. The best top_k of all N * K pairs are taken first and stuff is then dropped from
    them, so one query may answer for two classes and masks may overlap. Empty masks (their score is 0) are dropped.
    Returns {"masks": bool [M, H, W], "labels": int64 [M], "scores": float32 [M]}, best first, M <= top_k.
    Raises ValueError for shapes that do not fit, a thing outside [0, K) or top_k below 1, FloatingPointError for NaN.
    """
    num_classes = check_predictions(class_logits, mask_logits)
    things = check_things(things, num_classes)
    if top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}")
    class_probs = class_logits.float().softmax(-1)[:, :-1].flatten()  # [N, K+1] -> [N * K]
    probs, pairs = class_probs.topk(min(top_k, len(class_probs)))  # [top_k]
    table = torch.stack([probs, pairs // num_classes, pairs % num_classes]).T.tolist()  # first wait
    table = [(prob, int(i), int(c)) for prob, i, c in table if c in things]
    queries = list(dict.fromkeys(i for _, i, _ in table))  # each once
    masks = torch.empty(len(table), *answer_size(mask_logits, resize), dtype=torch.bool, device=mask_logits.device)
    areas, totals = threshold_into(masks, mask_logits, queries, resize)  # second wait
    check_numbers([prob for prob, _, _ in table] + totals)
    quality = {i: total / area for i, area, total in zip(queries, areas, totals) if area}
    ranked = [(prob * quality[i], i, c) for prob, i, c in table if i in quality]
    ranked.sort(key=lambda row: -row[0])  # among equal scores the more likely pair stays first
    put_in_order(masks, to_device([queries.index(i) for _, i, _ in ranked], masks))
    return {"masks": masks[:len(ranked)], "labels": to_device([c for _, _, c in ranked], masks),
            "scores": to_device([score for score, _, _ in ranked], masks, torch.float32)}


@torch.no_grad()
def panoptic_inference(class_logits, mask_logits, things, score_threshold=0.8, overlap_threshold=0.8, resize=None):
    """One segment per thing, one per stuff class, void elsewhere: the paper's panoptic rule (section 3.4).

    1. Keep the queries whose most likely class c_i is an object and has p_i(c_i) > score_threshold.
    2. Give each pixel to the kept query with the largest p_i(c_i) * m_i[h, w], even where every m_i is below 0.5.
    3. Drop a query that won less than overlap_threshold of its own mask {m_i >= 0.5}: it is hidden by others. Its
       pixels become void; they do not go to the runner-up.
    4. Each thing left is a segment; stuff of one class is one segment.

    `things` are class indices. Returns (segment_map, segments_info): int32 [H, W], 0 is void, ids count from 1 in
    query order; dicts {id, category_id (class index), isthing, score, area}. For merged stuff, `area` is the sum and
    `score` the largest. Raises ValueError for what does not fit or is out of range, FloatingPointError for NaN.
    """
    thresholds = score_threshold, overlap_threshold
    segment_map, candidates = panoptic_rule(class_logits, mask_logits, things, *thresholds, resize)
    segments_info = []
    for c in candidates:
        if c.fate == "segment":
            segments_info.append({"id": c.segment_id, "category_id": c.category_id, "isthing": c.isthing,
                                  "score": c.score, "area": c.won_area})
        elif c.fate == "merged":
            first = segments_info[c.segment_id - 1]
            first["area"], first["score"] = first["area"] + c.won_area, max(first["score"], c.score)
    return segment_map, segments_info


@dataclass(frozen=True)
class Candidate:
    """What panoptic inference did with one query, and the numbers it looked at."""
    query: int
    category_id: int  # c_i, the most likely class; K for "no object"
    isthing: bool
    score: float  # p_i(c_i)
    fate: str  # "no object", "score" or "overlap" (the step that removed it); "segment", "merged" (into earlier stuff)
    mask_area: int  # pixels of its own mask, m_i >= 0.5
    won_area: int = 0  # pixels on which its score * mask was the largest; 0 for those that did not compete
    segment_id: int = 0  # in the segment map; 0 if it was removed

    @property
    def ratio(self):
        """won_area / mask_area, what the overlap test looks at: may exceed 1; 0 for an empty mask."""
        return self.won_area / self.mask_area if self.mask_area else 0.0


@torch.no_grad()
def panoptic_candidates(class_logits, mask_logits, things, score_threshold=0.8, overlap_threshold=0.8):
    """What became of every query in `panoptic_inference` with the same arguments, and why: a list of N `Candidate`s.

    For figures and for inspecting a model: the same computation, which also counts the areas of masks that never
    competed. Raises ValueError as `panoptic_inference` does.
    """
    return panoptic_rule(class_logits, mask_logits, things, score_threshold, overlap_threshold, count_all=True)[1]


def panoptic_rule(class_logits, mask_logits, things, score_threshold, overlap_threshold, resize=None, count_all=False):
    """Steps 1 to 4 of `panoptic_inference`: (segment_map int32 [H, W], a `Candidate` per query).

    The mask area of a query that step 1 removed is counted only on request (count_all); otherwise it is 0.
    """
    num_classes = check_predictions(class_logits, mask_logits)
    things = check_things(things, num_classes)
    check_fraction("score_threshold", score_threshold)
    check_fraction("overlap_threshold", overlap_threshold)
    scores, classes, sure = sure_queries(class_logits, score_threshold)  # [N]
    table = torch.stack([scores, classes.float(), sure.float()]).T.tolist()  # first wait: N rows
    check_numbers([row[0] for row in table])
    kept = [i for i, row in enumerate(table) if row[2]]
    winner, won_areas, mask_areas = compete(scores, mask_logits, kept, resize)  # [H, W], second wait
    if count_all:
        areas = [(logits.float().sigmoid() >= 0.5).sum() for logits in mask_logits]  # one at a time: no second copy
        mask_areas = dict(enumerate(torch.stack(areas).tolist() if areas else []))

    candidates, stuff, count = [], {}, 0  # stuff: class -> id of its segment
    for i, (score, c, _) in enumerate(table):
        c, segment = int(c), 0
        if i not in won_areas:
            fate = "no object" if c == num_classes else "score"
        elif won_areas[i] == 0 or mask_areas[i] == 0 or won_areas[i] / mask_areas[i] < overlap_threshold:
            fate = "overlap"
        elif c in stuff:
            fate, segment = "merged", stuff[c]
        else:
            count += 1  # counts segments only, so it goes on after a merge
            fate, segment = "segment", count
            if c not in things:
                stuff[c] = segment
        candidates.append(Candidate(i, c, c in things, score, fate, mask_areas.get(i, 0), won_areas.get(i, 0), segment))
    ids = to_device([candidates[i].segment_id for i in kept] + [0], winner, torch.int32)
    return ids.index_select(0, winner.flatten()).view_as(winner), candidates  # three times as fast as ids[winner]


def sure_queries(class_logits, score_threshold):
    """Step 1: (p_i(c_i) [N], c_i [N], whether the query takes part: it sees an object, and p_i(c_i) > threshold)."""
    scores, classes = class_logits.float().softmax(-1).max(-1)  # [N, K+1] -> [N]
    return scores, classes, (classes != class_logits.shape[1] - 1) & (scores > score_threshold)


def compete(scores, mask_logits, kept, resize=None):
    """Step 2: (winner [H, W], an index into `kept`; pixels won and pixels of its own mask, each {query: pixels})."""
    if not kept:
        return torch.zeros(*answer_size(mask_logits, resize), dtype=torch.int64, device=mask_logits.device), {}, {}
    competition = tiled_competition if worth_tiling(mask_logits, resize) else whole_competition
    winner, *counts, nan = competition(scores, mask_logits, kept, resize)  # [H, W], [N'] twice, whether NaN occurs
    *areas, nan = torch.cat([*counts, nan[None]]).tolist()
    check_numbers([math.nan] if nan else [])
    return winner, dict(zip(kept, areas)), dict(zip(kept, areas[len(kept):]))
