"""COCO instance annotations: one JSON of polygons and run-length codes, decoded by pycocotools.

Unlike in a panoptic data set, masks may overlap, and nobody labelled the rest of the picture. The rest is not void,
though: the annotators looked for every object, so a pixel in no mask is a *negative* for every mask.
"""
from pathlib import Path

import torch
from torch.utils.data import Dataset

from ...system.text import check_inside, check_links, printable
from ..checks import stop_at_bad
from ..classes import ClassTable
from ..images import check_same_size, item_names, read_image, stored_file
from ..tally import Content
from .boxes import box_of_mask, box_of_polygons, compare_boxes, finite_or_none
from .coco_json import category_names, image_size, images_by_id, not_twice, read_json, whole
from .objects import flatten_objects, objects_target, stacked, union
from .segmentations import checked_segmentation, decode_mask

KIND = "COCO instance JSON"
CROWDS = ("ignore", "objects")
FIRST = 20  # how many images are looked for to find their folder


class CocoInstance(Dataset):
    """Images and targets of one instance JSON, in the order of its images; all classes are things.

    labels and masks: every annotation that is not a crowd and encloses a pixel, in the file's order; masks may overlap.
    valid: False where there is a crowd and no other mask; everything else is known, even where there is no mask.
    segment_map, segments_info: the same flattened, because a map has one segment per pixel: crowds lie lowest, and of
    two masks the smaller lies on top, as a tie lies on a person; masks that are wholly hidden are left out. Pixels in
    no mask are 0 there. PQ takes 0 for void and does not count what is predicted there: judge by mask AP.
    background: a name, such as "background": these pixels are then a segment of an extra stuff class of that name, the
    last one, and PQ and mIoU count them.
    instances: every annotation whole and as COCO counts it, for mask AP: crowds too, and those without a pixel.
    crowds: "ignore" believes what the file says about crowds; "objects" takes every annotation as one object, for files
    from tools that write "iscrowd": 1 for each mask drawn with a brush (CVAT).

    image_dir is found automatically: beside the JSON or its folder, as val2017/, images/val2017/, images/ or the JSON's
    own folder. Images without annotations are kept, even if none has any: they show what is not an object. Pixels are
    taken as stored (no EXIF rotation). Raises FileNotFoundError and ValueError that name file, image and annotation.
    """

    def __init__(self, json_file, image_dir=None, background=None, crowds="ignore"):
        if crowds not in CROWDS:
            raise ValueError(f"crowds is one of {', '.join(CROWDS)}, got {crowds!r}")
        content = read_json(Path(json_file), KIND, may_be_empty=("annotations",))
        self.open_content(content, Path(json_file), image_dir, background, crowds)

    @classmethod
    def from_content(cls, content, source, image_dir=None, background=None):
        """The same data set from the content of such a JSON, made from files in another format or picked from one.

        source: the file or folder that errors name. An image may have "label_files", those that were read for it; a
        segmentation may be a Path: a mask file with one object, read by `mask_files.read_mask` when needed.
        """
        dataset = cls.__new__(cls)
        dataset.open_content(content, Path(source), image_dir, background)
        return dataset

    def open_content(self, content, source, image_dir, background, crowds="ignore"):
        """Set up the class table, the entries and the picture folder."""
        self.json_file, self.background, self.crowds = source, background, crowds
        self.classes, index_of = read_categories(content["categories"], background, source)
        self.entries = read_instance_entries(content, index_of, source)
        for entry, image in zip(self.entries, content["images"]):
            entry |= {"label_files": tuple(image.get("label_files") or (source,)), "image_id": image["id"]}
        self.image_dir = find_images(image_dir, source, self.entries)

    def __len__(self):
        return len(self.entries)

    def name(self, index):
        """The image's name without its suffix."""
        return self.entries[index]["name"]

    def files(self, index):
        """The image file and the label files (the one JSON, if nothing else is known) of an item."""
        picture = stored_file(self.image_dir, self.entries[index]["image"])
        return check_links(picture, self.image_dir, self.json_file.parent), self.entries[index]["label_files"]

    def decoded(self, index):
        """All annotations of an item: a list of (annotation, mask bool [H, W]); whether it is a crowd is decided here.
        """
        entry = self.entries[index]
        return [(a | {"iscrowd": a["iscrowd"] * (self.crowds == "ignore")},
                 decode_mask(a["segmentation"], *entry["size"], where(self.json_file, a["id"], entry["image"])))
                for a in entry["annotations"]]

    def objects(self, index):
        """The annotations of an item that enclose a pixel: a list of (class index, iscrowd, mask bool [H, W])."""
        return with_pixels(self.decoded(index))

    def without_pixel(self, index):
        """Ids of the annotations of an item that enclose no pixel: too thin, or outside it. `inspect` reports them."""
        return [a["id"] for a, mask in self.decoded(index) if not mask.any()]

    def content(self, index):
        """What the labels hold, for the tally of a data set, including what the map does not show."""
        size, decoded = self.entries[index]["size"], self.decoded(index)
        content, covered = Content(size), union([mask for _, mask in decoded], size)
        boxes = []
        for a, mask in decoded:
            of_class = content.empty if not mask.any() else content.crowds if a["iscrowd"] else content.targets
            of_class[a["category"]] += 1
            polygons = a["segmentation"] if isinstance(a["segmentation"], list) else []
            boxes.append((a, box_of_polygons(polygons) or box_of_mask(mask)))
            content.polygons += bool(polygons)
            content.farthest = max([content.farthest, *(x for polygon in polygons for x in polygon)])
        content.boxes, content.misfits, content.scales = compare_boxes(boxes, size)
        content.void = int((union([m for a, m in decoded if a["iscrowd"]], size)
                            & ~union([m for a, m in decoded if not a["iscrowd"]], size)).sum())
        if self.background and not covered.all():
            content.targets[len(self.classes) - 1] += 1
        return content

    def read_map(self, index):
        """(segment_map, segments_info) of an item, the masks painted into one map; without its image."""
        return self.flatten(self.objects(index), self.entries[index]["size"])

    def flatten(self, objects, size):
        """Paint masks into a map: crowds first, then large before small. Ids count from 1 in the file's order."""
        return flatten_objects(objects, size, len(self.classes) - 1 if self.background else None)

    def __getitem__(self, index):
        picture, (label_file, *_) = self.files(index)
        size, decoded = self.entries[index]["size"], self.decoded(index)
        image = read_image(picture)  # [3, H, W]
        told = f"the JSON {label_file}" if label_file.suffix == ".json" else f"its labels {label_file}"
        check_same_size({str(picture): image.shape[1:], told: size}, self.name(index))
        target = objects_target(with_pixels(decoded), size, len(self.classes) - 1 if self.background else None)
        return image, target | {"instances": whole_instances(decoded, size)}


def with_pixels(decoded):
    """(class index, iscrowd, mask) of the annotations that enclose a pixel."""
    return [(a["category"], a["iscrowd"], mask) for a, mask in decoded if mask.any()]


def whole_instances(decoded, size):
    """The truth that COCO measures mask AP against: every annotation with its own mask and the area the file gives.
    """
    return {"masks": torch.from_numpy(stacked([mask for _, mask in decoded], size)),  # bool [A, H, W]
            "labels": torch.tensor([a["category"] for a, _ in decoded], dtype=torch.int64),
            "iscrowd": torch.tensor([bool(a["iscrowd"]) for a, _ in decoded], dtype=torch.bool),
            "areas": torch.tensor([mask.sum() if a["area"] is None else a["area"] for a, mask in decoded],
                                  dtype=torch.float64)}


def where(path, annotation, image):
    """Where an annotation is, for error messages."""
    return f"{path}: annotation {printable(annotation)} of image {printable(image)}"


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
                raise ValueError(f"{where(path, a.get('id'), repr(a['image_id']))}: the list \"images\" has no such id")
            entry = entries[a["image_id"]]
            place = where(path, a.get("id"), entry["image"])
            if "segments_info" in a:
                raise ValueError(f"{place} has \"segments_info\": it is panoptic; open it as coco_panoptic: "
                                 "(in Python: CocoPanoptic)")
            if a["category_id"] not in index_of:
                text = isinstance(a["category_id"], str)
                raise ValueError(f"{place} has category id {printable(repr(a['category_id']))}, which is not in "
                                 f"\"categories\"; known ids: {str(sorted(index_of))[:200]}"
                                 + ". In quotation marks an id is a text: write it as a number" * text)
            try:
                entry["annotations"].append({"id": a.get("id"), "category": index_of[a["category_id"]],
                                             "iscrowd": whole(a, "iscrowd", place) if a.get("iscrowd") else 0,
                                             "area": finite_or_none(a.get("area")), "bbox": a.get("bbox"),
                                             "segmentation": checked_segmentation(a, entry["size"], place)})
            except ValueError as error:
                bad.append(str(error))
        names = item_names([entry["image"] for entry in entries.values()])
    except KeyError as error:
        raise ValueError(f"{path}: an entry has no {error}: is it a {KIND}?") from error
    except (TypeError, AttributeError) as error:
        raise ValueError(f"{path}: an entry does not have the form of a {KIND} ({error})") from error
    stop_at_bad(bad, len(content["annotations"]), "Draw or fix these masks, or remove the whole images: an object "
                "without a mask would be learnt as background")
    not_twice([entry["image"] for entry in entries.values()], path, "image is called")
    return [{"name": name, **entry} for name, entry in zip(names, entries.values())]


def find_images(given, json_file, entries):
    """The given folder, or the usual one that holds most of the first images (some may be missing)."""
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
                            f"{', '.join(map(str, tried))}. Put them into one of these, or correct their \"file_name\" "
                            "(in Python: image_dir=...)")
