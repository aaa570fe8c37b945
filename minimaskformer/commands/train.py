"""`train`: a model, from a preset and a data set to a folder with checkpoint, log, metrics and pictures."""
import argparse
import sys
from dataclasses import asdict, fields
from pathlib import Path

from ..config import PRESETS, get_config
from ..training.recipes import PRECISIONS, TrainConfig
from .options import DEVICE, data_options, open_data, whole_number, whole_number_or_none

HEADS = "class_head.", "classifier."  # of MaskFormer, with a row for no-object at the end; of the per-pixel baseline


def train_options(parser):
    """The options of a run, and one for each field of TrainConfig."""
    parser.add_argument("--preset", help=f"one of: {', '.join(PRESETS)} (if not given: what --start-from is, or mini)")
    data_options(parser, default="lakeland")
    parser.add_argument("--out", default="runs/mini", type=Path, help="folder of the run")
    parser.add_argument("--start-from", help='checkpoint whose weights to start from: a file, "mini", or a MaskFormer '
                        "of the hub, by name or folder; its class head only if the classes match")
    parser.add_argument("--backbone-weights", help='"DEFAULT" (torchvision downloads ImageNet\'s) or a file')
    parser.add_argument("--queries", type=whole_number, help="number of queries, if not the preset's")
    parser.add_argument("--short-side", type=whole_number, help="short side that predict resizes to (default: "
                        "--size, or the preset's if the paper has a recipe for it)")
    parser.add_argument("--device", default="auto", help=DEVICE)
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out from its last checkpoint")
    parser.add_argument("--scan", type=whole_number_or_none, metavar="N", help="check and count the labels of this "
                        "many images of each split before the first step, 0: none (default: all, and no training if "
                        "there is nothing to learn)")
    for field in fields(TrainConfig):  # options not given are absent, and then the preset decides
        name, kind = "--" + field.name.replace("_", "-"), {"type": type(field.default)}
        if isinstance(field.default, bool):
            kind = {"action": argparse.BooleanOptionalAction}
        elif isinstance(field.default, tuple):
            kind = {"type": float, "nargs": 2, "metavar": ("LOW", "HIGH")}
        elif field.name == "amp":
            kind = {"nargs": "?", "const": "bf16", "choices": PRECISIONS}
        shown = " ".join(map(str, field.default)) if isinstance(field.default, tuple) else field.default
        shown = ("yes" if shown else "no") if isinstance(shown, bool) else shown
        parser.add_argument(name, default=argparse.SUPPRESS, **kind,
                            help=f"{field.metadata['help']} (mini: {shown})")


def run_train(options):
    """Train, evaluate, and leave metrics and pictures beside the checkpoint (under torchrun process 0 does)."""
    import torch
    from torchvision.ops import FrozenBatchNorm2d

    from ..backbone import load_backbone_weights
    from ..data.combine import match_classes
    from ..draw.runs import draw_run
    from ..evaluation import evaluate, table, write_table
    from ..model import build_model
    from ..system.distributed import choose_device, rank
    from ..system.files import check_writable
    from ..system.lock import only_run_in
    from ..train import train
    from ..training.checked_data import check_data
    from ..training.recipes import FINE_TUNE, RECIPES, amp_note, learning_rate_note, train_config
    from ..training.run import check_folder
    from ..weights.checkpoint import load_checkpoint, load_tensors
    given = {field.name: getattr(options, field.name) for field in fields(TrainConfig) if hasattr(options, field.name)}
    given |= {"scale": tuple(given["scale"])} if "scale" in given else {}
    start = load_checkpoint(options.start_from) if options.start_from else None
    preset = recipe = options.preset or "mini"
    if start is not None and not options.preset:
        preset = start.config
        if preset.backbone != "mini":
            recipe, given = FINE_TUNE, {"size": min(512, preset.short_side)} | given
    config = train_config(recipe, **given)
    device = choose_device(options.device)
    training, validation = open_data(options, "train"), open_data(options, "val")
    classes = training.classes
    notes = lacking_note(validation.classes, classes)
    validation = match_classes(validation, classes, "the validation split", "the training split")
    changes = {"class_names": classes.names, "things": classes.things}
    if options.short_side or hasattr(options, "size") or recipe not in (*RECIPES, FINE_TUNE):
        changes["short_side"] = options.short_side or config.size
    if options.queries and get_config(preset).per_pixel:
        raise ValueError(f"{options.preset or options.start_from} gives each pixel a class and has no queries: leave "
                         "--queries out")
    changes |= {"num_queries": options.queries} if options.queries else {}
    torch.manual_seed(config.seed)
    model = build_model(preset, len(classes), **changes)
    loaded = f"{model.config.backbone}, new, without pretrained weights"
    if options.backbone_weights:
        loaded = load_backbone_weights(model.backbone, model.config.backbone, options.backbone_weights)
    notes += [learning_rate_note(recipe, config), amp_note(config, device)]
    frozen = any(isinstance(module, FrozenBatchNorm2d) for module in model.modules())
    if frozen and not (options.backbone_weights or options.start_from):
        notes.append(f"note: {preset} keeps its BatchNorm frozen, which suits pretrained weights and learns "
                     f"slowly without them; consider --backbone-weights DEFAULT")
    if start is not None:
        notes.append(start_from(model, start, options.start_from))
        loaded = f"{model.config.backbone} of {options.start_from}, with all else of it" + (
            " but the class head" if notes[-1] else "")
    if options.resume and not options.out.exists():
        check_folder(options.out, resume=True)  # says so, and leaves no empty folder
    model = model.to(device).to(memory_format=torch.channels_last)
    if rank() == 0:
        print(*filter(None, notes), sep="\n", end="\n" if any(notes) else "", file=sys.stderr)
        print(f"{options.preset or options.start_from or preset}: "
              f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(training)} training and "
              f"{len(validation)} validation images, {len(classes)} classes, on {device}\nbackbone: {loaded}")
        check_data(model, training, validation, 0 if options.resume else options.scan)  # before anything is written
        check_writable(options.out)
    with only_run_in(options.out):
        if options.resume and lacks_only_pictures(options.out):
            load_tensors(model, load_checkpoint(options.out / "model.safetensors").state_dict())
            results = evaluate(model, validation, config.evaluate_images)
        else:
            results = train(model, training, validation, config, options.out, resume=options.resume, scan=0)
        if rank() == 0:
            write_table(results, classes, options.out)
            draw_run(model, validation, options.out)
            print(table(results, classes))
            print(f"checkpoint, log, metrics and pictures are in {options.out}")


def lacks_only_pictures(folder):
    """Whether a run was stopped after its last step and the removal of its checkpoints, but before its last picture."""
    from ..training.resume import state_files
    finished = (folder / "model.safetensors").is_file() and not state_files(folder)
    return finished and not (folder / "scenes.png").is_file()


def lacking_note(some, every):
    """[a note on classes that the validation split does not have], or []."""
    from ..data.combine import names_of
    lacking = [name for name in every.names if name not in some.names]
    return [f"note: the validation split has {len(some)} of the {len(every)} classes, and nothing of "
            f"{names_of(lacking)}"] if len(some) < len(every) else []


def start_from(model, other, where):
    """Copy the weights of another model of the same architecture; the class head only if the classes are the same.

    Classes are the same if their names are, in any order; without names, if there are as many. Returns a note if the
    head is left out. Raises ValueError naming what is built differently.
    """
    from ..weights.checkpoint import load_tensors
    own, theirs = asdict(model.config), asdict(other.config)
    shapes = ("per_pixel", "backbone", "dim", "mask_dim", "encoder_layers", "hidden_dim", "num_queries",
              "decoder_layers", "feedforward", "window")
    differ = [f"{name} {theirs[name]} (here {own[name]})" for name in shapes if theirs[name] != own[name]]
    if differ:
        raise ValueError(f"{where} is built differently: {', '.join(differ)}; start from a checkpoint of the same "
                         f"preset and number of queries")
    tensors, note = other.state_dict(), None
    names, theirs_by_name = own["class_names"], theirs["class_names"]
    named = names and theirs_by_name and own["num_classes"] == theirs["num_classes"]
    if named and len(set(names)) == len(names) and set(names) == set(theirs_by_name):
        order = [theirs_by_name.index(name) for name in names] + [len(names)]  # no-object is the last everywhere
        tensors |= {name: value[order[:len(value)]] for name, value in tensors.items() if name.startswith(HEADS)}
    elif named and names != theirs_by_name or own["num_classes"] != theirs["num_classes"]:
        tensors |= {name: value for name, value in model.state_dict().items() if name.startswith(HEADS)}
        note = (f"note: {where} has {theirs['num_classes']} classes, the data {own['num_classes']}"
                + ", with other names" * bool(named) + ": the class head starts afresh")
    load_tensors(model, tensors, where)
    return note
