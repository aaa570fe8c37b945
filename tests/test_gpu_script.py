"""The script for a GPU: its parts run in miniature on a CPU, and one that fails or hangs does not affect the others."""
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
gpu, gpu_parts = pytest.importorskip("gpu"), pytest.importorskip("gpu_parts")
sys.path.remove(str(BENCHMARKS))


def test_its_parts_run_in_tiny(tmp_path):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(BENCHMARKS.parent), os.environ.get("PYTHONPATH", "")])}
    only = ["agreement", "points", "answers", "train_mini"]
    command = [sys.executable, BENCHMARKS / "gpu.py", "--tiny", "--out", tmp_path, "--only", *only]
    subprocess.run(command, capture_output=True, check=True, env=environment)
    rows = json.loads((tmp_path / "gpu.json").read_text())
    assert list(rows) == ["machine", *only, "verdict"] and not [row for row in rows.values() if "error" in row], rows
    assert rows["agreement"]["answers_differ_at"] == [0] * 5 and rows["agreement"]["loss"] == 0
    assert rows["points"]["images_per_second"] == pytest.approx(2 / rows["points"]["seconds"])
    log = [json.loads(line) for line in (tmp_path / "mini" / "log.jsonl").read_text().splitlines()]
    assert rows["train_mini"]["steps"] == 2 and rows["train_mini"]["last_row"] in log
    assert {"model.safetensors", "curves.png", "scenes.png", "metrics.md"} <= {p.name for p in (tmp_path / "mini").iterdir()}


def test_a_part_that_fails_or_hangs_costs_nothing_else(tmp_path):
    b = gpu_parts.Bench(True, tmp_path, 60)
    b.tiny = False  # which knows no caps

    def fails(b):
        raise RuntimeError("no kernel image")

    def hangs(b):
        time.sleep(600)

    gpu_parts.measure(b, "fails", fails, 10)
    gpu_parts.measure(b, "hangs", hangs, 1)
    gpu_parts.measure(b, "works", lambda b: {"found": 7}, 10)
    b.end = time.time()
    gpu_parts.measure(b, "late", lambda b: {"found": 8}, 10)
    rows = json.loads((tmp_path / "gpu.json").read_text())
    assert rows["fails"]["error"] == "RuntimeError: no kernel image" and "more than 1 s" in rows["hangs"]["error"]
    assert rows["works"]["found"] == 7 and "no time" in rows["late"]["error"] and rows["hangs"]["took"] < 30


def test_a_command_is_stopped_in_time():
    start = time.time()
    result = gpu_parts.run([sys.executable, "-c", "import time; print('begun', flush=True); time.sleep(600)"], 3)
    assert time.time() - start < 30 and result.returncode and result.stdout == "begun\n"


def test_the_verdict_is_the_better_of_our_steps_against_theirs():
    b = gpu_parts.Bench(True, Path(), 1)
    b.tiny = False
    b.rows = {"step": {"images_per_second": 30.0, "peak_MiB": 700, "host_synchronisations": 2},
              "compiled": {"images_per_second": 50.0}, "theirs": {"images_per_second": 20.0, "peak_MiB": 1000}}
    assert list(gpu.verdict(b).values()) == [2, 2.5, 0.7]
    b.rows = {"step": {"error": "x"}, "theirs": {"images_per_second": 20.0}}
    assert list(gpu.verdict(b).values()) == [None]


def test_waits_are_counted_with_their_lines(monkeypatch):
    import warnings
    b = gpu_parts.Bench(True, Path(), 1)
    b.device = torch.device("cuda")
    modes = []
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)

    def step():
        for _ in range(3):
            warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
        warnings.warn("something else", stacklevel=1)

    found = b.waits(step)
    assert found["host_synchronisations"] == 3 and modes == ["warn", "default"] and len(found["where"]) == 1
    assert found["where"][0].startswith("tests/test_gpu_script.py:")
