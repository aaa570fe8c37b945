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
from typing import NamedTuple

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment

from .fast.pair_costs import columns, mask_cost
from .fast.points import sample_points
from .system.arguments import check_batch, check_costs, check_labels, check_predictions, check_target
from .targets import on_one_canvas


class Truth(NamedTuple):
    """The targets of a batch, checked and on the prediction's device: S in all, image after image."""
    labels: torch.Tensor  # int64 [S]
    masks: list  # B times bool [T, H, W], all of one H and W
    valid: list | None  # B times bool [H, W]; None where no target of the batch has it
    sizes: list  # B times T


def join_targets(targets, num_classes, device):
    """A batch's B target dicts as one `Truth`, padded to one size. Raises ValueError for anything but a target."""
    for b, target in enumerate(targets):
        check_target(target, f"image {b} of the batch")
    targets, sizes = on_one_canvas(targets), [len(target["labels"]) for target in targets]
    labels = torch.cat([target["labels"] for target in targets])
    for b, own in enumerate(labels.cpu().split(sizes)):
        check_labels(own.tolist(), num_classes, f"image {b} of the batch")
    masks = [target["masks"].to(device, torch.bool, non_blocking=True) for target in targets]
    valid = None
    if any("valid" in target for target in targets):
        everywhere = torch.ones(masks[0].shape[1:], dtype=torch.bool)
        valid = [target.get("valid", everywhere).to(device, torch.bool, non_blocking=True) for target in targets]
    return Truth(labels.to(device, non_blocking=True), masks, valid, sizes)


def pairwise_cost(class_logits, mask_logits, target, class_weight=1.0, focal_weight=20.0, dice_weight=1.0):
    """The cost of giving target j to query i, for one image: float32 [N, T] (paper, section 3.2).

    class_logits [N, K+1], mask_logits [N, h, w]; target: labels int64 [T], masks [T, H, W], optionally valid [H, W].
    Void pixels (valid False) count in no term. Raises ValueError for shapes that do not fit and for a malformed target.
    """
    truth = join_targets([target], check_predictions(class_logits, mask_logits), class_logits.device)
    weights = class_weight, focal_weight, dice_weight
    return batched_cost(class_logits[None, None], mask_logits[None, None], truth, *weights)[0]  # [N, T]


def hungarian_match(class_logits, mask_logits, targets, class_weight=1.0, focal_weight=20.0, dice_weight=1.0):
    """Match queries and targets of each image of a batch by the smallest total cost (paper, section 3.2).

    class_logits [B, N, K+1], mask_logits [B, N, h, w], targets: B dicts. Returns per image a pair of int64 vectors
    (query indices, target indices) of length min(N, T), sorted by query. With more targets than queries the best N
    targets are matched, with a warning. Raises ValueError for a non-finite cost, naming image and query.
    """
    check_batch(targets, len(class_logits))
    truth = join_targets(targets, class_logits.shape[-1] - 1, class_logits.device)
    weights = class_weight, focal_weight, dice_weight
    return match_layers([class_logits], [mask_logits], truth, *weights)[0]


def match_layers(class_logits, mask_logits, truth, class_weight=1.0, focal_weight=20.0, dice_weight=1.0, points=0):
    """`hungarian_match` for all decoder layers at once: L times [B, N, K+1] and [B, N, h, w] to L lists of B matches.

    All costs of the step travel to the CPU in one transfer, because each transfer makes the GPU wait.
    """
    num_queries = class_logits[0].shape[1]
    weights = class_weight, focal_weight, dice_weight
    costs = batched_cost(class_logits, mask_logits, truth, *weights, points).cpu()  # [L, N, S]: the one transfer
    check_costs(costs, truth.sizes)
    if max(truth.sizes) > num_queries:
        warnings.warn(f"an image has {max(truth.sizes)} targets and the model {num_queries} queries: only the best "
                      f"{num_queries} are matched, the others are not learnt from; use more queries", stacklevel=3)
    return [[assign(cost) for cost in layer.split(truth.sizes, dim=1)] for layer in costs]


def fixed_match(targets, num_queries):
    """The fixed matching of the paper's Table 4: the target of class k goes to query k, whatever was predicted.

    Returns what `hungarian_match` does, for the same B dicts. As a query has room for one target, targets must be
    semantic (one mask per class); ValueError for a class that occurs twice or has no query of its number.
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


def flat_match(matches, sizes):
    """The matches of L layers and B images as four lists of one length: layer, image, query, target of each pair.

    Targets are numbered through the whole batch. Every layer has the same number of pairs, the sum of min(N, T) over
    the images.
    """
    firsts = [sum(sizes[:b]) for b in range(len(sizes))]
    pairs = [(layer, b, query, firsts[b] + target) for layer, images in enumerate(matches)
             for b, (queries, chosen) in enumerate(images) for query, target in zip(queries.tolist(), chosen.tolist())]
    return [list(column) for column in zip(*pairs)] or [[], [], [], []]


@torch.no_grad()
def batched_cost(class_logits, mask_logits, truth, class_weight=1.0, focal_weight=20.0, dice_weight=1.0, points=0):
    """The costs of L layers and all S targets: float32 [L, N, S], each target with the queries of its own image.

    class_logits: L times [B, N, K+1], mask_logits: L times [B, N, h, w]. points: compare masks at that many random
    points of each image instead of at every pixel (Mask2Former).
    """
    device, size = mask_logits[0].device, mask_logits[0].shape[-2:]
    with torch.autocast(device.type, enabled=False):  # half precision would decide near-ties by noise
        class_probs = torch.stack(tuple(class_logits)).float().softmax(-1)  # [L, B, N, K+1]
        costs = []
        for b, (labels, masks) in enumerate(zip(truth.labels.split(truth.sizes), truth.masks)):
            valid = truth.valid[b] if truth.valid else masks.new_ones(masks.shape[1:])  # [H, W]
            at = torch.rand(points, 2, device=device) if points else None  # the same for all queries of the image
            valid = columns(valid[None], at, size)  # [P, 1]
            masks = columns(masks, at, size) * valid  # [P, T]
            blocks = [layer[b] for layer in mask_logits]  # L times [N, h, w]
            if device.type != "cpu":
                blocks = [torch.cat(blocks)]  # few large steps keep a GPU busy, many small ones a CPU's cache
            blocks = [block.flatten(1) if at is None else sample_points(block, at) for block in blocks]  # [N, P]
            mask_costs = torch.cat([mask_cost(x, masks, valid, focal_weight, dice_weight) for x in blocks])
            class_cost = -class_probs[:, b, :, labels]  # [L, N, T]
            costs.append(class_weight * class_cost + mask_costs.view_as(class_cost))
        return torch.cat(costs, dim=2)


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
