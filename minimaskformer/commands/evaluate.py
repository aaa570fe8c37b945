"""`evaluate`: mIoU, PQ and mask AP of a checkpoint on a data set."""
from dataclasses import replace
from pathlib import Path

from ..system.text import plain
from .options import CHECKPOINT, DEVICE, data_options, open_data


def evaluate_options(parser):
    """The options of `evaluate`."""
    parser.add_argument("checkpoint", help=CHECKPOINT)
    data_options(parser, default="lakeland")
    matching_options(parser)
    parser.add_argument("--split", default="val", help="train, val, or another split that the data set has")
    parser.add_argument("--limit", type=int, help="use only this many images, spread evenly over the data set")
    parser.add_argument("--out", type=Path, help="folder for metrics.json, metrics.md, scenes.png, confusion.png "
                        "(what is mistaken for what), worst.html (the worst pictures), pictures.csv (figures of each)")
    parser.add_argument("--device", default="auto", help=DEVICE)


def run_evaluate(options):
    """Evaluate a checkpoint and print (and keep) the table."""
    from ..draw.runs import draw_details, draw_scenes
    from ..evaluation import evaluate, table, write_table
    from ..system.distributed import choose_device
    from ..system.files import check_writable
    from ..weights.checkpoint import load_checkpoint
    model = load_checkpoint(options.checkpoint).to(choose_device(options.device))
    dataset = by_name(model, open_data(options, options.split), options)
    if options.out:
        check_writable(options.out)
    results = evaluate(model, dataset, options.limit, details=bool(options.out))
    if results is None:
        return  # with several processes only the first has the figures
    print(table(results, dataset.classes))
    if options.out:
        draw_scenes(model, dataset, options.out / "scenes.png")
        draw_details(model, dataset, results, options.out)
        write_table(results, dataset.classes, options.out)  # last: never new figures beside old pictures
        print(f"figures and pictures are in {options.out}; worst.html shows where the model fails")


def matching_options(parser):
    """The option for matching the classes of a model and a data set."""
    parser.add_argument("--by-index", action="store_true", help="compare classes by their index, whatever their names")


def by_name(model, dataset, options):
    """The data set with the class indices of the model, matched by name; ValueError if it has classes of other names.

    If the model has no names, or with --by-index, by index alone; a note says so if the names differ.
    """
    from ..data.classes import classes_of
    from ..data.combine import Renumbered, match_classes
    from ..system.distributed import say_once
    names, unnamed = model.config.class_names, tuple(f"class {k}" for k in range(model.config.num_classes))
    if names and names != unnamed and not options.by_index:
        try:
            return match_classes(dataset, classes_of(model))
        except ValueError as error:
            raise ValueError(f"{error}. Is this the data set the model was trained for? (--by-index compares the "
                             f"classes by their index)") from error
    pairs = list(zip(names, dataset.classes.names))
    other = [f"{k}: {a} / {b}" for k, (a, b) in enumerate(pairs) if a != b]
    if other and len(names) == len(dataset.classes):
        some = ", ".join(map(plain, other[:6])) + " ..." * (len(other) > 6)
        say_once(f"note: classes are compared by index, but their names differ (model / data set): {some}. Is this the "
                 f"data set the model was trained for?")
        table = replace(classes_of(model), isthing=dataset.classes.isthing)  # under the model's names: already matched
        return Renumbered(dataset, table, list(range(len(table))))
    return dataset
