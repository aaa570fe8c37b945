"""What the fields of a model's configuration may hold, whoever made it: a person, a preset or a file.

Without PyTorch, so that the command line shows its help at once.
"""
import math

from .text import printable

# field -> (smallest, largest). The largest are far above every model's; they keep a file from making us build for hours
WHOLE = {"num_classes": (1, 100_000), "window": (1, 1000), "dim": (1, 10_000), "mask_dim": (1, 10_000),
         "encoder_layers": (0, 100), "hidden_dim": (1, 10_000), "num_queries": (1, 100_000), "num_heads": (1, 1000),
         "decoder_layers": (1, 100), "feedforward": (1, 100_000), "size_divisibility": (1, 1024),
         "short_side": (1, 20_000), "long_side": (1, 100_000)}
REAL = ("stochastic_depth", "dropout", "score_threshold", "overlap_threshold")
FLAGS = ("per_pixel", "frozen_norm", "memory_positions", "pixel_positions")
LISTS = ("class_names", "things", "pixel_mean", "pixel_std")
NUMBER = (int, float)


class FieldError(ValueError):
    """A field that cannot be meant: its name, its value and what is allowed."""


def checked_fields(fields):
    """Fields by name with tuples for lists and Python's numbers for NumPy's; FieldError names field, value, remedy."""
    fields = {name: plain_value(name, value) for name, value in fields.items()}
    for name, value in fields.items():
        allowed = not_allowed(name, value, fields)
        if allowed:
            raise FieldError(f"{name} is {printable(repr(value))}, allowed is {allowed}")
    for name, whose in (("hidden_dim", "queries"), ("dim", "cells of the encoder")):
        width, heads = fields[name], fields["num_heads"]
        if width % heads and (name == "hidden_dim" or fields["encoder_layers"]):
            raise FieldError(f"num_heads is {heads}, allowed is a divisor of {name}, which is {width}: heads share the "
                             f"channels of the {whose} among them")
    for name, step, why in (("dim", 32, "GroupNorm has 32 groups"), ("hidden_dim", 4, "a position is four of them"),
                            ("mask_dim", 4 if fields["pixel_positions"] else 1, "a position is four of them")):
        if fields[name] % step:
            raise FieldError(f"{name} is {fields[name]}, allowed is a multiple of {step}: {why}")
    return fields


def plain_value(name, value):
    """A field as Python's own: lists, sets and arrays as tuples where a tuple belongs, NumPy's numbers as numbers."""
    if name in LISTS and hasattr(value, "__iter__") and not isinstance(value, (str, bytes, dict)):
        return tuple(plain_value("", item) for item in (value.tolist() if hasattr(value, "tolist") else value))
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", None) == 0 else value


def not_allowed(name, value, fields):
    """What would be allowed for a field instead of this value; None if the value is allowed."""
    if name in WHOLE:
        low, high = WHOLE[name]
        return None if type(value) is int and low <= value <= high else f"a whole number from {low} to {high}"
    if name in REAL:
        good = isinstance(value, NUMBER) and not isinstance(value, bool) and 0 <= value <= 1
        return None if good else "a number from 0 to 1"
    if name in ("pixel_mean", "pixel_std"):
        low = 0 if name == "pixel_std" else -math.inf
        good = isinstance(value, tuple) and len(value) == 3 and all(
            isinstance(x, NUMBER) and math.isfinite(x) and x > low for x in value)
        return None if good else "three numbers" + " above 0" * (name == "pixel_std")
    if name == "class_names":
        good = isinstance(value, tuple) and all(isinstance(x, str) for x in value)
        return None if good and len(value) in (0, fields["num_classes"]) else (
            f"no name, or {fields['num_classes']} of them, one for each of num_classes")
    if name == "things":
        flags = isinstance(value, tuple) and any(isinstance(x, bool) for x in value)
        good = isinstance(value, tuple) and all(type(x) is int and 0 <= x < fields["num_classes"] for x in value)
        return None if good and len(set(value)) == len(value) else (
            f"class indices from 0 to {fields['num_classes'] - 1}, each once"
            + "; of flags take [k for k, flag in enumerate(flags) if flag]" * flags)
    if name in FLAGS:
        return None if isinstance(value, bool) else "True or False"
    return None if isinstance(value, str) else "a name"  # backbone, memory, encoder_level: the model knows which
