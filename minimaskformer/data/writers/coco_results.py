"""Answers as COCO result files: what pycocotools' loadRes and the panoptic API read."""
import json

import numpy as np

from ...system.files import write_text
from .instances import box, run_length


class CocoResults:
    """Collects the answers of one task for several pictures and writes them at the end, each file in one step.

    classes: a ClassTable; its ids are the category ids. instance_results.json is a list that pycocotools' loadRes
    reads; instance_predictions.json is the same with its pictures and categories, which a viewer can open.
    panoptic_results.json belongs to the PNGs NAME_panoptic_ids.png.
    """

    def __init__(self, task, classes):
        self.task, self.classes, self.images, self.annotations = task, classes, [], []

    def add(self, image_id, file_name, size, result, png=None):
        """One picture's answer. size: (height, width). png: the name of its file of segment ids."""
        self.images.append({"id": image_id, "file_name": file_name, "height": size[0], "width": size[1]})
        if self.task == "instance":
            for mask, label, score in zip(*(result[name].cpu().numpy() for name in ("masks", "labels", "scores"))):
                if mask.any():
                    self.annotations.append({"image_id": image_id, "category_id": self.classes.ids[int(label)],
                                             "segmentation": run_length(mask), "bbox": box(mask),
                                             "score": float(score)})
        if self.task == "panoptic":
            segment_map, info = result[0].cpu().numpy(), result[1]
            self.annotations.append({"image_id": image_id, "file_name": png, "segments_info": [
                {"id": int(s["id"]), "category_id": self.classes.ids[s["category_id"]], "iscrowd": 0,
                 "area": int(np.count_nonzero(segment_map == s["id"])), "bbox": box(segment_map == s["id"])}
                for s in info]})

    def write(self, folder):
        """Write the files of the task; returns their names. The semantic task has none."""
        categories = [{"id": i, "name": name, "isthing": int(isthing), "supercategory": ""} for i, name, isthing
                      in zip(self.classes.ids, self.classes.names, self.classes.isthing)]
        whole = {"images": self.images, "annotations": self.annotations, "categories": categories}
        if self.task == "panoptic":
            files = {"panoptic_results.json": whole}
        elif self.task == "instance":
            numbered = [a | {"id": k, "iscrowd": 0, "area": area_of(a["segmentation"])}
                        for k, a in enumerate(self.annotations, start=1)]
            files = {"instance_results.json": self.annotations,
                     "instance_predictions.json": whole | {"annotations": numbered}}
        else:
            files = {}
        for name, content in files.items():
            write_text(folder / name, json.dumps(content, ensure_ascii=False))
        return list(files)


def area_of(code):
    """The number of pixels in a compressed run-length code."""
    from pycocotools import mask as rle
    return int(rle.area(code))
