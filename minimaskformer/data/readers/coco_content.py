"""COCO content made from other formats (LabelMe, YOLO, mask files), and tidying of the COCO JSONs that tools write."""
from pathlib import Path

from PIL import Image

from ..checks import map_threads, stop_at_bad
from ..images import BROKEN, is_turned, item_names
from .coco_instance import CocoInstance

BACKGROUND = "background"


def open_objects(pictures, names, folder):
    """A CocoInstance with a background class, from pictures [(image, (height, width), label files, objects)].

    objects: [(class name, segmentation, what to call it in errors)]. names: the class names, in their order.
    """
    used = {name for *_, objects in pictures for name, *_ in objects}
    number = {name: k + 1 for k, name in enumerate(names) if name != BACKGROUND or name in used}
    images = [{"id": i, "file_name": image.relative_to(folder).as_posix(), "height": size[0], "width": size[1],
               "label_files": label_files} for i, (image, size, label_files, _) in enumerate(pictures)]
    annotations = [{"id": told, "image_id": i, "category_id": number[name], "segmentation": segmentation}
                   for i, (*_, objects) in enumerate(pictures) for name, segmentation, told in objects]
    content = {"images": images, "annotations": annotations,
               "categories": [{"id": k, "name": name} for name, k in number.items()]}
    dataset = CocoInstance.from_content(content, folder, folder, BACKGROUND)
    for entry, name in zip(dataset.entries, item_names([image.name for image, *_ in pictures])):
        entry["name"] = name
    return dataset


def upright_sizes(images):
    """[(height, width)] of pictures, from their headers; ValueError naming those that are broken or turned by EXIF.

    Tools show a picture upright, so labels drawn there do not fit the stored pixels; if the labels are fractions of the
    picture, no other check would notice.
    """
    found = map_threads(upright_size, images)
    stop_at_bad([error for error in found if isinstance(error, str)], len(images))
    return found


def upright_size(path):
    """(height, width) of a picture file, or a text saying what is wrong with it."""
    try:
        with Image.open(path) as picture:
            if is_turned(picture):
                return (f"{path} is turned by its EXIF orientation, and its labels were drawn on the upright picture: "
                        "save it upright (data/README.md, \"Rotated pictures\")")
            return picture.height, picture.width
    except BROKEN as error:
        return f"{path} cannot be read as an image ({error})"


def tidied(content, unused=()):
    """The content of a tool's JSON: `\\` in file names is `/` (Label Studio on Windows), unused categories are gone."""
    images = [image | {"file_name": str(image["file_name"]).replace("\\", "/")} if isinstance(image, dict)
              and "\\" in str(image.get("file_name")) else image for image in content["images"]]
    categories = [c for c in content["categories"] if not (isinstance(c, dict) and c.get("id") in unused)]
    return content | {"images": images, "categories": categories}


def only(content, images):
    """The content with only these images, without the others' annotations; those of no image stay, to be reported.
    """
    kept = {image.get("id") for image in images}
    other = {image.get("id") for image in content["images"]} - kept
    annotations = [a for a in content["annotations"] if a.get("image_id") not in other]
    return content | {"images": images, "annotations": annotations}


def unused_roots(contents):
    """Ids of categories that Roboflow adds as a root (supercategory "none") and no annotation of any split uses."""
    roots = [{c["id"] for c in content["categories"] if c.get("supercategory") == "none"} for content in contents]
    used = {a["category_id"] for content in contents for a in content["annotations"]}
    kept = any(c["id"] not in root for content, root in zip(contents, roots) for c in content["categories"])
    return set.intersection(*roots) - used if kept and roots else set()


def beside(label_file, folder, name):
    """The picture of a label file: `name` as the file gives it, if that is in the data folder; else by its stem.

    It is looked for relative to the label file's folder, beside it, and in images/ if the file is in labels/. None if
    it is nowhere.
    """
    base, folder, name = label_file.parent, Path(folder).resolve(), str(name).replace("\\", "/")
    places = [base / name, base / Path(name).name]
    if "labels" in base.parts or "annotations" in base.parts:
        other = Path(*("images" if part in ("labels", "annotations") else part for part in base.parts))
        places.append(other / Path(name).name)
    for place in (*places, *filter(None, map(other_capitals, places))):
        if place.resolve().is_relative_to(folder) and place.is_file():
            return place.parent.resolve() / place.name if ".." in place.parts else place
    return None


def other_capitals(path):
    """The one file of a folder whose name differs from this path's in capitals only, as a.JPG from a.jpg; or None."""
    folder = path.parent
    found = [other for other in folder.iterdir() if other.name.lower() == path.name.lower()] if folder.is_dir() else []
    return found[0] if len(found) == 1 else None
