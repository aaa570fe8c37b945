"""Runs killed by SIGKILL at random moments, resumed until they end, compared with one that nothing happened to.

    python benchmarks/kill_test.py [RUNS] [SEED]        25 runs, about five minutes

Every run must end with the same bits in model.safetensors and best.safetensors and the same rows in log.jsonl (but for
times). A run may be killed several times, also while it starts, saves, evaluates, or resumes.
"""
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import torch  # noqa: E402
from training_runs import CONFIG, TINY  # noqa: E402

from minimaskformer import Lakeland, build_model  # noqa: E402
from minimaskformer.system.tensors import read_tensors  # noqa: E402
from minimaskformer.train import train  # noqa: E402
from minimaskformer.training.resume import state_files  # noqa: E402
from minimaskformer.weights.checkpoint import digest  # noqa: E402

TIMES = ("seconds", "images_per_second", "data_wait", "memory_gb")
RUN = replace(CONFIG, steps=12, save_every=2, evaluate_every=3, log_every=2, workers=2)


def train_tiny(folder, resume):
    """A tiny model with dropout, two processes that load data."""
    torch.manual_seed(7)
    model = build_model("mini", **TINY | {"dropout": 0.1})
    train(model, Lakeland("train", 64, 0.0, 50), Lakeland("val", 64, 0.0, 2), RUN, folder, False, resume)


def started(folder, resume):
    """A process that trains in a folder; SIGKILL ends it alone, its loaders must see to themselves."""
    process = multiprocessing.get_context("fork").Process(target=train_tiny, args=(folder, resume))
    process.start()
    return process


def fingerprint(folder):
    """What a run leaves: rows, names of files, and the digests of weights and header (whose order in a file varies)."""
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    rows = [{name: value for name, value in row.items() if name not in TIMES} for row in rows]
    files = {name: digest(*read_tensors(folder / name)) for name in ("model.safetensors", "best.safetensors")}
    return files | {"log.jsonl": rows, "left": sorted(path.name for path in folder.iterdir())}


def killed_run(folder, rng, longest):
    """Train in a folder, killed up to three times; returns how often."""
    kills, resume = 0, False
    while True:
        process = started(folder, resume)
        process.join(rng.uniform(0, longest) if kills < 3 else None)
        if process.exitcode == 0:
            return kills
        if process.exitcode is not None:
            raise SystemExit(f"{folder}: a run ended with {process.exitcode}")
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        kills += 1
        if (folder / "model.safetensors").exists() and not state_files(folder):
            return kills  # killed when all was done
        resume = bool(state_files(folder))  # killed before its first save it has nothing to go on from


def main(runs=25, seed=0):
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as place:
        begin = time.monotonic()
        whole = started(Path(place) / "whole", False)
        whole.join()
        longest, expected = time.monotonic() - begin, fingerprint(Path(place) / "whole")
        print(f"uninterrupted: {longest:.1f} s, {len(expected['log.jsonl'])} rows", flush=True)
        same = kills = 0
        for number in range(runs):
            folder = Path(place) / f"run{number}"
            folder.mkdir()
            times = killed_run(folder, rng, longest)
            found = fingerprint(folder)
            found["left"] = [name for name in found["left"] if name != "run.lock"]  # a kill leaves it, and it is free
            differ = [name for name in expected if found[name] != expected[name]]
            same, kills = same + (not differ), kills + times
            outcome = f"DIFFERS in {differ}, left {found['left']}" if differ else "same"
            print(f"run {number}: killed {times} times, {outcome}", flush=True)
    print(f"{same} of {runs} runs, killed {kills} times, ended like the uninterrupted one")
    return same == runs


if __name__ == "__main__":
    sys.exit(not main(*map(int, sys.argv[1:])))
