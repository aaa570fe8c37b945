"""An answer as a LabelMe JSON, to be corrected by hand: a polygon for each part, parts of one object in one group."""
import json
from pathlib import Path

from PIL import Image

from ...system.files import copy_file, write_text
from ..images import is_turned
from .polygons import mask_polygons


def write_labelme(folder, picture_file, name, image, objects):
    """Put a picture into a folder, and NAME.json beside it; returns the JSON's path.

    image: the picture as it was segmented. objects: [(label, mask bool [H, W])]. A picture that EXIF turns is saved
    anew without EXIF, because LabelMe would turn it; so is one without a file (None).
    """
    stored = picture_file is not None
    if stored:
        with Image.open(picture_file) as picture:
            stored = not is_turned(picture)
    file_name = f"{name}{Path(picture_file).suffix if stored else '.png'}"
    if stored:
        copy_file(picture_file, folder / file_name)
    else:
        image.save(folder / file_name)
    shapes = []
    for number, (label, mask) in enumerate(objects, start=1):
        polygons = mask_polygons(mask)
        shapes += [{"label": label, "points": polygon.round(2).tolist(), "shape_type": "polygon", "flags": {},
                    "group_id": number if len(polygons) > 1 else None} for polygon in polygons]
    path = folder / f"{name}.json"
    write_text(path, json.dumps({"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": file_name,
                                 "imageData": None, "imageHeight": image.height,
                                 "imageWidth": image.width}, ensure_ascii=False))
    return path
