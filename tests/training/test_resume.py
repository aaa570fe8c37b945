"""Interruption: whatever happens to a run, it goes on from a whole checkpoint, and ends as if nothing had happened."""
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from training_runs import CONFIG, start_run

import minimaskformer.train as train_module
import minimaskformer.training.run as run_module
from minimaskformer import Lakeland, build_model, load_checkpoint
from minimaskformer.system.files import replacing
from minimaskformer.training.resume import run_facts, seed_everything, set_aside, state_files

ROOT = Path(__file__).resolve().parents[2]
TIMES = ("seconds", "images_per_second", "data_wait", "memory_gb")  # what may differ


def rows(folder):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in TIMES} for row in lines]


def assert_same_run(folder, model, whole):
    other, expected = whole
    for name, value in expected.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name
    assert rows(folder) == rows(other)
    for file in ("model.safetensors", "best.safetensors"):
        with safe_open(folder / file, "pt") as mine, safe_open(other / file, "pt") as theirs:
            assert mine.metadata() == theirs.metadata(), file
            assert all(torch.equal(mine.get_tensor(name), theirs.get_tensor(name)) for name in theirs.keys()), file
    assert not (folder / "checkpoints").exists()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, start_run(folder)


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A run that was killed in its fifth step: checkpoints of steps 2 and 4."""
    folder = tmp_path_factory.mktemp("killed")
    result = subprocess.run([sys.executable, "tests/training_runs.py", str(folder), "5"], cwd=ROOT, capture_output=True,
                            text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert result.returncode == -signal.SIGKILL, result.stderr
    assert [path.name for path in state_files(folder)] == ["step_00000002.pt", "step_00000004.pt"]
    return folder


@pytest.fixture
def interrupted(killed, tmp_path):
    """A copy of it for a test to go on with."""
    return Path(shutil.copytree(killed, tmp_path / "run"))


def test_the_whole_run_has_a_log_to_compare(whole):
    log = rows(whole[0])  # the checkpoint of step 4 lies in the middle of the row of steps 4 to 6
    assert [(row["step"], "loss" in row, "pq" in row) for row in log] == [
        (3, True, False), (3, False, True), (6, True, False), (6, False, True)]


def test_killed_and_resumed_is_the_whole_run_bit_by_bit(whole, interrupted):
    random.seed(99)
    torch.manual_seed(99)
    assert_same_run(interrupted, start_run(interrupted, resume=True), whole)


def test_killed_while_a_checkpoint_is_written(whole, tmp_path):
    result = subprocess.run([sys.executable, "tests/training_runs.py", str(tmp_path), "write"], cwd=ROOT, capture_output=True,
                            text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert result.returncode == -signal.SIGKILL, result.stderr
    left = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert left == ["step_00000000.pt", "step_00000002.pt.tmp"]
    assert_same_run(tmp_path, start_run(tmp_path, resume=True), whole)


def test_rows_after_the_checkpoint_and_half_a_row_are_dropped(whole, interrupted):
    with open(interrupted / "log.jsonl", "a") as log:
        log.write('{"step": 5, "loss": 1.0}\n{"step": 6, "lo')
    assert_same_run(interrupted, start_run(interrupted, resume=True), whole)


def test_a_truncated_newest_checkpoint_falls_back_to_the_one_before(whole, interrupted):
    newest = state_files(interrupted)[-1]
    os.truncate(newest, newest.stat().st_size - 100)
    with pytest.warns(UserWarning, match="step_00000004.pt cannot be read .*trying the checkpoint before it"):
        model = start_run(interrupted, resume=True)
    assert_same_run(interrupted, model, whole)


def test_without_one_whole_checkpoint_there_is_nothing_to_resume(interrupted):
    for path in state_files(interrupted):
        os.truncate(path, 50)
    with pytest.raises(ValueError, match="none of the training checkpoints"), pytest.warns(UserWarning):
        start_run(interrupted, resume=True)


def test_other_settings_are_listed(interrupted):
    config = replace(CONFIG, learning_rate=0.5, seed=3, workers=1, save_every=7)  # the last two decide nothing
    with pytest.raises(ValueError) as error:
        start_run(interrupted, config, resume=True, num_queries=9)
    assert [line.strip() for line in str(error.value).splitlines()[1:-1]] == [
        "model num_queries: 16 then, 9 now", "train learning_rate: 0.0004 then, 0.5 now", "train seed: 0 then, 3 now",
        # the data set draws from the generators, which another seed sets otherwise
        *[line.strip() for line in str(error.value).splitlines() if "first image" in line]]


def test_starting_again_does_not_overwrite_an_interrupted_run(interrupted):
    (interrupted / "run.lock").unlink()  # what the kill left
    before = {path: path.stat().st_mtime_ns for path in interrupted.rglob("*")}
    with pytest.raises(ValueError, match="interrupted: go on with --resume, or choose another folder"):
        start_run(interrupted)
    assert before == {path: path.stat().st_mtime_ns for path in interrupted.rglob("*")}


def test_a_finished_run_is_not_resumed_and_may_be_repeated(tmp_path):
    config = replace(CONFIG, steps=1)
    start_run(tmp_path, config)
    with pytest.raises(ValueError, match="finished: there is nothing to resume"):
        start_run(tmp_path, config, resume=True)
    start_run(tmp_path, config)
    assert [row["step"] for row in rows(tmp_path)] == [1]


def test_a_run_that_ended_before_its_first_save_may_be_started_again(tmp_path):
    config = replace(CONFIG, steps=1, evaluate_every=0)
    with pytest.raises(FloatingPointError):
        start_run(tmp_path, replace(config, learning_rate=1e30, steps=3, warmup=0))
    assert [path.name for path in state_files(tmp_path)] == ["step_00000000.pt"]
    (tmp_path / "best.safetensors").write_bytes(b"of another run")
    start_run(tmp_path, config)
    assert (tmp_path / "model.safetensors").exists() and not (tmp_path / "best.safetensors").exists()


def test_resume_without_a_run_starts_none(tmp_path):
    with pytest.raises(ValueError, match=f"nothing to resume in {tmp_path}/misspelt, .* check its name, or leave out --resume"):
        start_run(tmp_path / "misspelt", replace(CONFIG, steps=1), resume=True)
    assert not list(tmp_path.rglob("*.*"))


def test_the_scaler_goes_on_and_so_does_a_batch_in_pieces(tmp_path, monkeypatch):
    config = replace(CONFIG, amp="fp16", batch_size=4, accumulate=2, size=32, steps=3, evaluate_every=0, save_every=1, log_every=3)
    scaler, update, scales = torch.amp.GradScaler, torch.amp.GradScaler.update, []

    def growing(*arguments, **options):
        return scaler(*arguments, **options, init_scale=16.0, growth_interval=1)

    def noted(self):
        update(self)
        scales.append(self.get_scale())
    monkeypatch.setattr(scaler, "update", noted)
    with monkeypatch.context() as patch:
        patch.setattr(torch.amp, "GradScaler", growing)
        whole = start_run(tmp_path / "whole", config, frozen_norm=True)
        original = train_module.set_learning_rate
        patch.setattr(train_module, "set_learning_rate", lambda *arguments: fail_at_3(original, *arguments))
        with pytest.raises(RuntimeError, match="the machine is gone"):
            start_run(tmp_path / "cut", config, frozen_norm=True)
        patch.setattr(train_module, "set_learning_rate", original)
        model = start_run(tmp_path / "cut", config, resume=True, frozen_norm=True)
    assert scales == [32.0, 64.0, 128.0] + [32.0, 64.0] + [128.0]
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), model.state_dict().values()))
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")


def fail_at_3(function, optimizer, config, step):
    if step == 3:
        raise RuntimeError("the machine is gone")
    function(optimizer, config, step)


def test_killed_in_the_last_evaluation(whole, interrupted, monkeypatch):
    def gone(*arguments, **options):
        raise RuntimeError("the machine is gone")
    monkeypatch.setattr(run_module, "evaluate", gone)
    with pytest.raises(RuntimeError):
        start_run(interrupted, resume=True)
    monkeypatch.undo()
    assert [path.name for path in state_files(interrupted)] == ["step_00000004.pt", "step_00000006.pt"]
    assert_same_run(interrupted, start_run(interrupted, resume=True), whole)


def test_a_full_disk_stops_the_run_and_leaves_the_last_good_checkpoint(whole, tmp_path, monkeypatch):
    resource = pytest.importorskip("resource")
    original, limits = train_module.set_learning_rate, resource.getrlimit(resource.RLIMIT_FSIZE)

    def full(optimizer, config, step):
        original(optimizer, config, step)
        if step == 4:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # larger files cannot be written
    monkeypatch.setattr(train_module, "set_learning_rate", full)
    try:
        with pytest.raises(OSError, match="could not write .*step_00000004.pt"):
            start_run(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    monkeypatch.undo()
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step_00000000.pt", "step_00000002.pt"]
    load_checkpoint(tmp_path / "model.safetensors")
    assert_same_run(tmp_path, start_run(tmp_path, resume=True), whole)


@pytest.mark.parametrize("write", [lambda path: torch.save({"a": torch.zeros(10**6)}, path),
                                   lambda path: path.write_text("x" * 10**6),
                                   lambda path: save_file({"a": torch.zeros(10**6)}, path)])
def test_a_file_that_does_not_fit_is_an_error_that_names_it_and_keeps_the_old_one(tmp_path, write):
    resource = pytest.importorskip("resource")
    path, limits = tmp_path / "file", resource.getrlimit(resource.RLIMIT_FSIZE)
    path.write_text("good")
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OSError, match="could not write .*file: .*the earlier file of that name is intact"):
            with replacing(path) as temporary:
                write(temporary)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == "good" and sorted(tmp_path.iterdir()) == [path]


def test_a_run_that_saved_nothing_does_not_replace_the_one_set_aside(tmp_path):
    for name, content in (("model.safetensors", "a model"), ("log.jsonl", "its log")):
        (tmp_path / name).write_text(content)
    set_aside(tmp_path)
    (tmp_path / "log.jsonl").write_text("of a run without a model")
    set_aside(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["previous"]
    assert {path.name: path.read_text() for path in (tmp_path / "previous").iterdir()} == {"model.safetensors": "a model", "log.jsonl": "its log"}


def test_pictures_and_seed_are_facts_of_a_run():
    """Data sets of one length, with the same classes, are told apart by their first picture."""
    model = build_model("mini", dim=32, mask_dim=32, hidden_dim=32, feedforward=32, decoder_layers=1, encoder_layers=0)
    first, same, other = (run_facts(model, Lakeland(split, 64, 0.3, 9), CONFIG) for split in ("train", "train", "val"))
    assert first == same and {name for name in first["data"] if first["data"][name] != other["data"][name]} == {"first image"}
    drawn = []
    for seed in (3, 4, 3):
        seed_everything(seed)
        drawn.append((random.random(), float(np.random.rand()), float(torch.rand(()))))
    assert drawn[0] == drawn[2] and all(a != b for a, b in zip(drawn[0], drawn[1]))
