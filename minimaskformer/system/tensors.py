"""Tensors from files of any kind, read without running any code inside them."""
import re

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from .pickles import Array, read_arrays
from .text import printable

OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # what opens every file torch wrote until version 1.5


def read_tensors(path):
    """The {name: tensor} of a file of any kind, and the header of a safetensors file (None for the other kinds)."""
    with open(path, "rb") as file:
        start = file.read(len(OLD_TORCH))
    if start[:2] == b"PK" or start == OLD_TORCH:
        return read_torch(path), None
    if start[:1] == b"\x80" and start[8:9] != b"{":  # a pickle; safetensors has a length of 8 bytes, then {
        return model_part(read_arrays(path), path), None
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error}); it may be truncated: copy it or train "
                         f"it again") from None


def read_torch(path):
    """The tensors of a .pth, in the old format too, with torch's own weights-only reader."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for broken or refused files
        asked = re.search(r"GLOBAL (\S+)", str(error))  # torch's own advice is to trust the file
        what = f"it asks for {asked[1]}: refused, nothing was run" if asked else str(error)[:300]
        raise ValueError(f"{path} cannot be read, it is not a file of tensors only: {printable(what)}") from None
    return model_part(content, path)


def model_part(content, path):
    """The {name: array} inside a checkpoint: itself, or under "model" or "state_dict"."""
    for key in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path} holds no state dict (names and tensors), but {type(content).__name__}")
    return {str(name): plain_tensor(value, f"{path}: {printable(name)}") for name, value in content.items()
            if isinstance(value, (Array, np.ndarray, np.generic, torch.Tensor))}


def plain_tensor(value, where):
    """An array or tensor as a tensor of numbers that really lie in memory; ValueError for tensors of other kinds.

    A file may claim that its one number is a tensor of a billion (by a stride of 0), and a model of that size is built.
    """
    tensor = torch.as_tensor(value.array if isinstance(value, Array) else value)
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
        raise ValueError(f"{where} is not a plain tensor of numbers")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise ValueError(f"{where} says it is {tuple(tensor.shape)}, which is more than the file holds")
    return tensor


def to_numpy(values):
    """A tensor (of any device) or array-like as an array."""
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
