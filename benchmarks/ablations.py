"""What the paper found, at small scale: ten settings, several seeds, the same steps and scenes for each (lesson 11).

    OMP_NUM_THREADS=1 python benchmarks/ablations.py [--seeds 0 1 2] [--settings "32 queries" fixed ...]

A run is one setting with one seed: about a minute of one core. Each finished run is one line of
runs/ablations/results.jsonl, and a run whose line is there is not repeated: interrupt and start again as you like (with
other --steps, move that folder away first).
Seeds are the outer loop, so an early end leaves complete comparisons. `--write` makes data/ablations.json, which the
lesson reads, from the lines that are there, and prints the table; it adds what the models of the first seed say about a
few validation scenes, and how their queries share the work. Times are of the process, not of the clock.
"""
import argparse
import base64
import json
import warnings
import zlib
from dataclasses import asdict
from pathlib import Path

import torch

from minimaskformer.studies.ablations import (
    SETTINGS,
    Budget,
    build,
    class_map,
    habits,
    predict_images,
    run_setting,
    sample_scenes,
)
from minimaskformer.studies.published import settings_table

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "runs" / "ablations"
PICTURES = (3, 12)  # validation scenes whose class maps are shipped


def read(path):
    """The finished runs of a results.jsonl; a line cut off by an interruption is left out."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            print(f"{path}: a line was cut off, its run will be repeated")
    return rows


def weights(name):
    """Where the first seed's weights of a setting are kept."""
    return FOLDER / f"{name.replace(' ', '_').replace('/', 'per')}.pt"


def write(budget, rows):
    """data/ablations.json: budget, runs, and of the first seed class maps of a few scenes and the queries' habits."""
    images, maps = sample_scenes("val", budget)
    pictures, shares = {}, {}
    for name, setting in SETTINGS.items():
        model = build(setting, budget)
        model.load_state_dict(torch.load(weights(name)))
        predictions = predict_images(model.eval(), images)
        pictures[name] = {str(i): pack(class_map(*predictions[i])) for i in PICTURES}
        if setting.model == "mask":
            shares[name] = {key: round(value, 3) for key, value in habits(predictions, maps).items()}
    shipped = {"budget": asdict(budget), "habits": shares, "pictures": pictures, "runs": rows}
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in shipped.items() if key != "runs")
    runs = ",\n".join(map(json.dumps, rows))
    (ROOT / "data" / "ablations.json").write_text(f'{{{lines},\n"runs": [\n{runs}\n]}}\n')
    minutes = sum(row["cpu_seconds"] for row in rows) / 60
    print(f"{len(rows)} runs, {minutes:.0f} minutes of one core\n{settings_table(rows)}")


def pack(class_map):
    """A class map as text: its bytes, compressed."""
    return base64.b64encode(zlib.compress(class_map.to(torch.uint8).numpy().tobytes(), 9)).decode()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=list(SETTINGS), metavar="NAME")
    parser.add_argument("--write", action="store_true", help="only make data/ablations.json of the finished runs")
    parser.add_argument("--steps", type=int, default=Budget.steps, help="optimizer steps of each run")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    budget, path = Budget(amp=True, steps=args.steps, device=args.device), FOLDER / "results.jsonl"
    if not args.write:
        torch.set_num_threads(1)
        warnings.filterwarnings("ignore", message="an image has")  # fewer queries than classes is what we want to see
        FOLDER.mkdir(parents=True, exist_ok=True)
        done = {(row["setting"], row["seed"]) for row in read(path)}
        scenes, validation = sample_scenes("train", budget), sample_scenes("val", budget)
        for seed in args.seeds:
            for name in args.settings:
                if (name, seed) in done:
                    continue
                keep = weights(name) if seed == args.seeds[0] else None
                row = run_setting(name, seed, budget, scenes, validation, keep)
                with open(path, "a") as file:
                    file.write(json.dumps(row) + "\n")
                figures = row["semantic"]
                print(f"{name:18} seed {seed}  mIoU {figures['miou']:5.1f}  PQ_St {figures['pq']:5.1f}  "
                      f"{row['cpu_seconds']:.0f} s", flush=True)
    else:
        write(budget, read(path))


if __name__ == "__main__":
    main()
