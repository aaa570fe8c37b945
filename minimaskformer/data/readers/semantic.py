"""Folders of images and label PNGs: semantic labels, and panoptic ones if a second file numbers the instances.

ADE20K, Cityscapes, Pascal VOC, Oxford-IIIT Pet and most home-made data sets are of this kind. They differ in where the
files are (public.py) and in what the numbers mean (the class table); the reading is the same.
"""
from dataclasses import replace

import numpy as np
import torch
from torch.utils.data import Dataset

from ...targets import panoptic_to_target
from ..checks import map_threads, stop_at_bad
from ..classes import ClassTable
from ..images import check_same_size, item_names, read_image
from ..tally import map_content
from .class_numbers import Palettes, check_values
from .instances import connected_parts, number_content, read_instances
from .label_maps import (
    IMAGE_SUFFIXES,
    LABEL_SUFFIXES,
    LOSSY_HINT,
    VOID_VALUES,
    by_stem,
    count_values,
    label_segments,
    looks_lossy,
    pair_stems,
    ramp_share,
    read_labels,
    remap_table,
)


class SemanticFolder(Dataset):
    """Images and label files with the same name before the dot: one (class, mask) for each class in a picture.

    classes: a ClassTable whose ids are the values in the label files, or a list of names for the values 0, 1, 2 ...,
    or None: the values found in the labels, named like "label 7". void: values where nothing is known; by default 255
    and 65535, unless these are classes. instances_dir: files that number the instances (0 is none); then every instance
    of a thing class is a segment, and pixels of a thing without a number are a crowd. connected: these files are black
    and white masks, and each connected part of a class is an instance. Without instances every class is stuff: a
    semantic label does not say where one sheep ends and the next begins.

    Label files have one channel of 8 or 16 bits (more than 255 classes are fine) or palette indices. Pixels are taken
    as stored (no EXIF rotation). Raises FileNotFoundError for a missing folder or partner, ValueError for coloured
    labels, values outside the table and sizes that differ. All name the file.
    """

    def __init__(self, images_dir, labels_dir, classes=None, void=None, instances_dir=None,
                 connected=False):
        self.connected = connected
        images, labels = by_stem(images_dir, IMAGE_SUFFIXES), by_stem(labels_dir, LABEL_SUFFIXES)
        columns, stems = [images, labels], pair_stems(images, labels)
        if instances_dir is not None:
            columns.append(by_stem(instances_dir, LABEL_SUFFIXES))
            pair_stems(images, columns[2], "instance file")
        items, self.read = [tuple(column[stem] for column in columns) for stem in stems], (None, None)
        self.open_items(items, classes, void, panoptic=instances_dir is not None)

    @classmethod
    def from_files(cls, items, classes=None, void=None, decode=None, names=None, read=(None, None)):
        """The same data set from a list of (image, label file) or (image, label file, instance file).

        decode: a function from the numbers of a label file to (labels, instances), if one file holds both.
        names: what to call the items, by default the images' names without suffix. read: functions from a path to
        int [H, W] that read label files and instance files, if these do not hold numbers.
        """
        dataset = cls.__new__(cls)
        dataset.connected, dataset.read = False, read
        dataset.open_items([tuple(item) for item in items], classes, void, decode, names,
                           panoptic=decode is not None or any(len(item) > 2 for item in items))
        return dataset

    def open_items(self, items, classes, void, decode=None, names=None, panoptic=False):
        """Set up: the files, the class table and what is void."""
        self.items, self.decode, self.palettes = items, decode, Palettes()
        self.names = names or item_names([item[0].name for item in items])
        if classes is not None and not isinstance(classes, ClassTable):
            names = tuple(str(name) for name in classes)
            classes = ClassTable(names, (False,) * len(names), tuple(range(len(names))))
        self.classes = classes or self.find_classes(VOID_VALUES if void is None else void)
        self.uncounted = () if panoptic else tuple(self.classes.names[k] for k in self.classes.things)
        if not panoptic:
            self.classes = replace(self.classes, isthing=(False,) * len(self.classes))
        self.void = tuple(v for v in VOID_VALUES if v not in self.classes.ids) if void is None else tuple(void)
        both = sorted(set(self.void) & set(self.classes.ids))
        if both:
            raise ValueError(f"the label values {both} are both a class and void: choose one")

    def __len__(self):
        return len(self.items)

    def name(self, index):
        """The image's name without its suffix."""
        return self.names[index]

    def files(self, index):
        """The image file and the label files of an item."""
        return self.items[index][0], self.items[index][1:]

    def numbers(self, index):
        """(labels, instances or None) of an item, int32 [H, W] with the values in the files."""
        label_files = self.items[index][1:]
        read_classes, read_numbers = self.read
        maps = [read_classes(label_files[0]) if read_classes else
                read_labels(label_files[0], None if self.decode else self.palettes)]
        maps += [read_numbers(path) if read_numbers else read_instances(path)[0] for path in label_files[1:]]
        if len(maps) == 2:
            check_same_size(dict(zip(map(str, label_files), (m.shape for m in maps))), self.name(index))
        if self.decode:
            return self.decode(maps[0])
        instances = maps[1] if len(maps) > 1 else None
        return maps[0], connected_parts(instances) if self.connected and instances is not None else instances

    def read_map(self, index):
        """(segment_map, segments_info) of an item: its label files read and checked, without its image."""
        labels, instances = self.numbers(index)
        segment_map, info = label_segments(labels, self.classes, self.void, instances, str(self.items[index][1]))
        return torch.from_numpy(segment_map), info

    def content(self, index):
        """What the labels hold, for the tally of a data set."""
        labels, instances = self.numbers(index)
        segment_map, info = label_segments(labels, self.classes, self.void, instances, str(self.items[index][1]))
        more = {"values": frozenset(count_values(labels)[0].tolist()), "lossy": looks_lossy(labels)}
        if instances is not None:
            things = [value for value, isthing in zip(self.classes.ids, self.classes.isthing) if isthing]
            more |= number_content(instances * np.isin(labels, things))
        return map_content(segment_map, info, **more)

    def __getitem__(self, index):
        image_file, (label_file, *_) = self.files(index)
        segment_map, info = self.read_map(index)  # [H, W]
        image = read_image(image_file)  # [3, H, W]
        check_same_size({str(image_file): image.shape[1:], str(label_file): segment_map.shape}, self.name(index))
        return image, panoptic_to_target(segment_map, info, len(self.classes))

    def remap(self):
        """How label values become class indices, as text."""
        note = f"\n  no files number the instances, so these are stuff here: {', '.join(self.uncounted[:8])}"
        return remap_table(self.classes, self.void) + note * bool(self.uncounted)

    def find_classes(self, void=VOID_VALUES):
        """The class table of the values that occur; a class is a thing if any of its pixels has an instance number.

        Reads every label file, so it takes a while; a classes file with the names makes it unnecessary.
        """
        things, every = set(), set()
        found = map_threads(self.values_of, range(len(self)))
        stop_at_bad([values for values in found if isinstance(values, str)], len(self))
        for values, numbered, _ in found:
            every |= values
            things |= numbered - set(void)
        folder = self.items[0][1].parent
        seen = every - set(void)
        if not seen:
            raise ValueError(f"the labels of {folder} are void everywhere ({void}): nothing to learn")
        check_values(every, void, folder)
        worst = max(range(len(self)), key=lambda i: found[i][2])
        if found[worst][2] > 1 or len(every) >= 8 and np.mean([ramps for *_, ramps in found]) > 0.25:
            raise ValueError(f"the labels of {folder} hold {len(every)} numbers, and look as if they were no longer "
                             f"class numbers, such as {self.items[worst][1]}. {LOSSY_HINT}, or name the classes in "
                             f"a classes.txt")
        ids = tuple(sorted(seen))
        return ClassTable(tuple(f"label {v}" for v in ids), tuple(v in things for v in ids), ids)

    def values_of(self, index):
        """The label values of one item, those among them that have instance numbers, how interpolated they look (2:
        certainly); or what is wrong."""
        try:
            labels, instances = self.numbers(index)
        except (ValueError, OSError) as error:
            return str(error)
        numbered = set() if instances is None else set(np.unique(labels[instances > 0]).tolist())
        return set(count_values(labels)[0].tolist()), numbered, 2 if looks_lossy(labels) else ramp_share(labels)
