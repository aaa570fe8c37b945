"""Data sets made from others: with fewer, broader classes (133 are too many for a hundred pictures), with the classes
in another order, or several joined into one."""
import re
from bisect import bisect_right
from dataclasses import replace
from itertools import accumulate

import torch
from torch.utils.data import Dataset

from ..system.text import plain
from ..targets import panoptic_to_target
from .classes import ClassTable


class Regrouped(Dataset):
    """The same pictures with the classes put into groups.

    groups: {group name: names of classes}, in the order of the new class indices. A group is a thing if its classes
    are. Instances stay instances; stuff of one group becomes one segment, because stuff has no instances. Raises
    ValueError for a class that is in no group or in two, or that the data set does not have, and for a group that
    mixes things and stuff.
    """

    def __init__(self, dataset, groups):
        self.dataset, old = dataset, dataset.classes
        listed = [name for names in groups.values() for name in names]
        twice = sorted({name for name in listed if listed.count(name) > 1})
        for problem, names in (("are in more than one group", twice),
                               ("are in no group", sorted(set(old.names) - set(listed))),
                               ("are not in the data set", sorted(set(listed) - set(old.names)))):
            if names:
                raise ValueError(f"{len(names)} classes {problem}: {', '.join(names[:10])}")
        isthing = dict(zip(old.names, old.isthing))
        kinds = {group: {isthing[name] for name in names} for group, names in groups.items()}
        mixed = [group for group, kind in kinds.items() if len(kind) != 1]
        if mixed:
            raise ValueError(f"the groups {', '.join(mixed)} hold things and stuff, or nothing: stuff has no instances "
                             f"to count")
        self.classes = ClassTable(tuple(groups), tuple(kinds[group].pop() for group in groups),
                                  tuple(range(1, len(groups) + 1)))
        of_name = {name: k for k, names in enumerate(groups.values()) for name in names}
        self.new_class = [of_name[name] for name in old.names]  # old class index -> new one

    def __len__(self):
        return len(self.dataset)

    def name(self, index):
        """The name that the data set gives its item."""
        return self.dataset.name(index)

    def __getitem__(self, index):
        image, target = self.dataset[index]
        segment_map, info, stuff = target["segment_map"].clone(), [], {}  # stuff: new class -> its one entry
        for segment in target["segments_info"]:
            k = self.new_class[segment["category_id"]]
            if k in self.classes.things or segment.get("iscrowd", 0) or k not in stuff:
                info.append(dict(segment, category_id=k))
                if k in self.classes.stuff and not segment.get("iscrowd", 0):
                    stuff[k] = info[-1]
            else:
                segment_map[segment_map == segment["id"]] = stuff[k]["id"]
                stuff[k]["area"] += segment["area"]
        return image, panoptic_to_target(segment_map, info, len(self.classes))


class Joined(Dataset):
    """Several data sets with one class table, one after the other; ValueError if their tables or names clash."""

    def __init__(self, parts):
        self.parts, self.classes = list(parts), parts[0].classes
        if any(part.classes != self.classes for part in self.parts):
            raise ValueError("data sets of different class tables cannot be joined: "
                             f"{[part.classes.names[:5] for part in self.parts]} ...")
        self.ends = list(accumulate(len(part) for part in self.parts))
        names = [part.name(i) for part in self.parts for i in range(len(part))]
        if len(set(names)) < len(names):
            raise ValueError(f"{len(names) - len(set(names))} images occur in more than one of the joined data sets")

    def __len__(self):
        return self.ends[-1]

    def locate(self, index):
        """Which part an index falls in, and where."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} in a data set of {len(self)}")
        index %= len(self)
        part = bisect_right(self.ends, index)
        return self.parts[part], index - (self.ends[part - 1] if part else 0)

    def name(self, index):
        """The name that the part gives its item."""
        part, inside = self.locate(index)
        return part.name(inside)

    def files(self, index):
        """The image file and the label files of an item."""
        part, inside = self.locate(index)
        return part.files(inside)

    def read_map(self, index):
        """(segment_map, segments_info) of an item, without its image."""
        part, inside = self.locate(index)
        return part.read_map(inside)

    def __getitem__(self, index):
        part, inside = self.locate(index)
        return part[inside]


class Renumbered(Dataset):
    """The same pictures and classes under the indices of another class table, which has all their names."""

    def __init__(self, dataset, classes, new_class):
        self.dataset, self.classes = dataset, classes
        self.new_class = new_class  # old class index -> new one

    def __len__(self):
        return len(self.dataset)

    def name(self, index):
        """The name that the data set gives its item."""
        return self.dataset.name(index)

    def __getitem__(self, index):
        image, target = self.dataset[index]
        new = torch.tensor(self.new_class)
        moved = {"labels": new[target["labels"]],
                 "segments_info": [dict(s, category_id=self.new_class[s["category_id"]])
                                   for s in target["segments_info"]]}
        if "instances" in target:
            moved["instances"] = dict(target["instances"], labels=new[target["instances"]["labels"]])
        return image, dict(target, **moved)


def match_classes(dataset, classes, where="the data set", other="the model"):
    """The data set under the indices of a class table: classes are the same if their names are, whatever their order.

    Capitals, and spaces instead of - or _, make no difference, unless two classes of a table differ in nothing else.
    The data set may have fewer classes than the table, and it decides itself which are things. Raises ValueError with
    the names that the table does not have, or that several classes have.
    """
    mine = dataset.classes
    if mine.names == classes.names:
        return dataset
    for spelt in (str, loosely):
        names, known = [spelt(name) for name in mine.names], [spelt(name) for name in classes.names]
        if len(set(names)) == len(names) and len(set(known)) == len(known) and set(names) <= set(known):
            new_class = [known.index(name) for name in names]
            isthing = dict(zip(new_class, mine.isthing))
            table = replace(classes, isthing=tuple(isthing.get(k, classes.isthing[k]) for k in range(len(classes))))
            return Renumbered(dataset, table, new_class)
    twice = [name for table in (mine.names, classes.names) for name in table if table.count(name) > 1]
    if twice:
        raise ValueError(f"classes are matched by name, and several have the name {names_of([*dict.fromkeys(twice)])}")
    unknown, lacking = ([name for name in a if loosely(name) not in map(loosely, b)]
                        for a, b in ((mine.names, classes.names), (classes.names, mine.names)))
    raise ValueError(f"{other} has {len(classes)} classes, {where} has {len(mine)}, and classes are matched by name. "
                     f"Only in {where}: {names_of(unknown) or 'none'}; only in {other}: {names_of(lacking) or 'none'}")


def loosely(name):
    """A name in one spelling: lower case, with spaces for - and _."""
    return " ".join(re.split(r"[\s_-]+", name.casefold().strip()))


def names_of(names, most=10):
    """Names of classes as text, each on one line."""
    return ", ".join(map(plain, names[:most])) + f" and {len(names) - most} more" * (len(names) > most)
