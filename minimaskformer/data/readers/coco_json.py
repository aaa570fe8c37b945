"""What COCO's panoptic and instance JSONs have in common: three lists, images with ids, and folders of files."""
from collections import Counter

from ...system.text import parse_json, printable, read_text
from ..images import check_pixels


def read_json(path, kind="COCO panoptic JSON", may_be_empty=()):
    """The content of an annotation file; its three lists must be there, and not empty, except those that may be."""
    if not path.is_file():
        raise FileNotFoundError(f"no such annotation file: {path}")
    try:
        # some programs put a BOM in front; NaN is refused where it is used, with its annotation
        content = parse_json(read_text(path), path, finite=False)
    except ValueError as error:
        raise ValueError(f"{error}: is it truncated? Copy or download it again") from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise ValueError(f"{path} has no list \"{key}\": is it a {kind}?")
        if not content[key] and key not in may_be_empty:
            raise ValueError(f"{path}: the list \"{key}\" is empty: there is nothing to read")
    return content


def images_by_id(images, path):
    """{id: image}; ValueError for an id that two images share: whose are its annotations?"""
    count = Counter(image["id"] for image in images)
    twice = [number for number, times in count.items() if times > 1]
    if twice:
        files = [printable(image["file_name"]) for image in images if image["id"] == twice[0]]
        ids = list(map(printable, twice))
        raise ValueError(f"{path}: {len(twice)} image ids occur more than once in the list \"images\": "
                         f"{', '.join(ids[:10])}{' ...' * (len(twice) > 10)}. Id {ids[0]} belongs to "
                         f"{', '.join(files[:5])}, so nobody can say whose its annotations are. Were files merged? "
                         "Give each image an id of its own, and its annotations the same image_id")
    return {image["id"]: image for image in images}


def image_size(image, path):
    """(height, width) of an entry of the list "images"; ValueError for an impossible or too large size."""
    size = height, width = whole(image, "height", path), whole(image, "width", path)
    if height < 1 or width < 1:
        raise ValueError(f"{path}: image {printable(image['file_name'])} is {width} x {height}")
    check_pixels(width, height, f"{path}: image {printable(image['file_name'])}")
    return size


def whole(entry, key, path):
    """The whole number under a key of an entry; ValueError for anything else."""
    try:
        return int(entry[key])
    except (ValueError, OverflowError):
        raise ValueError(f"{path}: {key} is {printable(entry[key])}, which is not a whole number, in "
                         f"{printable(entry)}") from None


def category_names(categories):
    """The categories' names; names that several share get their id, because figures per class go by name."""
    names = [str(category["name"]) for category in categories]
    count = Counter(names)
    return tuple(name if count[name] == 1 else f"{name} (id {category['id']})"
                 for name, category in zip(names, categories))


def not_twice(file_names, path, what):
    """ValueError if two entries of a file have one image."""
    twice = [name for name, count in Counter(file_names).items() if count > 1]
    if twice:
        told = ", ".join(map(printable, twice[:5])) + " ..." * (len(twice) > 5)
        raise ValueError(f"{path}: more than one {what} {told}")
