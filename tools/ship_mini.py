"""Make a finished run the shipped mini model: data/mini.safetensors (float16), data/mini.json and data/mini_log.jsonl.

    python tools/ship_mini.py runs/mini                              one run
    python tools/ship_mini.py runs/mini runs/more@7000 runs/last     one that went on from others
    python tools/ship_mini.py data/mini_log.jsonl runs/next          one that went on from the shipped model

Each of several began with the weights of the one before it, as they were after that step (@, or its last); their logs
are joined, with the steps counted on. The figures in mini.json are those of the shipped file itself, on 500 Lakeland
validation scenes.
"""
import json
import sys
from pathlib import Path

import torch

from minimaskformer import Lakeland, evaluate, load_checkpoint, save_checkpoint
from minimaskformer.evaluation import summary, table

DATA, IMAGES = Path(__file__).parent.parent / "data", 500


def joined_logs(stages):
    """The rows of all stages ("folder or log, perhaps with @STEP"), steps counted on from stage to stage."""
    rows, before = [], 0
    for stage in stages:
        path, _, last = stage.partition("@")
        path = Path(path) / "log.jsonl" if Path(path).is_dir() else Path(path)
        found = [json.loads(line) for line in path.read_text().splitlines()]
        last = int(last) if last else found[-1]["step"]
        rows += [row | {"step": before + row["step"]} for row in found if row["step"] <= last]
        before += last
    return rows


stages = sys.argv[1:]
if not stages or "@" in stages[-1]:
    sys.exit("name the runs, the last one without a step: what is shipped is its end")
rows, run = joined_logs(stages), Path(stages[-1])
save_checkpoint(load_checkpoint(run / "model.safetensors"), DATA / "mini.safetensors", torch.float16)
(DATA / "mini_log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

model, scenes = load_checkpoint("mini"), Lakeland("val", 128, 0.5, IMAGES)
results = evaluate(model, scenes)
steps = rows[-1]["step"]
batch_size = json.loads((run / "config.json").read_text())["train"]["batch_size"]
facts = {"parameters": sum(p.numel() for p in model.parameters()), "steps": steps, "images": steps * batch_size,
         "validation_images": IMAGES}
facts |= {name: round(value, 4) for name, value in summary(results).items()}
(DATA / "mini.json").write_text(json.dumps(facts, indent=1) + "\n")
print(table(results, scenes.classes), facts)
