"""The command line: python -m minimaskformer train | evaluate | inspect | predict | diagnose | scenes | progress."""
import argparse
import sys
from dataclasses import fields
from pathlib import Path

import torch

from .train import run_diagnose, run_evaluate, run_inspect, run_predict, run_progress, run_scenes, run_train


def main(arguments=None):
    """Run one command; errors a person can mend are one line on stderr and exit status 1."""
    options = parser().parse_args(arguments)
    try:
        options.command(options)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"minimaskformer: {error}", file=sys.stderr)
        return 1
    except torch.OutOfMemoryError as error:
        print(f"minimaskformer: {str(error).splitlines()[0]}\nTo need less memory: --amp, --accumulate 2 or more (the "
              f"same step in smaller pieces), a smaller --size or --batch-size", file=sys.stderr)
        return 1
    leave_processes()  # not after an error: the others may be waiting for us, and torchrun ends them
    return 0


def whole_number(text):
    """The type of options that count something: a whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1 on, not {text!r}")
    return int(text)


def parser():
    """All commands and options."""
    from ..config import PRESETS
    from ..data.catalog import READERS
    top = argparse.ArgumentParser(prog="python -m minimaskformer", description=__doc__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def command(name, function, help):
        sub = commands.add_parser(name, help=help, description=help,
                                  formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        sub.set_defaults(command=function)
        return sub

    data = "lakeland[:SIZE,DIFFICULTY] or NAME:FOLDER, NAME one of: " + ", ".join(READERS)
    train = command("train", run_train, "train a model and leave checkpoint, log, metrics and pictures in a folder")
    train.add_argument("--preset", default="mini", help=f"one of: {', '.join(PRESETS)}")
    train.add_argument("--data", default="lakeland", help=data)
    train.add_argument("--out", default="runs/mini", type=Path, help="folder of the run")
    train.add_argument("--start-from", help='checkpoint whose weights to start from, a file or "mini"; its class head '
                       "only if the classes are as many")
    train.add_argument("--backbone-weights", help='"DEFAULT" (torchvision downloads ImageNet\'s) or a file')
    train.add_argument("--queries", type=whole_number, help="number of queries, if not the preset's")
    train.add_argument("--short-side", type=whole_number, help="short side that predict resizes to (default: "
                       "--size, or the preset's where the paper has a recipe for it)")
    train.add_argument("--device", default="auto", help="auto, cpu or cuda")
    train.add_argument("--resume", action="store_true", help="go on with the run in --out from its last checkpoint")
    train.add_argument("--scan", type=int, metavar="N", help="check the labels of so many images of each split before "
                       "the first step, 0: none (default: all)")
    add_training_options(train)

    evaluation = command("evaluate", run_evaluate, "mIoU, PQ and mask AP of a checkpoint on a data set")
    evaluation.add_argument("checkpoint", help='a file, or a shipped model\'s name ("mini")')
    evaluation.add_argument("--data", default="lakeland", help=data)
    evaluation.add_argument("--split", default="val", choices=("train", "val"))
    evaluation.add_argument("--limit", type=int, help="only the first so many images")
    evaluation.add_argument("--out", type=Path, help="folder for metrics.json, metrics.md and scenes.png")
    evaluation.add_argument("--device", default="auto", help="auto, cpu or cuda")

    look = command("inspect", run_inspect, "what a data set holds: class counts, sizes, suspicious files, a sheet")
    look.add_argument("--data", required=True, help=data)
    look.add_argument("--split", default="train", help="train, val, or another split that the data set has")
    look.add_argument("--limit", type=int, help="only so many pictures, spread evenly (all, if not given)")
    look.add_argument("--out", default="runs/inspect", type=Path, help="folder for the report and the sheets")

    prediction = command("predict", run_predict, "segment pictures; writes a picture and the raw result of each: "
                         "NAME_semantic_ids.png holds class indices (NAME_semantic.json names them), "
                         "NAME_panoptic_ids.png segment ids as COCO does (in colours; NAME_panoptic.json), "
                         "NAME_instance.npz masks, labels and scores")
    prediction.add_argument("checkpoint", help='a file, or a shipped model\'s name ("mini")')
    prediction.add_argument("images", nargs="+", type=Path)
    prediction.add_argument("--task", default="panoptic", choices=("semantic", "instance", "panoptic"))
    prediction.add_argument("--out", default="predictions", type=Path)
    prediction.add_argument("--device", default="auto", help="auto, cpu or cuda")

    diagnosis = command("diagnose", run_diagnose, "what went wrong in a training run? the usual causes, with numbers")
    diagnosis.add_argument("run", type=Path, help="folder of the run")
    diagnosis.add_argument("--data", default="lakeland", help=data)
    diagnosis.add_argument("--split", default="val")
    diagnosis.add_argument("--limit", type=int, default=50, help="pictures that the checkpoint is tried on")
    diagnosis.add_argument("--device", default="auto", help="auto, cpu or cuda")

    scenes = command("scenes", run_scenes, "write Lakeland scenes as COCO panoptic images, PNG and JSON")
    scenes.add_argument("--out", default="data/lakeland", type=Path)
    scenes.add_argument("--split", default="val", choices=("train", "val"))
    scenes.add_argument("--count", type=int, default=100)
    scenes.add_argument("--size", type=int, default=128)
    scenes.add_argument("--difficulty", type=float, default=0.5)

    progress = command("progress", run_progress, "your progress through the exercises")
    progress.add_argument("--reset", action="store_true", help="start again")
    return top


def add_training_options(train):
    """An option for each field of TrainConfig; one that is not given is absent, and then the preset decides."""
    from ..training.recipes import PRECISIONS, TrainConfig
    for field in fields(TrainConfig):
        name, kind = "--" + field.name.replace("_", "-"), {"type": type(field.default)}
        if isinstance(field.default, bool):
            kind = {"action": argparse.BooleanOptionalAction}
        elif isinstance(field.default, tuple):
            kind = {"type": float, "nargs": 2, "metavar": ("LOW", "HIGH")}
        elif field.name == "amp":
            kind = {"nargs": "?", "const": "bf16", "choices": PRECISIONS}
        shown = " ".join(map(str, field.default)) if isinstance(field.default, tuple) else field.default
        train.add_argument(name, default=argparse.SUPPRESS, **kind,
                           help=f"{field.metadata['help']} (mini: {shown})")


def leave_processes():
    """Part from the other processes of a torchrun, if there are any."""
    from ..system.distributed import finish
    finish()
