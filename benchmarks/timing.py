"""Two ways of doing the same work, timed alternately in one run, and what they ran on. Used by other benchmarks."""
import os
import platform
import statistics
import time
from importlib.metadata import version

import torch


def compare(ours, theirs, rounds):
    """Call both alternately; {"ours", "theirs": {"cpu", "wall": seconds of each round}}. One round before is not counted."""
    times = {name: {"cpu": [], "wall": []} for name in ("ours", "theirs")}
    for counted in [False] + [True] * rounds:
        for name, function in (("ours", ours), ("theirs", theirs)):
            cpu, wall = time.process_time(), time.perf_counter()
            function()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if counted:
                times[name]["cpu"].append(time.process_time() - cpu)
                times[name]["wall"].append(time.perf_counter() - wall)
    return times


def summarize(times, clock="cpu"):
    """Medians in seconds, ratio theirs / ours of the medians, and the quartiles of the ratio round by round."""
    ours, theirs = times["ours"][clock], times["theirs"][clock]
    ratios = sorted(b / a for a, b in zip(ours, theirs))
    middle = [statistics.median(values) for values in (ours, theirs)]
    low, high = ratios[len(ratios) // 4], ratios[(3 * len(ratios)) // 4]
    return {"ours": middle[0], "theirs": middle[1], "ratio": middle[1] / middle[0], "spread": [low, high]}


def machine(*packages):
    """The processor, its threads in use, and versions: one line for the head of a table."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", *packages))
    return (f"{processor()}, {torch.get_num_threads()} of {os.cpu_count()} threads, Python {platform.python_version()}, "
            f"{versions}")


def processor():
    """The name of the processor, as Linux tells it, else what Python knows."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
