"""Swin Transformer as a backbone: attention inside windows, which shift by half a window in every second block.

Blocks, patch merging and stochastic depth are torchvision's. The attention is ours, for one reason: where a map fits
into a single window torchvision does not shift, and the reference code does. A shift there still matters, because its
mask cuts the window in two. With 512 x 512 images the two agree; on smaller ones res5 (stride 32) would differ.

Liu et al. 2021, arXiv 2103.14030.
"""
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.swin_transformer import PatchMerging, SwinTransformerBlock
from torchvision.ops import Permute

SWINS = {  # channels of the first stage, blocks of the four stages
    "swin_t": (96, (2, 2, 6, 2)),
    "swin_s": (96, (2, 2, 18, 2)),
    "swin_b": (128, (2, 2, 18, 2)),
    "swin_l": (192, (2, 2, 18, 2)),
}
HEAD_DIM = 32  # channels of an attention head, in every stage of every size


class Swin(nn.Module):
    """A Swin as `forward(images [B, 3, H, W]) -> [res2, res3, res4, res5]`, channels in `.channels`.

    Images are zero-padded at the right and bottom to a multiple of 4, so map s has ceil(H / s) rows. Each map passes a
    LayerNorm of its own on the way out; the next stage reads the map before that norm. No absolute positions.
    Stochastic depth, in training only: the probability of skipping a branch grows from 0 in the first block to
    `stochastic_depth` in the last.
    """

    def __init__(self, name, window=7, stochastic_depth=0.3):
        super().__init__()
        width, depths = SWINS[name]
        self.channels = [width * 2 ** stage for stage in range(4)]
        self.stem = nn.Sequential(nn.Conv2d(3, width, 4, stride=4), Permute([0, 2, 3, 1]), nn.LayerNorm(width))
        skip = iter([stochastic_depth * i / (sum(depths) - 1) for i in range(sum(depths))])
        self.stages = nn.ModuleList([
            nn.Sequential(*[swin_block(dim, window, shifted=bool(i % 2), skip=next(skip)) for i in range(depth)])
            for dim, depth in zip(self.channels, depths)])
        self.merges = nn.ModuleList([PatchMerging(dim) for dim in self.channels[:3]])
        self.norms = nn.ModuleList([nn.LayerNorm(dim) for dim in self.channels])
        for linear in [m for m in self.modules() if isinstance(m, nn.Linear)]:
            nn.init.trunc_normal_(linear.weight, std=0.02)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)

    def forward(self, images):
        x = self.stem(pad_to(images, 4, rows=2))  # [B, H/4, W/4, C]: channels last, inside a Swin
        features = []
        for i, (stage, norm) in enumerate(zip(self.stages, self.norms)):
            x = stage(x)  # [B, H/s, W/s, C_s]
            features.append(norm(x).permute(0, 3, 1, 2).contiguous())  # [B, C_s, H/s, W/s]
            if i < 3:
                x = self.merges[i](pad_to(x, 2))  # [B, H/2s, W/2s, 2 C_s]: four neighbours become one cell
        return features  # strides 4, 8, 16, 32


def swin_block(dim, window, shifted, skip):
    """LayerNorm, window attention, add; LayerNorm, MLP, add: torchvision's block around our attention."""
    shift = window // 2 if shifted else 0
    return SwinTransformerBlock(dim, dim // HEAD_DIM, [window, window], [shift, shift], stochastic_depth_prob=skip,
                                attn_layer=WindowAttention)


class WindowAttention(nn.Module):
    """Self-attention inside each window of w x w cells, with a learned bias for every relative position.

    A map [B, H, W, C] is zero-padded to whole windows and rolled up and left by `shift`. After a roll, the last windows
    hold cells from opposite borders: cells of different regions do not see each other (-100 on their logits). Padding
    is attended to, as in the reference. Parameters have torchvision's names and shapes.
    """

    def __init__(self, dim, window_size, shift_size, num_heads, attention_dropout=0.0, dropout=0.0):
        super().__init__()
        if attention_dropout or dropout:
            raise ValueError("Swin's attention has no dropout; stochastic depth does its work")
        self.window, self.shift, self.num_heads = window_size[0], shift_size[0], num_heads
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * self.window - 1) ** 2, num_heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.register_buffer("index", relative_position_index(self.window), persistent=False)

    def forward(self, x):
        _, H, W, _ = x.shape
        w = self.window
        x = pad_to(x, w).roll((-self.shift, -self.shift), (1, 2))
        size = x.shape[1:3]
        x = to_windows(x, w)  # [B, M, P, C]: M windows of P = w * w cells
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(3, 0, 1, 4, 2, 5)  # each [B, M, h, P, d]
        bias = self.relative_position_bias_table[self.index].permute(2, 0, 1)  # [P, P, h] -> [h, P, P]
        logits = (q * q.shape[-1] ** -0.5) @ k.mT + bias  # [B, M, h, P, P]
        if self.shift:
            logits = logits + region_mask(size, w, self.shift, x.device)[:, None].to(logits.dtype)  # [M, 1, P, P]
        x = (logits.softmax(-1) @ v).transpose(2, 3).flatten(3)  # [B, M, P, C]
        x = from_windows(self.proj(x), w, size)
        return x.roll((self.shift, self.shift), (1, 2)).narrow(1, 0, H).narrow(2, 0, W)


def pad_to(x, multiple, rows=1):
    """Zeros at the right and bottom until rows (dimension `rows`) and columns (the next) are whole multiples.

    Sizes are written as ceil(H / m) * m, not H + (-H % m): torch.export handles them as formulas, which would otherwise
    grow from map to map until it never finishes.
    """
    H, W = x.shape[rows:rows + 2]
    h, w = (H + multiple - 1) // multiple * multiple, (W + multiple - 1) // multiple * multiple
    return F.pad(x, (0, 0) * (x.ndim - rows - 2) + (0, w - W, 0, h - H))


def to_windows(x, w):
    """[B, H, W, C] to [B, M, w * w, C], windows in reading order."""
    B, H, W, C = x.shape
    x = x.reshape(B, H // w, w, W // w, w, C).transpose(2, 3)  # [B, rows, columns, w, w, C]
    return x.reshape(B, (H // w) * (W // w), w * w, C)


def from_windows(x, w, size):
    """The inverse of `to_windows`: [B, M, w * w, C] to [B, *size, C]."""
    B, H, W, C = x.shape[0], *size, x.shape[-1]
    return x.reshape(B, H // w, W // w, w, w, C).transpose(2, 3).reshape(B, H, W, C)


def relative_position_index(w):
    """Row of the bias table for each pair of cells of a w x w window: int64 [w * w, w * w]."""
    cell = torch.arange(w * w)
    dy = cell[:, None] // w - cell // w + w - 1  # 0 ... 2w-2
    dx = cell[:, None] % w - cell % w + w - 1
    return dy * (2 * w - 1) + dx


def region_mask(size, w, shift, device=None):
    """[M, w * w, w * w]: 0 for two cells that were neighbours before the roll, -100 for cells of opposite borders."""
    rows, columns = ((torch.arange(n, device=device) >= n - shift).long() for n in size)  # 1: came around the border
    regions = to_windows((2 * rows[:, None] + columns)[None, :, :, None], w)[0, :, :, 0]  # [M, w * w]
    return -100.0 * (regions[:, :, None] != regions[:, None, :])
