"""Tensors from files of any kind, read without running any code inside them."""
import os
import pickletools
import re
import zipfile

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
        content = load_whole(path)
    except Exception as error:  # torch raises many kinds for broken or refused files
        asked = re.search(r"GLOBAL (\S+)", str(error))  # torch's own advice is to trust the file
        what = f"it asks for {asked[1]}: refused, nothing was run" if asked else str(error)[:300] or "it ends too early"
        raise ValueError(f"{path} cannot be read, it is not a file of tensors only: {printable(what)}") from None
    return model_part(content, path)


def load_whole(path):
    """What torch's weights-only reader finds in a file of torch, all of which is what was written; else ValueError.

    torch verifies no checksum, and reads a file with something behind its end: another reader would find other content.
    """
    with open(path, "rb") as file:
        is_archive = file.read(2) == b"PK"
        if is_archive:
            check_archive(file)
        file.seek(0)
        content = torch.load(file, map_location="cpu", weights_only=True)
        if not is_archive and file.tell() != os.fstat(file.fileno()).st_size:
            raise ValueError("something lies behind its end")
    return content


def check_archive(file):
    """ValueError unless a zip file's parts are as they were written, none twice, and nothing lies behind the last."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 22))
    if file.read(4) != b"PK\5\6":  # what closes an archive
        raise ValueError("its end is missing, or something lies behind it")
    with zipfile.ZipFile(file) as archive:
        parts = archive.infolist()
        if not parts or min(part.header_offset for part in parts) > 0:
            raise ValueError("something lies behind the end of another archive")
        if len({part.filename for part in parts}) < len(parts):
            raise ValueError("it holds two parts of one name")
        if sum(part.file_size for part in parts) > size:
            raise ValueError("its parts are larger than the file: torch compresses none")
        if damaged := archive.testzip():
            raise ValueError(f"the checksum of its part {damaged} is wrong")
        for part in parts:
            if part.filename.endswith("data.pkl"):
                content = archive.read(part)
                if max(place for _, _, place in pickletools.genops(content)) + 1 != len(content):
                    raise ValueError(f"something lies behind the end of its part {part.filename}")


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
