"""Lesson 12's exercises: right solutions written differently, and wrong ones that are no known mistake."""
import numpy as np
import torch
import torch.nn.functional as F
from exercises.banks import *  # noqa: F403
from torch import nn

from minimaskformer.exercises import core
from minimaskformer.exercises.lessons.lesson12 import clip_gradients


def attention_loop(mask_logits, size):
    out = []
    for mask in mask_logits:
        small = F.interpolate(mask[None, None], size, mode="bilinear")[0, 0]
        row = [bool(v < 0) for v in small.flatten()]
        out.append([False] * len(row) if all(row) else row)
    return out


def attention_where(mask_logits, size):
    small = F.interpolate(mask_logits[:, None], size=list(size), mode="bilinear", align_corners=False).flatten(1)
    readable = small.sigmoid() >= 0.5
    return torch.where(readable.any(1)[:, None], ~readable, torch.zeros_like(readable))


def attention_by_grid(mask_logits, size):
    x, y = ((torch.arange(n) + 0.5) / n * 2 - 1 for n in (size[1], size[0]))
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).expand(len(mask_logits), -1, -1, -1)
    f = F.grid_sample(mask_logits[:, None], grid, padding_mode="border", align_corners=False).flatten(1) < 0
    return f.logical_and(f.logical_not().any(1, keepdim=True)).tolist()


def attention_in_place(mask_logits, size):
    forbidden = (F.interpolate(mask_logits.double()[None], size=size, mode="bilinear").squeeze(0) < 0).reshape(len(mask_logits), -1)
    forbidden[forbidden.sum(1) == forbidden.shape[1]] = False
    return forbidden.int()


def points_by_hand(maps, points):
    M, H, W = maps.shape
    x, y = (points[..., 0] * W - 0.5).clamp(0, W - 1), (points[..., 1] * H - 0.5).clamp(0, H - 1)
    left, top = x.floor().long().clamp(max=W - 2), y.floor().long().clamp(max=H - 2)
    m = torch.arange(M)[:, None]
    a, b = x - left, y - top
    return ((1 - b) * ((1 - a) * maps[m, top, left] + a * maps[m, top, left + 1])
            + b * ((1 - a) * maps[m, top + 1, left] + a * maps[m, top + 1, left + 1]))


def points_by_tents(maps, points):
    """Each pixel weighs 1 - distance, or nothing."""
    at = [(points[..., k] * n - 0.5).clamp(0, n - 1)[..., None] for k, n in ((0, maps.shape[2]), (1, maps.shape[1]))]
    across, down = ((1 - (c - torch.arange(n)).abs()).clamp(min=0) for c, n in zip(at, (maps.shape[2], maps.shape[1])))
    return torch.einsum("mph,mhw,mpw->mp", down, maps, across)


def points_one_by_one(maps, points):
    grid = points.double() * 2 - 1
    return [[F.grid_sample(maps[i][None, None].double(), p[None, None, None], padding_mode="border", align_corners=False).item()
             for p in grid[i]] for i in range(len(maps))]


def clip_in_place(gradients, max_norm):
    parameters = [nn.Parameter(torch.zeros_like(g)) for g in gradients]
    for parameter, g in zip(parameters, gradients):
        parameter.grad = g.clone()
    nn.utils.clip_grad_norm_(parameters, max_norm)
    return [p.grad for p in parameters]


def clip_numpy(gradients, max_norm):
    arrays = [g.numpy() for g in gradients]
    norm = float(np.sqrt(sum((a.astype(np.float64) ** 2).sum() for a in arrays)))
    return tuple(a * (max_norm / norm) if norm > max_norm else a for a in arrays)


def clip_squares(gradients, max_norm):
    total = sum(float(g.pow(2).sum()) for g in gradients) ** 0.5
    for g in gradients:
        g.mul_(min(1.0, max_norm / (total + 1e-6)))
    return gradients


RIGHT = {
    "12.3": [attention_loop, attention_where, attention_in_place, attention_by_grid,
             lambda x, s: (lambda f: f & (~f).any(-1, keepdim=True))(
                 F.interpolate(x[None], s, mode="bilinear")[0].flatten(-2).lt(0)).numpy()],
    "12.4": [points_by_hand, points_one_by_one, points_by_tents,
             lambda m, p: F.grid_sample(m.unsqueeze(1), (p * 2 - 1).unsqueeze(2), padding_mode="border",
                                        align_corners=False).squeeze(-1).squeeze(1),
             lambda m, p: torch.stack([F.grid_sample(a[None, None], 2 * b[None, None] - 1, padding_mode="border",
                                                     align_corners=False).flatten() for a, b in zip(m, p)]).numpy()],
    "12.5": [lambda x, n: x.abs().argsort(1)[:, :n], lambda x, n: (x.sigmoid() - 0.5).abs().topk(n, largest=False)[1],
             lambda x, n: [sorted(range(x.shape[1]), key=lambda j: abs(float(row[j])))[:n] for row in x],
             lambda x, n: np.argsort(np.abs(x.numpy()), axis=1)[:, :n],
             lambda x, n: (-(x ** 2)).topk(n, dim=-1).indices.int(),
             lambda x, n: np.argpartition(np.abs(x.numpy()), n - 1, 1)[:, :n],
             lambda x, n: torch.distributions.Bernoulli(logits=x).entropy().topk(n).indices.flip(1)],
    "12.2": [lambda c: max(c.mean().item(), 1.0), lambda c: torch.clamp(c.sum() / len(c), min=1),
             lambda c: max(1, sum(c.tolist()) / c.numel()), lambda c: np.maximum(c.numpy().mean(), 1)],
    "12.1": [clip_in_place, clip_numpy, clip_squares,
             lambda g, m: [x / max(1.0, torch.stack([y.norm() for y in g]).norm().item() / m) for x in g]],
}
WRONG = {
    "12.3": [lambda x, s: F.interpolate(x[None], size=s, mode="nearest")[0].flatten(1) < 0,  # nearest and not opened
             lambda x, s: F.interpolate(x[None], size=s, mode="bicubic")[0].flatten(1) < 0,
             lambda x, s: F.adaptive_max_pool2d(x, s).flatten(1) < 0,
             lambda x, s: torch.ones(len(x), s[0] * s[1], dtype=torch.bool),
             lambda x, s: torch.zeros(len(x), s[0] * s[1] + 1, dtype=torch.bool), lambda x, s: x.flatten(1) < 0,
             lambda x, s: F.interpolate(x[None], size=s, mode="bilinear", align_corners=True)[0].flatten(1) < 0],
    "12.4": [lambda m, p: F.grid_sample(m[:, None], 2 * p.flip(-1)[:, None] - 1, mode="nearest", align_corners=True)[:, 0, 0],
             lambda m, p: F.grid_sample(m[:, None], 2 * p.flip(-1)[:, None] - 1, align_corners=False)[:, 0, 0],
             lambda m, p: points_by_hand(m, p).flip(1), lambda m, p: torch.zeros(p.shape[:2]),
             lambda m, p: m.flatten(1)[:, :4], lambda m, p: points_by_hand(m, p) + 1,
             lambda m, p: points_by_hand(m, p).mT, lambda m, p: points_by_hand(m.sigmoid(), p.flip(-1))],
    "12.5": [lambda x, n: x.abs().topk(n + 1, 1, largest=False).indices, lambda x, n: x.abs().topk(n, 0).indices,
             lambda x, n: x.abs().argsort(1).argsort(1)[:, :n],  # ranks
             lambda x, n: x.abs().topk(n, 1, largest=False).indices + 1,
             lambda x, n: torch.arange(n).expand(len(x), n), lambda x, n: None,
             lambda x, n: (x - 1).abs().topk(n, 1, largest=False).indices,
             lambda x, n: (x - x.median(1, keepdim=True).values).abs().topk(n, 1, largest=False).indices],
    "12.2": [lambda c: c.sum() + 1, lambda c: c.min(), lambda c: (c ** 2).mean().sqrt(), lambda c: c,
             lambda c: c.mean().clamp(min=2), lambda c: torch.tensor(1.0), lambda c: c.mean() / len(c),
             lambda c: (c.sum() / 3).clamp(min=1), lambda c: c[-1].clamp(min=1), lambda c: c.float().max() / 2, lambda c: 1 / c.mean().clamp(min=1)],
    "12.1": [lambda g, m: tuple(x.sign() * m for x in g), lambda g, m: tuple(-x for x in clip_gradients(g, m)),
             lambda g, m: tuple(x.clamp(-m, m) for x in clip_gradients(g, m * 3)), lambda g, m: g[:2],
             lambda g, m: tuple(x * min(1.0, m / g[0].norm().item()) for x in g), lambda g, m: tuple(0 * x for x in g),
             lambda g, m: torch.cat([x.flatten() for x in g]),
             lambda g, m: tuple(x * (m / x.square().sum()).clamp(max=1) for x in g)],
}


def test_clip_is_torchs():
    gradients = tuple(torch.randn(3, k, generator=torch.Generator().manual_seed(k)) for k in (2, 5, 9))
    for max_norm in (0.01, 1.0, 100.0):
        for ours, theirs in zip(clip_gradients(gradients, max_norm), clip_in_place(gradients, max_norm)):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-8)


def test_num_masks_is_the_joined_batch():
    """Mean of gradients over processes, each divided by the answer, equals the joined batch divided by its count."""
    num_masks = core.find("12.2").reference
    counts, losses = torch.tensor([3.0, 0.0, 5.0]), [torch.rand(3), torch.rand(0), torch.rand(5)]
    processes = sum(x.sum() / num_masks(counts) for x in losses) / 3
    torch.testing.assert_close(processes, torch.cat(losses).sum() / 8)
