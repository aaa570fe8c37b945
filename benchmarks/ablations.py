"""What the paper found, at small scale: ten settings, several seeds, the same steps and scenes for each (lesson 11).

    OMP_NUM_THREADS=1 python benchmarks/ablations.py [--seeds 0 1 2] [--settings "32 queries" fixed ...]

A run is one setting with one seed: about a minute of one core. Each finished run is one line of
runs/ablations/results.jsonl, and a run whose line is there is not repeated: interrupt and start again as you like.
Seeds are the outer loop, so an early end leaves complete comparisons. `--write` makes data/ablations.json, which the
lesson reads, from the lines that are there, and prints the table. Times are of the process, not of the clock.
"""
import argparse
import json
import warnings
from dataclasses import asdict
from pathlib import Path

import torch

from minimaskformer.ablations import SETTINGS, Budget, draw_scenes, run

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "runs" / "ablations"


def read(path):
    """The finished runs of a results.jsonl; a line cut off by an interruption is left out."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            print(f"{path}: a line was cut off, its run will be repeated")
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=list(SETTINGS), metavar="NAME")
    parser.add_argument("--write", action="store_true", help="only make data/ablations.json of the finished runs")
    args = parser.parse_args()
    budget, path = Budget(amp=True), FOLDER / "results.jsonl"
    if not args.write:
        torch.set_num_threads(1)
        warnings.filterwarnings("ignore", message="an image has")  # fewer queries than classes is what we want to see
        FOLDER.mkdir(parents=True, exist_ok=True)
        done = {(row["setting"], row["seed"]) for row in read(path)}
        scenes, validation = draw_scenes("train", budget), draw_scenes("val", budget)
        for seed in args.seeds:
            for name in args.settings:
                if (name, seed) in done:
                    continue
                keep = FOLDER / f"{name.replace(' ', '_').replace('/', 'per')}.pt" if seed == args.seeds[0] else None
                row = run(name, seed, budget, scenes, validation, keep)
                with open(path, "a") as file:
                    file.write(json.dumps(row) + "\n")
                figures = row["semantic"]
                print(f"{name:18} seed {seed}  mIoU {figures['miou']:5.1f}  PQ_St {figures['pq']:5.1f}  "
                      f"{row['cpu_seconds']:.0f} s", flush=True)
        return
    rows = read(path)
    (ROOT / "data" / "ablations.json").write_text(json.dumps({"budget": asdict(budget), "runs": rows}, indent=None))
    print(f"{len(rows)} runs")


if __name__ == "__main__":
    main()
