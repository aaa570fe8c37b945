"""Tensors from files of any kind, read without running any code inside them."""
import codecs
import pickle
from collections import OrderedDict

import numpy as np
import torch
from safetensors import SafetensorError, safe_open


def read_tensors(path):
    """The {name: tensor} of a file of any kind, and the header of a safetensors file (None for the other kinds)."""
    with open(path, "rb") as file:
        start = file.read(9)
    if start[:2] == b"PK":
        return read_torch(path), None
    if start[:1] == b"\x80" and start[8:] != b"{":  # a pickle; safetensors has a length of 8 bytes, then {
        return read_pickle(path), None
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error}); it may be truncated: copy it or train "
                         f"it again") from None


class ArraysOnly(pickle.Unpickler):
    """An unpickler that builds NumPy arrays and plain containers, and refuses everything else before it can run."""
    ALLOWED = {("collections", "OrderedDict"): OrderedDict, ("_codecs", "encode"): codecs.encode,
               ("numpy", "ndarray"): np.ndarray, ("numpy", "dtype"): np.dtype}
    MULTIARRAY = {f"{package}.multiarray" for package in ("numpy.core", "numpy._core")}

    def find_class(self, module, name):
        if module in self.MULTIARRAY and name in ("_reconstruct", "scalar"):
            return getattr(np._core.multiarray if hasattr(np, "_core") else np.core.multiarray, name)
        if (module, name) in self.ALLOWED:
            return self.ALLOWED[module, name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no array: refused, nothing was run")


def read_pickle(path):
    """The tensors of a zoo .pkl, by a restricted unpickler; raises ValueError for anything else than arrays."""
    try:
        with open(path, "rb") as file:
            content = ArraysOnly(file, encoding="latin1").load()
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, IndexError, ImportError) as error:
        raise ValueError(f"{path} can not be read as a pickle of arrays: {error}") from None
    return model_part(content, path)


def read_torch(path):
    """The tensors of a .pth, with torch's own weights-only reader."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for broken or refused files
        raise ValueError(f"{path} can not be read: it is not a file of tensors only: {str(error)[:300]}") from None
    return model_part(content, path)


def model_part(content, path):
    """The {name: array} inside a checkpoint: itself, or under "model" or "state_dict"."""
    for key in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path} holds no state dict (names and tensors), but {type(content).__name__}")
    return {name: torch.as_tensor(value) for name, value in content.items() if hasattr(value, "shape")}


def to_numpy(values):
    """A tensor (of any device) or array-like as an array."""
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
