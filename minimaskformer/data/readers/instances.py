"""Images with instance-label PNGs: 0 is background, 1 ... n are the instances of one thing class (nuclei, say)."""
import numpy as np
import torch
from torch.utils.data import Dataset

from ...targets import panoptic_to_target
from ..classes import ClassTable
from ..images import check_same_size, item_names, read_image
from .label_maps import IMAGE_SUFFIXES, LABEL_SUFFIXES, by_stem, pair_stems, read_labels


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
        self.pairs = [(images[stem], labels[stem]) for stem in pair_stems(images, labels)]
        self.names = item_names([image.name for image, _ in self.pairs])

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
        check_same_size({str(image_file): image.shape[1:], str(label_file): segment_map.shape}, self.name(index))
        return image, panoptic_to_target(segment_map, info, len(self.classes))
