"""COCO panoptic: one PNG of segment ids per image, and one JSON that says what each segment is.

A pixel's segment id is R + 256 G + 65536 B, and 0 is void. The JSON lists `images`, `categories` (with `isthing`) and
`annotations`: per image the PNG's name and its `segments_info` (id, category_id, iscrowd, area, bbox).
"""
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from ...system.arguments import check_segments
from ...system.files import copy_file, write_text
from ...system.text import check_inside, check_links, printable
from ...targets import panoptic_to_target
from ..classes import ClassTable
from ..images import check_same_size, item_names, open_image, read_image, safe_name, stored_file
from .coco_json import category_names, image_size, images_by_id, not_twice, read_json, whole

MAX_ID = 256 ** 3 - 1


class CocoPanoptic(Dataset):
    """Images and targets of one panoptic JSON, in the order of its annotations.

    png_dir and image_dir are found automatically in two layouts: COCO's own (annotations/panoptic_val2017.json,
    annotations/panoptic_val2017/, val2017/) and that of `write_panoptic` (panoptic_val.json, panoptic/val/,
    images/val/). Pixels are taken as stored (no EXIF rotation); images that have no annotation are left out.

    Raises FileNotFoundError or ValueError, naming the file, for anything missing, broken or contradictory: the JSON is
    checked at once, each PNG and image when it is read.
    """

    def __init__(self, json_file, png_dir=None, image_dir=None):
        self.json_file = Path(json_file)
        content = read_json(self.json_file)
        self.classes = read_classes(content["categories"], self.json_file)
        self.entries = read_panoptic_entries(content, self.classes, self.json_file)
        self.png_dir = find_folder(png_dir, self.json_file, png_folders, "PNGs", "png_dir")
        self.image_dir = find_folder(image_dir, self.json_file, image_folders, "images", "image_dir")

    def __len__(self):
        return len(self.entries)

    def name(self, index):
        """The image's name without its suffix."""
        return self.entries[index]["name"]

    def files(self, index):
        """The image file and the label files (here one PNG) of an item."""
        entry, home = self.entries[index], self.json_file.parent
        return (check_links(stored_file(self.image_dir, entry["image"]), self.image_dir, home),
                (check_links(stored_file(self.png_dir, entry["png"]), self.png_dir, home),))

    def read_map(self, index):
        """(segment_map, segments_info) of an item: its PNG read and checked, without its image."""
        entry, (_, (png,)) = self.entries[index], self.files(index)
        segment_map = torch.from_numpy(read_segment_map(png))  # [H, W]
        check_same_size({str(png): segment_map.shape, f"the JSON {self.json_file}": entry["size"]}, entry["name"])
        info = check_entries(segment_map, entry["segments"], f"{png} and {self.json_file.name}")
        return segment_map, [{**s, "isthing": self.classes.isthing[s["category_id"]]} for s in info]

    def __getitem__(self, index):
        picture, (png,) = self.files(index)
        segment_map, info = self.read_map(index)
        image = read_image(picture)  # [3, H, W]
        check_same_size({str(picture): image.shape[1:], str(png): segment_map.shape}, self.name(index))
        return image, panoptic_to_target(segment_map, info, len(self.classes))


def decode_ids(rgb):
    """Segment ids R + 256 G + 65536 B: uint8 [H, W, 3] to int32 [H, W]."""
    rgb = np.asarray(rgb).astype(np.int32)
    return rgb[..., 0] + 256 * rgb[..., 1] + 65536 * rgb[..., 2]


def encode_ids(ids):
    """The inverse of `decode_ids`: integer [H, W] to uint8 [H, W, 3]; ValueError for an id outside 24 bits."""
    ids = np.asarray(ids)
    if ids.size and (ids.min() < 0 or ids.max() > MAX_ID):
        raise ValueError(f"segment ids {ids.min()} ... {ids.max()} do not fit a panoptic PNG: 0 ... {MAX_ID}")
    return np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)  # [H, W, 3]


def read_segment_map(path):
    """A panoptic PNG as int32 [H, W]; ValueError unless it is an RGB file."""
    picture = open_image(path)
    if picture.mode not in ("RGB", "RGBA"):
        raise ValueError(f"{path} has Pillow mode {picture.mode}, but a panoptic PNG is RGB "
                         "(segment id = R + 256 G + 65536 B): is it a label map of another kind?")
    return decode_ids(np.asarray(picture)[..., :3])


def check_entries(segment_map, segments, where):
    """The segments with their true areas; ValueError unless the map holds exactly the ids that are listed."""
    found, counts = np.unique(segment_map, return_counts=True)  # much faster than torch.unique
    area = dict(zip(found.tolist(), counts.tolist()))
    listed = {s["id"] for s in segments}
    missing, unknown = sorted(listed - area.keys()), sorted(area.keys() - listed - {0})
    if missing or unknown:
        raise ValueError(f"{where} do not match: ids only in the JSON {missing[:5]}, only in the PNG {unknown[:5]}. "
                         "Are they from the same version, and was the PNG saved losslessly and not resized?")
    return [{**s, "area": area[s["id"]]} for s in segments]


def read_classes(categories, path):
    """The class table of a panoptic JSON, in the file's order."""
    try:
        return ClassTable(names=category_names(categories),
                          isthing=tuple(bool(c["isthing"]) for c in categories),
                          ids=tuple(whole(c, "id", path) for c in categories))
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: a category has no {error}: is it a COCO panoptic JSON? (instance and stuff "
                         "annotations have no \"isthing\")") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_panoptic_entries(content, classes, path):
    """Per annotation {name, image, png, size, segments}, with class indices in place of category ids."""
    index_of = {category: index for index, category in enumerate(classes.ids)}
    try:
        images = images_by_id(content["images"], path)
        entries = []
        for annotation in content["annotations"]:
            image = images.get(annotation["image_id"])
            where = f"{path}: annotation of image {printable(annotation['image_id'])}"
            if image is None:
                raise ValueError(f"{where}: the list \"images\" has no such id")
            if "segments_info" not in annotation:
                raise ValueError(f"{where} has no \"segments_info\": is it a COCO panoptic JSON?")
            segments = []
            for s in annotation["segments_info"]:
                if s["category_id"] not in index_of:
                    raise ValueError(f"{where}: segment {printable(s['id'])} has category id "
                                     f"{printable(s['category_id'])}, which is not in \"categories\"; known ids: "
                                     f"{str(sorted(index_of))[:200]}")
                segments.append({"id": whole(s, "id", where), "category_id": index_of[s["category_id"]],
                                 "iscrowd": whole(s, "iscrowd", where) if s.get("iscrowd") else 0})
            check_segments(torch.zeros(0, dtype=torch.int32), segments, len(classes), where)
            entries.append({"image": check_inside(str(image["file_name"]), path),
                            "png": check_inside(str(annotation["file_name"]), path),
                            "image_id": annotation["image_id"], "segments": segments,
                            "size": image_size(image, path)})
        not_twice([entry["image"] for entry in entries], path, "annotation for the image")
        names = item_names([entry["image"] for entry in entries])
    except KeyError as error:
        raise ValueError(f"{path}: an entry has no {error}: is it a COCO panoptic JSON?") from error
    except (TypeError, AttributeError) as error:
        raise ValueError(f"{path}: an entry does not have the form of a COCO panoptic JSON ({error})") from error
    return [{"name": name, **entry} for name, entry in zip(names, entries)]


def png_folders(base, stem, split):
    return [base / stem, base / "panoptic" / split]


def image_folders(base, stem, split):
    return [base / "images" / split, base / split]


def find_folder(given, json_file, folders, what, argument):
    """The given folder, or the first existing one of those where COCO and `write_panoptic` put it."""
    if given is not None:
        if not Path(given).is_dir():
            raise FileNotFoundError(f"no such folder of {what}: {given}")
        return Path(given)
    base = json_file.parent
    bases = [base, base.parent] if base.name == "annotations" else [base]
    tried = [folder for b in bases for folder in folders(b, json_file.stem, json_file.stem.removeprefix("panoptic_"))]
    for folder in tried:
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"no folder of {what} for {json_file}; looked for {', '.join(map(str, tried))}. "
                            f"Put them into one of these (in Python: {argument}=...)")


def write_panoptic(folder, items, classes, split, names=None, image_format="png", overwrite=False,
                   pictures=None):
    """Write (image, target) items as a COCO panoptic data set that `CocoPanoptic` reads back; returns the JSON's path.

    items: an iterable, for example a data set. names: the items' file names without suffix, by default 000000000001,
    000000000002, ... image_format: "png" (exact) or "jpg" (small). pictures: the items' picture
    files, to be copied as they are instead of written anew. Writes images/SPLIT/, panoptic/SPLIT/ and, last and in one
    step, panoptic_SPLIT.json, so an interrupted run leaves no JSON. Segments without pixels are left out.
    Raises FileExistsError if the JSON is there already (unless `overwrite`), and ValueError for bad items or names.
    """
    folder = Path(folder)
    json_file = folder / f"panoptic_{split}.json"
    if image_format not in ("png", "jpg"):
        raise ValueError(f"image_format is \"png\" or \"jpg\", got {image_format!r}")
    if json_file.exists() and not overwrite:
        raise FileExistsError(f"{json_file} exists: choose another folder or split, or remove it (in Python: "
                              "overwrite=True)")
    images_dir, png_dir = folder / "images" / split, folder / "panoptic" / split
    for place in (images_dir, png_dir):
        place.mkdir(parents=True, exist_ok=True)
    json_file.unlink(missing_ok=True)  # from here on the old JSON would describe files that change
    images, annotations, taken = [], [], set()
    for number, (image, target) in enumerate(items):
        name = f"{number + 1:012d}" if names is None else names[number]
        if name in taken or name != safe_name(f"{name}.png"):
            raise ValueError(f"item {number}: the name {name!r} is taken or is not a valid file name")
        taken.add(name)
        segments = written_segments(target, classes, f"item {number} ({name})")
        if tuple(image.shape[1:]) != tuple(target["segment_map"].shape):
            raise ValueError(f"item {number} ({name}): image {tuple(image.shape)} and segment map "
                             f"{tuple(target['segment_map'].shape)} differ in size")
        file_name = f"{name}{pictures[number].suffix if pictures else '.' + image_format}"
        if pictures:
            copy_file(pictures[number], images_dir / file_name)
        else:
            rgb = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())  # [H, W, 3]
            rgb.save(images_dir / file_name, **({"quality": 95} if image_format == "jpg" else {}))
        Image.fromarray(encode_ids(target["segment_map"])).save(png_dir / f"{name}.png")
        images.append({"id": number + 1, "file_name": file_name,
                       "height": image.shape[1], "width": image.shape[2]})
        annotations.append({"image_id": number + 1, "file_name": f"{name}.png", "segments_info": segments})
    if not images:
        raise ValueError(f"no items to write to {folder}")
    categories = [{"id": i, "name": name, "isthing": int(isthing), "supercategory": "thing" if isthing else "stuff"}
                  for i, name, isthing in zip(classes.ids, classes.names, classes.isthing)]
    write_text(json_file, json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return json_file


def written_segments(target, classes, where):
    """segments_info of one item as the JSON holds it: file ids for classes, area and bbox [x, y, width, height]."""
    segment_map = target["segment_map"]
    check_segments(segment_map, target["segments_info"], len(classes), where)
    written = []
    for s in target["segments_info"]:
        rows, columns = torch.nonzero(segment_map == s["id"], as_tuple=True)
        if len(rows) == 0:
            continue
        left, top = int(columns.min()), int(rows.min())
        written.append({"id": s["id"], "category_id": classes.ids[s["category_id"]], "iscrowd": s.get("iscrowd", 0),
                        "area": len(rows),
                        "bbox": [left, top, int(columns.max()) - left + 1, int(rows.max()) - top + 1]})
    return written
