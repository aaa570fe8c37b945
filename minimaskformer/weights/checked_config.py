"""A configuration that came with a file, checked like any other input before a model is built from it."""
import math
from dataclasses import fields, replace

import torch

from ..config import MaskFormerConfig
from ..model import MaskFormer
from ..system.text import printable

# field -> (smallest, largest). The largest are far above every model's; they keep a file from making us build for hours
WHOLE = {"num_classes": (1, 100_000), "window": (1, 1000), "dim": (1, 10_000), "mask_dim": (1, 10_000),
         "encoder_layers": (0, 100), "hidden_dim": (1, 10_000), "num_queries": (1, 100_000), "num_heads": (1, 1000),
         "decoder_layers": (1, 100), "feedforward": (1, 100_000), "size_divisibility": (1, 1024),
         "short_side": (1, 20_000), "long_side": (1, 100_000)}
REAL = {"stochastic_depth": (0, 1), "dropout": (0, 1), "score_threshold": (0, 1), "overlap_threshold": (0, 1)}
NUMBER = (int, float)


def check_config(config, where):
    """A MaskFormerConfig from a file, with names made printable; ValueError names field, value and what is allowed."""
    for field in fields(MaskFormerConfig):
        name, value = field.name, getattr(config, field.name)
        allowed = not_allowed(name, value, config)
        if allowed:
            raise ValueError(f"{where}: in its configuration {name} is {printable(repr(value))}; allowed: {allowed}")
    for width, used in (("hidden_dim", True), ("dim", config.encoder_layers)):
        if used and getattr(config, width) % config.num_heads:
            raise ValueError(f"{where}: in its configuration num_heads is {config.num_heads}; allowed: a divisor of "
                             f"{width}, {getattr(config, width)}")
    return replace(config, class_names=tuple(map(printable, config.class_names)))


def not_allowed(name, value, config):
    """What would be allowed for a field instead of this value; None if the value is allowed."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if name in WHOLE:
        low, high = WHOLE[name]
        return None if whole and low <= value <= high else f"a whole number from {low} to {high}"
    if name in REAL:
        return None if isinstance(value, NUMBER) and 0 <= value <= 1 else "a number from 0 to 1"
    if name in ("pixel_mean", "pixel_std"):
        low = 0 if name == "pixel_std" else -math.inf
        good = isinstance(value, tuple) and len(value) == 3 and all(
            isinstance(x, NUMBER) and math.isfinite(x) and x > low for x in value)
        return None if good else "three numbers" + " above 0" * (name == "pixel_std")
    if name == "class_names":
        good = isinstance(value, tuple) and all(isinstance(x, str) for x in value)
        return None if good and len(value) in (0, config.num_classes) else f"no names, or {config.num_classes} of them"
    if name == "things":
        good = isinstance(value, tuple) and all(type(x) is int and 0 <= x < config.num_classes for x in value)
        return None if good and len(set(value)) == len(value) else f"class indices from 0 to {config.num_classes - 1}"
    if name in ("frozen_norm", "memory_positions", "pixel_positions"):
        return None if isinstance(value, bool) else "true or false"
    return None if isinstance(value, str) else "a name"  # backbone, memory, encoder_level: the model checks which


def expected_tensors(config, where):
    """The state dict of a configuration's model without its values: names and shapes, no memory."""
    try:
        with torch.device("meta"):
            return MaskFormer(config).state_dict()
    except (ValueError, TypeError, RuntimeError, KeyError, AssertionError) as error:
        raise ValueError(f"{where}: no model can be built from its configuration ({error})") from None
