"""YOLO's segmentation format: a text file per picture, a line per object: class, x1 y1 x2 y2 ... as fractions."""
import re
from pathlib import Path

from ...system.text import read_text
from ..checks import map_threads, stop_at_bad
from ..recognise.pairs import has_files
from ..recognise.splits import add_part, split_of
from ..recognise.yolo_yaml import listed_pictures, yaml_names, yaml_places
from .coco_content import open_objects, upright_sizes
from .label_maps import IMAGE_SUFFIXES, LABEL_SUFFIXES, by_stem

FAR = 0.05  # how far outside the picture a corner may lie, as a fraction of it


def find_yolo(folder):
    """(names, {split or "": [(images folder or list, labels folder)]}, what was passed over) of a YOLO folder, or None.

    It has a YAML file with "names" (or classes.txt), which says where the pictures of each split are, or text files in
    labels/SPLIT/, SPLIT/labels/ or labels/.
    """
    folder = Path(folder)
    files = sorted(path for suffix in ("yaml", "yml") for path in folder.glob(f"*.{suffix}"))
    said, passed = yaml_places(files, folder)
    parts = said if "val" in said else {**yolo_places(folder), **said}
    parts = {split: places for split, places in parts.items() if split or not said}
    texts = any(place.is_file() or labels.is_dir() and has_files(labels, (".txt",))
                for places in parts.values() for place, labels in places)
    if not texts:
        return None
    if not files and not (folder / "classes.txt").is_file():
        places = [labels for places in parts.values() for _, labels in places]
        if any(has_files(labels, LABEL_SUFFIXES) for labels in places):
            return None  # label pictures, with notes beside them
        raise ValueError(f"{folder} holds text files in {places[0]}, as YOLO has them, and no data.yaml that names the "
                         "classes: write one, with a line such as names: [cat, dog]")
    return (yaml_names(files, folder) if files else lines_of(folder / "classes.txt")), parts, passed


def yolo_places(folder):
    """{split or "": [(images folder, labels folder)]} of the usual trees; empty without any."""
    parts = {}
    for labels in [*sorted(folder.glob("labels/*")), *sorted(folder.glob("*/labels"))]:
        split = split_of(labels.name if labels.parent.name == "labels" else labels.parent.name)
        images = folder / "images" / labels.name if labels.parent.name == "labels" else labels.parent / "images"
        if split and images.is_dir() and labels.is_dir() and has_files(labels, (".txt",)):
            add_part(parts, split, [(images, labels)], labels)
    if not parts and (folder / "images").is_dir() and (folder / "labels").is_dir() and has_files(
            folder / "labels", (".txt",)):
        parts = {"": [(folder / "images", folder / "labels")]}
    return parts


def lines_of(path):
    """The class names of a classes.txt, one per line."""
    return tuple(line.strip() for line in read_text(path).splitlines() if line.strip())


def pictures_and_labels(places):
    """[(image, text file or None)] of the places of a split: a picture without a text file holds no object."""
    items = []
    for images_dir, labels_dir in places:
        if images_dir.is_file():
            items += listed_pictures(images_dir, labels_dir)
            continue
        images = by_stem(images_dir, IMAGE_SUFFIXES)
        labelled = labels_dir.is_dir() and has_files(labels_dir, (".txt",))
        texts = by_stem(labels_dir, (".txt",)) if labelled else {}
        for name in ("classes", "notes", "README", "readme"):
            if name not in images:
                texts.pop(name, None)
        lonely = sorted(texts.keys() - images.keys())
        if lonely:
            raise FileNotFoundError(f"no image in {images_dir} for {len(lonely)} of the {len(texts)} files of "
                                    f"{labels_dir}: {', '.join(lonely[:5])}{' ...' * (len(lonely) > 5)}")
        items += [(images[stem], texts.get(stem)) for stem in sorted(images)]
    return items


def open_yolo(items, names, folder):
    """The data set of [(image, text file or None)]."""
    sizes = upright_sizes([image for image, _ in items])
    found = map_threads(lambda item: read_yolo(item[0][1], names, item[1]), list(zip(items, sizes)))
    stop_at_bad([told for told in found if isinstance(told, str)], len(items))
    return open_objects([(image, size, (text,) if text else (), objects)
                         for (image, text), size, objects in zip(items, sizes, found)], names, folder)


def read_yolo(path, names, size):
    """[(class name, polygons in pixels, place)] of a text file, or a text saying what is wrong with it."""
    objects = []
    for number, line in enumerate(read_text(path).splitlines() if path else (), start=1):
        cells, place = line.split(), f"{path}, line {number}"
        if not cells:
            continue
        if not all(re.fullmatch(r"-?\d*\.?\d+(e-?\d+)?", cell, re.IGNORECASE) for cell in cells):
            return f"{place}: {line[:60]!r} is not a row of numbers"
        if not cells[0].isdecimal() or int(cells[0]) >= len(names):
            return f"{place}: class {cells[0]}, but classes are 0 ... {len(names) - 1} ({', '.join(names[:8])})"
        if len(cells) == 5:
            return f"{place} is only a box: for a mask a line needs three corners or more"
        if len(cells) < 7 or len(cells) % 2 == 0:
            return f"{place}: {len(cells) - 1} numbers after the class are not the corners x y of a polygon"
        corners = [float(cell) for cell in cells[1:]]
        if not all(-FAR <= x <= 1 + FAR for x in corners):
            return (f"{place}: corners are fractions of the picture, 0 ... 1, got {min(corners)} ... {max(corners)}: "
                    "are they pixels?")
        polygon = [x * size[1 - k % 2] for k, x in enumerate(corners)]
        objects.append((names[int(cells[0])], [polygon], f"of line {number} ({path.name})"))
    return objects
