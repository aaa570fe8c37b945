"""Checkpoints: ours, weights and configuration in one safetensors file; the reference zoo's; the hub's.

No code inside a file is ever run: safetensors holds none, and system/pickles.py reads pickles without running them.
"""
import dataclasses
import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from ..config import MaskFormerConfig
from ..model import model_of
from ..system.files import replacing
from ..system.model_fields import FieldError
from ..system.text import parse_json, printable
from . import hub, zoo
from .hub_cache import hub_folder, is_hub_name
from .shards import read_all_tensors, weights_file

SHIPPED = {"mini": "mini.safetensors"}  # trained models that come with the package


def save_checkpoint(model, path, dtype=None, extra=None):
    """Write weights and config to a safetensors file, atomically: an interrupted write leaves the old file whole.

    dtype (for example torch.float16) stores floating tensors smaller; they are read back as float32. extra: a dict of
    strings to keep in the file's header, which also gets a digest of everything in the file.
    """
    path = Path(path)
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ValueError(f"dtype is a floating-point type such as torch.float16, got {dtype!r}: weights are no whole "
                         f"numbers")
    if not all(isinstance(text, str) for item in (extra or {}).items() for text in item):
        raise ValueError(f"extra holds strings by strings, got {extra!r}: json.dumps makes one of anything")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    if dtype is not None:
        tensors = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    header = {"format": "minimaskformer", "config": json.dumps(dataclasses.asdict(model.config)), **(extra or {})}
    header["digest"] = digest(tensors, header)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        save_file(tensors, temporary, header)


def load_checkpoint(path):
    """A MaskFormer (or PerPixelBaseline) in eval mode, from one of these, recognised by what is in the file:

    - a file of `save_checkpoint`, or a shipped name ("mini");
    - a file of the reference zoo (.pkl, .pth, both name versions; R50, R101, Swin);
    - a MaskFormer of the hub: its name ("facebook/maskformer-resnet50-ade", which is downloaded with huggingface_hub or
      read from its cache), its folder, or model.safetensors or pytorch_model.bin (or the .index.json of several such
      files) with config.json beside it.

    The configuration of the last two is read off names and shapes (and config.json). Raises FileNotFoundError, or
    ValueError if a file is truncated, was changed since it was written (files with a digest), is of another kind, has
    an impossible configuration, or does not fit it (every missing, unexpected or misshapen tensor is listed).
    """
    name, path = str(path), Path(path)
    if name in SHIPPED:
        path = shipped_checkpoint(name)
    elif not path.exists() and is_hub_name(name):
        path = hub_folder(name)
    if path.is_dir():
        path = weights_file(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}; shipped ones go by name: {', '.join(SHIPPED)}, those "
                                "of the hub as ORG/NAME")
    if path.parent.name == "checkpoints" and path.match("step_*.pt"):
        raise ValueError(f"{path} is a training checkpoint, for --resume; the model is model.safetensors in the run's "
                         f"folder")
    tensors, header = read_all_tensors(path)
    if header is not None and "digest" in header and header["digest"] != digest(tensors, header):
        raise ValueError(f"{path} is damaged: its weights or its header are not those that were written. Copy it "
                         f"again, or take another checkpoint")
    try:
        if header is not None and "config" in header:
            config = _config(header["config"], path)
        elif hub.is_hub(tensors):
            tensors = hub.convert_hub(tensors)
            config = hub.read_config(path.parent, tensors)
        elif header is None:
            tensors = zoo.convert_zoo(tensors)
            config = zoo.guess_config(tensors)
        else:
            raise ValueError(f"{path} is a safetensors file without a minimaskformer config in its header, and not "
                             f"a MaskFormer of the hub")
    except FieldError as error:
        raise ValueError(f"{path}: in its configuration {error}") from None
    config = dataclasses.replace(config, class_names=tuple(map(printable, config.class_names)))
    check_fit(expected_tensors(config, path), tensors, path)  # before any memory is taken
    model = model_of(config)
    load_tensors(model, tensors, path)
    return model.eval()


def expected_tensors(config, where):
    """The state dict of the model of a configuration, without its numbers: names, shapes, no memory."""
    try:
        with torch.device("meta"):
            return model_of(config).state_dict()
    except (ValueError, TypeError, RuntimeError, KeyError, AssertionError) as error:
        raise ValueError(f"{where}: no model can be built after its configuration ({error})") from None


def load_tensors(model, tensors, where="checkpoint"):
    """Copy tensors into a model by name; ValueError lists every missing, unexpected or misshapen one, copying none."""
    own = model.state_dict()
    check_fit(own, tensors, where)
    model.load_state_dict({name: tensor.to(own[name].dtype) for name, tensor in tensors.items()})


def check_fit(own, tensors, where):
    """ValueError unless tensors have the names and shapes of a model's own; all that do not are listed."""
    problems = [f"missing: {name}" for name in own if name not in tensors]
    problems += [f"unexpected: {name}" for name in tensors if name not in own]
    problems += [f"shape of {name}: {tuple(tensors[name].shape)} in the file, {tuple(own[name].shape)} in the model"
                 for name in own if name in tensors and tensors[name].shape != own[name].shape]
    if problems:
        raise ValueError(f"{where} does not fit the model:\n  " + "\n  ".join(problems))


def digest(tensors, header):
    """SHA-256 of named tensors and the rest of the header, as text: any changed bit changes it."""
    found = hashlib.sha256()
    for name, text in sorted(header.items()):
        found.update(repr((name, text)).encode() if name != "digest" else b"")
    for name, tensor in sorted(tensors.items()):
        found.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        found.update(tensor.contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()


def shipped_checkpoint(name):
    """Where a shipped checkpoint is: in data/ of a checkout, or inside the installed package."""
    package = Path(__file__).parent.parent
    places = [package.parent / "data" / SHIPPED[name], package / "_shipped" / SHIPPED[name]]
    for place in places:
        if place.is_file():
            return place
    raise FileNotFoundError(f"the shipped checkpoint {name!r} is in none of: {', '.join(map(str, places))}")


def _config(text, path):
    fields = {field.name for field in dataclasses.fields(MaskFormerConfig)}
    values = parse_json(text, f"{path}, its configuration")
    if not isinstance(values, dict):
        raise ValueError(f"{path}: its configuration is not a table of fields")
    unknown = sorted(set(values) - fields)
    if unknown:
        raise ValueError(f"{path} was written by another version: unknown configuration fields "
                         f"{printable(unknown)}")
    return MaskFormerConfig(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
