"""Focal and dice loss of matched masks in one pass with its own backward: what losses.py defines, quickly."""
import torch
import torch.nn.functional as F


class MatchedMaskLosses(torch.autograd.Function):
    """Focal and dice loss [M] of matched pairs, as sigmoid_focal_loss and dice_loss, but fast and in little memory.

    logits [M, h, w]; masks and valid (or None): M times bool [H, W]. Pairs are enlarged a few at a time; only their
    losses and slopes [h, w] stay. With sign +1 or -1 where y is 1 or 0, p_t = sigmoid(sign x), q = 1 - p_t = |p - y|:

        focal = sum of w (-log p_t), w = alpha_t q^2 / pixels          d focal / dx = -sign w (q - 2 p_t log p_t)
        dice = E / D with E = sum q and D = sum p + sum y + 1          d dice / dx = -p_t q (sign / D + E / D^2)
    """

    @staticmethod
    def forward(ctx, logits, masks, valid=None, alpha=0.25):
        focal, dice = logits.new_zeros(2, len(logits))
        slopes = logits.new_zeros(2, *logits.shape)
        few = max(1, (2 ** 17 if logits.device.type == "cpu" else 2 ** 25) // masks[0].numel()) if masks else 1
        for part in (slice(m, m + few) for m in range(0, len(logits), few)):
            y = torch.stack(masks[part]).to(logits.dtype)  # [m, H, W]
            rows, columns = (enlarging(n, N, logits) for n, N in zip(logits.shape[1:], y.shape[1:]))  # [H, h], [W, w]
            sign, pixels = y.mul(2).sub_(1), y[0].numel()
            x = rows @ logits[part] @ columns.mT  # [m, H, W]
            entropy = F.softplus(x.mul_(sign).neg_())  # -log p_t
            p_t = torch.exp(-entropy)
            q = 1 - p_t
            if valid is not None:
                v = torch.stack(valid[part]).to(logits.dtype)
                p_t, q, pixels = p_t.mul_(v), q.mul_(v), v.sum((1, 2), keepdim=True).clamp(min=1)
            w = sign.mul(alpha - 0.5).add_(0.5).div_(pixels).mul_(q).mul_(q)
            loss = entropy.mul_(w)  # [m, H, W]
            E, overlap = q.sum((1, 2), keepdim=True), (p_t * y).sum((1, 2), keepdim=True)  # [m, 1, 1]
            D = 2 * overlap + E + 1
            focal[part], dice[part] = loss.sum((1, 2)), (E / D).flatten()
            for k, slope in enumerate((w.mul_(q).addcmul_(loss, p_t, value=2).mul_(sign),
                                       sign.div_(D).add_(E / D ** 2).mul_(p_t).mul_(q))):
                slopes[k, part] = rows.mT @ slope.neg_() @ columns  # the transposes lead back to [m, h, w]
        ctx.save_for_backward(slopes)
        return focal, dice

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, focal_gradient, dice_gradient):
        [(focal, dice)] = ctx.saved_tensors
        return focal_gradient[:, None, None] * focal + dice_gradient[:, None, None] * dice, None, None, None


def enlarging(n, N, like):
    """The matrix [N, n] that enlarges n values to N as F.interpolate does: a bilinear resize is two such products."""
    eye = torch.eye(n, dtype=like.dtype, device=like.device)[None]
    return F.interpolate(eye, size=N, mode="linear", align_corners=False)[0].mT  # [N, n]
