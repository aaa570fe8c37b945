"""Two processes under torchrun do what one process does with the joined batch. (gloo, on the CPU.)"""
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from training_runs import SHARED, frozen_model, losses_and_gradients

from minimaskformer import Lakeland, SetCriterion, evaluate, load_checkpoint
from minimaskformer.system.distributed import start
from minimaskformer.train import train
from minimaskformer.training.batches import BatchOrder, MicroBatches

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """What two processes found, and the folder they shared."""
    folder = tmp_path_factory.mktemp("pair")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    result = subprocess.run([*command, "tests/training_runs.py", str(folder), "shared"], cwd=ROOT, capture_output=True,
                            text=True, timeout=500,
                            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(torch.get_num_threads())})
    assert result.returncode == 0, result.stderr[-3000:]
    return folder, [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


def test_losses_and_gradients_are_those_of_the_joined_batch(pair):
    model = frozen_model()
    losses, gradients = losses_and_gradients(model, model)
    for found in pair[1]:
        assert found["losses"].keys() == losses.keys()
        for name, value in losses.items():
            assert math.isclose(found["losses"][name], value, rel_tol=1e-5), name
        for mine, whole in zip(found["gradients"], gradients):
            torch.testing.assert_close(mine, whole, rtol=1e-3, atol=1e-5)


def test_the_halves_alone_would_give_something_else():
    """The test above can fail: the parts of the batch have other divisors, of the masks and of the classes."""
    from training_runs import uneven_batch
    model, (images, targets) = frozen_model(), uneven_batch()
    with torch.no_grad():
        whole, first, second = (SetCriterion(11)(model(model.normalize(images[part])), targets[part])
                                for part in (slice(0, 4), slice(0, 2), slice(2, 4)))
    for name in ("class", "dice"):  # not focal: an untrained model draws the same mask everywhere
        assert not math.isclose((first[name] + second[name]) / 2, whole[name], rel_tol=0.005), name


def test_training_is_that_of_one_process(pair, tmp_path):
    folder, found = pair
    model = frozen_model()
    train(model, Lakeland("train", 64, 0.3, 9), Lakeland("val", 64, 0.3, 4), SHARED, tmp_path, progress=False)
    for name, value in model.state_dict().items():
        assert torch.equal(found[0]["weights"][name], found[1]["weights"][name]), name
        assert (found[0]["weights"][name] - value).abs().max() < 5e-4, name  # AdamW takes whole steps on noise
    mine, theirs = ([json.loads(line) for line in (place / "log.jsonl").read_text().splitlines()]
                    for place in (tmp_path, folder / "run"))
    assert [row["step"] for row in mine] == [row["step"] for row in theirs] == [3, 3]
    for name in ("loss", "class", "dice_0", "gradient_norm", "lr"):
        assert math.isclose(mine[0][name], theirs[0][name], rel_tol=1e-4), name


def test_only_process_0_writes(pair):
    folder, found = pair
    assert [one["wrote"] for one in found] == [2, 0] and [one["figures"] for one in found] == [True, False]
    assert {path.name for path in (folder / "run").iterdir()} == {"model.safetensors", "log.jsonl", "config.json"}
    load_checkpoint(folder / "run" / "model.safetensors")


def test_evaluation_is_shared_out_and_merged_exactly(pair):
    whole = evaluate(frozen_model(), Lakeland("val", 64, 0.5, 37), progress=False)
    assert [one["results"] for one in pair[1]] == [json.dumps(whole), "null"]  # to the last digit


def test_processes_draw_different_numbers(pair):
    assert pair[1][0]["first"] != pair[1][1]["first"]


def test_a_batch_that_can_not_be_shared_out(monkeypatch, tmp_path):
    import minimaskformer.training.run as run_module
    monkeypatch.setattr(run_module, "world_size", lambda: 3)
    with pytest.raises(ValueError, match="batch of 4 cannot be shared by 3 processes in 2 equal micro-batches each: choose a multiple of 6"):
        train(frozen_model(), Lakeland("train", 64, 0.3, 9), None, SHARED, tmp_path, progress=False)
    assert not list(tmp_path.iterdir())


def test_shares_of_an_epoch_are_disjoint():
    order = BatchOrder(24, 8)
    seen = [key for rank in range(4) for keys in MicroBatches(order, 1, 3, rank=rank, world_size=4) for key in keys]
    assert len(seen) == 24 and sorted(seen) == [(0, i) for i in range(24)]


def test_each_process_takes_the_gpu_of_its_place_on_its_machine(monkeypatch):
    chosen = []
    for name, value in {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "MASTER_ADDR": "a", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    assert start("auto") == start("cuda") == torch.device("cuda:1") and chosen == ["cuda:1"] * 2
    assert start("cpu") == torch.device("cpu")
