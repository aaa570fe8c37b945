"""The hub's MaskFormer (a folder with config.json and model.safetensors or pytorch_model.bin) under our names.

R18, R50, R101 and Swin without encoder layers, which the hub's code does not have. Two versions of the names are in
use: the files' own, and those of version 5 of the `transformers` package, which differ only in the decoder.
"""
import re
from dataclasses import replace
from pathlib import Path

import torch

from ..swin import SWINS
from ..system.distributed import say_once
from ..system.text import parse_json, printable
from . import zoo
from .hub_export import OURS, UNSAID
from .hub_pictures import FILE, picture_settings
from .renaming import renamed, shifted

HUB_RULES = [  # applied in order; what follows a space names one of three parts that become one tensor here
    (r"^model\.pixel_level_module\.encoder\.", "backbone."),
    (r"^backbone\.embedder\.embedder\.convolution\.", "backbone.stem.0."),
    (r"^backbone\.embedder\.embedder\.normalization\.", "backbone.stem.1."),
    (r"^backbone\.encoder\.stages\.(\d)\.layers\.", r"backbone.stages.\1."),
    (r"^(backbone\.stages\..*)\.shortcut\.convolution\.", r"\1.downsample.0."),
    (r"^(backbone\.stages\..*)\.shortcut\.normalization\.", r"\1.downsample.1."),
    (r"^(backbone\.stages\..*)\.layer\.(\d)\.convolution\.", shifted(r"\1.conv{}.", by=1)),
    (r"^(backbone\.stages\..*)\.layer\.(\d)\.normalization\.", shifted(r"\1.bn{}.", by=1)),
    (r"^backbone\.model\.embeddings\.patch_embeddings\.projection\.", "backbone.stem.0."),
    (r"^backbone\.model\.embeddings\.norm\.", "backbone.stem.2."),
    (r"^backbone\.model\.encoder\.layers\.(\d)\.blocks\.", r"backbone.stages.\1."),
    (r"^backbone\.model\.encoder\.layers\.(\d)\.downsample\.", r"backbone.merges.\1."),
    (r"^backbone\.hidden_states_norms\.", "backbone.norms."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.attention\.self\.(query|key|value)\.(weight|bias)$", r".attn.qkv.\2 \1"),
    (r"\.attention\.self\.", ".attn."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"^(backbone\..*)\.intermediate\.dense\.", r"\1.mlp.0."),
    (r"^(backbone\..*)\.output\.dense\.", r"\1.mlp.3."),
    # the hub counts its pyramid from the coarsest map
    (r"^model\.pixel_level_module\.decoder\.fpn\.stem\.", "pixel_decoder.outputs.3.0."),
    (r"^model\.pixel_level_module\.decoder\.fpn\.layers\.(\d)\.proj\.",
     shifted("pixel_decoder.laterals.{}.", factor=-1, by=2)),
    (r"^model\.pixel_level_module\.decoder\.fpn\.layers\.(\d)\.block\.",
     shifted("pixel_decoder.outputs.{}.0.", factor=-1, by=2)),
    (r"^model\.pixel_level_module\.decoder\.mask_projection\.", "pixel_decoder.mask_features."),
    (r"^model\.transformer_module\.queries_embedder\.", "decoder.query_positions."),
    (r"^model\.transformer_module\.input_projection\.", "input_proj."),
    (r"^model\.transformer_module\.decoder\.layernorm\.", "decoder.norm."),
    (r"^model\.transformer_module\.decoder\.", "decoder."),
    (r"\.self_attn_layer_norm\.", ".norm1."),
    (r"\.encoder_attn_layer_norm\.", ".norm2."),
    (r"\.final_layer_norm\.", ".norm3."),
    (r"\.encoder_attn\.", ".cross_attn."),
    (r"_attn\.([qkv])_proj\.(weight|bias)$", r"_attn.in_proj_\2 \1"),
    (r"_attn\.o_proj\.", "_attn.out_proj."),  # version 5
    (r"^(decoder\..*?)(?:\.mlp)?\.fc1\.", r"\1.mlp.0."),  # with mlp: version 5
    (r"^(decoder\..*?)(?:\.mlp)?\.fc2\.", r"\1.mlp.3."),
    (r"^class_predictor\.", "class_head."),
    (r"^mask_embedder\.(\d)\.0\.", shifted("mask_head.{}.", factor=2)),
]
# Constants, and a norm of the Swin classifier that no map passes through.
UNUSED = re.compile(r"^criterion\.empty_weight$|\.num_batches_tracked$|\.relative_position_index$"
                    r"|^model\.pixel_level_module\.encoder\.model\.layernorm\.")
# Settings in config.json that change the arithmetic but not the shapes, with the values we compute.
RESNET_SETTINGS = {"layer_type": "bottleneck", "downsample_in_first_stage": False, "downsample_in_bottleneck": False,
                   "hidden_act": "relu"}
SWIN_SETTINGS = {"use_absolute_embeddings": False, "hidden_act": "gelu", "layer_norm_eps": 1e-5}
DECODER_SETTINGS = {"activation_function": "relu", "position_embedding_type": "sine"}


def is_hub(tensors):
    """Whether named tensors come from the hub's MaskFormer."""
    return any(name.startswith("model.pixel_level_module.") for name in tensors)


def our_name_and_part(name):
    """The name of a hub tensor here, and which part of it: "" for all, else "query", "key", "value" or their initial.
    """
    name, _, part = renamed(name, HUB_RULES).partition(" ")
    return name, part


def convert_hub(tensors):
    """The hub's {name: tensor} under our names; query, key and value weights become one tensor, in this order.

    Three that are incomplete or differ in shape stay separate, under names that say so: the caller lists them.
    """
    converted, triples = {}, {}
    for name, tensor in tensors.items():
        if UNUSED.search(name):
            continue
        new, part = our_name_and_part(name)
        if part:
            triples.setdefault(new, {})[part[0]] = name
        else:
            converted[new] = torch.as_tensor(tensor)
    for new, names in triples.items():
        shapes = {tensors[name].shape for name in names.values()}
        if len(names) == 3 and len(shapes) == 1:
            converted[new] = torch.cat([tensors[names[part]] for part in "qkv"])  # [3 * dim, ...]
            continue
        for name in names.values():
            converted[f"{name} {tuple(tensors[name].shape)}, of the incomplete or uneven {new}"] = tensors[name]
    return converted


def read_config(folder, tensors):
    """The configuration for converted tensors: shapes from the tensors, heads and class names from config.json.

    Mean, std and size of pictures are those of preprocessor_config.json, if there is one; a note says what of it cannot
    be done here. FileNotFoundError without a config.json; ValueError if it asks for another model or other arithmetic
    than ours.
    """
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"a MaskFormer of the hub needs its config.json beside the weights: {path} is missing")
    try:
        settings = parse_json(path.read_text(encoding="utf-8"), path)
        kind = settings.get("model_type")
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path} is not a JSON object: {error}") from None
    if kind != "maskformer":
        raise ValueError(f"{path} describes a model of type {printable(repr(kind))}, not 'maskformer'")
    config = zoo.guess_config(tensors)
    backbone, decoder = (settings.get(part) or {} for part in ("backbone_config", "decoder_config"))
    names = settings.get("id2label") or {}
    if not all(isinstance(part, dict) for part in (backbone, decoder, names)) or not all(map(str.isdecimal, names)):
        raise ValueError(f"{path}: backbone_config, decoder_config and id2label (class numbers and names) must be "
                         "tables")
    expected = SWIN_SETTINGS if config.backbone in SWINS else RESNET_SETTINGS
    expected = expected | {"layer_type": "basic"} if config.backbone == "resnet18" else expected
    problems = [f"{name} = {given[name]!r}, we compute {value!r}"
                for given, needed in ((backbone, expected), (decoder, DECODER_SETTINGS))
                for name, value in needed.items() if given.get(name, value) != value]
    if problems:
        raise ValueError(f"{path} asks for something this library does not have:\n  " + "\n  ".join(problems))
    class_names = tuple(str(names[key]) for key in sorted(names, key=int))
    if len(class_names) != config.num_classes or class_names[0] == "LABEL_0":
        class_names = ()
    pictures, undone = picture_settings(folder)
    if undone:
        say_once(f"note: {Path(folder) / FILE} asks for something this library does differently: {'; '.join(undone)}")
    ours = settings.get(OURS)  # of a model of ours, what config.json has no word for
    if isinstance(ours, dict) and settings.get("id2label") is not None and len(names) == config.num_classes:
        pictures |= {name: tuple(ours[name]) if isinstance(ours[name], list) else ours[name]
                     for name in UNSAID if name in ours}
    return replace(config, class_names=class_names, **pictures,
                   num_heads=decoder.get("decoder_attention_heads", config.num_heads),
                   dropout=decoder.get("dropout", config.dropout),
                   stochastic_depth=backbone.get("drop_path_rate", config.stochastic_depth))
