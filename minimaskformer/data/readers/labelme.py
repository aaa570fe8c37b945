"""LabelMe: a JSON of shapes for each picture, beside it or in a folder of its own."""
import base64
import binascii
import io
import json
import math
from pathlib import Path

import numpy as np
from PIL import Image

from ..checks import map_threads, stop_at_bad
from ..images import BROKEN
from .coco_content import beside, open_objects, upright_sizes

NO_OBJECT = ("_background_", "__background__")
CORNERS = 64  # of a circle


def is_labelme(path):
    """Whether a JSON file is LabelMe's."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (ValueError, OSError):
        return False
    return isinstance(content, dict) and isinstance(content.get("shapes"), list) and "imagePath" in content


def open_labelme(files, every_file, folder, names=None):
    """The data set of some JSON files; classes are the labels in `every_file`, sorted, or the given names."""
    found = dict(zip(every_file, map_threads(lambda path: read_labelme(path, folder), every_file)))
    stop_at_bad([told for told in found.values() if isinstance(told, str)], len(found))
    labels = sorted({label for _, _, objects in found.values() for label, *_ in objects})
    if names and set(labels) - set(names):
        raise ValueError(f"{folder}: the labels {', '.join(sorted(set(labels) - set(names)))} are not among the "
                         f"classes {', '.join(names)}")
    if not labels:
        raise ValueError(f"{folder}: {len(found)} LabelMe files, but none of them has a shape")
    sizes = upright_sizes([found[path][0] for path in files])
    pictures = [(found[path][0], size, (path,), found[path][2]) for path, size in zip(files, sizes)]
    wrong = [f"{path} was drawn on a picture of {found[path][1][1]} x {found[path][1][0]}, {image} is {size[1]} x "
             f"{size[0]}"
             for path, (image, size, *_) in zip(files, pictures) if found[path][1] not in (size, None)]
    stop_at_bad(wrong, len(files), "Put the original pictures there")
    return open_objects(pictures, names or labels, folder)


def read_labelme(path, folder):
    """(image, (height, width) or None, [(label, segmentation, place)]) of a file, or a text saying what is wrong.

    Shapes of one label and one group_id are one object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        image = beside(path, folder, content["imagePath"])
        if image is None:
            return f"{path}: its picture {content['imagePath']!r} is neither there nor beside it in {folder}" + (
                ": it is in the JSON alone (imageData), export it as a file" if content.get("imageData") else "")
        size = content.get("imageHeight"), content.get("imageWidth")
        size = size if all(isinstance(n, int) and n > 0 for n in size) else None
        objects, groups = [], {}
        for number, shape in enumerate(content["shapes"], start=1):
            label, place = str(shape["label"]), f"{number} ({path.name})"
            if label in NO_OBJECT:
                continue
            if label == "__ignore__":
                raise ValueError("a region to ignore cannot be read: label what is there")
            parts, group = segmentation_of(shape, size), (label, shape.get("group_id"))
            if group[1] is not None and group in groups and isinstance(parts, list) and isinstance(groups[group], list):
                groups[group] += parts
                continue
            groups[group] = parts
            objects.append((label, parts, place))
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        why = f"no {error}: is it a LabelMe file?" if isinstance(error, KeyError) else error
        return f"{path}: {why}"
    return image, size, objects


def segmentation_of(shape, size):
    """A shape as a COCO segmentation: polygons, or a run-length code for a brushed mask."""
    kind, points = shape.get("shape_type") or "polygon", [(float(x), float(y)) for x, y in shape["points"]]
    if kind == "polygon" and len(points) > 2:
        corners = points
    elif kind == "rectangle" and len(points) in (2, 4):
        (left, top), (right, bottom) = points[0], points[len(points) // 2]
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)] if len(points) == 2 else points
    elif kind == "circle" and len(points) == 2:
        radius = math.dist(*points)
        turns = [2 * math.pi * k / CORNERS for k in range(CORNERS)]
        corners = [(points[0][0] + radius * math.cos(a), points[0][1] + radius * math.sin(a)) for a in turns]
    elif kind == "mask" and shape.get("mask") and size:
        return brushed(shape["mask"], points, size)
    else:
        raise ValueError(f"the shape {shape.get('label')!r} is a {kind} of {len(points)} points, which encloses "
                         "nothing: draw a polygon, rectangle, circle or mask, or remove it")
    return [[coordinate for corner in corners for coordinate in corner]]


def brushed(text, points, size):
    """A mask in the box between two points, a PNG in base64, as a run-length code of the whole picture."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True))) as picture:
            mask = np.asarray(picture.convert("L")) > 0  # [h, w]
    except (*BROKEN, binascii.Error) as error:
        raise ValueError(f"a mask in it cannot be read ({error})") from error
    whole = np.zeros(size, dtype=np.uint8, order="F")
    left, top = round(points[0][0]), round(points[0][1])
    if left < 0 or top < 0 or top + mask.shape[0] > size[0] or left + mask.shape[1] > size[1]:
        raise ValueError(f"a mask of {mask.shape[1]} x {mask.shape[0]} at {left}, {top} is not inside its picture")
    whole[top:top + mask.shape[0], left:left + mask.shape[1]] = mask
    from pycocotools import mask as rle
    code = rle.encode(whole)
    return {"size": [int(n) for n in code["size"]], "counts": code["counts"].decode()}
