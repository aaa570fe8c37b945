"""Images with instance-label PNGs: 0 is background, 1 ... n are the instances of one thing class (nuclei, say)."""
from collections import Counter

import numpy as np
import torch
from scipy.ndimage import label
from torch.utils.data import Dataset

from ...targets import panoptic_to_target
from ..classes import ClassTable
from ..images import check_same_size, item_names, open_pages, read_image
from ..tally import map_content
from .label_maps import IMAGE_SUFFIXES, LABEL_SUFFIXES, by_stem, label_array, looks_lossy, pair_stems

TOUCHING = np.ones((3, 3))  # pixels that meet at a corner belong together


class InstanceFolder(Dataset):
    """Pairs of an image and a label file with the same stem; class 0 is the thing, class 1 the background (stuff).

    Label files have one channel of 8 or 16 bits (or palette indices). Every pixel is labelled: background is one stuff
    segment, with an id above the instances', which keep their values as ids. A file may also have a page for each
    object: then `masks` are the whole pages, even where they overlap. connected: the files are black and white masks,
    and each connected part is an object. Pixels are taken as stored (no EXIF rotation). Raises FileNotFoundError for a
    missing folder or partner, ValueError for an empty folder, a stem that occurs twice, a label file of more than one
    channel, or sizes that differ; all name the file.
    """

    def __init__(self, images_dir, labels_dir, thing_name="object", background_name="background", connected=False):
        self.classes = ClassTable(names=(thing_name, background_name), isthing=(True, False), ids=(1, 2))
        images, labels = by_stem(images_dir, IMAGE_SUFFIXES), by_stem(labels_dir, LABEL_SUFFIXES)
        self.pairs = [(images[stem], labels[stem]) for stem in pair_stems(images, labels)]
        self.names = item_names([image.name for image, _ in self.pairs])
        self.connected = connected

    @classmethod
    def from_files(cls, pairs, thing_name="object", background_name="background"):
        """The same data set from a list of (image, label file)."""
        dataset = cls.__new__(cls)
        dataset.classes = ClassTable(names=(thing_name, background_name), isthing=(True, False), ids=(1, 2))
        dataset.pairs = [tuple(pair) for pair in pairs]
        dataset.names, dataset.connected = item_names([image.name for image, _ in dataset.pairs]), False
        return dataset

    def __len__(self):
        return len(self.pairs)

    def name(self, index):
        """The image's name without its suffix."""
        return self.names[index]

    def files(self, index):
        """The image file and the label files (here one) of an item."""
        image_file, label_file = self.pairs[index]
        return image_file, (label_file,)

    def read_map(self, index):
        """(segment_map, segments_info) of an item: its label file read and checked, without its image."""
        return self.describe(self.numbers(index)[0])

    def numbers(self, index):
        """(instance numbers int32 [H, W], masks bool [T, H, W] of a file with a page for each object, or None)."""
        numbers, masks = read_instances(self.pairs[index][1])
        return (connected_parts(numbers), None) if self.connected and masks is None else (numbers, masks)

    def describe(self, numbers):
        """(segment_map, segments_info) of instance numbers [H, W]."""
        segment_map = torch.from_numpy(numbers)  # [H, W]
        found, counts = np.unique(segment_map, return_counts=True)
        area = dict(zip(found.tolist(), counts.tolist()))
        background = max(area) + 1
        info = [{"id": i, "category_id": 0, "isthing": True, "iscrowd": 0, "area": area[i]} for i in area if i > 0]
        if 0 in area:
            segment_map[segment_map == 0] = background
            info.append({"id": background, "category_id": 1, "isthing": False, "iscrowd": 0, "area": area[0]})
        return segment_map, info

    def content(self, index):
        """What the labels hold, for the tally of a data set."""
        numbers, masks = self.numbers(index)
        more = {"lossy": masks is None and looks_lossy(numbers)} | number_content(numbers)
        content = map_content(*self.describe(numbers), **more)
        if masks is not None:  # some may be hidden in the map
            content.targets = +Counter({0: len(masks), 1: content.targets[1]})
        return content

    def __getitem__(self, index):
        image_file, label_file = self.pairs[index]
        numbers, masks = self.numbers(index)
        segment_map, info = self.describe(numbers)
        image = read_image(image_file)  # [3, H, W]
        check_same_size({str(image_file): image.shape[1:], str(label_file): segment_map.shape}, self.name(index))
        target = panoptic_to_target(segment_map, info, len(self.classes))
        if masks is not None:
            rest = torch.from_numpy(~masks.any(axis=0))[None]  # [1, H, W]
            rest = rest[:int(rest.any())]
            target["masks"] = torch.cat([torch.from_numpy(masks), rest])  # [T, H, W]
            target["labels"] = torch.tensor([0] * len(masks) + [1] * len(rest), dtype=torch.int64)
        return image, target


def number_content(numbers):
    """What tells instance numbers [H, W] from a plain mask: which numbers occur, and the parts of a single one."""
    found = frozenset(np.unique(numbers[numbers > 0]).tolist())
    return {"numbers": found, "parts": int(connected_parts(numbers).max()) if len(found) == 1 else 0}


def read_instances(path):
    """The instance numbers in a file, int32 [H, W] (0 is none), and the objects' masks bool [T, H, W] if it has pages.

    A file with several pages is read if each page shows one object, as one value on 0: they are numbered in order, and
    where they overlap the smaller lies on top. ValueError with the number of pages for any other such file.
    """
    pages = open_pages(path)
    if len(pages) == 1:
        return label_array(pages[0], path), None
    arrays = [label_array(one_channel(page), path) for page in pages]
    values = [len(np.unique(array[array > 0])) for array in arrays]
    if len({array.shape for array in arrays}) > 1 or max(values) > 1:
        sizes = ", ".join(sorted({f"{array.shape[1]} x {array.shape[0]}" for array in arrays}))
        raise ValueError(f"{path} holds {len(pages)} pages or frames ({sizes}), with up to {max(values)} numbers on "
                         f"one: several pages are read only if each shows one object, all of the same size. Save the "
                         f"page you want as a file of its own")
    masks = np.stack([array > 0 for array in arrays])  # [T, H, W]
    masks = masks[masks.any(axis=(1, 2))]
    numbers = np.zeros(masks.shape[1:], dtype=np.int32)
    for t in np.argsort(-masks.sum(axis=(1, 2)), kind="stable"):  # large before small
        numbers[masks[t]] = t + 1
    return numbers, masks


def one_channel(page):
    """A frame as it was before Pillow made it a picture of three equal channels; others as they are."""
    if page.mode in ("RGB", "RGBA"):
        channels = np.asarray(page.convert("RGB"))
        if (channels == channels[..., :1]).all():
            return page.getchannel(0)
    return page


def connected_parts(numbers):
    """The connected parts of the nonzero pixels of [H, W], numbered from 1: int32 [H, W]."""
    return label(numbers > 0, structure=TOUCHING)[0].astype(np.int32)
