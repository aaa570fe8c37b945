"""More than one GPU or machine: the few lines around torch.distributed (lesson 12).

`torchrun` starts one process per GPU and tells each who it is in environment variables. Every process holds the whole
model and sees its own part of the batch; DistributedDataParallel averages the gradients. Without torchrun there is one
process, and every function here does the obvious thing.
"""
import os
import sys
from datetime import timedelta
from functools import cache

import torch
import torch.distributed

from .text import printable

STARTED_BY_TORCHRUN = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}


def start(device="auto"):
    """Join the processes that torchrun started, if it did; returns this process's torch.device.

    device: "auto", "cpu", "cuda" or one GPU by number, such as "cuda:1". Raises ValueError if there is no such GPU.
    """
    name = device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    if name != "cpu" and not (name == "cuda" or name.startswith("cuda:") and name[5:].isdecimal()):
        raise ValueError(f"unknown device {device!r}; known: auto, cpu, cuda, or one GPU by number, such as cuda:1")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError("no CUDA device is available here; use --device cpu")
    if STARTED_BY_TORCHRUN <= os.environ.keys():
        if name.startswith("cuda"):
            name = f"cuda:{os.environ['LOCAL_RANK']}"
            torch.cuda.set_device(name)
        if not torch.distributed.is_initialized():  # half an hour: the others wait while one computes AP
            torch.distributed.init_process_group("nccl" if name.startswith("cuda") else "gloo",
                                                 timeout=timedelta(minutes=30))
    return torch.device(name)


def finish():
    """Leave the other processes."""
    if several():
        torch.distributed.destroy_process_group()


def several():
    """Whether this process is one of several."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def rank():
    """This process's number; 0 is the one that writes and prints."""
    return torch.distributed.get_rank() if several() else 0


def world_size():
    """The number of processes."""
    return torch.distributed.get_world_size() if several() else 1


def sum_over_processes(tensor):
    """The sum of a tensor over all processes, in place."""
    if several():
        torch.distributed.all_reduce(tensor)
    return tensor


def mean_over_processes(values):
    """The mean over all processes of each scalar tensor of a dict, in one transfer."""
    if not several() or not values:
        return values
    means = sum_over_processes(torch.stack([value.float() for value in values.values()])) / world_size()
    return dict(zip(values, means))


def any_process(flag, device):
    """Whether a flag is set in any process; all of them get the same answer."""
    return bool(sum_over_processes(torch.tensor(float(flag), device=device))) if several() else flag


def gather(value):
    """On process 0 the list of every process's value (anything that can be pickled), on the others None."""
    if not several():
        return [value]
    values = [None] * world_size() if rank() == 0 else None
    torch.distributed.gather_object(value, values)
    return values


def choose_device(name):
    """The torch device for "auto", "cpu" or "cuda" in this process, possibly one of several."""
    from ..system.distributed import start
    return start(name)


@cache
def say_once(text):
    """Print to stderr, each text once, and from one process only."""
    if os.environ.get("RANK", "0") == "0":
        print(printable(text, lines=True), file=sys.stderr)
