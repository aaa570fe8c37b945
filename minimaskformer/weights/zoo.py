"""The reference zoo's weights under our names: one table of renamings, and a reader that trusts no pickle.

The zoo's files are detectron2's: a pickle (.pkl) or torch file (.pth) with {"model": {name: array}}. Names come in two
versions; version 1 lacks the part `pixel_decoder.` (reference code, MaskFormerHead._load_from_state_dict).
"""
import math
from dataclasses import replace

import torch

from ..config import PRESETS
from ..swin import SWINS
from .renaming import renamed, shifted

ZOO_RULES = [  # applied in order; \1 ... are the parts in brackets
    (r"^backbone\.stem\.conv1\.norm\.", "backbone.stem.1."),
    (r"^backbone\.stem\.conv1\.", "backbone.stem.0."),
    (r"^backbone\.res(\d)\.", shifted("backbone.stages.{}.", by=-2)),  # res2 is stage 0
    (r"^(backbone\.stages\..*)\.shortcut\.norm\.", r"\1.downsample.1."),
    (r"^(backbone\.stages\..*)\.shortcut\.", r"\1.downsample.0."),
    (r"^(backbone\.stages\..*)\.conv(\d)\.norm\.", r"\1.bn\2."),
    (r"^backbone\.patch_embed\.proj\.", "backbone.stem.0."),
    (r"^backbone\.patch_embed\.norm\.", "backbone.stem.2."),
    (r"^backbone\.layers\.(\d)\.downsample\.", r"backbone.merges.\1."),
    (r"^backbone\.layers\.(\d)\.blocks\.", r"backbone.stages.\1."),
    (r"^(backbone\.stages\..*)\.mlp\.fc1\.", r"\1.mlp.0."),
    (r"^(backbone\.stages\..*)\.mlp\.fc2\.", r"\1.mlp.3."),
    (r"^backbone\.norm(\d)\.", r"backbone.norms.\1."),
    (r"^sem_seg_head\.(?!predictor\.|pixel_decoder\.)", "sem_seg_head.pixel_decoder."),  # version 1
    (r"^sem_seg_head\.", ""),
    (r"^pixel_decoder\.adapter_(\d)\.norm\.", shifted("pixel_decoder.laterals.{}.1.", by=-1)),  # the zoo counts from 1
    (r"^pixel_decoder\.adapter_(\d)\.", shifted("pixel_decoder.laterals.{}.0.", by=-1)),
    (r"^pixel_decoder\.layer_(\d)\.norm\.", shifted("pixel_decoder.outputs.{}.0.1.", by=-1)),
    (r"^pixel_decoder\.layer_(\d)\.", shifted("pixel_decoder.outputs.{}.0.0.", by=-1)),
    (r"^pixel_decoder\.input_proj\.", "pixel_decoder.encoder_proj."),
    (r"^pixel_decoder\.transformer\.encoder\.", "pixel_decoder.encoder."),
    (r"^predictor\.transformer\.", ""),
    (r"^predictor\.query_embed\.", "decoder.query_positions."),
    (r"^predictor\.class_embed\.", "class_head."),
    (r"^predictor\.", ""),
    (r"^mask_embed\.layers\.(\d)\.", shifted("mask_head.{}.", factor=2)),  # the ReLUs between them are numbered too
    (r"\.multihead_attn\.", ".cross_attn."),
    (r"^((?:decoder|pixel_decoder\.encoder)\..*)\.linear1\.", r"\1.mlp.0."),
    (r"^((?:decoder|pixel_decoder\.encoder)\..*)\.linear2\.", r"\1.mlp.3."),
]


def our_name(name):
    """The name a tensor of the zoo has here."""
    return renamed(name, ZOO_RULES)


def convert_zoo(tensors):
    """The zoo's {name: tensor} under our names, without its constants (class weights, pixel mean, Swin's indices)."""
    return {our_name(name): torch.as_tensor(value) for name, value in tensors.items()
            if not name.startswith("criterion.") and name not in ("pixel_mean", "pixel_std")
            and not name.endswith(".attn.relative_position_index")}


def guess_config(tensors):
    """The configuration that fits converted tensors, from their names and shapes; ValueError if no preset is close.

    What a missing tensor would have told is taken from the preset, so the caller can list it instead of failing here.
    """
    def size(*names):  # length of the first of these that is there
        return next((tensors[name].shape[0] for name in names if name in tensors and tensors[name].ndim), None)

    def count(prefix):  # how many numbers follow a prefix
        return len({name.removeprefix(prefix).split(".")[0] for name in tensors if name.startswith(prefix)})

    blocks = count("backbone.stages.2.")
    width = size("backbone.stem.0.weight", "backbone.stages.0.0.conv1.weight", "backbone.stages.0.0.norm1.weight")
    known = {(64, 2): "r18", (64, 6): "r50", (64, 23): "r101"}
    known |= {(w, depths[2]): name for name, (w, depths) in SWINS.items()}
    if (width, blocks) not in known:
        raise ValueError(f"these weights are not of a kind we can read: {blocks} blocks in res4 (R18 has 2, R50 6, "
                         f"R101 23, Swin 6 or 18), {width} channels in the stem, first names {sorted(tensors)[:3]}")
    backbone = known[width, blocks]
    classes = size("class_head.weight", "class_head.bias")  # K + 1
    encoder = count("pixel_decoder.encoder.")
    config = PRESETS[backbone + ("_panoptic" if encoder or classes == 134 and backbone in SWINS else "")]
    table = size("backbone.stages.0.0.attn.relative_position_bias_table")  # (2 w - 1)^2 of a Swin
    num_classes = classes - 1 if classes else config.num_classes
    return replace(config, num_classes=num_classes, window=(math.isqrt(table) + 1) // 2 if table else config.window,
                   num_queries=size("decoder.query_positions.weight") or config.num_queries,
                   decoder_layers=count("decoder.layers.") or config.decoder_layers,
                   dim=size("pixel_decoder.outputs.0.0.0.weight") or config.dim,
                   mask_dim=size("pixel_decoder.mask_features.bias") or config.mask_dim,
                   hidden_dim=size("decoder.norm.bias") or config.hidden_dim,
                   feedforward=size("decoder.layers.0.mlp.0.bias") or config.feedforward,
                   things=config.things if num_classes == config.num_classes else ())
