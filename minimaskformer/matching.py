"""Hungarian matching: which query is responsible for which target (lesson 02).

MaskFormer predicts a *set*, so before any loss can be computed each target must be given to one query. The pairwise
cost (paper, section 3.2) is

    cost[i, j] = -p_i(c_j)  +  lambda_focal * focal(m_i, m_j)  +  lambda_dice * dice(m_i, m_j)

and the match is the assignment of targets to distinct queries with the smallest total cost. The class term is the
negative *probability*, not the log-likelihood of the loss, so that it lives on the same scale as the mask terms.

As in the reference code the costs are computed at the resolution of the prediction, against a nearest-downsampled
truth: a mask smaller than a 4 x 4 block may vanish there. The loss sees it at full resolution.
"""
import warnings

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment

from .targets import check_labels, on_one_canvas


def pairwise_cost(class_logits, mask_logits, target, class_weight=1.0, focal_weight=20.0, dice_weight=1.0):
    """The cost of giving target j to query i, for one image: float32 [N, T] (paper, section 3.2).

    class_logits [N, K+1], mask_logits [N, h, w]; target: labels int64 [T], masks [T, H, W], optionally valid [H, W].
    Void pixels (valid False) count in no term. Raises ValueError for a label outside [0, K).
    """
    weights = class_weight, focal_weight, dice_weight
    costs = batched_cost(class_logits[None, None], mask_logits[None, None], [target], *weights)
    return costs[0, 0, :, : len(target["labels"])]  # [N, T]


def hungarian_match(class_logits, mask_logits, targets, class_weight=1.0, focal_weight=20.0, dice_weight=1.0):
    """Match queries and targets of each image of a batch by the smallest total cost (paper, section 3.2).

    class_logits [B, N, K+1], mask_logits [B, N, h, w], targets: B dicts. Returns per image a pair of int64 vectors
    (query indices, target indices) of length min(N, T), sorted by query. With more targets than queries the best N
    targets are matched, with a warning. Raises ValueError for a non-finite cost, naming image and query.
    """
    weights = class_weight, focal_weight, dice_weight
    return match_layers(class_logits[None], mask_logits[None], targets, *weights)[0]


def match_layers(class_logits, mask_logits, targets, class_weight=1.0, focal_weight=20.0, dice_weight=1.0):
    """`hungarian_match` for all decoder layers at once: [L, B, N, K+1] and [L, B, N, h, w] to L lists of B matches.

    All cost matrices of the step travel to the CPU in one transfer, because each transfer makes the GPU wait.
    """
    num_queries = class_logits.shape[2]
    weights = class_weight, focal_weight, dice_weight
    costs = batched_cost(class_logits, mask_logits, targets, *weights).cpu()  # [L, B, N, T_max]: the one transfer
    sizes = [len(target["labels"]) for target in targets]
    _check_finite(costs, sizes)
    if max(sizes, default=0) > num_queries:
        warnings.warn(f"an image has {max(sizes)} targets and the model {num_queries} queries: only the best "
                      f"{num_queries} are matched, the others are not learnt from; use more queries", stacklevel=3)
    return [[assign(cost[:, :size]) for cost, size in zip(layer, sizes)] for layer in costs]


def fixed_match(targets, num_queries):
    """The fixed matching of the paper's Table 4: the target of class k goes to query k, whatever was predicted.

    Returns what `hungarian_match` does, for the same B dicts. As a query has room for one target, targets must be
    semantic (one mask per class); ValueError for a class that occurs twice, or without a query of its number.
    """
    matches = []
    for b, target in enumerate(targets):
        labels = target["labels"].cpu()
        queries, order = labels.sort()
        twice = queries[1:][queries[1:] == queries[:-1]].unique().tolist()
        if twice:
            raise ValueError(f"image {b} of the batch has several masks of class {twice[0]}, and with fixed matching "
                             f"only query {twice[0]} may answer for them: use one mask per class "
                             f"(targets.semantic_to_target), or bipartite matching")
        if len(queries) and queries[-1] >= num_queries:
            raise ValueError(f"image {b} of the batch has class {int(queries[-1])}, and with fixed matching query "
                             f"{int(queries[-1])} answers for it, but there are only {num_queries} queries: use at "
                             f"least as many queries as classes")
        matches.append((queries, order))
    return matches


def assign(cost):
    """The assignment of least total cost: cost [N, T] to (query indices, target indices), sorted by query."""
    queries, targets = linear_sum_assignment(cost.detach().cpu().numpy())
    return torch.as_tensor(queries, dtype=torch.int64), torch.as_tensor(targets, dtype=torch.int64)


@torch.no_grad()
def batched_cost(class_logits, mask_logits, targets, class_weight=1.0, focal_weight=20.0, dice_weight=1.0):
    """Costs of L layers and B images at once: float32 [L, B, N, T_max]; columns beyond an image's own T mean nothing.

    Targets are padded to T_max so that one matrix product serves the whole batch.
    """
    with torch.autocast(class_logits.device.type, enabled=False):  # half precision would decide near-ties by noise
        labels, masks, valid = _pad_targets(targets, mask_logits.shape[-2:], class_logits)
        L, B, N = class_logits.shape[:3]
        T = labels.shape[1]
        class_probs = class_logits.float().softmax(-1)  # [L, B, N, K+1]
        class_cost = -class_probs.gather(-1, labels[None, :, None].expand(L, B, N, T))  # [L, B, N, T]
        x = mask_logits.float().flatten(-2)  # [L, B, N, h*w]
        return (class_weight * class_cost + focal_weight * focal_cost(x, masks, valid)
                + dice_weight * dice_cost(x, masks, valid))


def focal_cost(mask_logits, masks, valid, alpha=0.25, gamma=2.0):
    """Mean focal loss of each pair: mask_logits [..., N, P], masks [..., T, P], valid [..., 1, P] to [..., N, T].

    A pixel costs `positive` if the target covers it and `negative` if not, so two matrix products do all pairs.
    """
    prob = mask_logits.sigmoid()
    positive = alpha * (1 - prob) ** gamma * F.softplus(-mask_logits) * valid  # [..., N, P]
    negative = (1 - alpha) * prob ** gamma * F.softplus(mask_logits) * valid  # [..., N, P]
    total = positive @ masks.mT + negative @ (1 - masks).mT  # [..., N, T]
    return total / valid.sum(-1, keepdim=True).clamp(min=1)


def dice_cost(mask_logits, masks, valid):
    """1 - (2 |m_i m_j| + 1) / (|m_i| + |m_j| + 1) of each pair, shapes as in `focal_cost`."""
    prob, masks = mask_logits.sigmoid() * valid, masks * valid
    overlap = prob @ masks.mT  # [..., N, T]
    return 1 - (2 * overlap + 1) / (prob.sum(-1)[..., :, None] + masks.sum(-1)[..., None, :] + 1)


def _pad_targets(targets, size, class_logits):
    """Targets of a batch at the prediction's size: labels [B, T], masks [B, T, P], valid [B, 1, P], in float32."""
    num_classes, device = class_logits.shape[-1] - 1, class_logits.device
    B, T = len(targets), max((len(target["labels"]) for target in targets), default=0)
    labels = torch.zeros(B, T, dtype=torch.int64)
    masks = torch.zeros(B, T, size[0] * size[1], device=device)
    valid = torch.ones(B, 1, size[0] * size[1], device=device)
    for b, target in enumerate(on_one_canvas(targets)):
        t = len(target["labels"])
        own = target["labels"].cpu()
        check_labels(own, num_classes, f"image {b} of the batch")
        labels[b, :t] = own
        if t:
            masks[b, :t] = F.interpolate(target["masks"][None].to(device, torch.float32), size=size)[0].flatten(1)
        if "valid" in target:
            valid[b] = F.interpolate(target["valid"][None, None].to(device, torch.float32), size=size)[0].flatten(1)
    return labels.to(device), masks, valid


def _check_finite(costs, sizes):
    for layer, layer_costs in enumerate(costs):
        for image, size in enumerate(sizes):
            bad = (~layer_costs[image, :, :size].isfinite()).nonzero()
            if len(bad):
                query, target = bad[0].tolist()
                raise ValueError(
                    f"the matching cost of decoder layer {layer}, image {image} of the batch, query {query}, target "
                    f"{target} is {layer_costs[image, query, target]:.3g}: the prediction is not finite. Usual causes: "
                    f"a learning rate too large, half precision overflowing, or bad input pixels")
