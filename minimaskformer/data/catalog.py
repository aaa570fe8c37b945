"""The command line's `--data NAME:PATH`: from a short text to a data set."""
import os
import sys
from bisect import bisect_right
from functools import cache
from itertools import accumulate
from pathlib import Path

from torch.utils.data import Dataset

from .public import ade20k, cityscapes, pets, voc
from .readers.coco_instance import CocoInstance
from .readers.coco_panoptic import CocoPanoptic
from .readers.instances import InstanceFolder
from .readers.semantic import SemanticFolder
from .your_own import contents, instance_json, own

KNOWN = """lakeland or lakeland:SIZE,DIFFICULTY (drawn on the fly, such as lakeland:128,0.5)
  coco_panoptic:PATH (a folder with panoptic_SPLIT*.json in it, in annotations/, or in free/ and noncommercial/)
  coco_instance:PATH (a folder with instances_SPLIT*.json in it or in annotations/: things only)
  ade20k:PATH (ADEChallengeData2016 as unpacked: 150 classes, semantic)
  cityscapes:PATH (leftImg8bit/ and gtFine/ as unpacked: panoptic, 8 things) or cityscapes_semantic:PATH (19 classes)
  voc:PATH (the folder with VOCdevkit/VOC2012: 21 classes, semantic)
  pets:PATH (the folder with oxford-iiit-pet/: pet and background)
  instances:PATH (a folder with images/SPLIT/ and labels/SPLIT/, label PNGs with 0 for background)
  own:PATH (a folder with images/SPLIT/ and labels/SPLIT/, maybe instances/SPLIT/ and classes.txt; or a COCO JSON)"""


def open_dataset(spec, split):
    """The data set that a text such as "coco_panoptic:data/coco" names, for a split such as "train" or "val".

    Where label values and class indices differ, the table of the two is printed (to stderr, once).
    Raises ValueError for an unknown name or bad numbers, FileNotFoundError where the files are not there.
    """
    name, _, place = spec.partition(":")
    if name == "lakeland":
        from .lakeland import Lakeland  # it is not light: only who draws scenes pays for it
        length = 1_000_000 if split == "train" else 1_000  # drawn on the fly: training need never repeat a scene
        return Lakeland(split=split, length=length, **lakeland_options(place))
    if name not in READERS:
        raise ValueError(f"unknown data set {spec!r}; known are:\n  {KNOWN}")
    if not place:
        raise ValueError(f"the data set {name} needs a folder: {name}:PATH")
    folder = Path(place).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"no such folder: {folder} (data set {spec!r})")
    dataset = READERS[name](folder, split)
    if isinstance(dataset, SemanticFolder):
        say(f"labels of {spec}:\n{dataset.remap()}")
    return dataset


@cache
def say(text):
    """Print to stderr, each text once, and in one process of several."""
    if os.environ.get("RANK", "0") == "0":
        print(text, file=sys.stderr)


def instances(folder, split):
    """A folder with images/SPLIT/ and labels/SPLIT/ of one thing class."""
    if not (folder / "images" / split).is_dir():
        raise FileNotFoundError(f"no folder {folder / 'images' / split}: {folder} holds {contents(folder)}; expected "
                                f"images/{split}/ and labels/{split}/ (data/README.md, \"Your own\", shows the tree)")
    return InstanceFolder(folder / "images" / split, folder / "labels" / split)


def coco_panoptic(folder, split):
    """The panoptic JSONs of a split, as one data set."""
    parts = [CocoPanoptic(json_file) for json_file in panoptic_files(folder, split)]
    return parts[0] if len(parts) == 1 else Joined(parts)


def coco_instance(folder, split):
    """The instance JSON of a split."""
    json_file = instance_json(folder, split)
    if json_file is None:
        raise FileNotFoundError(f"no instances_{split}*.json in {folder} or its folder annotations: is it the right "
                                "folder, and are the annotations unpacked?")
    say(f"{json_file}: things only, pixels in no mask belong to no class. Read mask AP; PQ and mIoU do not count what "
        f"is predicted there (own:{folder} makes them a class)")
    return CocoInstance(json_file)


def cityscapes_semantic(folder, split):
    """Cityscapes without its instances."""
    return cityscapes(folder, split, panoptic=False)


READERS = {"coco_panoptic": coco_panoptic, "coco_instance": coco_instance, "ade20k": ade20k, "cityscapes": cityscapes,
           "cityscapes_semantic": cityscapes_semantic, "voc": voc, "pets": pets, "instances": instances, "own": own}


def lakeland_options(text):
    """The arguments that "SIZE,DIFFICULTY" or "SIZE" stand for; none for an empty text."""
    if not text:
        return {}
    try:
        size, _, difficulty = text.partition(",")
        return {"size": int(size)} | ({"difficulty": float(difficulty)} if difficulty else {})
    except ValueError as error:
        raise ValueError(f"lakeland:{text}: after the colon come a size and a difficulty, as in lakeland:128,0.5") \
            from error


def panoptic_files(folder, split):
    """The panoptic JSONs of a split: one in the folder or in annotations/, or those of free/ and noncommercial/."""
    for places in (["."], ["annotations"], ["free", "noncommercial"]):
        files = [found for place in places if (found := panoptic_file(folder / place, split))]
        if files:
            return files
    raise FileNotFoundError(f"no panoptic_{split}*.json in {folder}, nor in its folders annotations, free and "
                            "noncommercial: is it the right folder, and are the annotations unpacked?")


def panoptic_file(folder, split):
    """panoptic_SPLIT.json, or the only panoptic_SPLIT*.json of a folder, or None."""
    exact = folder / f"panoptic_{split}.json"
    files = [exact] if exact.is_file() else sorted(folder.glob(f"panoptic_{split}*.json"))
    if len(files) > 1:
        raise ValueError(f"more than one file fits the split {split!r}: {', '.join(map(str, files))}. Name the split "
                         f"in full, such as {files[0].stem.removeprefix('panoptic_')!r}")
    return files[0] if files else None


class Joined(Dataset):
    """Several data sets with one class table, one after the other; ValueError if their tables or names clash."""

    def __init__(self, parts):
        self.parts, self.classes = list(parts), parts[0].classes
        if any(part.classes != self.classes for part in self.parts):
            raise ValueError("data sets of different class tables can not be joined: "
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
