"""The frame of a learner's MaskFormer, first half: parameters, and the forward pass that calls the learner's parts.

All below the line is copied into my_maskformer.py. In this file every part is borrowed from the library; in the
learner's, their own functions have the same names.
"""
import json
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ..backbone import build_backbone
from ..config import get_config
from .borrowed import (
    decoder_layer,
    decoder_states,
    layer_answers,
    multi_head_attention,
    pixel_decoder,
    query_masks,
    sine_positions,
)

# ===== The frame, by the course: parameters and the forward pass ======================================================

MINI = get_config("mini")  # sizes, class names, normalisation of the model that the course ships
TYPES = {"F16": torch.float16, "F32": torch.float32, "I64": torch.int64}


def read_parameters(path):
    """The tensors of a .safetensors file, floats as float32: 8 bytes say how long the JSON is, then JSON, then data."""
    data = Path(path).read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    parameters = {}
    for name, entry in json.loads(data[8:start]).items():
        if name != "__metadata__":
            first, end = (start + place for place in entry["data_offsets"])
            tensor = torch.frombuffer(bytearray(data[first:end]), dtype=TYPES[entry["dtype"]]).reshape(entry["shape"])
            parameters[name] = tensor.float() if tensor.is_floating_point() else tensor
    return parameters


def tensor_of(value, dtype):
    """What a part returned as a tensor: it may be an array or a list, and a list without entries has no type."""
    if isinstance(value, (list, tuple)) and any(isinstance(each, (list, tuple, torch.Tensor)) for each in value):
        return torch.stack([tensor_of(each, dtype) for each in value])  # with a gradient, maybe
    return (value if torch.is_tensor(value) else torch.as_tensor(np.array(value))).to(dtype)


def draw_parameters(config=MINI, seed=0):
    """New parameters as one dictionary, under the library's names. The modules only draw them and are thrown away."""
    torch.manual_seed(seed)
    dim, hidden, wide = config.dim, config.hidden_dim, config.feedforward

    def layers(count, channels, *attentions):
        made = nn.ModuleList([nn.ModuleDict(
            {name: nn.MultiheadAttention(channels, config.num_heads) for name in attentions}
            | {"mlp": nn.Sequential(nn.Linear(channels, wide), nn.ReLU(), nn.Dropout(), nn.Linear(wide, channels))}
            | {f"norm{i + 1}": nn.LayerNorm(channels) for i in range(len(attentions) + 1)}) for _ in range(count)])
        for parameter in made.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        return made

    def conv_norm(inputs, kernel):
        return nn.Sequential(nn.Conv2d(inputs, dim, kernel, bias=False), nn.GroupNorm(32, dim))

    backbone = build_backbone(config)
    encoder, channels = layers(config.encoder_layers, dim, "self_attn"), backbone.channels
    pyramid = nn.ModuleDict({"laterals": nn.ModuleList([conv_norm(inputs, 1) for inputs in channels[:3]]),
                             "outputs": nn.ModuleList([nn.Sequential(conv_norm(inputs, 3))
                                                       for inputs in (dim, dim, dim, channels[3])]),
                             "mask_features": nn.Conv2d(dim, config.mask_dim, 3)})
    for conv in [module for module in pyramid.modules() if isinstance(module, nn.Conv2d)]:
        nn.init.kaiming_uniform_(conv.weight, a=1)
    nn.init.zeros_(pyramid.mask_features.bias)
    everything = nn.ModuleDict({
        "backbone": backbone,
        "pixel_decoder": nn.ModuleDict({"encoder": nn.ModuleDict({"layers": encoder}), **pyramid}),
        "input_proj": nn.Conv2d(dim, hidden, 1),
        "decoder": nn.ModuleDict({"query_positions": nn.Embedding(config.num_queries, hidden),
                                  "layers": layers(config.decoder_layers, hidden, "self_attn", "cross_attn"),
                                  "norm": nn.LayerNorm(hidden)}),
        "class_head": nn.Linear(hidden, config.num_classes + 1),
        "mask_head": nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
                                   nn.Linear(hidden, config.mask_dim))})
    return {name: tensor.detach().clone() for name, tensor in everything.state_dict().items()}


def under(parameters, prefix):
    """The parameters of one part, under the names they have inside it."""
    return {name[len(prefix) + 1:]: tensor for name, tensor in parameters.items() if name.startswith(prefix + ".")}


@cache
def backbone_skeleton(config, training):
    """The library's backbone; it is called with parameters from outside."""
    return build_backbone(config).requires_grad_(False).train(training)


@cache
def map_positions(height, width, dim):
    return tensor_of(sine_positions(height, width, dim), torch.float32)  # [dim, H, W]


def apply_linear(x, weights, name):
    return F.linear(x, weights[f"{name}.weight"].to(x), weights[f"{name}.bias"].to(x))


def apply_norm(x, weights, name):
    return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"].to(x), weights[f"{name}.bias"].to(x))


def layer_functions(weights, num_heads):
    """The parameters of one transformer layer as functions, under the names of the library's modules."""
    def attention_of(name):
        own = under(weights, name)
        return lambda query, key, value, *_, **__: (
            tensor_of(multi_head_attention(query, key, value, own, num_heads), query.dtype), None)

    return SimpleNamespace(self_attn=attention_of("self_attn"), cross_attn=attention_of("cross_attn"),
                           norm1=lambda x: apply_norm(x, weights, "norm1"),
                           norm2=lambda x: apply_norm(x, weights, "norm2"),
                           norm3=lambda x: apply_norm(x, weights, "norm3"),
                           mlp=lambda x: apply_linear(apply_linear(x, weights, "mlp.0").relu(), weights, "mlp.3"))


def encode_map(features, positions, weights, config):
    """The encoder inside the pixel decoder: every cell of a map [B, C, h, w] reads all others; positions [C, h, w]."""
    x, where = features.flatten(2).mT, positions.to(features).flatten(1).mT  # [B, h*w, C], [h*w, C]
    for i in range(config.encoder_layers):
        layer = layer_functions(under(weights, f"layers.{i}"), config.num_heads)
        q = k = x + where
        x = layer.norm1(x + layer.self_attn(q, k, x)[0])
        x = layer.norm2(x + layer.mlp(x))
    return x.mT.reshape(features.shape)


def query_states(parameters, images, config=MINI, training=False):
    """Normalised images [B, 3, H, W] to the states of all layers [L, B, N, D] and pixel embeddings [B, C, H/4, W/4]."""
    features = torch.func.functional_call(backbone_skeleton(config, training), under(parameters, "backbone"), (images,))
    encoded = []  # the map that the queries read: p3, after the encoder

    def encoder(p3):
        positions = map_positions(*p3.shape[-2:], p3.shape[1])
        own = under(parameters, "pixel_decoder.encoder")
        encoded.append(encode_map(p3.to(images.dtype), positions, own, config))
        return encoded[0].to(p3.dtype)

    weights = {name: w for name, w in under(parameters, "pixel_decoder").items() if not name.startswith("encoder.")}
    pixels = tensor_of(pixel_decoder(features, weights, encoder), images.dtype)  # [B, C, H/4, W/4]
    pixels = pixels + map_positions(*pixels.shape[-2:], pixels.shape[1]).to(pixels)
    memory = F.conv2d(encoded[0], parameters["input_proj.weight"], parameters["input_proj.bias"])  # [B, D, H/8, W/8]
    where = map_positions(*memory.shape[-2:], memory.shape[1]).to(memory)
    cells, where = (memory + where).flatten(2).mT, where.flatten(1).mT.expand(len(images), -1, -1)  # [B, P, D] both
    decoder = under(parameters, "decoder")
    layers = [layer_functions(under(decoder, f"layers.{i}"), config.num_heads) for i in range(config.decoder_layers)]
    steps = [lambda x, query_positions, memory, memory_positions, *_, layer=layer, **__: (
        tensor_of(decoder_layer(layer, x, query_positions, memory, memory_positions), x.dtype), None)
        for layer in layers]
    states = decoder_states(steps, lambda x: apply_norm(x, decoder, "norm"), decoder["query_positions.weight"],
                            cells, where)
    return tensor_of(states, images.dtype), pixels


def every_answer(parameters, images, config=MINI):
    """For training: L pairs (class logits [B, N, K+1], mask logits [B, N, H/4, W/4]), in the order of the layers."""
    states, pixels = query_states(parameters, images, config, training=True)
    head = under(parameters, "mask_head")
    answers = layer_answers(
        states, lambda x: x,  # the decoder has normed them
        lambda x: apply_linear(x, parameters, "class_head"),
        lambda x: apply_linear(apply_linear(apply_linear(x, head, "0").relu(), head, "2").relu(), head, "4"), pixels)
    last_class, last_masks, aux_class, aux_masks = (tensor_of(each, pixels.dtype) for each in answers)
    return [*zip(aux_class, aux_masks), (last_class, last_masks)]


@torch.no_grad()
def last_answer(parameters, images, config=MINI):
    """For a prediction: class logits [B, N, K+1] and mask logits [B, N, H/4, W/4] of the last layer alone."""
    states, pixels = query_states(parameters, images, config)
    head = [(parameters[f"mask_head.{i}.weight"], parameters[f"mask_head.{i}.bias"]) for i in (0, 2, 4)]
    masks = tensor_of(query_masks(states[-1], head, pixels), torch.float32)
    return apply_linear(states[-1], parameters, "class_head"), masks
