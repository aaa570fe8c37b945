"""Where public data sets keep their files once unpacked, and what their label values mean.

Each function takes the folder and a split ("train", "val") and returns a SemanticFolder. Nothing is downloaded here:
data/README.md says where each comes from.
"""
from pathlib import Path

import numpy as np

from .classes import ClassTable
from .readers.class_files import read_object_info
from .readers.label_maps import LABEL_SUFFIXES, by_stem, pair_stems
from .readers.semantic import SemanticFolder
from .recognise.splits import check_split

# Cityscapes: (label value in the files, name, thing) of the 19 evaluated classes in the order of their "train ids".
CITYSCAPES = (
    (7, "road", False), (8, "sidewalk", False), (11, "building", False), (12, "wall", False), (13, "fence", False),
    (17, "pole", False), (19, "traffic light", False), (20, "traffic sign", False), (21, "vegetation", False),
    (22, "terrain", False), (23, "sky", False), (24, "person", True), (25, "rider", True), (26, "car", True),
    (27, "truck", True), (28, "bus", True), (31, "train", True), (32, "motorcycle", True), (33, "bicycle", True))
CITYSCAPES_LABELS = 34  # label values 0 ... 33; those without an evaluated class are void

VOC = ("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
       "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor")


def ade20k(folder, split):
    """ADE20K scene parsing, 150 classes, as ADEChallengeData2016.zip unpacks.

    Labels 1 ... 150 are the classes; 0 is "other", here void. Names come from objectInfo150.txt in that folder.
    """
    folder = inner_folder(folder, "ADEChallengeData2016")
    name = {"train": "training", "val": "validation"}.get(split, split)
    info = folder / "objectInfo150.txt"
    if not info.is_file():
        raise FileNotFoundError(f"no such file: {info}. It holds the 150 class names and is part of "
                                "ADEChallengeData2016.zip; it is also in the repository CSAILVision/sceneparsing")
    if split not in ("train", "val"):  # without these something was not unpacked
        check_split(name, folders_in(folder / "images"), folder)
    return SemanticFolder(folder / "images" / name, folder / "annotations" / name, read_object_info(info), void=(0,))


def cityscapes(folder, split, panoptic=True):
    """Cityscapes, fine annotations: leftImg8bit/SPLIT/CITY/ and gtFine/SPLIT/CITY/.

    panoptic: read the instanceIds (19 classes, 8 of them things; groups such as a row of bicycles are crowds).
    Otherwise the labelIds: 34 label values, of which 19 are classes and the rest void, everything stuff.
    """
    folder = Path(folder)
    kind = "instanceIds" if panoptic else "labelIds"
    images_dir, labels_dir = folder / "leftImg8bit" / split, folder / "gtFine" / split
    if split not in ("train", "val"):  # without these something was not unpacked
        check_split(split, folders_in(folder / "leftImg8bit"), folder)
    for place in (images_dir, labels_dir):
        if not place.is_dir():
            raise FileNotFoundError(f"no such folder: {place}. Unpack leftImg8bit_trainvaltest.zip and "
                                    f"gtFine_trainvaltest.zip in {folder}")
    items = []
    for city in sorted(place for place in images_dir.iterdir() if place.is_dir()):
        images = by_stem(city, (".png",), "_leftImg8bit")
        labels = by_stem(labels_dir / city.name, LABEL_SUFFIXES, f"_gtFine_{kind}")
        items += [(images[stem], labels[stem]) for stem in pair_stems(images, labels, f"{kind} file")]
    if not items:
        raise FileNotFoundError(f"{images_dir} holds no folders of cities")
    values, names, things = zip(*CITYSCAPES)
    void = tuple(v for v in range(CITYSCAPES_LABELS) if v not in values)
    classes = ClassTable(names, things, values)
    return SemanticFolder.from_files(items, classes, void, decode=cityscapes_numbers if panoptic else None)


def cityscapes_numbers(values):
    """(labels, instances) of an instanceIds file: label * 1000 + number for one instance, just the label for others."""
    single = values >= 1000
    return np.where(single, values // 1000, values), np.where(single, values % 1000 + 1, 0)  # numbers count from 0


def voc(folder, split, year="2012"):
    """Pascal VOC segmentation, 21 classes with background; the white border (255) is void. Through torchvision."""
    from torchvision.datasets import VOCSegmentation
    lists = Path(folder, "VOCdevkit", f"VOC{year}", "ImageSets", "Segmentation").glob("*.txt")
    check_split(split, (path.stem for path in lists), folder)
    try:
        found = VOCSegmentation(str(folder), year=year, image_set=split)
    except (RuntimeError, FileNotFoundError) as error:
        raise FileNotFoundError(f"no Pascal VOC {year} in {folder} for the split {split!r}: expected "
                                f"{Path(folder) / 'VOCdevkit' / f'VOC{year}'} with ImageSets/Segmentation/{split}.txt "
                                f"({error})") from error
    items = [(Path(image), Path(label)) for image, label in zip(found.images, found.masks)]
    return SemanticFolder.from_files(existing(items), VOC)


def pets(folder, split):
    """Oxford-IIIT Pet with its trimaps: 1 is the pet, 2 the background, 3 the border, which is void here.

    The data set has two parts, "trainval" and "test"; "train" and "val" stand for them. Through torchvision.
    """
    from torchvision.datasets import OxfordIIITPet
    part = {"train": "trainval", "val": "test"}.get(split, split)
    check_split(part, ("trainval", "test"), f"{folder} (Oxford-IIIT Pet; train and val are names for these)")
    try:
        found = OxfordIIITPet(str(folder), split=part, target_types="segmentation")
    except (RuntimeError, FileNotFoundError) as error:
        raise FileNotFoundError(f"no Oxford-IIIT Pet in {folder}: expected {Path(folder) / 'oxford-iiit-pet'} with "
                                f"images/ and annotations/{part}.txt ({error})") from error
    items = list(zip(found._images, found._segs))  # torchvision has no public names for the lists
    return SemanticFolder.from_files(existing(items), ClassTable(("pet", "background"), (False, False), (1, 2)), (3,))


def existing(items):
    """The items, all of whose files exist; FileNotFoundError with the first that do not."""
    if not items:
        raise ValueError("the list of this split is empty")
    gone = [str(path) for item in items for path in item if not path.is_file()]
    if gone:
        raise FileNotFoundError(f"{len(gone)} files in the split's list are missing, such as {', '.join(gone[:5])}: "
                                "is everything unpacked?")
    return items


def folders_in(folder):
    """The names of the folders in a folder; none if it is not there."""
    return [path.name for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []


def inner_folder(folder, name):
    """folder, or the folder `name` inside it, where the archive was unpacked."""
    return Path(folder) / name if (Path(folder) / name).is_dir() else Path(folder)


def cityscapes_semantic(folder, split):
    """Cityscapes without its instances."""
    return cityscapes(folder, split, panoptic=False)
