"""Which pictures are for training and which for validation: folders that say so, lists, or a repeatable rule.

A rule must give the same answer tomorrow and on another machine, and be printed: pictures are sorted by name, and with
`--val-share 0.2` every fifth of them, from the first on, is for validation.
"""
import re
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from ...system.text import plain

WORDS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
SHARE = 0.2
NO_VAL = ". --val-share 0.2 takes every fifth training picture for validation"


class NoSplit(FileNotFoundError):
    """The data set exists, but has no such split."""


def check_split(split, there, where):
    """Raise NoSplit with the names of the splits that there are, if the one that is wanted is not among them."""
    there = sorted(set(there))
    if there and split not in there:
        raise NoSplit(f"no split {split!r} in {where}: there are {', '.join(map(plain, there))}")


@dataclass(frozen=True)
class Found:
    """What was recognised: its name, {split or "": items}, and a function from the items of a split to a data set."""
    what: str
    parts: dict
    open: object
    uses: tuple = ("val_share",)  # the fields of a FolderLayout that matter
    name: object = str  # what items are sorted by if nobody has split them


def split_of(word):
    """The split ("train", "val" or "test") that a folder's or file's name stands for, or None; train2017 is train."""
    word = re.sub(r"[_-]?\d+$", "", str(word)).lower()
    return next((split for split, words in WORDS.items() if word in words), None)


def add_part(parts, split, items, place):
    """parts[split] = items; ValueError if that split has some already, such as val/ and valid/."""
    if split in parts:
        raise ValueError(f"{place} is a second folder or list for the split {split!r}: move one of the two away")
    parts[split] = items


def choose_split(parts, split, share=None, name=str):
    """(the items of a split, a text that says how the items are split).

    parts: {split: items}, or {"": items} for items that nobody has split: every n-th in the order of name(item) is
    then "val", the others are "train". share: that of "val" (0.2 if None). Raises FileNotFoundError for a split that
    does not exist, ValueError for a share if there is nothing to split.
    """
    if share is not None and not 0 < share < 1:
        raise ValueError(f"--val-share is a share of the pictures, above 0 and below 1, got {share}")
    if share is not None and set(parts) == {"train"}:
        parts = {"": parts["train"]}
    if set(parts) == {""}:
        return choose_by_name(sorted(parts[""], key=name), split, SHARE if share is None else share)
    told = ", ".join(f"{name} {len(items)}" for name, items in parts.items())
    if share is not None and "val" in parts:
        raise ValueError(f"--val-share {share}, but the data has a validation split of its own ({told}): leave it out")
    if split not in parts:
        hint = NO_VAL * (set(parts) == {"train"})
        raise NoSplit(f"no split {split!r}: there are {told}{hint}")
    return parts[split], f"{told} pictures"


def choose_by_name(items, split, share):
    """`choose_split` for sorted items that nobody has split."""
    if split not in ("train", "val"):
        raise NoSplit(f"no split {split!r}: no folders or lists split the {len(items)} pictures, and the rule by name "
                      "gives only train and val")
    val = [i for i in range(len(items)) if in_val(i, share)]
    if len(val) in (0, len(items)):
        raise ValueError(f"{len(items)} pictures cannot be split into train and val")
    chosen = set(val) if split == "val" else set(range(len(items))) - set(val)
    told = f"{len(items)} pictures, split in the order of their names: {rule(share)} is val ({len(val)} of them)"
    return [items[i] for i in sorted(chosen)], told


def in_val(index, share):
    """Whether the sorted picture `index` is for validation: shares add up, and at each whole number one is taken."""
    share = Fraction(str(share))
    return ceil((index + 1) * share) > ceil(index * share)


def rule(share):
    """A share in words: every 5th."""
    step = 1 / Fraction(str(share))
    if step.denominator > 1:
        return f"a share of {share}, spread evenly,"
    return f"every {step}{'th' if step > 3 else ('nd', 'rd')[int(step) - 2]}"
