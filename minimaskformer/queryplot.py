"""What queries read and draw: attention maps, sine positions, and what a query specialises in (lesson 06)."""
from typing import NamedTuple

import torch

from .model import MAPS
from .pixel_decoder import resize_mask


class Reading(NamedTuple):
    """What N queries of B pictures read and answer after each of L decoder layers."""
    attention: torch.Tensor  # [L, B, heads, N, h, w]: softmax over the h*w cells of the memory
    class_logits: torch.Tensor  # [L, B, N, K+1]
    mask_logits: torch.Tensor  # [L, B, N, H/4, W/4]


class DecoderInput(NamedTuple):
    """What the decoder is given, and what its answers will be compared with."""
    memory: torch.Tensor  # [B, D, h, w]
    image_mask: torch.Tensor  # bool [B, h, w], False is padding
    pixel_embeddings: torch.Tensor  # [B, C, H/4, W/4]


@torch.no_grad()
def decoder_input(model, images, sizes=None):
    """A MaskFormer's work before its transformer decoder; images and sizes as in `MaskFormer.forward`."""
    images, image_mask = model.pad(images, sizes)
    features = model.backbone(images)  # res2 ... res5
    pixel_embeddings, pyramid, encoded = model.pixel_decoder(features, image_mask)
    if model.config.pixel_positions:
        pixel_embeddings = pixel_embeddings + model.positions(image_mask, pixel_embeddings)
    memory = model.input_proj(dict(zip(MAPS, (*features, *pyramid, encoded)))[model.config.memory])  # [B, D, h, w]
    if model.config.memory_positions:
        memory = memory + model.positions(image_mask, memory)
    return DecoderInput(memory, resize_mask(image_mask, memory), pixel_embeddings)


@torch.no_grad()
def read_queries(model, images, sizes=None):
    """A `Reading`: the model's answers after every decoder layer, as `forward` gives them, and what each head read."""
    memory, image_mask, pixel_embeddings = decoder_input(model, images, sizes)
    states, attentions = model.decoder(memory, image_mask, need_weights=True)
    states = torch.stack(states)  # [L, B, N, D]
    attention = torch.stack(attentions).unflatten(-1, memory.shape[-2:])  # [L, B, heads, N, h, w]
    mask_logits = torch.einsum("lbnc,bchw->lbnhw", model.mask_head(states), pixel_embeddings)
    return Reading(attention, model.class_head(states), mask_logits)
