"""What the options of several commands have in common."""
import argparse

from ..data.catalog import READERS

DATA = "lakeland[:SIZE,DIFFICULTY] or NAME:FOLDER, NAME one of: " + ", ".join(READERS)
DEVICE = "auto, cpu, cuda, or one GPU by number, such as cuda:1"
CHECKPOINT = 'a file, or a shipped model\'s name ("mini")'


def reading_options(parser):
    """How labels are read that do not say themselves what they mean."""
    parser.add_argument("--crowds", choices=("ignore", "objects"), default="ignore", help="COCO instance JSON: what "
                        "\"iscrowd\": 1 is, a group that is neither learnt nor counted, or an object (CVAT writes it "
                        "for every mask drawn with a brush)")
    parser.add_argument("--connected", action="store_true", help="files that should number the instances are black and "
                        "white masks: each connected part is an object")


def open_data(options, split):
    """A split of the data set of --data, read as the options say; ValueError for one that a given option is not for."""
    from ..data.catalog import open_dataset
    from ..data.checks import files_of
    dataset = open_dataset(options.data, split)
    source = files_of(dataset)
    for name, given, value in (("crowds", options.crowds == "objects", "objects"),
                               ("connected", options.connected, True)):
        if given and not hasattr(source, name):
            raise ValueError(f"--{name} is not for {options.data}: its labels say themselves what they mean")
        if given:
            setattr(source, name, value)
    return dataset


def whole_number(text):
    """The type of options that count something: a whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1 on, not {text!r}")
    return int(text)
