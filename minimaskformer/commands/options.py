"""Options that several commands share."""
import argparse

from ..data.catalog import READERS

DATA = "lakeland[:SIZE,DIFFICULTY] or NAME:FOLDER, NAME one of: " + ", ".join(READERS)
DEVICE = "auto, cpu, cuda, or one GPU by number, such as cuda:1"
LAYOUT = (  # option, what it says; fields of FolderLayout
    ("images", "pattern of the pictures, relative to the data folder, such as 'PNGImages/*.png'"),
    ("labels", "pattern of their label files, {stem} being what the names have in common: 'PedMasks/{stem}_mask.png'"),
    ("instances", "pattern of the files that number the instances, for --kind panoptic"),
    ("lists", "pattern of the lists of names of each split, such as 'ImageSets/{split}.txt'"),
    ("classes", "a file of class names, or names separated by commas"),
    ("colors", "a file of colours and class names, for labels that are colours"))
KINDS = ("semantic", "instances", "panoptic")
CHECKPOINT = 'a file, or a shipped model\'s name ("mini")'


def data_options(parser, **data):
    """The option --data (with argparse's default= or required=), and those for reading your own folder."""
    parser.add_argument("--data", help=DATA, **data)
    group = parser.add_argument_group("layout of a folder, for own: and instances:, if it is not recognised")
    for name, help in LAYOUT:
        group.add_argument(f"--{name}", dest=f"layout_{name}", metavar="TEXT", help=help)
    group.add_argument("--kind", dest="layout_kind", choices=KINDS, help="what label files hold: classes, numbers of "
                       "the objects of one class (or one file per object), or classes with --instances beside them")
    group.add_argument("--val-share", dest="layout_val_share", type=float, metavar="SHARE", help="share of the "
                       "pictures, spread evenly over their names, to use for validation if there are no splits (0.2)")
    reading_options(group)


def folder_layout(options):
    """The FolderLayout that the options describe, or None."""
    from ..data.recognise.patterns import FolderLayout
    names = [*(name for name, _ in LAYOUT), "kind", "val_share"]
    given = {name: value for name in names if (value := getattr(options, f"layout_{name}")) is not None}
    return FolderLayout(**given) if given else None


def reading_options(parser):
    """Options for reading labels that are ambiguous."""
    parser.add_argument("--crowds", choices=("ignore", "objects"), default="ignore", help="COCO instance JSON: take "
                        "\"iscrowd\": 1 as a group that is neither learnt nor counted, or as an object (CVAT writes it "
                        "for every mask drawn with a brush)")
    parser.add_argument("--connected", action="store_true", help="files that should number the instances are black and "
                        "white masks: each connected part is an object")


def open_data(options, split):
    """A split of the data set of --data, read as the options say; ValueError if a given option does not apply to it."""
    from ..data.catalog import open_dataset
    from ..data.checks import files_of
    dataset = open_dataset(options.data, split, folder_layout(options))
    source = files_of(dataset)
    for name, given, value in (("crowds", options.crowds == "objects", "objects"),
                               ("connected", options.connected, True)):
        if given and not hasattr(source, name):
            raise ValueError(f"--{name} does not apply to {options.data}: its labels are unambiguous")
        if given:
            setattr(source, name, value)
    return dataset


def any_whole_number(text):
    """What `type=int` means on the command line: a whole number, including 0 and below."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number, got {text!r}") from None


def any_number(text):
    """What `type=float` means on the command line: a number, such as 0.5 or 1e-4."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r}") from None


def whole_number(text):
    """The type of options that count something: a whole number, at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, got {text!r}")
    return int(text)


def counted(number, noun):
    """"1 scene", "2 scenes"."""
    return f"{number} {noun}{'s' * (number != 1)}"


def whole_number_or_none(text):
    """The type of options that count something, where 0 means none of it."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 on, got {text!r}")
    return int(text)
