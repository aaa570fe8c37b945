"""Your own data set: a folder is inspected to see what it holds, and read as the tool that wrote it meant it."""
from collections import Counter
from pathlib import Path

from ..system.distributed import say_once
from ..system.text import plain
from .recognise.pairs import label_files_of
from .recognise.patterns import FolderLayout
from .recognise.pictures import label_patterns, label_pictures
from .recognise.splits import NO_VAL, WORDS, Found, NoSplit, choose_split
from .recognise.tools import LABELME, coco_of_all, coco_of_split, labelme, masks, yolo

FORMS = """images/SPLIT/ and labels/SPLIT/ (label pictures: semantic), with instances/SPLIT/ beside them (pictures that
  number the instances: panoptic); a COCO instance JSON: SPLIT.json, instances_SPLIT*.json (also in annotations/),
  SPLIT/_annotations.coco.json, or one for all; LabelMe JSONs; YOLO text files with a data.yaml; colours with a
  labelmap.txt or class_dict.csv; labels called NAME_mask.png; a folder of masks for each picture"""


def own(folder, split, layout=FolderLayout()):  # noqa: B008 frozen
    """Open a split of your own data set, in one of the FORMS or as `layout` says; one line says what was recognised.

    If no file names the classes, they are the values (or labels) found in *all* splits, so that the splits agree.
    Objects from polygons or mask files lie on a stuff class "background", so that PQ and mIoU mean something.
    Raises FileNotFoundError with what was looked for, ValueError if the folder holds two forms at once.
    """
    folder = Path(folder)
    dataset = None if layout.images or layout.kind or layout.colors else named_coco(folder, split, layout)
    return open_found(folder, split, layout, RECOGNISERS, FORMS) if dataset is None else dataset


def named_coco(folder, split, layout):
    """The data set of a COCO JSON that is named after its split; None if there is none."""
    json_file, labels_dir = instance_json(folder, split), folder / "labels" / split
    if json_file and labels_dir.is_dir():
        raise ValueError(f"{folder} holds both {json_file} and {labels_dir}: which is it? Move one away, or open the "
                         f"JSON with coco_instance:{folder}")
    if json_file:
        check_options(Found("a COCO JSON", {}, None), layout)
    if json_file and layout.val_share is None:
        return coco_of_split(json_file, folder)
    found = {part: path for part in WORDS if (path := instance_json(folder, part))}
    if not found or labels_dir.is_dir():
        return None
    told = f"{folder}, COCO JSON: there are {', '.join(map(str, found.values()))}"
    if layout.val_share is None:
        raise NoSplit(f"no split {split!r}, {told}{NO_VAL * (set(found) == {'train'})}")
    if set(found) != {"train"}:
        raise ValueError(f"--val-share {layout.val_share}, {told}: leave it out")
    return open_found(folder, split, layout, (lambda *_: coco_of_all(folder, layout, found["train"]),), FORMS)


def label_files(folder, split, layout):
    """The same for label pictures and mask files alone."""
    return open_found(Path(folder), split, layout, (masks, label_pictures), "images/SPLIT/ and labels/SPLIT/")


def open_found(folder, split, layout, recognisers, forms):
    """The data set from the first of several functions that recognises a folder, or from the given patterns."""
    if layout.images or layout.kind or layout.colors or layout.instances:  # these apply to label pictures
        recognisers = (label_patterns,) if layout.images else (masks, label_pictures)
    found = next(filter(None, (recognise(folder, layout) for recognise in recognisers)), None)
    if found is None:
        inner = [path for path in folder.iterdir() if path.is_dir() and path.name != "__MACOSX"]
        hint = f" (is it the folder in it, {inner[0]}?)" if len(inner) == 1 else ""
        raise FileNotFoundError(f"no split {split!r} in {folder}, which holds {contents(folder)}{hint}; looked for\n  "
                                f"{forms}.\nOr describe the layout of the folder: --images 'PLACE/*.jpg' --labels "
                                "'PLACE/{stem}_mask.png' (data/README.md, \"Your own\")")
    if found.what == LABELME and label_files_of(folder):
        raise ValueError(f"{folder} holds {LABELME}s, and label pictures in {label_files_of(folder)}: move one kind "
                         "away, or give --kind semantic, instances or panoptic for the pictures")
    check_options(found, layout)
    try:
        items, told = choose_split(found.parts, split, layout.val_share, found.name)
    except (ValueError, NoSplit) as error:
        raise type(error)(f"{folder}, {found.what}: {error}") from error
    dataset = found.open(items)
    say_once(plain(f"{folder}: {found.what}; {told}"))
    return dataset


def check_options(found, layout):
    """ValueError for an option that has no effect on what was recognised."""
    idle = [name for name, value in vars(layout).items() if value is not None and name not in found.uses]
    if idle:
        raise ValueError(f"{found.what}: --{', --'.join(name.replace('_', '-') for name in idle)} has no effect on it; "
                         "leave it out, or use --images and --labels to say where label pictures are")


RECOGNISERS = (yolo, labelme, masks, label_pictures, coco_of_all)


def contents(folder):
    """What is in a folder, as short text: folders by name, files by kind."""
    folders = sorted(f"{path.name}/" for path in folder.iterdir() if path.is_dir())
    kinds = Counter(path.suffix.lower() or "no suffix" for path in folder.iterdir() if path.is_file())
    told = folders[:8] + ["..."] * (len(folders) > 8) + [f"{n} {kind}" for kind, n in kinds.most_common(4)]
    return ", ".join(told) or "nothing"


def instance_json(folder, split):
    """The COCO instance JSON of a split, or None; ValueError if several fit."""
    for place in (folder, folder / "annotations"):
        for pattern in (f"instances_{split}.json", f"{split}.json", f"instances_{split}*.json"):
            files = sorted(place.glob(pattern))
            if len(files) > 1:
                raise ValueError(f"more than one file fits the split {split!r}: {', '.join(map(str, files))}. Name "
                                 f"the split in full, such as {files[0].stem.removeprefix('instances_')!r}")
            if files:
                return files[0]
        for path in sorted(place.glob("*.json")):  # CVAT's subsets: instances_Train.json, instances_Validation.json
            if path.stem.removeprefix("instances_").lower() in WORDS.get(split, ()):
                return path
    for part in WORDS.get(split, (split,)):
        if (folder / part / "_annotations.coco.json").is_file():
            return folder / part / "_annotations.coco.json"
    return None
