"""The losses (lessons 03 and 04): focal and dice on matched masks, cross-entropy on all queries, and their sum.

For each decoder layer and with the match sigma of that layer (paper, Eq. 2 and section 3.2):

    loss = class(p, c)  +  lambda_focal * focal(m_sigma, m)  +  lambda_dice * dice(m_sigma, m)

Reference weights are class 1, focal 20, dice 1. Six layers of roughly (5 + 20 * 0.3 + 1) make the "huge" first loss.
"""
import torch
import torch.nn.functional as F
from torch import nn

from .fast.mask_losses import MatchedMaskLosses
from .fast.points import choose_points, pixels_of, sample_points
from .matching import fixed_match, flat_match, join_targets, match_layers
from .system.arguments import check_batch, check_mask
from .system.distributed import sum_over_processes, world_size

MATCHINGS = ("bipartite", "fixed")


def sigmoid_focal_loss(mask_logits, masks, num_masks, alpha=0.25, gamma=2.0, valid=None):
    """Focal loss of M mask predictions: mean over pixels, sum over masks, divided by `num_masks` (a float scalar).

    -alpha_t (1 - p_t)^gamma log(p_t) with p_t = p where the target is 1 and 1 - p elsewhere (RetinaNet, Eq. 5).
    alpha = 0.25 is the weight of the *positives*, the negatives get 0.75. mask_logits and masks [M, H, W] (or [M, P]);
    valid, same shape or broadcastable: the pixels to count; the mean is taken over them.
    """
    x, y, valid = _flat(mask_logits, masks, num_masks, valid)
    prob = x.sigmoid()
    p_t = prob * y + (1 - prob) * (1 - y)
    alpha_t = alpha * y + (1 - alpha) * (1 - y)
    cross_entropy = F.binary_cross_entropy_with_logits(x, y, reduction="none")  # -log(p_t), without overflow
    loss = alpha_t * (1 - p_t) ** gamma * cross_entropy  # [M, P]
    per_mask = loss.mean(1) if valid is None else (loss * valid).sum(1) / valid.sum(1).clamp(min=1)
    return per_mask.sum() / num_masks


def dice_loss(mask_logits, masks, num_masks, valid=None):
    """1 - (2 |m y| + 1) / (|m| + |y| + 1) per mask, summed and divided by `num_masks` (V-Net; paper, section 3.2).

    Shapes as in `sigmoid_focal_loss`. The + 1 keeps an empty pair at loss 0 instead of 0 / 0.
    """
    x, y, valid = _flat(mask_logits, masks, num_masks, valid)
    prob = x.sigmoid()
    if valid is not None:
        prob, y = prob * valid, y * valid
    per_mask = 1 - (2 * (prob * y).sum(1) + 1) / (prob.sum(1) + y.sum(1) + 1)  # [M]
    return per_mask.sum() / num_masks


def classification_loss(class_logits, targets, matches, no_object_weight=0.1, total_weight=None):
    """Cross-entropy of all N queries of all B images: matched ones learn their class, the rest learn no-object.

    A *weighted mean*: sum of w_i * CE_i over sum of w_i, w = 1 for matched queries, 0.1 for the others. It is divided
    by the weights, not by the number of masks, so with no match at all the 0.1 cancels. class_logits [B, N, K+1].
    total_weight: divide by this instead, where these images are only a part of the batch.
    """
    num_classes = class_logits.shape[-1] - 1
    classes = torch.full(class_logits.shape[:2], num_classes, dtype=torch.int64, device=class_logits.device)  # [B, N]
    for b, (target, (queries, chosen)) in enumerate(zip(targets, matches)):
        classes[b, queries.to(classes.device)] = target["labels"].to(classes.device)[chosen.to(classes.device)]
    weight = torch.ones(num_classes + 1, device=class_logits.device)
    weight[num_classes] = no_object_weight
    logits, classes = class_logits.float().flatten(0, 1), classes.flatten()  # [B*N, K+1], [B*N]
    if total_weight is None:
        return F.cross_entropy(logits, classes, weight)
    return F.cross_entropy(logits, classes, weight, reduction="sum") / total_weight


class SetCriterion(nn.Module):
    """Match, then sum class, focal and dice losses over all decoder layers (section 3.2; DETR's auxiliary losses).

    Called with a model's output (class_logits [B, N, K+1], mask_logits [B, N, h, w], aux: the same per earlier layer)
    and B targets; returns a dict: `loss`, the weighted total, and every unweighted term: `class`, `focal`, `dice` of
    the last layer, `class_0`, `focal_0`, `dice_0`, `class_1` ... of the earlier ones.

    The focal and dice losses are divided by num_masks, the number of *targets* in the batch (as in the reference, even
    if fewer were matched), at least 1; the class loss by its weights. A batch may be spread over processes and over
    consecutive micro-batches: both divisors are those of the whole batch, averaged over processes once (`normalizers`),
    so that the sum over micro-batches, averaged over processes, is the loss of the whole batch. (The reference does
    this for num_masks only; it divides the class loss by the weights of one process.)

    Where a target has `valid`, void pixels count in no mask term; the reference code trains them as negatives, and so
    do we if there is no `valid`. `mask_stride` s > 1 computes the mask losses on every s-th row and column of the truth
    (mini: a laptop's time), 1 is the reference; `mask_points` P > 0 computes them, and the match, at P points of each
    mask instead (Mask2Former, section 3.3). `matching="fixed"` gives class k to query k instead of matching by cost
    (Table 4; needs at least K queries and one mask per class).
    """

    def __init__(self, num_classes, class_weight=1.0, focal_weight=20.0, dice_weight=1.0, no_object_weight=0.1,
                 mask_stride=1, matching="bipartite", mask_points=0):
        super().__init__()
        if matching not in MATCHINGS:
            raise ValueError(f"unknown matching {matching!r}; known: {', '.join(MATCHINGS)}")
        for name, value, least in (("num_classes", num_classes, 1), ("mask_stride", mask_stride, 1),
                                   ("mask_points", mask_points, 0)):
            if type(value) is not int or value < least:
                raise ValueError(f"{name} is a whole number from {least} on, got {value!r}")
        for name, value in (("class_weight", class_weight), ("focal_weight", focal_weight),
                            ("dice_weight", dice_weight), ("no_object_weight", no_object_weight)):
            if not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
                raise ValueError(f"{name} is a number from 0 on, got {value!r}")
        if mask_points and mask_stride > 1:
            raise ValueError(f"mask_points {mask_points} and mask_stride {mask_stride} are two ways to look at fewer "
                             f"pixels: set mask_stride to 1, or mask_points to 0")
        self.num_classes, self.matching = num_classes, matching
        self.weights = {"class": class_weight, "focal": focal_weight, "dice": dice_weight}
        self.no_object_weight, self.mask_stride, self.mask_points = no_object_weight, mask_stride, mask_points

    def forward(self, output, targets, normalizers=None):
        layers = [*output.aux, output]  # in the order of the decoder, the final prediction last
        L, (B, N), device = len(layers), output.class_logits.shape[:2], output.mask_logits.device
        check_batch(targets, B)
        if output.class_logits.shape[-1] != self.num_classes + 1:
            raise ValueError(f"class logits have {output.class_logits.shape[-1]} columns, the criterion expects "
                             f"{self.num_classes} classes + no-object")
        if self.matching == "fixed" and N < self.num_classes:
            raise ValueError(f"fixed matching gives class k to query k: {self.num_classes} classes need as many "
                             f"queries, the model has {N}")
        truth = join_targets(targets, self.num_classes, device)
        class_logits, mask_logits = zip(*((layer.class_logits, layer.mask_logits) for layer in layers))
        with torch.autocast(device.type, enabled=False):  # losses in float32, whatever the model runs in
            if self.matching == "fixed":
                matches = [fixed_match(targets, N)] * L
            else:
                matches = match_layers(class_logits, mask_logits, truth, *self.weights.values(), self.mask_points)
            match = flat_match(matches, truth.sizes)  # four lists of L * m numbers
            index = torch.tensor(match, dtype=torch.int64).reshape(4, L, len(match[0]) // L)
            layer, image, query, target = index.to(device, non_blocking=True)  # [L, m] each; a GPU need not wait
            x = torch.stack([logits[b, q] for logits, b, q in zip(mask_logits, image, query)]).float()  # [L, m, h, w]
            if self.mask_points:
                focal, dice = self.point_losses(x, truth, image, target)  # [L] each
            else:
                focal, dice = self.mask_losses(x, truth, match[1], match[3])
            classes = torch.full((L, B, N), self.num_classes, device=device)  # no object
            classes[layer, image, query] = truth.labels[target]
            weight = torch.where(classes == self.num_classes, self.no_object_weight, 1.0)  # [L, B, N]
            log_probs = torch.stack(class_logits).float().log_softmax(-1).gather(-1, classes[..., None])[..., 0]
            entropy = -(weight * log_probs).sum((1, 2))  # [L]
            num_masks, total_weight = normalizers or self.normalizers(targets, N, device)
            terms = {"class": entropy / total_weight, "focal": focal / num_masks, "dice": dice / num_masks}
        losses = {f"{name}_{i}" if i < L - 1 else name: values[i] for i in range(L) for name, values in terms.items()}
        losses["loss"] = sum(self.weights[name.split("_")[0]] * value for name, value in losses.items())
        return losses

    def mask_losses(self, mask_logits, truth, image, target):
        """Focal and dice of the matched mask logits [L, m, h, w], summed over each layer: [L] each."""
        masks, s = [mask for own in truth.masks for mask in own], slice(self.mask_stride // 2, None, self.mask_stride)
        valid = truth.valid and [truth.valid[b][s, s] for b in image]  # M times [H, W]
        terms = MatchedMaskLosses.apply(mask_logits.flatten(0, 1), [masks[t][s, s] for t in target], valid)
        return [term.reshape(mask_logits.shape[:2]).sum(1) for term in terms]

    def point_losses(self, mask_logits, truth, image, target):
        """`mask_losses` at points; the truth of a point is that of the pixel it lies in."""
        x = mask_logits.flatten(0, 1)  # [M, h, w]
        points = choose_points(x.detach(), self.mask_points)  # [M, P, 2]
        rows, columns = pixels_of(points, truth.masks[0].shape[1:])  # [M, P]
        y = torch.cat(truth.masks)[target.reshape(-1, 1), rows, columns]
        v = torch.stack(truth.valid)[image.reshape(-1, 1), rows, columns] if truth.valid else torch.ones_like(y)
        layers = [each.unflatten(0, mask_logits.shape[:2]) for each in (sample_points(x, points), y, v)]  # [L, m, P]
        return [torch.stack([loss(x, y, 1, valid=v) for x, y, v in zip(*layers)])
                for loss in (sigmoid_focal_loss, dice_loss)]

    def normalizers(self, targets, num_queries, device):
        """What the mask losses and the class loss of a batch are divided by: (num_masks, total_weight).

        targets: those of all pictures this process has for the step; num_queries: N. Every process must call it.
        """
        matched = sum(min(len(target["labels"]), num_queries) for target in targets)
        unmatched = len(targets) * num_queries - matched
        weight = torch.full((), float(matched + self.no_object_weight * unmatched), device=device)
        total_weight = sum_over_processes(weight).clamp(min=1e-6) / world_size()
        return self.num_masks(targets, device), total_weight

    @staticmethod
    def num_masks(targets, device):
        """Number of targets in the whole batch, at least 1, averaged over processes exactly once."""
        count = torch.full((), float(sum(len(target["labels"]) for target in targets)), device=device)
        return sum_over_processes(count).clamp(min=1) / world_size()


def _flat(mask_logits, masks, num_masks, valid):
    """Predictions and targets as float32 [M, P]; float64 stays float64, so that lessons can check gradients."""
    x = mask_logits if mask_logits.dtype == torch.float64 else mask_logits.float()
    if mask_logits.shape != masks.shape:
        raise ValueError(f"mask logits {tuple(mask_logits.shape)} and masks {tuple(masks.shape)} differ in shape")
    if not isinstance(num_masks, torch.Tensor) and not num_masks > 0:
        raise ValueError(f"num_masks is the number of masks, at least 1, got {num_masks}; without any take max(1, ...)")
    check_mask(masks, "masks")
    x, y = x.flatten(1), masks.to(x.dtype).flatten(1)
    if valid is not None:
        check_mask(valid, "valid")
        if any(v not in (1, m) for v, m in zip(valid.shape[::-1], masks.shape[::-1])) or valid.ndim > masks.ndim:
            raise ValueError(f"valid has a shape like masks, {list(masks.shape)}, got {list(valid.shape)}")
        valid = valid.expand(masks.shape).to(x.dtype).flatten(1)
    return x, y, valid
