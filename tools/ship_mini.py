"""Make a finished run the shipped mini model: data/mini.safetensors (float16), data/mini.json and data/mini_log.jsonl.

    python tools/ship_mini.py runs/mini [IMAGES]

The figures in mini.json are those of the shipped file itself, on IMAGES (500) Lakeland validation scenes.
"""
import json
import shutil
import sys
from pathlib import Path

import torch

from minimaskformer import Lakeland, evaluate, load_checkpoint, save_checkpoint
from minimaskformer.evaluation import summary, table

run, images = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 500
data = Path(__file__).parent.parent / "data"
save_checkpoint(load_checkpoint(run / "model.safetensors"), data / "mini.safetensors", torch.float16)
shutil.copy(run / "log.jsonl", data / "mini_log.jsonl")

model, scenes = load_checkpoint("mini"), Lakeland("val", 128, 0.5, images)
results = evaluate(model, scenes)
recipe = json.loads((run / "config.json").read_text())["train"]
facts = {"parameters": sum(p.numel() for p in model.parameters()), "steps": recipe["steps"],
         "images": recipe["steps"] * recipe["batch_size"], "validation_images": images}
facts |= {name: round(value, 4) for name, value in summary(results).items()}
(data / "mini.json").write_text(json.dumps(facts, indent=1) + "\n")
print(table(results, scenes.classes), facts)
