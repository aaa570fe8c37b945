"""The command line: python -m minimaskformer train | evaluate | inspect | predict | diagnose | scenes | progress."""
import argparse
import json
import sys
from dataclasses import fields
from pathlib import Path

import torch


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


def parser():
    """All commands and options."""
    from .config import PRESETS
    from .data.sources import READERS
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
    train.add_argument("--start-from", type=Path, help="checkpoint whose weights to start from")
    train.add_argument("--backbone-weights", help='"DEFAULT" (torchvision downloads ImageNet\'s) or a file')
    train.add_argument("--queries", type=int, help="number of queries, if not the preset's")
    train.add_argument("--short-side", type=int, help="short side that predict resizes to (default: --size, or the "
                       "preset's where the paper has a recipe for it)")
    train.add_argument("--device", default="auto", help="auto, cpu or cuda")
    train.add_argument("--resume", action="store_true", help="go on with the run in --out from its last checkpoint")
    train.add_argument("--scan", type=int, metavar="N", help="check the labels of so many training images before the "
                       "first step, 0: none (default: all)")
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

    prediction = command("predict", run_predict, "segment pictures; writes a picture and the raw result of each")
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
    from .recipes import PRECISIONS, TrainConfig
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


def run_train(options):
    """Train, evaluate, and leave metrics and pictures beside the checkpoint (under torchrun process 0 does)."""
    from torchvision.ops import FrozenBatchNorm2d

    from .checkpoint import load_checkpoint, load_tensors
    from .data.scan import scan_labels
    from .data.sources import open_dataset
    from .distributed import rank
    from .evaluate import table, write_table
    from .model import build_model
    from .recipes import RECIPES, TrainConfig, learning_rate_note, train_config
    from .results import check_writable, draw_run
    from .train import train
    given = {field.name: getattr(options, field.name) for field in fields(TrainConfig) if hasattr(options, field.name)}
    given |= {"scale": tuple(given["scale"])} if "scale" in given else {}
    config = train_config(options.preset, **given)
    device = choose_device(options.device)
    training, validation = open_dataset(options.data, "train"), open_dataset(options.data, "val")
    classes = training.classes
    changes = {"class_names": classes.names, "things": classes.things}
    if options.short_side or "size" in given or options.preset not in RECIPES:
        changes["short_side"] = options.short_side or config.size
    if options.queries:
        changes["num_queries"] = options.queries
    torch.manual_seed(config.seed)
    model = build_model(options.preset, len(classes), backbone_weights=options.backbone_weights, **changes)
    notes = [learning_rate_note(options.preset, config)]
    frozen = any(isinstance(module, FrozenBatchNorm2d) for module in model.modules())
    if frozen and not (options.backbone_weights or options.start_from):
        notes.append(f"note: {options.preset} keeps its BatchNorm frozen, which suits pretrained weights and learns "
                     f"slowly without; think of --backbone-weights DEFAULT")
    if options.start_from:
        load_tensors(model, load_checkpoint(options.start_from).state_dict(), options.start_from)
    model = model.to(device).to(memory_format=torch.channels_last)
    if rank() == 0:
        print(*filter(None, notes), sep="\n", end="\n" if any(notes) else "", file=sys.stderr)
        print(f"{options.preset}: {sum(p.numel() for p in model.parameters()):,} parameters, {len(training)} training "
              f"and {len(validation)} validation images, {len(classes)} classes, on {device}")
        if options.scan != 0 and not options.resume:
            scan_labels(training, options.scan)
        check_writable(options.out)
    results = train(model, training, validation, config, options.out, resume=options.resume)
    if rank() == 0:
        write_table(results, classes, options.out)
        draw_run(model, validation, options.out)
        print(table(results, classes))
        print(f"checkpoint, log, metrics and pictures are in {options.out}")


def run_evaluate(options):
    """Evaluate a checkpoint and print (and keep) the table."""
    from .checkpoint import load_checkpoint
    from .data.sources import open_dataset
    from .evaluate import evaluate, table, write_table
    from .results import check_writable, compare_names, draw_scenes
    model = load_checkpoint(options.checkpoint).to(choose_device(options.device))
    dataset = open_dataset(options.data, options.split)
    compare_names(model, dataset)
    if options.out:
        check_writable(options.out)
    results = evaluate(model, dataset, options.limit)
    if results is None:
        return  # of several processes only the first has the figures
    print(table(results, dataset.classes))
    if options.out:
        write_table(results, dataset.classes, options.out)
        draw_scenes(model, dataset, options.out / "scenes.png")


def run_predict(options):
    """Segment each picture; NAME_TASK.png is for looking, NAME_TASK_ids.png / .json / .npz for working on."""
    from .checkpoint import load_checkpoint
    from .results import check_writable, open_picture, write_prediction
    stems = [path.stem for path in options.images]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise ValueError(f"several pictures are called {', '.join(twice[:5])}, and results are named after them: one "
                         f"would overwrite the other; predict them with different --out folders")
    model = load_checkpoint(options.checkpoint).to(choose_device(options.device))
    if options.task == "instance" and not model.config.things:
        raise ValueError(f"no class of {options.checkpoint} is a thing, so there are no instances to find: choose "
                         f"--task semantic or panoptic")
    if not all(weight.isfinite().all() for weight in model.state_dict().values()):
        raise ValueError(f"{options.checkpoint} holds weights that are not finite: take an earlier checkpoint")
    check_writable(options.out)
    for path in options.images:
        image = open_picture(path)
        result = model.predict(image, options.task)
        write_prediction(model, image, result, options.task, options.out / f"{path.stem}_{options.task}")


def run_inspect(options):
    """Look at a data set; print and keep what is found. An error at the end if pictures can not be used."""
    from .data.sources import open_dataset
    from .inspect_data import inspect, write_report
    from .results import check_writable
    dataset = open_dataset(options.data, options.split)
    check_writable(options.out)
    try:
        other = open_dataset(options.data, "val" if options.split == "train" else "train")
    except (ValueError, OSError):
        other = None  # no second split to compare with
    looks = inspect(dataset, options.limit, other)
    print(write_report(looks, dataset, f"{options.data}, {options.split}", options.out))
    print(f"report.txt, suspicious.txt and sheets of pictures are in {options.out}")
    broken = sum(bool(found.error) for found in looks)
    if broken:
        raise ValueError(f"{broken} of the {len(looks)} pictures can not be used: see {options.out / 'report.txt'}")


def run_diagnose(options):
    """Read a run's log, try its checkpoint on some pictures, and print the likely causes of what is wrong."""
    from .checkpoint import load_checkpoint
    from .data.sources import open_dataset
    from .diagnose import diagnose, read_run, report
    from .evaluate import without_nan, write_text
    from .evidence import measure
    from .results import compare_names
    rows, evidence, config = read_run(options.run)
    if (options.run / "model.safetensors").is_file():
        model = load_checkpoint(options.run / "model.safetensors").to(choose_device(options.device))
        dataset = open_dataset(options.data, options.split)
        compare_names(model, dataset)
        evidence = measure(model, dataset, options.limit)
        write_text(options.run / "evidence.json", json.dumps(without_nan(evidence), indent=1))
    elif evidence is None:
        print(f"{options.run} has no model.safetensors: only the log is read")
    print(report(diagnose(rows, evidence, config), evidence))


def run_scenes(options):
    """Write Lakeland scenes in COCO panoptic format."""
    from .data.coco import write_panoptic
    from .data.lakeland import Lakeland
    dataset = Lakeland(options.split, options.size, options.difficulty, options.count)
    write_panoptic(options.out, (dataset[i] for i in range(len(dataset))), dataset.classes, options.split)
    print(f"{options.count} scenes are in {options.out}; use them with --data coco_panoptic:{options.out}")


def run_progress(options):
    """Show or reset the learner's progress."""
    from .exercises import progress
    progress(reset=options.reset)


def leave_processes():
    """Part from the other processes of a torchrun, if there are any."""
    from .distributed import finish
    finish()


def choose_device(name):
    """The torch device of "auto", "cpu" or "cuda", for this process of possibly several."""
    from .distributed import start
    return start(name)
