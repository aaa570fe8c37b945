"""How time and memory grow with queries, targets, side and batch: fitted exponents, and one picture.

    OMP_NUM_THREADS=1 python benchmarks/growth.py [--out benchmarks/growth.png] [--rounds 3] [--tiny]

An exponent of 1 means twice the work for twice the size. Everything else stays as in `Size`. Three kinds of work:

    network   mini, forward and backward
    loss      matching and losses of 4 layers, forward and backward, from mask logits at stride 4
    panoptic  the panoptic answer for one image, a fifth of its queries sure of a class

Seconds are CPU seconds, the median of some rounds. Memory is what the work adds at its peak to what the process holds
before it (Linux only), in a process of its own in which freed memory goes back to the system at once.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from against_transformers import blobs, predictions, scenes
from matplotlib.figure import Figure
from timing import machine

from minimaskformer import SetCriterion, build_model, panoptic_inference
from minimaskformer.fast.large_maps import bilinear
from minimaskformer.model import Output

CLASSES, LAYERS = 20, 4
LEAST = 0.004  # gigabytes: a smaller peak is what the system gives in one piece


@dataclass(frozen=True)
class Size:
    """The size of a piece of work: what all but one of the axes keep."""
    queries: int = 100
    targets: int = 10  # per image
    side: int = 256
    batch: int = 2


AXES = {"queries": (25, 50, 100, 200, 400), "targets": (5, 10, 20, 40, 80), "side": (128, 192, 256, 384, 512),
        "batch": (1, 2, 4, 8)}
TINY = {"queries": (5, 10), "targets": (2, 4), "side": (64, 96), "batch": (1, 2)}


def network(size):
    """mini with so many queries."""
    model = build_model("mini", CLASSES, num_queries=size.queries).train()
    images = torch.randn(size.batch, 3, size.side, size.side)

    def work():
        output = model(images)
        (output.mask_logits.mean() + output.class_logits.mean()).backward()
        model.zero_grad(set_to_none=True)
    return work


def loss(size):
    """Match and losses of given predictions, and their gradient."""
    answers = predictions(LAYERS, size.batch, size.queries, CLASSES, size.side // 4)
    (*aux, last), criterion = answers, SetCriterion(CLASSES)
    output = Output(*last, tuple(Output(*layer, ()) for layer in aux))
    targets = scenes(size.batch, size.targets, CLASSES, size.side)

    def work():
        criterion(output, targets)["loss"].backward()
        for tensor in sum(answers, []):
            tensor.grad = None
    return work


def panoptic(size):
    """One image, enlarged from stride 4."""
    class_logits, mask_logits = blobs(size.queries, CLASSES, size.queries // 5, (size.side, size.side))
    return lambda: panoptic_inference(class_logits, mask_logits, range(CLASSES // 2),
                                      resize=lambda maps: bilinear(maps, (size.side, size.side)))


WORK = {"network": (network, ("queries", "side", "batch")), "loss": (loss, tuple(AXES)),
        "panoptic": (panoptic, ("queries", "side"))}


def seconds(work, rounds):
    """Median CPU seconds; the first call is not counted."""
    work()
    times = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return statistics.median(times)


def gigabytes(work):
    """What the work adds to the memory of this process at its peak; None where the system does not tell."""
    work()  # what stays, such as kernels that are prepared once, is not counted
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
        before = kilobytes("VmRSS")
        work()
        return max(1, kilobytes("VmHWM") - before) * 1024 / 1e9
    except OSError:
        return None


def kilobytes(name):
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1])


def exponent(sizes, values):
    """Slope of log(value) against log(size): value ~ size ** slope."""
    return np.polyfit(np.log(sizes), np.log(values), 1)[0]


def measure(axes, base, function):
    """[[work, axis, size, function(that work)]] for all of them."""
    return [[name, axis, n, function(make(name, axis, n, base))]
            for name, (_, its_axes) in WORK.items() for axis in its_axes for n in axes[axis]]


def measure_elsewhere(tiny):
    """`measure` of the memory in a process whose malloc takes every large piece from the system and gives it back."""
    command = [sys.executable, __file__, "--memory", *["--tiny"] * tiny]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_MMAP_MAX_": "1000000"}
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment).stdout)


def slope_of(sizes, values, least=0.0):
    """The exponent in words; "-" where a value is missing or below `least`, which is what memory varies by itself."""
    return "-" if None in values or min(values) < least else f"{exponent(sizes, values):.2f}"


def make(name, axis, n, base):
    torch.manual_seed(0)
    return WORK[name][0](replace(base, **{axis: n}))


def draw(rows, axes, base, path):
    """Seconds above, memory below, a column for each axis; all axes are logarithmic."""
    figure = Figure(figsize=(13, 6.2), layout="constrained")
    for column, axis in enumerate(axes):
        for line, (value, unit) in enumerate((("CPU seconds", 1), ("memory, MB", 1000))):
            ax = figure.add_subplot(2, len(axes), 1 + column + line * len(axes))
            for colour, name in zip(("tab:blue", "tab:orange", "tab:green"), WORK):
                points = [(row[0], row[1 + line] * unit) for row in rows.get((name, axis), [])
                          if row[1 + line] is not None and (line == 0 or row[2] >= LEAST)]
                if len(points) > 1:
                    ax.loglog(*zip(*points), marker="o", color=colour, label=f"{name}: {exponent(*zip(*points)):.2f}")
            ax.set_xticks(axes[axis], axes[axis])
            ax.minorticks_off()
            low, high = ax.get_ylim()
            ax.set_ylim(low / 3, high * 3)  # at least one power of ten to read off
            ax.set(xlabel=f"{axis} (elsewhere {getattr(base, axis)})", ylabel=value if column == 0 else "")
            ax.grid(alpha=.3)
            ax.legend(fontsize=9, title="exponent") if ax.lines else None
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", default=Path(__file__).with_name("growth.png"), type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tiny", action="store_true", help="tiny sizes: does it run?")
    parser.add_argument("--memory", action="store_true", help="print the memory alone, as JSON")
    args = parser.parse_args()
    axes, base = (TINY, Size(10, 3, 64, 1)) if args.tiny else (AXES, Size())
    if args.memory:
        return print(json.dumps(measure(axes, base, gigabytes)))
    print(machine(), file=sys.stderr)
    rows = {}
    times = measure(axes, base, lambda work: seconds(work, 1 if args.tiny else args.rounds))
    for (name, axis, n, spent), (*_, memory) in zip(times, measure_elsewhere(args.tiny)):
        rows.setdefault((name, axis), []).append((n, spent, memory))
    print("| work | axis | from | to | seconds | exponent | memory, MB | exponent |\n|---|---|---|---|---|---|---|---|")
    for (name, axis), points in rows.items():
        sizes, spent, memory = zip(*points)
        range_of = "-" if None in memory else f"{1000 * memory[0]:.0f} to {1000 * memory[-1]:.0f}"
        print(f"| {name} | {axis} | {sizes[0]} | {sizes[-1]} | {spent[0]:.3f} to {spent[-1]:.3f} | "
              f"{slope_of(sizes, spent)} | {range_of} | {slope_of(sizes, memory, LEAST)} |")
    draw(rows, axes, base, args.out)


if __name__ == "__main__":
    main()
