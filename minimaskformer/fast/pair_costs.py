"""The cost of every pair of query and target, quickly: what `focal_cost` and `dice_cost` of matching.py define."""
import torch
import torch.nn.functional as F

from .points import pixels_of


def mask_cost(mask_logits, masks, valid, focal_weight, dice_weight, alpha=0.25):
    """focal_weight * focal_cost + dice_weight * dice_cost, quickly: [N, P], [P, T], [P, 1] to [N, T].

    The pixels come in slices that fit the cache, and all work is in place. As positive @ Y + negative @ (1 - Y) is
    (positive - negative) @ Y + the sum of negative, focal needs one matrix product, and so does dice. gamma is 2.
    """
    step = 2048 if mask_logits.device.type == "cpu" else 2 ** 25 // len(mask_logits)
    focal = overlap = area = 0
    for x, y, v in zip(mask_logits.split(step, dim=1), masks.split(step), valid.split(step)):
        x = x.to(torch.float32, copy=True)
        prob = x.sigmoid().clamp_(min=1e-37)
        log_prob = prob.log()
        torch.minimum(log_prob, x, out=log_prob)  # where p is too small for float32, log(p) is x
        negative = x.sub_(log_prob).mul_(prob).mul_(prob)  # p^2 * -log(1 - p), as log(1 - p) = log(p) - x
        focal, overlap, area = focal + negative @ v, overlap + prob @ y, area + prob @ v  # [N, 1], [N, T], [N, 1]
        miss = prob.sub_(1)  # p - 1; its sign vanishes in the square
        focal = focal - negative.addcmul_(log_prob.mul_(miss), miss, value=alpha / (1 - alpha)) @ y  # [N, T]
    dice = 1 - (2 * overlap + 1) / (area + masks.sum(0) + 1)
    return focal_weight * (1 - alpha) / valid.sum().clamp(min=1) * focal + dice_weight * dice


def columns(maps, points, size):
    """Binary maps [T, H, W] as float32 columns [P, T]: at `size`, or at points [P, 2] the pixel that each lies in."""
    if points is None:
        small = F.interpolate(maps[:, None].to(torch.uint8), size=size).flatten(1)  # [T, h*w], top left of each block
    else:
        small = maps[:, *pixels_of(points, maps.shape[1:])]  # [T, P]
    return small.mT.to(torch.float32, memory_format=torch.contiguous_format)  # [P, T]
