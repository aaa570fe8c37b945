"""What is looked at before the first step: do data and model belong together, and do the labels teach anything?"""
import math
import sys

from ..data.checks import count_labels, files_of
from ..data.combine import match_classes, names_of
from ..data.faults import check_targets, notes
from ..system.distributed import rank

BOTH = "the validation data set", "the training data set"


def check_data(model, dataset, validation, scan=None):
    """Stop before the first step if data and model do not fit together, or there is nothing to learn.

    scan: so many images of each split have their labels read, checked and counted; None: all, 0: none.
    """
    for name, data in (("training", dataset), ("validation", validation)):
        if data is None:
            continue
        if len(data) == 0:
            raise ValueError(f"the {name} data set is empty")
    if len(dataset.classes) != model.config.num_classes:
        raise ValueError(f"the training data set has {len(dataset.classes)} classes, the model "
                         f"{model.config.num_classes}")
    if validation is not None:
        matched = match_classes(validation, dataset.classes, *BOTH).classes
        kinds = zip(matched.names, matched.isthing, dataset.classes.isthing)
        differ = [name for name, a, b in kinds if a != b]
        if differ:
            raise ValueError(f"{names_of(differ)}: thing in one of training and validation data, stuff in the other. "
                             f"Do both have files that number the instances?")
    if scan != 0 and rank() == 0:
        scan_splits({"training": dataset, "validation": validation}, scan,
                    math.inf if model.config.per_pixel else model.config.num_queries)


def scan_splits(splits, limit, queries):
    """Check and count the labels of {split: data set}; all errors and notes come before the first step."""
    for split, dataset in splits.items():
        counted = None if dataset is None else count_labels(dataset, limit)
        if counted:  # scenes that are drawn have no files
            check_targets(counted, files_of(dataset), split)
            told = notes(counted, files_of(dataset), split, queries)
            print(*told, sep="\n", end="\n" if told else "", file=sys.stderr)
