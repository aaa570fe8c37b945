r"""What pretraining is worth on a few real pictures: one model fine-tuned from ImageNet features, one from nothing.

    python benchmarks/real_pictures.py --data coco_panoptic:FOLDER --weights mobilenet_v2_weights.pth --out runs/coco
    python benchmarks/real_pictures.py --data instances:FOLDER --weights ... --out runs/nuclei --size 192 \
        --preset mobilenet_v2_fine --queries 100 --steps 1000

The two runs differ in the backbone's first weights, in its BatchNorm (pretrained it stays frozen, from nothing it must
train) and in its learning rate (pretrained 0.3 of the others'). Data, order, views and steps are the same.
`--preset mobilenet_v2_fine` is for small objects, such as the nuclei.
COCO's 133 categories are put into twelve groups by their supercategory. Each run leaves its log, metrics and pictures
in OUT/pretrained and OUT/scratch; a last line compares them. `--weights`: "DEFAULT" (torchvision downloads) or a file.
"""
import argparse
import json
from pathlib import Path

import torch

from minimaskformer import build_model
from minimaskformer.data.catalog import open_dataset
from minimaskformer.data.combine import Regrouped
from minimaskformer.data.folders import panoptic_files
from minimaskformer.draw.runs import draw_run
from minimaskformer.evaluation import summary, write_table
from minimaskformer.train import train
from minimaskformer.training.recipes import TrainConfig

GROUPS = {  # our twelve groups -> COCO's supercategories
    "person": ("person",), "vehicle": ("vehicle",), "animal": ("animal",), "furniture": ("furniture",),
    "food and dishes": ("food", "kitchen"),
    "object": ("outdoor", "accessory", "sports", "electronic", "appliance", "indoor"),
    "sky": ("sky",), "plant": ("plant",), "water": ("water",), "ground": ("ground", "solid"),
    "building": ("building", "structural"),
    "interior": ("wall", "window", "ceiling", "floor", "furniture-stuff", "textile", "raw-material", "food-stuff")}


def open_grouped(spec, split):
    """A data set; COCO panoptic with its categories in twelve groups."""
    dataset = open_dataset(spec, split)
    name, _, place = spec.partition(":")
    if name != "coco_panoptic":
        return dataset
    categories = json.loads(panoptic_files(Path(place), split)[0].read_text())["categories"]
    return Regrouped(dataset, {group: [c["name"] for c in categories if c["supercategory"] in parents]
                               for group, parents in GROUPS.items()})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="coco_panoptic:FOLDER or instances:FOLDER")
    parser.add_argument("--weights", default="DEFAULT", help="ImageNet weights of MobileNetV2")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--queries", type=int, default=40)
    parser.add_argument("--preset", default="mobilenet_v2", help="or mobilenet_v2_fine")
    parser.add_argument("--only", choices=("pretrained", "scratch"), help="one of the two runs")
    options = parser.parse_args()
    training, validation = open_grouped(options.data, "train"), open_grouped(options.data, "val")
    classes = training.classes
    found = {}
    for start in (options.only,) if options.only else ("pretrained", "scratch"):
        torch.manual_seed(0)
        pretrained = start == "pretrained"
        model = build_model(options.preset, len(classes), backbone_weights=options.weights if pretrained else None,
                            class_names=classes.names, things=classes.things, num_queries=options.queries,
                            short_side=options.size, frozen_norm=pretrained)
        config = TrainConfig(steps=options.steps, batch_size=options.batch_size, learning_rate=options.learning_rate,
                             backbone_multiplier=0.3 if pretrained else 1.0, warmup=50, size=options.size,
                             scale=(1.0, 1.6), amp="bf16", mask_stride=1, evaluate_images=len(validation),
                             evaluate_every=options.steps // 3)
        folder = options.out / start
        results = train(model.to(memory_format=torch.channels_last), training, validation, config, folder)
        write_table(results, classes, folder)
        draw_run(model, validation, folder)
        found[start] = summary(results)
    for start, figures in found.items():
        print(start, {name: round(100 * value, 1) for name, value in figures.items()})


if __name__ == "__main__":
    main()
