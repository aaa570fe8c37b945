"""What the JSONs of COCO, panoptic and instance, have in common: three lists, images with ids, and folders of files."""
import json
from collections import Counter


def read_json(path, kind="COCO panoptic JSON", may_be_empty=()):
    """The content of an annotation file, with its three lists present, none of them empty but those that may be."""
    if not path.is_file():
        raise FileNotFoundError(f"no such annotation file: {path}")
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))  # some programs put a BOM in front
    except ValueError as error:
        raise ValueError(f"{path} is no valid JSON ({error}): is it truncated? Copy or download it again") from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise ValueError(f"{path} has no list \"{key}\": is it a {kind}?")
        if not content[key] and key not in may_be_empty:
            raise ValueError(f"{path}: the list \"{key}\" is empty, there is nothing to read")
    return content


def images_by_id(images, path):
    """{id: image}; ValueError for an id that two images have: whose are its annotations?"""
    count = Counter(image["id"] for image in images)
    twice = [number for number, times in count.items() if times > 1]
    if twice:
        files = [str(image["file_name"]) for image in images if image["id"] == twice[0]]
        raise ValueError(f"{path}: {len(twice)} image ids occur more than once in the list \"images\": "
                         f"{str(twice[:10])[1:-1]}{' ...' * (len(twice) > 10)}. Id {twice[0]} is that of "
                         f"{', '.join(files[:5])}, so nobody can say whose its annotations are. Were files merged? "
                         "Give each image an id of its own, and its annotations the same image_id")
    return {image["id"]: image for image in images}


def category_names(categories):
    """The categories' names; those that several have get their id, because figures per class go by name."""
    names = [str(category["name"]) for category in categories]
    count = Counter(names)
    return tuple(name if count[name] == 1 else f"{name} (id {category['id']})"
                 for name, category in zip(names, categories))


def not_twice(file_names, path, what):
    """ValueError if two entries of a file have one image."""
    twice = [name for name, count in Counter(file_names).items() if count > 1]
    if twice:
        raise ValueError(f"{path}: more than one {what} {', '.join(map(str, twice[:5]))}{' ...' * (len(twice) > 5)}")
