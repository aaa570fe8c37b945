"""What the options of several commands have in common."""
import argparse

from ..data.catalog import READERS

DATA = "lakeland[:SIZE,DIFFICULTY] or NAME:FOLDER, NAME one of: " + ", ".join(READERS)
DEVICE = "auto, cpu, cuda, or one GPU by number, such as cuda:1"
CHECKPOINT = 'a file, or a shipped model\'s name ("mini")'


def whole_number(text):
    """The type of options that count something: a whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1 on, not {text!r}")
    return int(text)
