"""`convert`: a data set of any form as COCO panoptic or COCO instance files."""
import shutil
import sys
from pathlib import Path

from .options import data_options, open_data

SPLITS = ("train", "val", "test")
FORMATS = ("coco_instance", "coco_panoptic")


def convert_options(parser):
    """The options of `convert`."""
    data_options(parser, required=True)
    parser.add_argument("--out", required=True, type=Path, help="a new folder")
    parser.add_argument("--format", choices=FORMATS, help="coco_instance: objects with masks that may overlap; "
                        "coco_panoptic: every pixel has one class (default: the first, if everything but objects is "
                        "background)")
    parser.add_argument("--splits", nargs="+", metavar="SPLIT", help="such as train val (default: those of train, val "
                        "and test that exist)")
    parser.add_argument("--anyway", action="store_true", help="write masks that seem to lie in the wrong place, too")


def run_convert(options):
    """Write each split into a folder that gets its name once everything is in it: complete, or not there at all."""
    from tqdm.auto import tqdm

    from ..data.writers.instances import write_instances
    from ..data.writers.panoptic import write_panoptic_files
    if options.out.exists() and (not options.out.is_dir() or any(options.out.iterdir())):
        raise FileExistsError(f"{options.out} already exists and is not empty: choose another --out")
    datasets = open_splits(options)
    check_labels_of(datasets, options.anyway)
    first = next(iter(datasets.values())).classes
    only_objects = first.things and all(first.names[k] == "background" for k in first.stuff)
    kind = options.format or ("coco_instance" if only_objects else "coco_panoptic")
    half = options.out.with_name(options.out.name + ".half")
    if half.exists():
        raise FileExistsError(f"{half} is left over from a conversion that was stopped: remove it")
    half.mkdir(parents=True)
    try:
        for split, dataset in datasets.items():
            progress = tqdm(range(len(dataset)), desc=split, disable=None)
            (write_instances if kind == "coco_instance" else write_panoptic_files)(half, dataset, split, progress)
        if options.out.exists():
            options.out.rmdir()  # empty
        half.rename(options.out)
    finally:
        shutil.rmtree(half, ignore_errors=True)
    told = ", ".join(f"{split} {len(dataset)}" for split, dataset in datasets.items())
    name = "own" if kind == "coco_instance" else kind
    print(f"{kind}, {told} pictures, {len(first)} classes: --data {name}:{options.out}")


def check_labels_of(datasets, anyway=False):
    """ValueError naming every bad label file before anything is written, and for masks that seem to lie in the wrong
    place, which nobody could tell from the copy (not with `anyway`); what else looks wrong is a note."""
    from ..data.checks import count_labels, files_of
    from ..data.faults import check_places, reasons
    for split, dataset in datasets.items():
        if counted := count_labels(dataset):
            if not anyway:
                check_places(counted, files_of(dataset), split)
        for text in reasons(counted, files_of(dataset)) if counted else ():
            print(f"note: {split} split: {text}", file=sys.stderr)


def open_splits(options):
    """{split: data set} of the splits asked for, or of the usual ones that exist."""
    from ..data.recognise.splits import NoSplit
    datasets, missing = {}, None
    for split in options.splits or SPLITS:
        try:
            datasets[split] = open_data(options, split)
        except NoSplit as error:
            if options.splits:
                raise
            missing = error
    if not datasets:
        raise missing
    tables = {dataset.classes for dataset in datasets.values()}
    if len(tables) > 1:
        print("note: the splits have different class tables; each is written with its own", file=sys.stderr)
    return datasets
