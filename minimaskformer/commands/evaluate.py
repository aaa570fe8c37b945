"""`evaluate`: mIoU, PQ and mask AP of a checkpoint on a data set."""
from pathlib import Path

from .options import CHECKPOINT, DATA, DEVICE, any_whole_number


def evaluate_options(parser):
    """The options of `evaluate`."""
    parser.add_argument("checkpoint", help=CHECKPOINT)
    parser.add_argument("--data", default="lakeland", help=DATA)
    parser.add_argument("--split", default="val", choices=("train", "val"))
    parser.add_argument("--limit", type=any_whole_number, help="only the first so many images")
    parser.add_argument("--out", type=Path, help="folder for metrics.json, metrics.md and scenes.png")
    parser.add_argument("--device", default="auto", help=DEVICE)


def run_evaluate(options):
    """Evaluate a checkpoint and print (and keep) the table."""
    from ..data.catalog import open_dataset
    from ..draw.runs import draw_scenes
    from ..evaluation import evaluate, table, write_table
    from ..system.distributed import choose_device
    from ..system.files import check_writable
    from ..weights.checkpoint import load_checkpoint
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


def compare_names(model, dataset):
    """Say so where a model's class names are not the data set's: classes are compared by their index alone."""
    from ..system.distributed import say_once
    pairs = list(zip(model.config.class_names or (), dataset.classes.names))
    other = [f"{k}: {a} / {b}" for k, (a, b) in enumerate(pairs) if a != b]
    if other and len(model.config.class_names) == len(dataset.classes):
        some = ", ".join(other[:6]) + " ..." * (len(other) > 6)
        say_once(f"note: classes are compared by index, and their names differ (model / data set): {some}. Is it the "
                 f"data set that the model was trained for?")
