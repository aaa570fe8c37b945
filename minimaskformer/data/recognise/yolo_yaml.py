"""The YAML file of a YOLO data set: class names, and where the pictures of each split are."""
from pathlib import PurePosixPath

from ...system.text import printable, read_text
from ..readers.label_maps import IMAGE_SUFFIXES

SPLITS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}  # keys of the file


def yaml_content(path):
    """What a YAML file holds; ValueError if it is none."""
    import yaml
    try:
        return yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML ({error})") from error


def yaml_names(files, folder):
    """The class names in the one YAML file that has them, in the order of their numbers."""
    found = {path: content for path in files if isinstance(content := yaml_content(path), dict)
             and content.get("names")}
    if len(found) != 1:
        raise ValueError(f"{folder} needs one YAML file with \"names\", found {len(found)} among "
                         f"{', '.join(path.name for path in files)}")
    (path, content), = found.items()
    names = content["names"]
    if isinstance(names, dict):
        names = {int(k) if str(k).isdecimal() else k: name for k, name in names.items()}
        if set(names) != set(range(len(names))):
            raise ValueError(f"{path}: \"names\" has the numbers {printable(list(names))}, not 0 ... {len(names) - 1}")
        names = [names[k] for k in sorted(names)]
    if not isinstance(names, list) or content.get("nc", len(names)) != len(names):
        raise ValueError(f"{path}: nc is {printable(content.get('nc'))}, and \"names\" holds {len(names)}")
    if len(set(map(str, names))) < len(names):
        raise ValueError(f"{path}: a name occurs more than once in \"names\": {printable(names)}")
    return tuple(map(str, names))


def yaml_places(files, folder):
    """({split: [(images folder or list file, labels folder)]}, [what was passed over, as text]) of the YAML file.

    Nothing, if none of its places is there. Raises ValueError for a place that leads out of the folder.
    """
    contents = {path: content for path in files if isinstance(content := quietly(path), dict) and content.get("names")}
    parts, passed = {}, []
    for path, content in list(contents.items())[:1]:
        for split, keys in SPLITS.items():
            given = next((content[key] for key in keys if content.get(key)), [])
            given = given if isinstance(given, list) else [given]
            found = [place_inside(folder, str(content.get("path") or ""), str(entry), path) for entry in given]
            passed += [f"{split}: {printable(entry)} is not there" for entry, place in zip(given, found) if not place]
            places = [with_labels(place, folder) for place in found if place]
            if split != "train" and places and places == parts.get("train"):
                passed.append(f"{split} is left out, because it is the same place as train")
            elif places:
                parts[split] = places
    return parts, passed if parts else []


def quietly(path):
    """The content of a YAML file, None if it is none: who needs it will say so."""
    try:
        return yaml_content(path)
    except ValueError:
        return None


def place_inside(folder, base, entry, path):
    """The folder (or text file that lists pictures) inside the data folder that an entry means; None if not there.

    Entries count from "path", from the data folder, or from a folder beside it (Roboflow's ../train/images). Absolute
    ones are those of another machine: their end is looked for.
    """
    parts = [part for part in PurePosixPath(entry.replace("\\", "/")).parts if part not in ("/", ".")]
    ends = parts[next((i for i, part in enumerate(parts) if part != ".."), len(parts)):]
    away = entry.startswith("/") or ":" in entry[:3]
    tried = [folder.joinpath(*ends[i:]) for i in range(len(ends) if away else 1)]
    if not away and base and not base.startswith("/") and ".." not in base:
        tried.insert(0, folder.joinpath(base, *ends))
    if ".." in ends:
        raise ValueError(f"{path}: the place {printable(entry)!r} leads out of the folder of the data")
    for place in tried:
        place = place / "images" if (place / "images").is_dir() else place
        if place.is_file() or place.is_dir() and holds_pictures(place, inside=not away):
            if not place.resolve().is_relative_to(folder.resolve()):
                raise ValueError(f"{path}: the place {printable(entry)!r} is a link that leads out of {folder}")
            return place
    return None


def holds_pictures(place, inside):
    """Whether a folder holds a picture, or (inside) one of its folders does."""
    return any(path.suffix.lower() in IMAGE_SUFFIXES for path in (place.rglob("*") if inside else place.iterdir()))


def with_labels(place, folder):
    """(images folder, labels folder): images/ in the path is labels/ there, and without it they lie side by side.

    A text file that lists pictures comes with the folder from which they count.
    """
    if place.is_file():
        return place, folder
    parts = list(place.relative_to(folder).parts)
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return place, folder.joinpath(*parts)


def listed_pictures(list_file, base):
    """[(image, text file or None)] of a text file that lists pictures, one a line."""
    lines = [line.strip() for line in read_text(list_file).splitlines() if line.strip()]
    found = [place_inside(base, "", line, list_file) for line in lines]
    lost = [line for line, image in zip(lines, found) if image is None]
    if lost:
        raise FileNotFoundError(f"{list_file} lists {len(lost)} of {len(lines)} pictures that are not there, such as "
                                f"{printable(lost[0])}")
    texts = [with_labels(image.parent, base)[1] / f"{image.stem}.txt" for image in found]
    return [(image, text if text.is_file() else None) for image, text in zip(found, texts)]
