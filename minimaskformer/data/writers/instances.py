"""A data set as COCO instance files, which most tools read: images/SPLIT/ and instances_SPLIT.json."""
import json

import numpy as np

from ...system.files import write_text
from .pictures import copy_picture

BACKGROUND = "background"


def write_instances(folder, dataset, split, items=None):
    """Write a data set as COCO instance files that `CocoInstance` reads back; returns the JSON's path.

    items: the indices, for a progress bar. Polygons stay as they are, other masks become run-length codes: masks come
    back pixel for pixel, overlaps and crowds too. A stuff class "background" is what lies in no mask and is left out;
    any other stuff class would be lost, so it raises ValueError. The JSON is written last, in one step.
    """
    lost = [dataset.classes.names[k] for k in dataset.classes.stuff if dataset.classes.names[k] != BACKGROUND]
    if lost or not dataset.classes.things:
        raise ValueError(f"{', '.join(lost[:5])}{' ...' * (len(lost) > 5)} cannot be counted, and a COCO instance "
                         "JSON holds only things: choose --format coco_panoptic")
    (folder / "images" / split).mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for index in range(len(dataset)) if items is None else items:
        number = len(images) + 1
        name, size, objects = copy_picture(folder / "images" / split, dataset, index, instances_of)
        images.append({"id": number, "file_name": name, "height": size[0], "width": size[1]})
        for category, iscrowd, mask, segmentation in objects:
            annotations.append({"id": len(annotations) + 1, "image_id": number,
                                "category_id": dataset.classes.ids[category], "iscrowd": int(iscrowd),
                                "segmentation": segmentation or run_length(mask), "area": int(mask.sum()),
                                "bbox": box(mask)})
    categories = [{"id": dataset.classes.ids[k], "name": dataset.classes.names[k], "supercategory": ""}
                  for k in dataset.classes.things]
    path = folder / f"instances_{split}.json"
    write_text(path, json.dumps({"images": images, "annotations": annotations, "categories": categories},
                                ensure_ascii=False))
    return path


def instances_of(dataset, index, target):
    """[(class index, iscrowd, mask bool [H, W], polygons or None)] of the things of an item."""
    if hasattr(dataset, "decoded"):  # annotations as they were, polygons and overlaps included
        return [(a["category"], a["iscrowd"], mask, a["segmentation"] if isinstance(a["segmentation"], list) else None)
                for a, mask in dataset.decoded(index) if mask.any()]
    found = [(int(k), 0, mask.numpy(), None) for k, mask in zip(target["labels"], target["masks"])
             if int(k) in dataset.classes.things]
    return found + [(s["category_id"], 1, (target["segment_map"] == s["id"]).numpy(), None)
                    for s in target["segments_info"] if s.get("iscrowd", 0)]


def run_length(mask):
    """A mask bool [H, W] as COCO's compressed run-length code, which JSON can hold."""
    from pycocotools import mask as rle
    code = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(n) for n in code["size"]], "counts": code["counts"].decode()}


def box(mask):
    """The bounding box [x, y, width, height] of a mask bool [H, W]."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return [int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)]
