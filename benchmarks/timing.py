"""Two implementations of the same work, timed fairly: turn by turn in one run, so that a busy machine slows both."""
import platform
import statistics
import time
from importlib import metadata
from pathlib import Path

import torch


def alternate(functions, rounds=5, clock=time.process_time):
    """Seconds of each of {name: function}, called in turn: {name: [rounds]}. The first call of each is not counted.

    clock: time.process_time counts what all threads work, time.perf_counter what one waits.
    """
    seconds = {name: [] for name in functions}
    for function in functions.values():
        function()
    for turn in range(rounds):
        for name in (list(functions), list(reversed(functions)))[turn % 2]:  # nobody is always the first
            start = clock()
            functions[name]()
            seconds[name].append(clock() - start)
    return seconds


def compare(theirs, ours):
    """Of two lists of seconds: both medians, the median of theirs / ours, and its smallest and largest value."""
    ratios = [a / b for a, b in zip(theirs, ours)]
    return {"theirs": statistics.median(theirs), "ours": statistics.median(ours), "ratio": statistics.median(ratios),
            "low": min(ratios), "high": max(ratios)}


def row(name, result, goal=None):
    """A line of a Markdown table: work, theirs, ours, ratio (smallest to largest), goal."""
    unit, factor = ("s", 1) if result["theirs"] >= 1 else ("ms", 1000)
    seconds = (f"{factor * result[side]:.3g} {unit}" for side in ("theirs", "ours"))
    return (f"| {name} | {' | '.join(seconds)} | {result['ratio']:.2f} ({result['low']:.2f} to {result['high']:.2f}) | "
            f"{f'>= {goal:g}' if goal else ''} |")


HEADER = "| work | transformers | ours | ratio (smallest to largest) | goal |\n|---|---|---|---|---|"


def machine(*packages):
    """Processor, threads and versions, in one line."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", *packages))
    return f"{processor()}, {torch.get_num_threads()} thread(s), Python {platform.python_version()}, {versions}"


def processor():
    """The processor's name, as well as this system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
