"""The benchmarks' stop watch, and that the benchmark against transformers runs and finds the same matches and losses."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
timing = pytest.importorskip("timing")
sys.path.remove(str(BENCHMARKS))


def test_turns_alternate_and_the_first_call_is_not_counted():
    calls, now = [], [0.0]
    def work(name, seconds):
        calls.append(name)
        now[0] += seconds
    found = timing.alternate({"theirs": lambda: work("theirs", 3.0), "ours": lambda: work("ours", 1.5)}, 3, lambda: now[0])
    assert calls == ["theirs", "ours", "theirs", "ours", "ours", "theirs", "theirs", "ours"]
    assert found == {"theirs": [3.0] * 3, "ours": [1.5] * 3}


def test_the_ratio_is_of_calls_that_were_neighbours():
    result = timing.compare([2.0, 9.0, 4.0], [1.0, 3.0, 1.0])
    assert result == {"theirs": 4.0, "ours": 1.0, "ratio": 3.0, "low": 2.0, "high": 4.0}
    assert timing.row("work", result, 2) == "| work | 4 s | 1 s | 3.00 (2.00 to 4.00) | >= 2 |"
    assert timing.row("work", timing.compare([0.02], [0.0105])) == "| work | 20 ms | 10.5 ms | 1.90 (1.90 to 1.90) |  |"


def run(*arguments):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(BENCHMARKS.parent), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, BENCHMARKS / "against_transformers.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout


def test_against_transformers_in_tiny():
    pytest.importorskip("transformers")
    lines = run("--tiny", "--only", "matching", "criterion").splitlines()
    assert [line.split(",")[0] for line in lines[2:]] == ["| matching", "| losses and their gradient"]
