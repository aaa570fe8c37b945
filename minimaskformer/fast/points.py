"""Points instead of pixels, as in Mask2Former and PointRend: where to look, and what is there."""
import torch
import torch.nn.functional as F


def pixels_of(points, size):
    """Rows and columns of the pixels that contain points [..., 2], (x, y) in 0 ... 1, in a picture of `size` (H, W)."""
    (columns, rows), (H, W) = points.unbind(-1), size
    return (rows * H).long().clamp(max=H - 1), (columns * W).long().clamp(max=W - 1)


def sample_points(maps, points):
    """Values [M, P] of maps [M, H, W] at points [M, P, 2], (x, y) in 0 ... 1 over the picture, bilinear between pixels.

    Points [P, 2] are the same for all maps. Pixel centres lie at (j + 0.5) / W; outside the outermost centres the
    nearest pixel counts. (The reference code mixes in zeros there, which makes the border of every picture seem
    uncertain.)
    """
    dtype = torch.promote_types(maps.dtype, points.dtype)  # mixed precision gives maps in half precision
    maps, points = maps.to(dtype), points.to(dtype).expand(len(maps), -1, -1)
    grid = 2 * points[:, None] - 1  # [M, 1, P, 2] in -1 ... 1, as grid_sample wants it
    return F.grid_sample(maps[:, None], grid, padding_mode="border", align_corners=False)[:, 0, 0]


def choose_points(mask_logits, num_points, oversample=3, importance=0.75, generator=None):
    """Points [M, num_points, 2] to compare masks at: `importance` of them the most uncertain, the others anywhere.

    mask_logits [M, H, W]. Draws oversample * num_points points and keeps those with the smallest |logit|: where a mask
    is undecided, above all at its edges (PointRend, Kirillov et al. 2020).
    """
    M, device = len(mask_logits), mask_logits.device
    candidates = torch.rand(M, oversample * num_points, 2, generator=generator, device=device)
    uncertain = most_uncertain(sample_points(mask_logits, candidates), int(importance * num_points))  # [M, P']
    chosen = candidates.gather(1, uncertain[..., None].expand(-1, -1, 2))  # [M, P', 2]
    anywhere = torch.rand(M, num_points - chosen.shape[1], 2, generator=generator, device=device)
    return torch.cat([chosen, anywhere], 1)  # [M, num_points, 2]


def most_uncertain(logits, count):
    """Indices [M, count] of the `count` logits [M, P] nearest to 0 of each mask, the nearest first."""
    return logits.abs().topk(count, dim=1, largest=False).indices
