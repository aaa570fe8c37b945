"""Inference: from N pairs (class probabilities p_i, mask m_i) to one answer per pixel or per instance (lesson 08).

All functions take ONE image: class_logits [N, K+1] (no object last) and mask_logits [N, H, W], already at the size of
the answer; any float dtype, CPU or GPU; they compute in float32 and leave their inputs as they are. The general rule
gives each pixel to the query with the largest p_i(c_i) * m_i[h, w]; the others refine it for their task:

    semantic   sums over queries instead of choosing one
    instance   ranks (query, class) pairs; masks may overlap
    panoptic   drops unsure queries, and segments of which too little is left
"""
import torch


@torch.no_grad()
def general_inference(class_logits, mask_logits):
    """Give each pixel to one query: argmax over {i: c_i is not no-object} of p_i(c_i) * m_i[h, w] (section 3.4).

    c_i is the most likely class of query i. Returns (query_map, class_map), int64 [H, W]; both are -1 everywhere when
    every query says "no object". Raises ValueError for shapes that do not fit each other.
    """
    num_classes = check_predictions(class_logits, mask_logits)
    scores, classes = class_logits.float().softmax(-1).max(-1)  # [N, K+1] -> [N]
    kept = (classes != num_classes).nonzero().flatten()  # [N'] query indices
    if len(kept) == 0:
        nothing = classes.new_full(mask_logits.shape[-2:], -1)
        return nothing, nothing.clone()
    mask_probs = mask_logits[kept].float().sigmoid()  # [N', H, W]
    query_map = kept[(scores[kept, None, None] * mask_probs).argmax(0)]  # [H, W]
    return query_map, classes[query_map]


def semantic_scores(class_logits, mask_logits):
    """Sum over queries: score(c, h, w) = sum_i p_i(c) * m_i[h, w] for c other than no object (section 3.4).

    Returns float32 [K, H, W]. The last column is dropped after the softmax and nothing is renormalised, so this is no
    probability: two sure queries on one pixel give 2. Differentiable. Raises ValueError for shapes that do not fit.
    """
    check_predictions(class_logits, mask_logits)
    with torch.autocast(class_logits.device.type, enabled=False):  # would round the products to half precision
        class_probs = class_logits.float().softmax(-1)[:, :-1]  # [N, K+1] -> [N, K]
        mask_probs = mask_logits.float().sigmoid()  # [N, H, W]
        return torch.einsum("nk,nhw->khw", class_probs, mask_probs)  # [K, H, W]


@torch.no_grad()
def semantic_inference(class_logits, mask_logits):
    """The class with the largest semantic score: argmax_c sum_i p_i(c) * m_i[h, w] (section 3.4), int64 [H, W]."""
    return semantic_scores(class_logits, mask_logits).argmax(0)  # [K, H, W] -> [H, W]


@torch.no_grad()
def instance_inference(class_logits, mask_logits, things, top_k=100):
    """The `top_k` most likely (query, class) pairs, those of thing classes only: Mask2Former's rule.

    score = p_i(c) * (mean of m_i over the mask), mask = (mask logits > 0). MaskFormer's paper has no instance task.
    `things` are class indices. The best top_k of all N * K pairs are taken first and stuff is dropped from them
    after, so one query may answer for two classes and masks may overlap. Empty masks (their score is 0) are dropped.
    Returns {"masks": bool [M, H, W], "labels": int64 [M], "scores": float32 [M]}, best first, M <= top_k.
    Raises ValueError for shapes that do not fit, a thing outside [0, K) or top_k below 1.
    """
    num_classes = check_predictions(class_logits, mask_logits)
    things = check_things(things, num_classes)
    if top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}")
    masks = mask_logits > 0  # [N, H, W]
    areas = masks.flatten(1).sum(1)  # [N]
    quality = (mask_logits.float().sigmoid() * masks).flatten(1).sum(1) / areas.clamp(min=1)  # [N], 0 if empty

    class_probs = class_logits.float().softmax(-1)[:, :-1].flatten()  # [N, K+1] -> [N * K]
    probs, pairs = class_probs.topk(min(top_k, len(class_probs)))  # [M]
    queries, labels = pairs // num_classes, pairs % num_classes
    isthing = torch.tensor([k in things for k in range(num_classes)], device=labels.device)
    kept = isthing[labels] & (areas[queries] > 0)
    queries, labels, scores = queries[kept], labels[kept], (probs * quality[queries])[kept]

    order = scores.argsort(descending=True, stable=True)
    return {"masks": masks[queries[order]], "labels": labels[order], "scores": scores[order]}


@torch.no_grad()
def panoptic_inference(class_logits, mask_logits, things, score_threshold=0.8, overlap_threshold=0.8):
    """One segment per thing, one per stuff class, void elsewhere: the paper's panoptic rule (section 3.4).

    1. Keep the queries whose most likely class c_i is an object and has p_i(c_i) > score_threshold.
    2. Give each pixel to the kept query with the largest p_i(c_i) * m_i[h, w], even where every m_i is below 0.5.
    3. Drop a query that won less than overlap_threshold of its own mask {m_i >= 0.5}: it is hidden by others. Its
       pixels become void; they do not go to the runner-up.
    4. Each thing left is a segment; stuff of one class is one segment.

    `things` are class indices. Returns (segment_map, segments_info): int32 [H, W], 0 is void, ids count from 1 in
    query order; dicts {id, category_id (class index), isthing, score, area}. Of merged stuff, `area` is the sum and
    `score` the largest. Raises ValueError for shapes that do not fit, a thing or a threshold out of range.
    """
    num_classes = check_predictions(class_logits, mask_logits)
    things = check_things(things, num_classes)
    check_fraction("score_threshold", score_threshold)
    check_fraction("overlap_threshold", overlap_threshold)
    segment_map = torch.zeros(mask_logits.shape[-2:], dtype=torch.int32, device=mask_logits.device)
    scores, classes = class_logits.float().softmax(-1).max(-1)  # [N, K+1] -> [N]
    kept = (classes != num_classes) & (scores > score_threshold)
    scores, classes, mask_probs = scores[kept], classes[kept], mask_logits[kept].float().sigmoid()  # [N', H, W]
    if len(scores) == 0:
        return segment_map, []

    winner = (scores[:, None, None] * mask_probs).argmax(0)  # [H, W]
    won_areas = winner.flatten().bincount(minlength=len(scores))  # [N']
    mask_areas = (mask_probs >= 0.5).flatten(1).sum(1)  # [N'] of the mask alone, not of score * mask
    # One transfer for all queries, in float64 because it holds areas and scores: asking per segment makes a GPU wait.
    table = torch.stack([classes.double(), won_areas.double(), mask_areas.double(), scores.double()]).tolist()

    segments_info, stuff, ids = [], {}, []  # stuff: class -> its entry; ids: segment of each kept query, 0 if dropped
    for c, won_area, mask_area, score in zip(*table):
        if won_area == 0 or mask_area == 0 or won_area / mask_area < overlap_threshold:
            ids.append(0)
            continue
        c, won_area = int(c), int(won_area)
        segment = stuff.get(c)
        if segment is None:
            segment = {"id": len(segments_info) + 1, "category_id": c, "isthing": c in things, "score": 0.0, "area": 0}
            segments_info.append(segment)
            if c not in things:
                stuff[c] = segment
        segment["score"] = max(segment["score"], score)
        segment["area"] += won_area
        ids.append(segment["id"])
    return torch.tensor(ids, dtype=torch.int32, device=winner.device)[winner], segments_info


def check_predictions(class_logits, mask_logits):
    """Return K; raise ValueError unless the two are [N, K+1] and [N, H, W] of one image, with K at least 1."""
    if class_logits.ndim != 2 or mask_logits.ndim != 3 or len(class_logits) != len(mask_logits):
        raise ValueError(f"inference takes one image's class_logits [N, K+1] and mask_logits [N, H, W] of the same N, "
                         f"got {list(class_logits.shape)} and {list(mask_logits.shape)}; of a batch, pass one image")
    if class_logits.shape[1] < 2:
        raise ValueError(f"class_logits {list(class_logits.shape)} need at least one class before 'no object'")
    return class_logits.shape[1] - 1


def check_things(things, num_classes):
    """The set of thing class indices; raises ValueError for anything but an integer in [0, K)."""
    things = [c.item() if hasattr(c, "item") else c for c in things]
    bad = [c for c in things if isinstance(c, bool) or not 0 <= c < num_classes or c != int(c)]
    if bad:
        raise ValueError(f"things are class indices in [0, {num_classes}), got {bad[:10]} "
                         f"(a ClassTable has them as `.things`)")
    return {int(c) for c in things}


def check_fraction(name, value):
    """Raise ValueError unless a threshold is a number in [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be in [0, 1], got {value}")
