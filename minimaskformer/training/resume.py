"""A run that stops can go on: training checkpoints, and what must be the same to resume (lesson 10).

A training checkpoint holds everything that decides what comes next: weights, optimizer, gradient scaler, the state of
every random number generator, how far the run is, and the sums for the unfinished row of the log. The order of the
pictures and the learning rate are functions of the step, so they need not be saved. On a CPU a resumed run ends with
the same bits as an uninterrupted one.
"""
import contextlib
import json
import os
import random
import shutil
import warnings
import zlib
from dataclasses import asdict, dataclass, field

import numpy as np
import torch

from ..system.distributed import gather, mean_over_processes, rank, world_size
from ..system.files import replacing
from ..system.tensors import load_whole
from .recipes import free_fields

KEPT = 2  # if the newest is damaged there is still the one before it
RESULTS = ("model.safetensors", "best.safetensors", "log.jsonl", "config.json", "metrics.md", "metrics.json",
           "curves.png", "scenes.png", "evidence.json")  # what a finished run leaves


@dataclass
class Progress:
    """How far a run is."""
    step: int = 0
    seconds: float = 0.0
    rows: int = 0  # lines of log.jsonl
    best: float | None = None  # score of best.safetensors
    averages: dict = field(default_factory=dict)  # for the log row being collected


def save_state(folder, parts, progress, facts):
    """Write a training checkpoint of the current step, whole or not at all, and keep the one before it too.

    parts: {name: anything with a state_dict}; facts: see `run_facts`. Every process must call it; process 0 writes.
    """
    progress.averages = mean_over_processes(progress.averages)
    generators = gather(generator_states())
    if rank() != 0:
        return
    path = state_folder(folder) / f"step_{progress.step:08d}.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        torch.save({"facts": json.dumps(facts), "progress": asdict(progress), "generators": generators,
                    "parts": {name: part.state_dict() for name, part in parts.items()}}, temporary)
    others = [other for other in state_files(folder) if other != path]
    before = [other for other in others if other < path][-(KEPT - 1):]
    for other in others:
        if other not in before:  # too old, or from later steps that the resumed run has not reached again
            other.unlink()


def load_state(folder, parts, progress, facts):
    """Restore model, optimizer and all else from the newest intact checkpoint of a folder; False if there is none.

    A damaged file gives a warning, and the one before it is used. Raises ValueError if the run was started with other
    settings, listing them, and for a file that is intact but not a checkpoint of this run.
    """
    for path in reversed(state_files(folder)):
        try:
            state = load_whole(path)
            break
        except Exception as error:  # zipfile and torch raise many kinds for damaged files
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            warnings.warn(f"{path} cannot be read ({reason}); trying the checkpoint before it", stacklevel=3)
    else:
        if state_files(folder):
            raise ValueError(f"none of the training checkpoints in {state_folder(folder)} can be read; start again in "
                             f"another folder, with --start-from {folder}/model.safetensors if that file is whole")
        return False
    with naming_file(path):
        then = {group: dict(values) for group, values in json.loads(state["facts"]).items()}
    check_facts(folder, then, facts)
    with naming_file(path):
        check_form(state, parts["optimizer"])
        for name, part in parts.items():
            part.load_state_dict(state["parts"][name])
        for name, value in state["progress"].items():
            setattr(progress, name, value)
        device = next(parts["model"].parameters()).device
        progress.averages = {name: value.to(device) for name, value in progress.averages.items()}
        if len(state["generators"]) == world_size():
            set_generator_states(state["generators"][rank()])
    if len(state["generators"]) != world_size() and rank() == 0:
        warnings.warn(f"the run was interrupted with {len(state['generators'])} processes and goes on with "
                      f"{world_size()}: pictures, learning rate and optimizer continue, but dropout draws other "
                      f"numbers", stacklevel=3)
    return True


@contextlib.contextmanager
def naming_file(path):
    """Turn any error caused by a file of another form into a ValueError that names the file."""
    try:
        yield
    except Exception as error:
        raise ValueError(f"{path} is not a training checkpoint of this run ({type(error).__name__}: {error})") from None


def check_form(state, optimizer):
    """ValueError unless a checkpoint's content has the form that `save_state` gives it, and fits the optimizer: AdamW
    does not check the shapes of its own state."""
    kinds = {"step": int, "seconds": float, "rows": int, "best": (float, type(None)), "averages": dict}
    progress = state["progress"]
    wrong = [name for name, kind in kinds.items() if not isinstance(progress.get(name), kind)]
    if wrong or progress.keys() - kinds.keys() or progress["step"] < 0 or progress["rows"] < 0:
        raise ValueError(f"it does not say how far the run was: {', '.join(wrong)}")
    if not all(isinstance(value, torch.Tensor) and value.ndim == 0 for value in progress["averages"].values()):
        raise ValueError("its averages are not numbers")
    saved, own = state["parts"]["optimizer"], optimizer.state_dict()
    settings = [[{name: group[name] for name in group if name != "lr"} for group in groups]
                for groups in (saved["param_groups"], own["param_groups"])]
    if settings[0] != settings[1]:
        raise ValueError("its optimizer has other groups or settings")
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for i, entry in saved["state"].items():
        shapes = {name: tuple(entry[name].shape) for name in entry}
        shape = tuple(parameters[i].shape)
        if shapes != {"step": (), "exp_avg": shape, "exp_avg_sq": shape}:
            raise ValueError(f"the optimizer's state of parameter {i} has the shapes {shapes}, expected {shape}")
        if not all(value.dtype == torch.float32 and value.layout == torch.strided for value in entry.values()):
            raise ValueError(f"the optimizer's state of parameter {i} is not of float32 numbers")


def run_facts(model, dataset, config):
    """What must be the same for a run to go on: the model, the training options, the data. A dict of plain values."""
    options = {name: value for name, value in asdict(config).items() if name not in free_fields()}
    image, _ = dataset[0]
    data = {"images": len(dataset), "classes": dataset.classes.names,
            "first image": zlib.crc32(image.contiguous().numpy())}
    return json.loads(json.dumps({"model": asdict(model.config), "train": options, "data": data}))


def check_facts(folder, then, now):
    """Raise ValueError listing what differs between a run's facts then and now."""
    lines = [f"  {group} {name}: {then.get(group, {}).get(name)} then, {now[group].get(name)} now"
             for group in now for name in sorted(now[group].keys() | then.get(group, {}).keys())
             if then.get(group, {}).get(name) != now[group].get(name)]
    if lines:
        raise ValueError(f"the run in {folder} was started differently, so this would be another run:\n"
                         + "\n".join(lines) + "\nResume with the options it was started with")


def state_folder(folder):
    """Where a run's training checkpoints are."""
    return folder / "checkpoints"


def state_files(folder):
    """A run's training checkpoints, the oldest first."""
    return sorted(state_folder(folder).glob("step_*.pt"))


def set_aside(folder):
    """Move what an earlier run left in a folder to previous/, so that files of two runs are never mixed.

    One such run is kept, the last that had a model; nothing is kept of a run that ended before its first save.
    """
    found = [folder / name for name in RESULTS if (folder / name).exists()]
    keep = (folder / "model.safetensors").exists()
    if keep:
        shutil.rmtree(folder / "previous", ignore_errors=True)
        (folder / "previous").mkdir()
    for path in found:
        if keep:
            os.replace(path, folder / "previous" / path.name)
        else:
            path.unlink()


def remove_states(folder):
    """Remove the training checkpoints of a finished run, and files that a kill left half written."""
    if rank() == 0 and state_folder(folder).is_dir():
        for path in (*state_files(folder), *state_folder(folder).glob("*.tmp")):
            path.unlink()
        if not any(state_folder(folder).iterdir()):
            state_folder(folder).rmdir()


def seed_everything(seed):
    """Seed Python's, NumPy's and PyTorch's generators; each process of a group draws different numbers."""
    random.seed(seed + rank())
    np.random.seed((seed + rank()) % 2**32)
    torch.manual_seed(seed + rank())


def generator_states():
    """The states of all random number generators that training may use, as plain values."""
    name, keys, *rest = np.random.get_state()
    return {"python": random.getstate(), "numpy": [name, keys.tolist(), *rest], "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None}


def set_generator_states(states):
    """Restore the states that `generator_states` returned."""
    random.setstate(states["python"])
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if states["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
