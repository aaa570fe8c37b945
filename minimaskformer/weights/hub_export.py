"""A MaskFormer as a folder of the hub: what the package `transformers` loads, with the same outputs."""
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from ..backbone import build_backbone
from ..swin import HEAD_DIM, SWINS, relative_position_index
from ..system.files import replacing, write_text
from .hub_pictures import FILE as PICTURES
from .hub_pictures import NO_LIMIT
from .renaming import renamed, shifted

# What is built as there: blocks of the stages, and what stands in config.json of the ResNets.
RESNETS = {"resnet18": ("basic", [2, 2, 2, 2]), "resnet50": ("bottleneck", [3, 4, 6, 3]),
           "resnet101": ("bottleneck", [3, 4, 23, 3])}
STAGES = ["stage1", "stage2", "stage3", "stage4"]
# What config.json has no word for. It is kept there all the same, for `load_checkpoint`; transformers passes it over.
UNSAID = ("things", "size_divisibility", "score_threshold", "overlap_threshold")
OURS = "minimaskformer"

ENCODER, DECODER, TRANSFORMER = ("model.pixel_level_module.encoder.", "model.pixel_level_module.decoder.",
                                 "model.transformer_module.")
RESNET_NAMES = [  # our names to those of the files, applied in order
    (r"^backbone\.stem\.0\.", ENCODER + "embedder.embedder.convolution."),
    (r"^backbone\.stem\.1\.", ENCODER + "embedder.embedder.normalization."),
    (r"^backbone\.stages\.(\d)\.", ENCODER + r"encoder.stages.\1.layers."),
    (r"\.downsample\.0\.", ".shortcut.convolution."),
    (r"\.downsample\.1\.", ".shortcut.normalization."),
    (r"\.conv(\d)\.", shifted(".layer.{}.convolution.", by=-1)),
    (r"\.bn(\d)\.", shifted(".layer.{}.normalization.", by=-1)),
]
SWIN_NAMES = [
    (r"^backbone\.stem\.0\.", ENCODER + "model.embeddings.patch_embeddings.projection."),
    (r"^backbone\.stem\.2\.", ENCODER + "model.embeddings.norm."),
    (r"^backbone\.norms\.", ENCODER + "hidden_states_norms."),
    (r"^backbone\.merges\.(\d)\.", ENCODER + r"model.encoder.layers.\1.downsample."),
    (r"^backbone\.stages\.(\d)\.(\d+)\.norm1\.", r"backbone.stages.\1.\2.layernorm_before."),
    (r"^backbone\.stages\.(\d)\.(\d+)\.norm2\.", r"backbone.stages.\1.\2.layernorm_after."),
    (r"^backbone\.stages\.(\d)\.(\d+)\.mlp\.0\.", r"backbone.stages.\1.\2.intermediate.dense."),
    (r"^backbone\.stages\.(\d)\.(\d+)\.mlp\.3\.", r"backbone.stages.\1.\2.output.dense."),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.attn\.qkv\.", ".attention.self.{query key value}."),
    (r"\.attn\.", ".attention.self."),
    (r"^backbone\.stages\.(\d)\.", ENCODER + r"model.encoder.layers.\1.blocks."),
]
NAMES = [
    (r"^pixel_decoder\.outputs\.3\.0\.", DECODER + "fpn.stem."),  # the hub counts from the coarsest map
    (r"^pixel_decoder\.outputs\.(\d)\.0\.", shifted(DECODER + "fpn.layers.{}.block.", factor=-1, by=2)),
    (r"^pixel_decoder\.laterals\.(\d)\.", shifted(DECODER + "fpn.layers.{}.proj.", factor=-1, by=2)),
    (r"^pixel_decoder\.mask_features\.", DECODER + "mask_projection."),
    (r"^input_proj\.", TRANSFORMER + "input_projection."),
    (r"^decoder\.query_positions\.", TRANSFORMER + "queries_embedder."),
    (r"^decoder\.norm\.", TRANSFORMER + "decoder.layernorm."),
    (r"^(decoder\.layers\..*)\.norm1\.", r"\1.self_attn_layer_norm."),
    (r"^(decoder\.layers\..*)\.norm2\.", r"\1.encoder_attn_layer_norm."),
    (r"^(decoder\.layers\..*)\.norm3\.", r"\1.final_layer_norm."),
    (r"^(decoder\.layers\..*)\.mlp\.0\.", r"\1.fc1."),
    (r"^(decoder\.layers\..*)\.mlp\.3\.", r"\1.fc2."),
    (r"^(decoder\.layers\..*)\.cross_attn\.", r"\1.encoder_attn."),
    (r"_attn\.in_proj_", "_attn.{q k v}_proj."),
    (r"^decoder\.layers\.", TRANSFORMER + "decoder.layers."),
    (r"^class_head\.", "class_predictor."),
    (r"^mask_head\.(\d)\.", lambda match: f"mask_embedder.{int(match[1]) // 2}.0."),  # the ReLUs between have numbers
]


def save_hub(model, folder):
    """Write config.json, preprocessor_config.json and model.safetensors, which transformers loads.

    So `MaskFormerForInstanceSegmentation.from_pretrained(folder)` gives the outputs of `model` in eval mode, for
    pictures whose sides are multiples of `size_divisibility`; `load_checkpoint(folder)` gives the model back, with its
    BatchNorm frozen. Raises ValueError, before anything is written, naming what transformers cannot express of it.
    """
    problems = not_expressible(model.config)
    if problems:
        raise ValueError(f"transformers has no such MaskFormer: {'; '.join(problems)}. save_checkpoint keeps any model")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = hub_state(model)
    with replacing(folder / "model.safetensors") as temporary:
        save_file(tensors, temporary, {"format": "pt"})
    write_text(folder / "config.json", json.dumps(hub_config(model.config), indent=2))
    write_text(folder / PICTURES, json.dumps(hub_picture_settings(model.config), indent=2))


def not_expressible(config):
    """What of a configuration the MaskFormer of transformers does not have, as texts."""
    problems = []
    if config.backbone not in (*RESNETS, *SWINS):
        problems.append(f"it has no backbone {config.backbone}, only {', '.join((*RESNETS, *SWINS))}")
    if config.per_pixel:
        problems.append("it has no per-pixel classification")
    if config.encoder_layers:
        problems.append(f"its pixel decoder has no transformer encoder, this one has {config.encoder_layers} layers")
    if config.memory != "res5":
        problems.append(f"its queries read res5, these read {config.memory}")
    added = [name for name in ("memory_positions", "pixel_positions") if getattr(config, name)]
    return problems + [f"it has no {name}" for name in added]


def hub_config(config):
    """The content of config.json."""
    names = config.class_names or [f"LABEL_{k}" for k in range(config.num_classes)]
    decoder = {"model_type": "detr", "num_queries": config.num_queries, "decoder_layers": config.decoder_layers,
               "decoder_attention_heads": config.num_heads, "d_model": config.hidden_dim, "dropout": config.dropout,
               "decoder_ffn_dim": config.feedforward, "activation_function": "relu", "position_embedding_type": "sine"}
    return {"architectures": ["MaskFormerForInstanceSegmentation"], "model_type": "maskformer",
            "backbone_config": hub_backbone(config), "decoder_config": decoder,
            "fpn_feature_size": config.dim, "mask_feature_size": config.mask_dim,
            "id2label": {str(k): name for k, name in enumerate(names)},
            "label2id": {name: k for k, name in enumerate(names)},
            OURS: {name: getattr(config, name) for name in UNSAID}}


def hub_backbone(config):
    """The part backbone_config of config.json."""
    if config.backbone in SWINS:
        width, depths = SWINS[config.backbone]
        heads = [width * 2 ** stage // HEAD_DIM for stage in range(4)]
        return {"model_type": "swin", "embed_dim": width, "depths": list(depths), "num_heads": heads,
                "window_size": config.window, "drop_path_rate": config.stochastic_depth, "hidden_act": "gelu",
                "layer_norm_eps": 1e-5, "use_absolute_embeddings": False, "out_features": STAGES}
    kind, depths = RESNETS[config.backbone]
    with torch.device("meta"):
        channels = build_backbone(config).channels
    return {"model_type": "resnet", "embedding_size": 64, "hidden_sizes": channels, "depths": depths,
            "layer_type": kind, "hidden_act": "relu", "downsample_in_first_stage": False,
            "downsample_in_bottleneck": False, "out_features": STAGES}


def hub_picture_settings(config):
    """The content of preprocessor_config.json."""
    size = {"shortest_edge": config.short_side} | ({"longest_edge": config.long_side} if config.long_side < NO_LIMIT
                                                   else {})
    return {"image_processor_type": "MaskFormerImageProcessor", "do_resize": True, "size": size, "resample": 2,
            "size_divisor": 0, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
            "image_mean": [value / 255 for value in config.pixel_mean],
            "image_std": [value / 255 for value in config.pixel_std], "do_reduce_labels": False, "ignore_index": 255,
            "num_labels": config.num_classes}


def hub_state(model):
    """A model's {name: tensor} under the names of the hub's files, and what only counts or is constant there."""
    swin = model.config.backbone in SWINS
    rules, tensors = (SWIN_NAMES if swin else RESNET_NAMES) + NAMES, {}
    for name, tensor in model.state_dict().items():
        new, tensor = renamed(name, rules), tensor.detach().cpu()
        if "{" in new:  # three tensors there, one here
            head, parts, tail = new.replace("}", "{").split("{")
            tensors |= {f"{head}{part}{tail}": third.contiguous() for part, third in
                        zip(parts.split(), tensor.chunk(3))}
        else:
            tensors[new] = tensor.contiguous()
    classes = torch.ones(model.config.num_classes + 1)
    classes[-1] = 0.1
    tensors["criterion.empty_weight"] = classes
    if swin:
        index, width = relative_position_index(model.config.window), model.backbone.channels[-1]
        tensors |= {name.removesuffix("bias_table") + "index": index.clone() for name in list(tensors)
                    if name.endswith(".relative_position_bias_table")}
        tensors |= {ENCODER + "model.layernorm.weight": torch.ones(width),
                    ENCODER + "model.layernorm.bias": torch.zeros(width)}
    for name in [name for name in tensors if name.endswith(".running_var")]:
        tensors.setdefault(name.removesuffix("running_var") + "num_batches_tracked", torch.tensor(0))
    return tensors
