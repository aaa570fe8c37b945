"""What a MaskFormer costs, part by part: parameters, and multiply-adds for one image (lesson 07)."""
import copy
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

PARTS = {  # the modules of each part, in the order of the forward pass; the encoder is counted separately from its FPN
    "backbone": ("backbone",),
    "encoder": ("pixel_decoder.encoder_proj", "pixel_decoder.encoder"),
    "pixel decoder": ("pixel_decoder",),
    "transformer decoder": ("input_proj", "decoder"),
    "heads": ("class_head", "mask_head"),
    "masks": (),  # the dot product of mask and pixel embeddings: no module, no parameters
}


class Cost(NamedTuple):
    parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class ModelCost:
    """The cost of each part, and the multiply-adds of heads and masks that inference computes but never uses."""
    parts: dict[str, Cost]
    auxiliary: int  # the share of the earlier decoder layers in "heads" and "masks"

    @property
    def total(self):
        return Cost(*map(sum, zip(*self.parts.values())))


def cost_by_part(model, height, width):
    """Parameters and multiply-adds of each part of a MaskFormer for one image of height x width, as a `ModelCost`.

    Convolutions, linear layers, attention and the mask product are counted, by running the model once (a copy, in
    eval mode). Norms, activations, resizing and reading out a result afterwards are not. One
    multiply-add is often called one FLOP in papers, and two FLOPs by torch. Raises ValueError for a size below 1.
    """
    if height < 1 or width < 1:
        raise ValueError(f"an image is at least 1 x 1, got {height} x {width}")
    model = copy.deepcopy(model).eval().requires_grad_(False)
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, height, width, device=model.pixel_mean.device))
    flops = {name: sum(by_op.values()) for name, by_op in counter.get_flop_counts().items()}

    def cost(names):
        inside = tuple(name + "." for name in names)
        return Cost(sum(p.numel() for name, p in model.named_parameters() if name.startswith(inside)),
                    sum(flops.get(f"{type(model).__name__}.{name}", 0) for name in names) // 2)

    parts = {part: cost(names) for part, names in PARTS.items()}
    parts["pixel decoder"] = Cost(*(a - b for a, b in zip(parts["pixel decoder"], parts["encoder"])))
    parts["masks"] = Cost(0, flops["Global"] // 2 - sum(c.multiply_adds for c in parts.values()))
    layers = model.config.decoder_layers
    each_layer = (parts["heads"].multiply_adds + parts["masks"].multiply_adds) // layers
    return ModelCost(parts, (layers - 1) * each_layer)
