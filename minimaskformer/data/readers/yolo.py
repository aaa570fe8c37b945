"""YOLO's segmentation format: a text file per picture, a line per object: class, x1 y1 x2 y2 ... as fractions."""
import re
from pathlib import Path

from ..checks import map_threads, stop_at_bad
from ..recognise.splits import add_part, split_of
from .coco_content import open_objects, upright_sizes
from .label_maps import IMAGE_SUFFIXES, by_stem

FAR = 0.05  # how far outside the picture a corner may lie, as a fraction of it


def find_yolo(folder):
    """(names, {split or "": (images folder, labels folder)}) of a YOLO folder, or None.

    It has a YAML file with "names" (or classes.txt), and text files in labels/SPLIT/, SPLIT/labels/ or labels/.
    """
    folder = Path(folder)
    parts = {}
    for labels in [*sorted(folder.glob("labels/*")), *sorted(folder.glob("*/labels"))]:
        split = split_of(labels.name if labels.parent.name == "labels" else labels.parent.name)
        images = folder / "images" / labels.name if labels.parent.name == "labels" else labels.parent / "images"
        if split and images.is_dir() and labels.is_dir() and any(labels.glob("*.txt")):
            add_part(parts, split, (images, labels), labels)
    if not parts and (folder / "images").is_dir() and any((folder / "labels").glob("*.txt")):
        parts = {"": (folder / "images", folder / "labels")}
    files = sorted(path for suffix in ("yaml", "yml") for path in folder.glob(f"*.{suffix}"))
    if not parts or not (files or (folder / "classes.txt").is_file()):
        return None
    return (yaml_names(files, folder) if files else lines_of(folder / "classes.txt")), parts


def yaml_names(files, folder):
    """The class names in the one YAML file that has them, in the order of their numbers."""
    import yaml
    found = {}
    for path in files:
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is not valid YAML ({error})") from error
        if isinstance(content, dict) and content.get("names"):
            found[path] = content
    if len(found) != 1:
        raise ValueError(f"{folder} needs one YAML file with \"names\", found {len(found)} among "
                         f"{', '.join(path.name for path in files)}")
    (path, content), = found.items()
    names = content["names"]
    if isinstance(names, dict):
        if sorted(names) != list(range(len(names))):
            raise ValueError(f"{path}: \"names\" has the numbers {sorted(names)}, not 0 ... {len(names) - 1}")
        names = [names[k] for k in sorted(names)]
    if not isinstance(names, list) or content.get("nc", len(names)) != len(names):
        raise ValueError(f"{path}: nc is {content.get('nc')}, and \"names\" holds {len(names)}")
    return tuple(map(str, names))


def lines_of(path):
    """The class names of a classes.txt, one per line."""
    return tuple(line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip())


def picture_and_labels(images_dir, labels_dir):
    """[(image, text file or None)] of a split: a picture without a text file holds no object."""
    images, texts = by_stem(images_dir, IMAGE_SUFFIXES), by_stem(labels_dir, (".txt",))
    texts.pop("classes", None)
    lonely = sorted(texts.keys() - images.keys())
    if lonely:
        raise FileNotFoundError(f"no image in {images_dir} for {len(lonely)} of the {len(texts)} files of {labels_dir}"
                                f": {', '.join(lonely[:5])}{' ...' * (len(lonely) > 5)}")
    return [(images[stem], texts.get(stem)) for stem in sorted(images)]


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
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines() if path else (), start=1):
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
