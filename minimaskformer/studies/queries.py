"""What queries read and where they draw, read off a model (lesson 06)."""
from typing import NamedTuple

import torch
import torch.nn.functional as F


class DecoderInput(NamedTuple):
    """What the decoder is given, and what its answers will be compared with."""
    memory: torch.Tensor  # [B, D, h, w]
    image_mask: torch.Tensor  # bool [B, h, w], False is padding
    pixel_embeddings: torch.Tensor  # [B, C, H/4, W/4]


class Reading(NamedTuple):
    """What N queries of B pictures read and answer, after each of L decoder layers."""
    attention: torch.Tensor  # [L, B, heads, N, h, w]: softmax over the h*w cells of the memory
    class_logits: torch.Tensor  # [L, B, N, K+1]
    mask_logits: torch.Tensor  # [L, B, N, H/4, W/4]


@torch.no_grad()
def decoder_input(model, images, sizes=None):
    """What a MaskFormer computes before its transformer decoder; images and sizes as in `MaskFormer.forward`."""
    memory, image_mask, pixel_embeddings = model.encode(images, sizes)
    if image_mask is None:
        image_mask = torch.ones_like(memory[:, 0], dtype=torch.bool)  # [B, h, w]
    return DecoderInput(memory, image_mask, pixel_embeddings)


@torch.no_grad()
def read_queries(model, images, sizes=None):
    """A `Reading`: the answers after every decoder layer, as `forward` gives them, and what each head has read."""
    memory, image_mask, pixel_embeddings = decoder_input(model, images, sizes)
    states, attentions = model.decoder(memory, image_mask, need_weights=True)
    output = model.heads(states, pixel_embeddings)
    layers = (*output.aux, output)
    return Reading(torch.stack(attentions).unflatten(-1, memory.shape[-2:]),
                   torch.stack([o.class_logits for o in layers]), torch.stack([o.mask_logits for o in layers]))


def share_on_mask(attention, mask_logits):
    """How much of the attention falls on the query's own mask: [..., h, w] and logits [..., H, W] to [...], 0 ... 1."""
    inside = (mask_logits > 0).float().flatten(0, -3)[:, None]  # [M, 1, H, W]
    inside = F.interpolate(inside, attention.shape[-2:], mode="area").reshape(attention.shape)  # share of each cell
    return (attention * inside).sum((-2, -1))


def mask_centres(mask_logits):
    """The centre (x, y) of each mask, its pixels above one half, in 0 ... 1 of the picture: [..., H, W] to [..., 2].

    nan if a mask is empty.
    """
    inside = (mask_logits > 0).float()  # [..., H, W]
    h, w = inside.shape[-2:]
    y, x = torch.meshgrid((torch.arange(h) + 0.5) / h, (torch.arange(w) + 0.5) / w, indexing="ij")
    return torch.stack([(inside * x).sum((-2, -1)), (inside * y).sum((-2, -1))], -1) / inside.sum((-2, -1))[..., None]
