"""Your own data set: a folder that is looked at to see what it holds."""
from collections import Counter
from pathlib import Path

from .readers.class_files import find_class_file, read_class_file
from .readers.coco_instance import CocoInstance
from .readers.label_maps import IMAGE_SUFFIXES, LABEL_SUFFIXES, by_stem, pair_stems
from .readers.semantic import SemanticFolder

FORMS = """images/SPLIT/ and labels/SPLIT/ (label PNGs: semantic), with instances/SPLIT/ beside them (PNGs that number
  the instances: panoptic), or a COCO instance JSON: SPLIT.json, instances_SPLIT*.json (also in annotations/) or
  SPLIT/_annotations.coco.json"""
BACKGROUND = "background"


def own(folder, split):
    """Open a split of your own data set, in one of the FORMS; classes.txt or classes.json in the folder names classes.

    Without such a file the classes are the values found in the labels of *all* splits, so that train and val agree.
    With a JSON, pixels in no mask are a stuff class "background", so that PQ and mIoU mean something.
    Raises FileNotFoundError with what was looked for, ValueError if the folder holds two forms at once.
    """
    folder = Path(folder)
    json_file, labels_dir = instance_json(folder, split), folder / "labels" / split
    if json_file and labels_dir.is_dir():
        raise ValueError(f"{folder} holds both {json_file} and {labels_dir}: which is it? Move one away, or open the "
                         f"JSON with coco_instance:{folder}")
    if json_file:
        return CocoInstance(json_file, background=BACKGROUND)
    if not labels_dir.is_dir():
        jsons = [path for place in (folder, folder / "annotations") for path in sorted(place.glob("*.json"))]
        hint = f", and one that parts a JSON, such as {jsons[0]}, in train and val" if jsons else ""
        raise FileNotFoundError(f"no split {split!r} in {folder}, which holds {contents(folder)}; looked for\n  "
                                f"{FORMS}.\ndata/README.md, \"Your own\", has a script that makes this tree{hint}")
    instances_dir = folder / "instances" / split if (folder / "instances").is_dir() else None
    class_file = find_class_file(folder)
    if class_file:
        classes, void = read_class_file(class_file)
    else:
        everything = [item for part in sorted((folder / "labels").iterdir()) if part.is_dir()
                      for item in label_items(folder, part.name, instances_dir is not None)]
        classes, void = SemanticFolder.from_files(everything).classes, None
    return SemanticFolder(folder / "images" / split, labels_dir, classes, void, instances_dir)


def contents(folder):
    """What lies in a folder, as short text: folders by name, files by kind."""
    folders = sorted(f"{path.name}/" for path in folder.iterdir() if path.is_dir())
    kinds = Counter(path.suffix.lower() or "no suffix" for path in folder.iterdir() if path.is_file())
    told = folders[:8] + ["..."] * (len(folders) > 8) + [f"{n} {kind}" for kind, n in kinds.most_common(4)]
    return ", ".join(told) or "nothing"


def label_items(folder, split, with_instances):
    """(image, label file[, instance file]) of a split."""
    images = by_stem(folder / "images" / split, IMAGE_SUFFIXES)
    labels = by_stem(folder / "labels" / split, LABEL_SUFFIXES)
    columns = [images, labels]
    if with_instances:
        columns.append(by_stem(folder / "instances" / split, LABEL_SUFFIXES))
        pair_stems(images, columns[2], "instance file")
    return [tuple(column[stem] for column in columns) for stem in pair_stems(images, labels)]


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
    for part in {"val": ("val", "valid")}.get(split, (split,)):
        if (folder / part / "_annotations.coco.json").is_file():
            return folder / part / "_annotations.coco.json"
    return None
