"""What the options of several commands have in common."""
import argparse

from ..data.catalog import READERS

DATA = "lakeland[:SIZE,DIFFICULTY] or NAME:FOLDER, NAME one of: " + ", ".join(READERS)
DEVICE = "auto, cpu, cuda, or one GPU by number, such as cuda:1"
CHECKPOINT = 'a file, or a shipped model\'s name ("mini")'


def any_whole_number(text):
    """The type of options that are a whole number, 0 and below too."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number, got {text!r}") from None


def whole_number(text):
    """The type of options that count something: a whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, got {text!r}")
    return int(text)


def any_number(text):
    """The type of options that are a number, such as 0.5 or 1e-4."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r}") from None


NUMBERS = {int: any_whole_number, float: any_number}  # argparse's own message for these types is no sentence
