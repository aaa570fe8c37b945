"""Images with instance-label PNGs: 0 is background, 1 ... n are the instances of one thing class (nuclei, say)."""
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from ..classes import ClassTable
from ..targets import panoptic_to_target
from .images import open_image, read_image, safe_name, same_size

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
LABEL_SUFFIXES = (".png", ".tif", ".tiff")  # lossless ones


class InstanceFolder(Dataset):
    """Pairs of an image and a label file with the same stem; class 0 is the thing, class 1 the background (stuff).

    Label files have one channel of 8 or 16 bits (or palette indices). Every pixel is labelled: background is one stuff
    segment, with an id above the instances', which keep their values as ids. Pixels are taken as stored (no EXIF
    rotation). Raises FileNotFoundError for a missing folder or partner, ValueError for an empty folder, a stem that
    occurs twice, a label file of more than one channel, or sizes that differ; all name the file.
    """

    def __init__(self, images_dir, labels_dir, thing_name="object", background_name="background"):
        self.classes = ClassTable(names=(thing_name, background_name), isthing=(True, False), ids=(1, 2))
        images, labels = by_stem(images_dir, IMAGE_SUFFIXES), by_stem(labels_dir, LABEL_SUFFIXES)
        for lonely, folder, what in ((images.keys() - labels.keys(), labels_dir, "label file"),
                                     (labels.keys() - images.keys(), images_dir, "image")):
            if lonely:
                raise FileNotFoundError(f"no {what} in {folder} for {len(lonely)} of the names, such as "
                                        f"{sorted(lonely)[:5]}: image and label file have the same name before the dot")
        self.pairs = [(images[stem], labels[stem]) for stem in sorted(images)]

    def __len__(self):
        return len(self.pairs)

    def name(self, index):
        """The image's name without its suffix."""
        return safe_name(self.pairs[index][0].name)

    def files(self, index):
        """The image file and the label files (here one) of an item."""
        image_file, label_file = self.pairs[index]
        return image_file, (label_file,)

    def read_map(self, index):
        """(segment_map, segments_info) of an item: its label file read and checked, without its image."""
        segment_map = torch.from_numpy(read_labels(self.pairs[index][1]))  # [H, W]
        found, counts = np.unique(segment_map, return_counts=True)
        area = dict(zip(found.tolist(), counts.tolist()))
        background = max(area) + 1
        info = [{"id": i, "category_id": 0, "isthing": True, "iscrowd": 0, "area": area[i]} for i in area if i > 0]
        if 0 in area:
            segment_map[segment_map == 0] = background
            info.append({"id": background, "category_id": 1, "isthing": False, "iscrowd": 0, "area": area[0]})
        return segment_map, info

    def __getitem__(self, index):
        image_file, label_file = self.pairs[index]
        segment_map, info = self.read_map(index)
        image = read_image(image_file)  # [3, H, W]
        same_size({str(image_file): image.shape[1:], str(label_file): segment_map.shape}, self.name(index))
        return image, panoptic_to_target(segment_map, info, len(self.classes))


def by_stem(folder, suffixes):
    """{stem: path} of a folder's files with one of the suffixes; hidden files are passed over."""
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no such folder: {folder}")
    files = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in suffixes and not path.name.startswith("."):
            if path.stem in files:
                raise ValueError(f"{files[path.stem]} and {path} have the same name before the dot: remove one")
            files[path.stem] = path
    if not files:
        raise ValueError(f"{folder} holds no files that end in {', '.join(suffixes)}")
    return files


def read_labels(path):
    """A label file as int32 [H, W]; ValueError unless it has one channel of integers."""
    picture = open_image(path)
    if picture.mode not in ("1", "L", "P") and not picture.mode.startswith("I"):
        raise ValueError(f"{path} has Pillow mode {picture.mode}, but an instance label file has one channel of 8 or "
                         "16 bits (0 is background, 1 ... n are the instances): is it a picture, or one of coloured "
                         "labels? Save the numbers themselves")
    labels = np.array(picture).astype(np.int32)  # [H, W]
    if labels.min() < 0:
        raise ValueError(f"{path} holds the label {labels.min()}: labels are 0 (background) and 1 ... n")
    return labels
