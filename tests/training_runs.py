"""Small training runs that test_resume.py and test_distributed.py start in processes of their own.

    python tests/training_runs.py FOLDER [STEP | write]     a run that is killed in that step, or in its second write
    torchrun ... tests/training_runs.py FOLDER shared       what several processes find out together
"""
import json
import os
import random
import signal
import sys
from pathlib import Path

import numpy as np
import torch

import minimaskformer.train as train_module
import minimaskformer.training.resume as resume
import minimaskformer.training.run as run_module
from minimaskformer import Lakeland, SetCriterion, build_model, evaluate
from minimaskformer.system.distributed import finish, mean_over_processes, rank, start, world_size
from minimaskformer.train import train
from minimaskformer.training.recipes import TrainConfig

TINY = dict(dim=32, mask_dim=32, hidden_dim=32, feedforward=32, decoder_layers=2, encoder_layers=0, num_queries=16, short_side=64)
CONFIG = TrainConfig(steps=6, batch_size=2, size=64, warmup=2, log_every=3, save_every=2, evaluate_every=3, evaluate_images=2)
SHARED = TrainConfig(steps=3, batch_size=4, size=64, warmup=2, log_every=3, save_every=2, evaluate_images=4, accumulate=2)


class Noisy(Lakeland):
    """Scenes with noise from every random number generator a data set might use."""

    def __getitem__(self, index):
        image, target = super().__getitem__(index)
        noise = random.randint(0, 20) + int(np.random.randint(0, 20)) + torch.randint(0, 20, image.shape)
        return (image.int() + noise).clamp(0, 255).to(torch.uint8), target


def start_run(folder, config=CONFIG, resume=False, **changes):
    """Train a tiny model with dropout on noisy scenes."""
    torch.manual_seed(7)
    model = build_model("mini", **TINY | {"dropout": 0.1} | changes)
    train(model, Noisy("train", 64, 0.0, 5), Lakeland("val", 64, 0.0, 2), config, folder, progress=False, resume=resume)
    return model


def kill_in_step(number):
    """SIGKILL in the middle of a step."""
    original = train_module.set_learning_rate

    def kill(optimizer, config, step):
        if step == number:
            os.kill(os.getpid(), signal.SIGKILL)
        original(optimizer, config, step)
    train_module.set_learning_rate = kill


def kill_in_write():
    """SIGKILL when half of the training checkpoint of step 2 is written."""
    original = torch.save

    def kill(state, path):
        original(state, path)
        if state["progress"]["step"] == 2:
            os.truncate(path, os.path.getsize(path) // 2)
            os.kill(os.getpid(), signal.SIGKILL)
    resume.torch.save = kill


def uneven_batch():
    """Four images with very different numbers of targets, the first with none."""
    items = [Lakeland("train", 64, d, 9)[i] for d, i in ((0.0, 0), (0.0, 1), (1.0, 1), (1.0, 2))]
    images, targets = torch.stack([image for image, _ in items]), [target for _, target in items]
    targets[0] = targets[0] | {"labels": targets[0]["labels"][:0], "masks": targets[0]["masks"][:0]}
    return images, targets


def frozen_model():
    """Without a trained BatchNorm, whose statistics are those of each process on a CPU."""
    torch.manual_seed(7)
    return build_model("mini", **TINY, frozen_norm=True)


def losses_and_gradients(model, runner):
    """Of this process's share of the uneven batch."""
    images, targets = uneven_batch()
    mine = slice(rank() * 4 // world_size(), (rank() + 1) * 4 // world_size())
    losses = SetCriterion(11)(runner(model.normalize(images[mine])), targets[mine])
    losses["loss"].backward()
    losses = mean_over_processes({name: value.detach() for name, value in losses.items()})
    return {name: value.item() for name, value in losses.items()}, [p.grad for p in model.parameters()]


def shared(folder):
    """What test_distributed.py compares with one process."""
    device = start("cpu")
    model = frozen_model()
    runner = torch.nn.parallel.DistributedDataParallel(model)
    losses, gradients = losses_and_gradients(model, runner)
    results = evaluate(frozen_model(), Lakeland("val", 64, 0.5, 37), progress=False)
    written = []
    original = run_module.save_checkpoint
    run_module.save_checkpoint = lambda *arguments, **options: written.append(1) or original(*arguments, **options)
    model = frozen_model()
    figures = train(model, Lakeland("train", 64, 0.3, 9), Lakeland("val", 64, 0.3, 4), SHARED, folder / "run", progress=False)
    found = {"losses": losses, "gradients": gradients, "weights": model.state_dict(), "wrote": len(written), "device": str(device),
             "results": json.dumps(results), "figures": figures is not None, "first": random.random()}
    torch.save(found, folder / f"rank{rank()}.pt")
    finish()


if __name__ == "__main__":
    place, what = Path(sys.argv[1]), sys.argv[2]
    if what == "shared":
        shared(place)
    else:
        kill_in_write() if what == "write" else kill_in_step(int(what))
        start_run(place)
