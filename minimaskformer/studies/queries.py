"""What queries read and where they draw, read off a model (lesson 06)."""
from typing import NamedTuple

import torch
import torch.nn.functional as F

from ..model import MAPS
from ..pixel_decoder import resize_mask


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
    """A MaskFormer's work before its transformer decoder; images and sizes as in `MaskFormer.forward`."""
    images, image_mask = model.pad(images, sizes)
    features = model.backbone(images)  # res2 ... res5
    pixel_embeddings, pyramid, encoded = model.pixel_decoder(features, image_mask)
    memory = model.input_proj(dict(zip(MAPS, (*features, *pyramid, encoded)))[model.config.memory])  # [B, D, h, w]
    if model.config.pixel_positions:
        pixel_embeddings = pixel_embeddings + model.positions(image_mask, pixel_embeddings)
    if model.config.memory_positions:
        memory = memory + model.positions(image_mask, memory)
    return DecoderInput(memory, resize_mask(image_mask, memory), pixel_embeddings)


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
    """The middle (x, y) of each mask, its pixels above one half, in 0 ... 1 of the picture: [..., H, W] to [..., 2].

    Not a number where a mask is empty.
    """
    inside = (mask_logits > 0).float()  # [..., H, W]
    h, w = inside.shape[-2:]
    y, x = torch.meshgrid((torch.arange(h) + 0.5) / h, (torch.arange(w) + 0.5) / w, indexing="ij")
    return torch.stack([(inside * x).sum((-2, -1)), (inside * y).sum((-2, -1))], -1) / inside.sum((-2, -1))[..., None]
