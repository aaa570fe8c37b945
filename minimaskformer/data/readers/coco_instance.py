"""COCO instance annotations: one JSON of polygons and run-length codes, decoded by pycocotools.

What differs from a panoptic data set: masks may overlap, and nobody labelled the rest of the picture. The rest is not
void, though: the annotators looked for every object, so a pixel in no mask is a *negative* for every mask.
"""
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from ...system.text import check_inside, check_links, printable
from ..checks import stop_at_bad
from ..classes import ClassTable
from ..images import check_same_size, item_names, read_image, stored_file
from .coco_json import category_names, image_size, images_by_id, not_twice, read_json, whole
from .run_length import check_code

KIND = "COCO instance JSON"
FARTHEST = 1e6  # pixels
FIRST = 20  # images that are looked for to find their folder


class CocoInstance(Dataset):
    """Images and targets of one instance JSON, in the order of its images; all classes are things.

    labels and masks: every annotation that is no crowd and encloses a pixel, in the file's order; masks may overlap.
    valid: False where there is a crowd and no other mask; everything else is known, also where no mask is.
    segment_map, segments_info: the same flattened, because a map has one segment per pixel: crowds lie lowest, and of
    two masks the smaller lies on top, as a tie lies on a person; masks hidden whole are not in it. Pixels in no mask
    are 0 there. PQ takes 0 for void and does not count what is predicted there: judge by mask AP.
    background: a name, such as "background": then these pixels are a segment of an extra stuff class of that name,
    the last one, and PQ and mIoU count them.

    image_dir is found by itself: beside the JSON or its folder, as val2017/, images/val2017/, images/ or the JSON's own
    folder. Images without annotations are kept, also if none has any: they show what no object looks like. Pixels are
    taken as stored (no EXIF rotation). Raises FileNotFoundError and ValueError that name file, image and annotation.
    """

    def __init__(self, json_file, image_dir=None, background=None):
        self.json_file = Path(json_file)
        content = read_json(self.json_file, KIND, may_be_empty=("annotations",))
        self.classes, index_of = read_categories(content["categories"], background, self.json_file)
        self.background = background
        self.entries = read_instance_entries(content, index_of, self.json_file)
        self.image_dir = find_images(image_dir, self.json_file, self.entries)

    def __len__(self):
        return len(self.entries)

    def name(self, index):
        """The image's name without its suffix."""
        return self.entries[index]["name"]

    def files(self, index):
        """The image file and the label files (here the one JSON) of an item."""
        picture = stored_file(self.image_dir, self.entries[index]["image"])
        return check_links(picture, self.image_dir, self.json_file.parent), (self.json_file,)

    def decoded(self, index):
        """All annotations of an item: a list of (annotation id, class index, iscrowd, mask bool [H, W])."""
        entry = self.entries[index]
        return [(a["id"], a["category"], a["iscrowd"],
                 decode_mask(a["segmentation"], *entry["size"], where(self.json_file, a["id"], entry["image"])))
                for a in entry["annotations"]]

    def objects(self, index):
        """The annotations of an item that enclose a pixel: a list of (class index, iscrowd, mask bool [H, W])."""
        return [(category, iscrowd, mask) for _, category, iscrowd, mask in self.decoded(index) if mask.any()]

    def without_pixel(self, index):
        """Ids of the annotations of an item that enclose no pixel: too thin, or outside it. `inspect` says so."""
        return [number for number, _, _, mask in self.decoded(index) if not mask.any()]

    def read_map(self, index):
        """(segment_map, segments_info) of an item, the masks painted into one map; without its image."""
        return self.flatten(self.objects(index), self.entries[index]["size"])

    def flatten(self, objects, size):
        """Paint masks into a map: crowds first, then large before small. Ids count from 1 in the file's order."""
        segment_map = np.zeros(size, dtype=np.int32)
        for i in sorted(range(len(objects)), key=lambda i: (not objects[i][1], -objects[i][2].sum())):
            segment_map[objects[i][2]] = i + 1
        rows = [(i + 1, category, True, iscrowd) for i, (category, iscrowd, _) in enumerate(objects)]
        if self.background:
            rows.append((len(objects) + 1, len(self.classes) - 1, False, 0))
            segment_map[segment_map == 0] = len(objects) + 1
        areas = np.bincount(segment_map.ravel(), minlength=len(objects) + 2)
        info = [{"id": i, "category_id": category, "isthing": isthing, "iscrowd": iscrowd, "area": int(areas[i])}
                for i, category, isthing, iscrowd in rows if areas[i]]
        return torch.from_numpy(segment_map), info

    def __getitem__(self, index):
        picture, (json_file,) = self.files(index)
        size, objects = self.entries[index]["size"], self.objects(index)
        image = read_image(picture)  # [3, H, W]
        check_same_size({str(picture): image.shape[1:], f"the JSON {json_file}": size}, self.name(index))
        segment_map, info = self.flatten(objects, size)
        covered, crowd = union([mask for *_, mask in objects], size), union([m for _, c, m in objects if c], size)
        single = [(category, mask) for category, iscrowd, mask in objects if not iscrowd]
        if self.background and not covered.all():
            single.append((len(self.classes) - 1, ~covered))
        masks = np.stack([mask for _, mask in single]) if single else np.zeros((0, *size), dtype=bool)  # [T, H, W]
        return image, {"labels": torch.tensor([category for category, _ in single], dtype=torch.int64),
                       "masks": torch.from_numpy(masks), "valid": torch.from_numpy(~crowd | masks.any(axis=0)),
                       "segment_map": segment_map, "segments_info": info}


def union(masks, size):
    """The pixels that are in any of the masks, bool [H, W]."""
    return np.any([np.zeros(size, dtype=bool), *masks], axis=0)


def where(path, annotation, image):
    """The place of an annotation, for error messages."""
    return f"{path}: annotation {printable(annotation)} of image {printable(image)}"


def decode_mask(segmentation, height, width, place):
    """A COCO segmentation as bool [H, W]: polygons, or a run-length code, compressed (text) or not (a list)."""
    from pycocotools import mask as rle
    if isinstance(segmentation, dict):
        if segmentation.get("size") != [height, width]:
            raise ValueError(f"{place}: its run-length code is for {printable(segmentation.get('size'))}, the image is "
                             f"{[height, width]} (height, width)")
        check_code(segmentation.get("counts"), (height, width), place)
    try:
        if isinstance(segmentation, list):
            codes = rle.merge(rle.frPyObjects(segmentation, height, width)) if segmentation else None
        elif isinstance(segmentation["counts"], list):
            codes = rle.frPyObjects(segmentation, height, width)
        else:
            codes = segmentation
        if codes is None:
            return np.zeros((height, width), dtype=bool)
        mask = rle.decode(codes)
    except Exception as error:  # pycocotools raises bare Exception, and what Cython makes of bad types
        raise ValueError(f"{place}: pycocotools cannot decode the segmentation ({error})") from error
    if mask.shape != (height, width):
        raise ValueError(f"{place}: its mask is {mask.shape[1]} x {mask.shape[0]}, the image {width} x {height}")
    return mask.astype(bool)


def read_categories(categories, background, path):
    """(ClassTable, {category id: class index}): the file's categories in its order, all things."""
    try:
        names, ids = category_names(categories), tuple(whole(c, "id", path) for c in categories)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: a category has no {error}: is it a {KIND}?") from error
    things, index_of = (True,) * len(ids), {category: index for index, category in enumerate(ids)}
    if background:
        if background in names:
            raise ValueError(f"{path} has a category {background!r} of its own: rename it in the file, or open "
                             "this as coco_instance: (in Python: another background=...)")
        names, things, ids = (*names, background), (*things, False), (*ids, max(ids) + 1)
    try:
        return ClassTable(names, things, ids), index_of  # without the background's id, which no annotation may use
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_instance_entries(content, index_of, path):
    """Per image {name, image, size, annotations}; every annotation is checked, none is decoded yet."""
    bad = []
    try:
        entries = {number: {"image": check_inside(str(image["file_name"]), path), "annotations": [],
                            "size": image_size(image, path)}
                   for number, image in images_by_id(content["images"], path).items()}
        for a in content["annotations"]:
            if a["image_id"] not in entries:
                raise ValueError(f"{where(path, a.get('id'), a['image_id'])}: the list \"images\" has no such id")
            entry = entries[a["image_id"]]
            place = where(path, a.get("id"), entry["image"])
            if "segments_info" in a:
                raise ValueError(f"{place} has \"segments_info\": it is panoptic, open it as coco_panoptic: "
                                 "(in Python: CocoPanoptic)")
            if a["category_id"] not in index_of:
                raise ValueError(f"{place} has category id {a['category_id']}, which the list \"categories\" lacks; "
                                 f"known ids: {str(sorted(index_of))[:200]}")
            try:
                entry["annotations"].append({"id": a.get("id"), "category": index_of[a["category_id"]],
                                             "iscrowd": whole(a, "iscrowd", place) if a.get("iscrowd") else 0,
                                             "segmentation": checked_segmentation(a, entry["size"], place)})
            except ValueError as error:
                bad.append(str(error))
        names = item_names([entry["image"] for entry in entries.values()])
    except KeyError as error:
        raise ValueError(f"{path}: an entry has no {error}: is it a {KIND}?") from error
    except (TypeError, AttributeError) as error:
        raise ValueError(f"{path}: an entry is not of the form of a {KIND} ({error})") from error
    stop_at_bad(bad, len(content["annotations"]), "Draw or mend these masks, or remove the whole images: an object "
                "without a mask would be learnt as background")
    not_twice([entry["image"] for entry in entries.values()], path, "image is called")
    return [{"name": name, **entry} for name, entry in zip(names, entries.values())]


def checked_segmentation(annotation, size, place):
    """The segmentation of an annotation, if it has the form of polygons or of a run-length code for that size.

    Polygons of one or two points enclose nothing and are left out (pycocotools would take two points for a box).
    """
    segmentation = annotation.get("segmentation")
    if not segmentation:
        raise ValueError(f"{place} has no \"segmentation\": is it only a box?")
    if isinstance(segmentation, dict):
        if "counts" not in segmentation or segmentation.get("size") != list(size):
            raise ValueError(f"{place}: a run-length code has \"counts\" and a \"size\" equal to the image's [height, "
                             f"width] {list(size)}, got size {printable(segmentation.get('size'))}")
        return segmentation
    for polygon in segmentation:
        if not isinstance(polygon, list) or len(polygon) % 2 or not all(isinstance(x, (int, float)) for x in polygon):
            raise ValueError(f"{place}: a polygon is a list x1, y1, x2, y2, ... of numbers, got {str(polygon)[:60]}")
        if not all(abs(x) <= FARTHEST for x in polygon):  # nan or far away: pycocotools would end the whole process
            raise ValueError(f"{place}: a polygon has a corner at no place near the image: {str(polygon)[:60]}")
    return [polygon for polygon in segmentation if len(polygon) >= 6]


def find_images(given, json_file, entries):
    """The given folder, or that of the usual ones which holds most of the first images (some may be missing)."""
    if given is not None:
        if not Path(given).is_dir():
            raise FileNotFoundError(f"no such folder of images: {given}")
        return Path(given)
    base, split = json_file.parent, json_file.stem.removeprefix("instances_")
    bases = [base.parent, base] if base.name == "annotations" else [base]
    tried, first = [b / place for b in bases for place in (f"images/{split}", split, "images", ".")], entries[:FIRST]
    held = [sum(stored_file(folder, entry["image"]).is_file() for entry in first) for folder in tried]
    if max(held):
        return tried[held.index(max(held))]
    names = ", ".join(entry["image"] for entry in first[:3]) + " ..." * (len(first) > 3)
    raise FileNotFoundError(f"none of the first {len(first)} images of {json_file} ({names}) is in one of the folders "
                            f"{', '.join(map(str, tried))}. Put them into one of these, or mend their \"file_name\" "
                            "(in Python: image_dir=...)")
