"""A gallery of broken trainings: one model, one world, one mistake each (lesson 10).

    python benchmarks/broken_runs.py --out runs/broken [--only flip shift] [--ship data/broken_runs]

Each run leaves log.jsonl, config.json, metrics and evidence.json (what `diagnose` measures) in OUT/NAME. Every mistake
is here in code, as people make it: the settings of the loop, a data set that hands out wrong targets, or a model that
returns something else than logits. Validation data are always right.
--ship copies what the lesson shows, rounded and under letters that give nothing away, into a folder.
"""
import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch
from torch.utils.data import Dataset

from minimaskformer import Lakeland, build_model
from minimaskformer.diagnosis.measurements import measure
from minimaskformer.diagnosis.run import diagnose, report
from minimaskformer.draw.runs import draw_run
from minimaskformer.evaluation import write_table
from minimaskformer.targets import panoptic_to_target
from minimaskformer.train import train
from minimaskformer.training.recipes import TrainConfig

SIZE = 64
UNLABELLED = (5, 6)  # houses and trees, in the run that is about void
CONFIG = TrainConfig(steps=500, batch_size=16, learning_rate=4e-4, warmup=50, size=SIZE, amp="bf16", log_every=10,
                     evaluate_images=100)


class Wrong(Dataset):
    """A data set whose items a mistake has gone through."""

    def __init__(self, dataset, mistake):
        self.dataset, self.mistake, self.classes = dataset, mistake, dataset.classes

    def __len__(self):
        return len(self.dataset)

    def name(self, index):
        return self.dataset.name(index)

    def __getitem__(self, index):
        return self.mistake(index, *self.dataset[index], len(self.classes))


def shifted(index, image, target, num_classes):
    """Every class is one too high, as when 0 in the files is a class and somebody subtracts nothing (or twice)."""
    info = [dict(s, category_id=(s["category_id"] + 1) % num_classes) for s in target["segments_info"]]
    return image, panoptic_to_target(target["segment_map"], info, num_classes)


def unlabelled(index, image, target, num_classes):
    """A data set in which nobody labelled houses and trees: they are void. (No mistake: there are such data sets.)"""
    info = [s for s in target["segments_info"] if s["category_id"] not in UNLABELLED]
    segment_map = target["segment_map"].clone()
    for s in target["segments_info"]:
        if s["category_id"] in UNLABELLED:
            segment_map[segment_map == s["id"]] = 0
    return image, panoptic_to_target(segment_map, info, num_classes)


def void_is_a_class(index, image, target, num_classes):
    """Unlabelled pixels, 0 in the files, become class 0."""
    image, target = unlabelled(index, image, target, num_classes)
    segment_map, info = target["segment_map"].clone(), [dict(s) for s in target["segments_info"]]
    first = next((s for s in info if s["category_id"] == 0 and not s.get("iscrowd", 0)), None)
    if first is None:
        first = {"id": int(segment_map.max()) + 1, "category_id": 0, "isthing": False, "iscrowd": 0, "area": 0}
        info.append(first)
    segment_map[segment_map == 0] = first["id"]
    return image, panoptic_to_target(segment_map, info, num_classes)


def image_flipped_alone(index, image, target, num_classes):
    """Half of the images are mirrored, their masks are not."""
    return (image.flip(-1) if index % 2 else image), target


def ends_in_sigmoid(model):
    """The model returns probabilities where everybody expects logits."""
    def forward(*args, inner=model.forward):
        output = inner(*args)
        aux = tuple(layer._replace(mask_logits=layer.mask_logits.sigmoid()) for layer in output.aux)
        return output._replace(mask_logits=output.mask_logits.sigmoid(), aux=aux)
    model.forward = forward


def forgets_the_layers(model):
    """Only the last decoder layer is trained."""
    def forward(*args, inner=model.forward):
        return inner(*args)._replace(aux=())
    model.forward = forward


SETTINGS = {"lr_x30": {"learning_rate": 30 * CONFIG.learning_rate}, "no_warmup": {"warmup": 0},
            "no_object_1": {"no_object_weight": 1.0}}
DATA = {"shift": shifted, "void": void_is_a_class, "flip": image_flipped_alone}
MODEL = {"sigmoid": ends_in_sigmoid, "no_aux": forgets_the_layers}
NAMES = ("right", *SETTINGS, *DATA, *MODEL)
LETTERS = {"a": "flip", "b": "no_aux", "c": "void", "d": "lr_x30", "e": "sigmoid", "f": "shift", "g": "no_object_1"}
SHIPPED = ("step", "lr", "loss", "class", "focal", "dice", "class_0", "focal_0", "dice_0", "class_1", "focal_1",
           "dice_1", "gradient_norm", "pq", "pq_things", "pq_stuff", "miou", "ap")


def run(name, folder, steps, seed=0):
    """Train one, right or broken, and leave its log and evidence."""
    torch.manual_seed(seed)
    model = build_model("mini", short_side=SIZE).to(memory_format=torch.channels_last)
    training, validation = Lakeland("train", SIZE, 0.4, 100_000), Lakeland("val", SIZE, 0.4, 200)
    if name in DATA:
        training = Wrong(training, DATA[name])
    if name == "void":  # the truth of the validation scenes is right, and knows as little about houses and trees
        validation = Wrong(validation, unlabelled)
    MODEL.get(name, lambda model: None)(model)
    config = replace(CONFIG, steps=steps, seed=seed, **SETTINGS.get(name, {}))
    results = train(model, training, validation, config, folder)
    write_table(results, validation.classes, folder)
    evidence = measure(model, validation, 100)
    (folder / "evidence.json").write_text(json.dumps(evidence, indent=1))
    draw_run(model, validation, folder)
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    print(f"--- {name}: PQ {100 * results['pq']:.1f}, mIoU {100 * results['miou']:.1f}")
    print(report(diagnose(rows, evidence), evidence), flush=True)


def ship(runs, folder):
    """What the lesson shows of the runs: logs, evidence and settings, of the mistakes under letters."""
    for name, source in {**LETTERS, "right": "right", "no_warmup": "no_warmup"}.items():
        place = folder / name
        place.mkdir(parents=True, exist_ok=True)
        rows = [json.loads(line) for line in (runs / source / "log.jsonl").read_text().splitlines()]
        rows = [{key: rounded(row[key]) for key in SHIPPED if row.get(key) is not None} for row in rows]
        (place / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        for file in ("evidence.json", "config.json"):
            (place / file).write_text((runs / source / file).read_text())


def rounded(value):
    return float(f"{value:.4g}") if isinstance(value, float) else value


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/broken"))
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--steps", type=int, default=CONFIG.steps)
    parser.add_argument("--ship", type=Path, metavar="FOLDER", help="train nothing; copy what the lesson shows there")
    options = parser.parse_args()
    if options.ship:
        return ship(options.out, options.ship)
    for name in options.only:
        run(name, options.out / name, options.steps)


if __name__ == "__main__":
    main()
