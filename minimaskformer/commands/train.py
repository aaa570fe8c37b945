"""What each command of the command line does (cli.py has their options)."""
import json
import sys
from dataclasses import asdict, fields

import torch


def run_train(options):
    """Train, evaluate, and leave metrics and pictures beside the checkpoint (under torchrun process 0 does)."""
    from torchvision.ops import FrozenBatchNorm2d

    from ..data.catalog import open_dataset
    from ..data.checks import scan_labels
    from ..evaluation import table, write_table
    from ..model import build_model
    from ..system.distributed import rank
    from ..train import train
    from ..training.recipes import RECIPES, TrainConfig, learning_rate_note, train_config
    from ..weights.checkpoint import load_checkpoint
    from .results import check_writable, draw_run
    given = {field.name: getattr(options, field.name) for field in fields(TrainConfig) if hasattr(options, field.name)}
    given |= {"scale": tuple(given["scale"])} if "scale" in given else {}
    config = train_config(options.preset, **given)
    device = choose_device(options.device)
    training, validation = open_dataset(options.data, "train"), open_dataset(options.data, "val")
    classes = training.classes
    changes = {"class_names": classes.names, "things": classes.things}
    if options.short_side or "size" in given or options.preset not in RECIPES:
        changes["short_side"] = options.short_side or config.size
    changes |= {"num_queries": options.queries} if options.queries else {}
    torch.manual_seed(config.seed)
    model = build_model(options.preset, len(classes), backbone_weights=options.backbone_weights, **changes)
    notes = [learning_rate_note(options.preset, config)]
    frozen = any(isinstance(module, FrozenBatchNorm2d) for module in model.modules())
    if frozen and not (options.backbone_weights or options.start_from):
        notes.append(f"note: {options.preset} keeps its BatchNorm frozen, which suits pretrained weights and learns "
                     f"slowly without; think of --backbone-weights DEFAULT")
    if options.start_from:
        notes.append(start_from(model, load_checkpoint(options.start_from), options.start_from))
    model = model.to(device).to(memory_format=torch.channels_last)
    if rank() == 0:
        print(*filter(None, notes), sep="\n", end="\n" if any(notes) else "", file=sys.stderr)
        print(f"{options.preset}: {sum(p.numel() for p in model.parameters()):,} parameters, {len(training)} training "
              f"and {len(validation)} validation images, {len(classes)} classes, on {device}")
        if options.scan != 0 and not options.resume:
            scan_labels(training, options.scan)
            scan_labels(validation, options.scan)
        check_writable(options.out)
    results = train(model, training, validation, config, options.out, resume=options.resume)
    if rank() == 0:
        write_table(results, classes, options.out)
        draw_run(model, validation, options.out)
        print(table(results, classes))
        print(f"checkpoint, log, metrics and pictures are in {options.out}")


def start_from(model, other, where):
    """Copy the weights of another model of the same build; the class head only if the classes are as many.

    Returns a note if it is left out. Raises ValueError naming what is built differently.
    """
    from ..weights.checkpoint import load_tensors
    own, theirs = asdict(model.config), asdict(other.config)
    shapes = ("backbone", "dim", "mask_dim", "encoder_layers", "hidden_dim", "num_queries", "decoder_layers",
              "feedforward", "window")
    differ = [f"{name} {theirs[name]} (here {own[name]})" for name in shapes if theirs[name] != own[name]]
    if differ:
        raise ValueError(f"{where} is built differently: {', '.join(differ)}; start from a checkpoint of the same "
                         f"preset and number of queries")
    tensors, note = other.state_dict(), None
    if own["num_classes"] != theirs["num_classes"]:
        tensors |= {name: value for name, value in model.state_dict().items() if name.startswith("class_head.")}
        note = (f"note: {where} has {theirs['num_classes']} classes, the data {own['num_classes']}: the class head "
                f"starts anew")
    load_tensors(model, tensors, where)
    return note


def run_evaluate(options):
    """Evaluate a checkpoint and print (and keep) the table."""
    from ..data.catalog import open_dataset
    from ..evaluation import evaluate, table, write_table
    from ..weights.checkpoint import load_checkpoint
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
    from ..weights.checkpoint import load_checkpoint
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
    failed = []
    for path in options.images:
        try:
            image = open_picture(path)
        except (ValueError, OSError) as error:  # the others are done all the same
            failed.append(str(error))
            continue
        result = model.predict(image, options.task)
        write_prediction(model, image, result, options.task, options.out / f"{path.stem}_{options.task}")
    if failed:
        raise ValueError("\n".join([f"{len(failed)} of {len(options.images)} pictures could not be read:", *failed]))


def run_inspect(options):
    """Look at a data set; print and keep what is found. An error at the end if pictures can not be used."""
    from ..data.catalog import open_dataset
    from ..diagnosis.dataset import inspect, write_report
    from .results import check_writable
    dataset = open_dataset(options.data, options.split)
    check_writable(options.out)
    try:
        other = open_dataset(options.data, "val" if options.split == "train" else "train")
    except (ValueError, OSError) as error:
        other = None
        print(f"note: there is no other split to compare with: {error}", file=sys.stderr)
    looks = inspect(dataset, options.limit, other)
    print(write_report(looks, dataset, f"{options.data}, {options.split}", options.out))
    print(f"report.txt, suspicious.txt and sheets of pictures are in {options.out}")
    broken = sum(bool(found.error) for found in looks)
    if broken:
        raise ValueError(f"{broken} of the {len(looks)} pictures can not be used: see {options.out / 'report.txt'}")


def run_diagnose(options):
    """Read a run's log, try its checkpoint on some pictures, and print the likely causes of what is wrong."""
    from ..data.catalog import open_dataset
    from ..diagnosis.measurements import measure
    from ..diagnosis.run import diagnose, read_run, report
    from ..evaluation import without_nan, write_text
    from ..weights.checkpoint import load_checkpoint
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
    from ..data.lakeland import Lakeland
    from ..data.readers.coco_panoptic import write_panoptic
    dataset = Lakeland(options.split, options.size, options.difficulty, options.count)
    write_panoptic(options.out, (dataset[i] for i in range(len(dataset))), dataset.classes, options.split)
    print(f"{options.count} scenes are in {options.out}; use them with --data coco_panoptic:{options.out}")


def run_progress(options):
    """Show or reset the learner's progress."""
    from ..exercises import progress
    progress(reset=options.reset)


def choose_device(name):
    """The torch device of "auto", "cpu" or "cuda", for this process of possibly several."""
    from ..system.distributed import start
    return start(name)
