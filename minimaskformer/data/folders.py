"""Folders as people have them, with a reader for each: COCO files, and label images of instances."""
from dataclasses import replace

from ..system.distributed import say_once
from .combine import Joined
from .readers.coco_instance import CocoInstance
from .readers.coco_panoptic import CocoPanoptic
from .recognise.patterns import FolderLayout
from .recognise.splits import check_split
from .your_own import instance_json, label_files

PLACES = (".", "annotations", "free", "noncommercial")  # where panoptic JSONs lie

def instances(folder, split, layout=FolderLayout()):  # noqa: B008 frozen
    """A folder of pictures and label files of one thing class: images/SPLIT/ and labels/SPLIT/, or as for `own`."""
    return label_files(folder, split, replace(layout, kind="instances"))


def coco_panoptic(folder, split):
    """The panoptic JSONs of a split, as one data set."""
    parts = [CocoPanoptic(json_file) for json_file in panoptic_files(folder, split)]
    return parts[0] if len(parts) == 1 else Joined(parts)


def coco_instance(folder, split):
    """The instance JSON of a split."""
    json_file = instance_json(folder, split)
    if json_file is None:
        check_split(split, (path.stem.removeprefix("instances_") for place in (folder, folder / "annotations")
                            for path in place.glob("instances_*.json")), folder)
        raise FileNotFoundError(f"no instances_{split}*.json in {folder} or in its folder annotations: is it the right "
                                "folder, and are the annotations unpacked?")
    say_once(f"{json_file}: things only; pixels in no mask belong to no class. Read mask AP: PQ and mIoU do not "
             f"count what is predicted there (own:{folder} makes these pixels a class)")
    return CocoInstance(json_file)


def panoptic_files(folder, split):
    """The panoptic JSONs of a split: one in the folder or in annotations/, or those of free/ and noncommercial/."""
    for places in (["."], ["annotations"], ["free", "noncommercial"]):
        files = [found for place in places if (found := panoptic_file(folder / place, split))]
        if files:
            return files
    check_split(split, (path.stem.removeprefix("panoptic_") for place in PLACES
                        for path in (folder / place).glob("panoptic_*.json")), folder)
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
