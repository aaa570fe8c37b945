"""What annotation tools write, recognised: COCO JSON, YOLO, LabelMe, mask files. None where a folder is not that."""
from ...system.distributed import say_once
from ...system.text import plain
from ..readers.coco_content import BACKGROUND, only, tidied, unused_roots
from ..readers.coco_instance import KIND, CocoInstance
from ..readers.coco_json import read_json
from ..readers.labelme import is_labelme, open_labelme
from ..readers.mask_files import brush_masks, picture_folders
from ..readers.yolo import find_yolo, open_yolo, pictures_and_labels
from .label_pictures import open_masks, thing_and_background
from .splits import Found, add_part, split_of

LABELME = "LabelMe JSON"
MANY = 12  # with this many JSON files or more, none is opened in search of one for all pictures


def coco_of_split(json_file, folder):
    """The JSON of a split, tidied of its tool's peculiarities."""
    content = read_json(json_file, KIND, may_be_empty=("annotations",))
    dropped = dropped_categories(json_file, folder, content)
    say_once(plain(f"{json_file}: COCO instance JSON, {len(content['images'])} pictures"
                   + dropped_note(content, dropped)))
    return CocoInstance.from_content(tidied(content, dropped), json_file, None, BACKGROUND)


def dropped_categories(json_file, folder, content):
    """Ids of categories that are none: Roboflow's root, and a background that nothing is annotated as."""
    used = [a.get("category_id") for a in content["annotations"] if isinstance(a, dict)]
    background = [c.get("id") for c in content["categories"] if isinstance(c, dict) and c.get("name") == BACKGROUND]
    return [*root_categories(json_file, folder, content), *(number for number in background if number not in used)]


def dropped_note(content, dropped):
    """What is said of dropped categories, as the end of a sentence."""
    names = [c["name"] for c in content["categories"] if isinstance(c, dict) and c.get("id") in dropped]
    return f"; without the unused category {', '.join(map(repr, names))}" * bool(names)


def root_categories(json_file, folder, content):
    """Ids of Roboflow's root category, if this is such a JSON."""
    if json_file.name != "_annotations.coco.json":
        return set()
    files = [path for path in sorted(folder.glob(f"*/{json_file.name}")) if path != json_file]
    try:
        return unused_roots([content, *(read_json(path, KIND, ("annotations",)) for path in files)])
    except (KeyError, TypeError, AttributeError):
        return set()  # CocoInstance will say what is wrong with it


def coco_of_all(folder, layout, json_file=None):
    """One COCO JSON for all pictures: CVAT's instances_default.json, Label Studio's result.json, or the given one."""
    files = [json_file] if json_file else [
        path for place in (folder / "annotations", folder) for path in sorted(place.glob("*.json"))]
    files = [path for path in files if path.name.startswith("instances_")] or files
    if not 0 < len(files) <= MANY:
        return None
    jsons, error = [], None
    for path in files:
        try:
            jsons.append((path, read_json(path, KIND, may_be_empty=("annotations",))))
        except ValueError as problem:
            error = error or problem
    if not jsons and files[0].name.startswith("instances_"):
        raise error  # it has such a name, but is damaged
    if not jsons:
        return None
    if len(jsons) > 1:
        raise ValueError(f"{folder} holds several COCO JSONs, {', '.join(path.name for path, _ in jsons[:5])}, but "
                         "none is named after the split: name them train.json and val.json")
    (path, content), = jsons
    dropped = dropped_categories(path, folder, content)
    told, content = dropped_note(content, dropped), tidied(content, dropped)
    return Found(f"one COCO JSON for all pictures, {path.name}{told}", {"": content["images"]},
                 lambda images: CocoInstance.from_content(only(content, images), path, None, BACKGROUND),
                 name=lambda image: str(image.get("file_name")))


def yolo(folder, layout):
    """YOLO's text files."""
    found = find_yolo(folder)
    if not found:
        return None
    names, places, passed = found
    parts = {split: pictures_and_labels(place) for split, place in places.items()}
    empty = sum(text is None for items in parts.values() for _, text in items)
    told = [f"{empty} pictures without a text file hold no object"] * bool(empty) + passed
    return Found("; ".join([f"YOLO segmentation, {len(names)} classes", *told]), parts,
                 lambda items: open_yolo(items, names, folder), name=lambda item: item[0].name)


def labelme(folder, layout):
    """LabelMe's JSONs: in the folder, in a folder for each split, or in labels/SPLIT/ and images/SPLIT/."""
    parts = {}
    for pattern in ("labels/*", "images/*", "annotations/*", "*", "labels", "annotations", "images", "."):
        for place in sorted(folder.glob(pattern)) if pattern != "." else [folder]:
            split = split_of(place.name) if "*" in pattern else ""
            files = labelme_files(place) if place.is_dir() and split is not None else []
            if files:
                add_part(parts, split, files, place)
        if parts:
            break
    if not parts:
        return None
    every = [path for files in parts.values() for path in files]
    names = [name.strip() for name in layout.classes.split(",")] if layout.classes else None
    return Found(LABELME, parts, lambda files: open_labelme(files, every, folder, names),
                 ("val_share", "classes"), lambda path: path.name)


def labelme_files(place):
    """The LabelMe JSONs of a folder; none if the first JSON there is of another kind."""
    files = [path for path in sorted(place.glob("*.json")) if not path.name.startswith(".")]
    return [path for path in files if is_labelme(path)] if files and is_labelme(files[0]) else []


def masks(folder, layout):
    """One mask file per object: a folder for each picture, or Label Studio's brush masks."""
    parts = {}
    for place in [path for path in sorted(folder.iterdir()) if path.is_dir() and split_of(path.name)] or [folder]:
        if items := picture_folders(place):
            add_part(parts, split_of(place.name) if place != folder else "", items, place)
    what = "a folder for each picture, with a mask file for each object"
    if not parts and (items := brush_masks(folder)):
        parts, what = {"": items}, "brush masks of Label Studio"
    if not parts:
        return None
    names = sorted({name for items in parts.values() for _, found in items for name, _ in found})
    if names == ["object"] and layout.classes:
        names = thing_and_background(layout)[:1]
        parts = {split: [(image, [(names[0], path) for _, path in found]) for image, found in items]
                 for split, items in parts.items()}
    return Found(what, parts, lambda items: open_masks(items, names, folder),
                 ("val_share", "kind") + ("classes",) * ("brush" not in what), lambda item: str(item[0]))
