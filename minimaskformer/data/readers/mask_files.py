"""One mask file per object: black and white pictures, several for each image, as nuclei and brush exports have them."""
import re
from pathlib import Path

import numpy as np

from ..images import open_image
from .label_maps import IMAGE_SUFFIXES, LABEL_SUFFIXES, by_stem

BRUSH = re.compile(r"task-(?P<task>\d+)-annotation-(?P<annotation>\d+)-by-.*?-tag-(?P<label>.+)-\d+")  # Label Studio


def read_mask(path, size):
    """A mask file as bool [H, W]: 0 is outside, the one other value inside.

    Raises ValueError for a file with more values (is it several objects?), and for one of another size.
    """
    picture = open_image(path)
    pixels = np.asarray(picture.convert("RGB") if picture.mode in ("P", "RGBA", "LA", "CMYK") else picture)
    if pixels.ndim == 3:
        pixels = pixels.max(axis=2)  # [H, W]
    inside = np.unique(pixels[pixels != 0])
    if len(inside) > 1:
        told = ", ".join(map(str, inside[:5].tolist())) + " ..." * (len(inside) > 5)
        raise ValueError(f"{path} holds the values {told} besides 0; a file of one object has one. Is it a photo, "
                         "was it saved as JPEG, or does it number several objects?")
    if pixels.shape != tuple(size):
        raise ValueError(f"{path} is {pixels.shape[1]} x {pixels.shape[0]}, its picture is {size[1]} x {size[0]}")
    return pixels != 0


def picture_folders(folder):
    """[(image, [(label, mask file)])] of a folder with a folder per picture that holds images/ and masks/; or None."""
    items = []
    for place in sorted(path for path in Path(folder).iterdir() if path.is_dir() and not path.name.startswith(".")):
        if not (place / "images").is_dir() or not (place / "masks").is_dir():
            return None
        pictures = visible(place / "images")
        if len(pictures) != 1:
            return None  # a split: many pictures in one folder
        items.append((pictures[0], [("object", mask) for mask in visible(place / "masks", LABEL_SUFFIXES)]))
    return items or None


def brush_masks(folder):
    """[(image, [(label, mask file)])] of Label Studio's brush PNGs in masks/ (or the folder itself); None without any.

    A file's name has the number of its task, which must be the name of its picture in images/. Raises ValueError if it
    is not, and if two people annotated one task.
    """
    place = Path(folder) / "masks" if (Path(folder) / "masks").is_dir() else Path(folder)
    named = [(match, path) for path in sorted(place.iterdir()) if path.suffix.lower() in LABEL_SUFFIXES
             if (match := BRUSH.fullmatch(path.stem))]
    if not named:
        return None
    images, tasks = by_stem(Path(folder) / "images", IMAGE_SUFFIXES), {}
    for match, path in named:
        if match["task"] not in images:
            raise ValueError(f"{path} is of task {match['task']}, but no picture in {folder} has that name. The PNG "
                             "export does not hold the pictures' names: name the pictures after their tasks, or export "
                             "as COCO with images")
        tasks.setdefault(match["task"], []).append((match, path))
    for task, files in tasks.items():
        people = {match["annotation"] for match, _ in files}
        if len(people) > 1:
            raise ValueError(f"task {task} has {len(people)} annotations ({', '.join(sorted(people))}), such as "
                             f"{files[0][1]}: keep the files of one of them")
    return [(path, [(match["label"], mask) for match, mask in tasks.get(stem, [])]) for stem, path in images.items()]


def visible(folder, suffixes=None):
    """The files of a folder that are not hidden, sorted."""
    return [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")
            and (suffixes is None or path.suffix.lower() in suffixes)]
