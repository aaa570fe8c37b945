"""Queries and the transformer decoder: N learned slots read the image and become N predictions (lesson 06)."""
import torch
from torch import nn


def sine_positions(mask, dim, temperature=10_000.0):
    """Two-dimensional sine positions [B, dim, H, W] of the pixels that `mask` bool [B, H, W] marks as image (DETR).

    The first dim/2 channels encode y, the others x. Row t = 1 ... H of the true image has y = 2 pi t / (H + 1e-6), and
    channels 2i, 2i + 1 are sin and cos of y / temperature^(2i / (dim/2)); float32. Raises ValueError unless 4 | dim.
    """
    if dim % 4:
        raise ValueError(f"sine positions need a multiple of 4 channels, got {dim}")
    y = mask.cumsum(1, dtype=torch.float32)  # [B, H, W]: 1 ... H
    x = mask.cumsum(2, dtype=torch.float32)  # [B, H, W]: 1 ... W
    y = y / (y[:, -1:, :] + 1e-6) * 2 * torch.pi  # just above 0 ... 2 pi, however much padding follows
    x = x / (x[:, :, -1:] + 1e-6) * 2 * torch.pi
    channel = torch.arange(dim // 2, dtype=torch.float32, device=mask.device)
    wavelength = temperature ** (2 * (channel // 2) / (dim // 2))  # pairs (sin, cos) share one
    y, x = y[..., None] / wavelength, x[..., None] / wavelength  # [B, H, W, dim/2]
    y, x = (torch.stack([a[..., 0::2].sin(), a[..., 1::2].cos()], -1).flatten(3) for a in (y, x))
    return torch.cat([y, x], -1).permute(0, 3, 1, 2)  # [B, dim, H, W]


def positions_like(features, image_mask=None):
    """Sine positions with the shape and type of a feature map [B, C, h, w]; image_mask bool [B, h, w] marks true cells.

    None: all are true, and then the B pictures share one set of positions.
    """
    B, C, h, w = features.shape
    if image_mask is None:
        image_mask = torch.ones(1, h, w, dtype=torch.bool, device=features.device)
    return sine_positions(image_mask, C).to(features.dtype).expand(B, -1, -1, -1)  # [B, C, h, w]


def cells(features, image_mask=None):
    """What attention takes: the cells of a map [B, C, h, w], their positions (both [B, h*w, C]), and which are padding.

    The third is bool [B, h*w], or None without an image_mask. We do not check whether a mask marks any padding: the
    host would wait for the GPU in every forward pass, and a compiled graph would break there.
    """
    positions = positions_like(features, image_mask).flatten(2).mT  # [B, h*w, C]
    padding = None if image_mask is None else ~image_mask.flatten(1)  # [B, h*w]
    return features.flatten(2).mT, positions, padding  # [B, h*w, C], ...


class EncoderLayer(nn.Module):
    """Self-attention among the cells of a feature map, then a two-layer MLP; a LayerNorm after each (post-norm)."""

    def __init__(self, dim, num_heads, feedforward, dropout):
        super().__init__()
        self.self_attn = nn.MultiheadAttention(dim, num_heads, dropout, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(dim, feedforward), nn.ReLU(), nn.Dropout(dropout),
                                 nn.Linear(feedforward, dim))
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, positions, padding=None):
        """x, positions [B, P, C]; padding bool [B, P], True is not image. Returns [B, P, C]."""
        q = k = x + positions
        x = self.norm1(x + self.dropout(self.self_attn(q, k, x, key_padding_mask=padding, need_weights=False)[0]))
        return self.norm2(x + self.dropout(self.mlp(x)))


class TransformerEncoder(nn.Module):
    """Encoder layers on a feature map: every cell sees the whole image, which helps to tell instances apart (DETR)."""

    def __init__(self, dim=256, num_layers=6, num_heads=8, feedforward=2048, dropout=0.1):
        super().__init__()
        self.layers = nn.ModuleList([EncoderLayer(dim, num_heads, feedforward, dropout) for _ in range(num_layers)])
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(self, features, image_mask=None):
        """features [B, C, h, w], image_mask bool [B, h, w] (False = padding; None: there is none) to [B, C, h, w]."""
        x, positions, padding = cells(features, image_mask)  # [B, h*w, C]
        for layer in self.layers:
            x = layer(x, positions, padding)
        return x.mT.reshape(features.shape)  # [B, C, h, w]


class DecoderLayer(nn.Module):
    """Self-attention among queries, cross-attention to the image, a two-layer MLP; a LayerNorm after each (post-norm).

    Positions are added to what is compared (queries and keys), never to what is read (values).
    """

    def __init__(self, dim, num_heads, feedforward, dropout):
        super().__init__()
        self.self_attn = nn.MultiheadAttention(dim, num_heads, dropout, batch_first=True)
        self.cross_attn = nn.MultiheadAttention(dim, num_heads, dropout, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(dim, feedforward), nn.ReLU(), nn.Dropout(dropout),
                                 nn.Linear(feedforward, dim))
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, query_positions, memory, memory_positions, padding=None, need_weights=False):
        """x, query_positions [B, N, C]; memory, memory_positions [B, P, C]; padding bool [B, P], True is not image.

        Returns x [B, N, C] and, if asked for, what each head of each query reads, [B, heads, N, P] (else None).
        """
        q = k = x + query_positions  # [B, N, C]
        x = self.norm1(x + self.dropout(self.self_attn(q, k, x, need_weights=False)[0]))
        read, weights = self.cross_attn(x + query_positions, memory + memory_positions, memory,
                                        key_padding_mask=padding, need_weights=need_weights,
                                        average_attn_weights=False)  # [B, N, C], [B, heads, N, P]
        x = self.norm2(x + self.dropout(read))
        x = self.norm3(x + self.dropout(self.mlp(x)))
        return x, weights


class TransformerDecoder(nn.Module):
    """L decoder layers on N learned queries; returns the state after every layer, through one shared final norm.

    The queries start at *zero* and their learned part is only a position (`query_positions`), as in DETR: so the first
    self-attention mixes identical values, and in eval mode it does nothing but add a constant.
    """

    def __init__(self, dim=256, num_queries=100, num_layers=6, num_heads=8, feedforward=2048, dropout=0.1):
        super().__init__()
        self.query_positions = nn.Embedding(num_queries, dim)
        self.layers = nn.ModuleList([DecoderLayer(dim, num_heads, feedforward, dropout) for _ in range(num_layers)])
        self.norm = nn.LayerNorm(dim)
        for parameter in self.layers.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(self, memory, image_mask=None, need_weights=False):
        """memory [B, C, h, w], image_mask bool [B, h, w] (False = padding; None: there is none) to L states [B, N, C].

        With need_weights also the L cross-attentions, each [B, heads, N, h*w]: softmax over the cells of the memory.
        """
        memory, positions, padding = cells(memory, image_mask)  # [B, h*w, C]
        query_positions = self.query_positions.weight.to(memory.dtype).expand(memory.shape[0], -1, -1)  # [B, N, C]
        x = torch.zeros_like(query_positions)
        states, attentions = [], []
        for layer in self.layers:
            x, weights = layer(x, query_positions, memory, positions, padding, need_weights)
            states.append(self.norm(x))
            attentions.append(weights)
        return (states, attentions) if need_weights else states
