"""Which label file belongs to which picture: by location, by what their names share, or by given patterns."""
import re
from os.path import commonprefix
from pathlib import Path

from ..readers.label_maps import IMAGE_SUFFIXES, LABEL_SUFFIXES, by_stem
from .patterns import matching, with_stem
from .splits import add_part, split_of

PLACES = (("images/{split}", "labels/{split}"), ("images/{split}", "masks/{split}"),
          ("images/{split}", "annotations/{split}"), ("{split}/images", "{split}/labels"),
          ("{split}/images", "{split}/masks"), ("{split}/images", "{split}/annotations"),
          ("{split}_images", "{split}_masks"), ("{split}_images", "{split}_labels"), ("{split}", "{split}_labels"),
          ("{split}", "{split}_masks"), ("{split}", "{split}annot"), ("JPEGImages", "SegmentationClass"),
          ("PNGImages", "PedMasks"), ("images", "labels"), ("images", "masks"), ("images", "annotations"),
          ("imgs", "masks"), ("photos", "masks"))
ENDINGS = ("_mask", "_masks", "_label", "_labels", "_seg", "_gt", "_L", "-mask")  # of labels beside pictures


def find_places(folder):
    """((images, labels) as in PLACES, {split: (images folder, labels folder)}) of the first that exist, or None."""
    for images, labels in PLACES:
        found = {}
        for path in sorted(Path(folder).glob(images.replace("{split}", "*"))):
            match = re.fullmatch(images.replace("{split}", "(.+)"), path.relative_to(folder).as_posix())
            word = match.group(1) if "{split}" in images else ""
            place = Path(folder) / labels.format(split=word)
            if path.is_dir() and place.is_dir() and (split_of(word) or word == "" or images == "images/{split}"):
                add_part(found, split_of(word) or word, (path, place), path)
        if found and (images == PLACES[0][0] or any(has_files(place, LABEL_SUFFIXES) for _, place in found.values())):
            return (images, labels), found
    return None


def label_files_of(folder):
    """A folder that holds label pictures, judging by where it is, or None."""
    found = find_places(folder)
    return next((place for _, place in found[1].values() if has_files(place, LABEL_SUFFIXES)), None) if found else None


def has_files(folder, suffixes):
    """Whether a folder itself holds a visible file with one of the suffixes."""
    return any(path.suffix.lower() in suffixes and not path.name.startswith(".") for path in Path(folder).iterdir())


def find_beside(folder):
    """(ending, {split: [(image, label)]}) of labels that lie beside their pictures as NAME_mask.png, or None."""
    places = {}
    for path in sorted(Path(folder).iterdir()):
        if path.is_dir() and split_of(path.name):
            add_part(places, split_of(path.name), path, path)
    places = places or {"": Path(folder)}
    files = {split: [path for path in sorted(place.iterdir()) if path.is_file() and not path.name.startswith(".")
                     and path.suffix.lower() in IMAGE_SUFFIXES] for split, place in places.items()}
    for ending in ENDINGS:
        parts = {}
        for split, paths in files.items():
            labels = {path.stem.removesuffix(ending): path for path in paths if path.stem.endswith(ending)
                      and path.suffix.lower() in LABEL_SUFFIXES}
            images = {path.stem: path for path in paths if not path.stem.endswith(ending)}
            if labels:
                parts[split] = pair(images, labels, f"*{{stem}}{ending}.*")
        if parts:
            return ending, parts
    return None


def pair_folders(images_dir, labels_dir, instances_dir=None):
    """([(image, label[, instances])], what label names have around the pictures' names) of folders of files."""
    images, columns = by_stem(images_dir, IMAGE_SUFFIXES), []
    pattern = "{stem}"
    for place in (labels_dir, instances_dir) if instances_dir else (labels_dir,):
        labels = by_stem(place, LABEL_SUFFIXES)
        what = "label file" if place is labels_dir else "instance file"
        cores, pattern = match_names(images, labels)
        columns.append(dict(zip(("image", "label"), cores)))
        check_pairs(*cores, what, place)
    stems = sorted(columns[0]["image"])
    return [(columns[0]["image"][stem], *(column["label"][stem] for column in columns)) for stem in stems], pattern


def match_names(images, labels):
    """Two {stem: path} with the names cut to their common part, and the labels' names as a pattern."""
    if images.keys() == labels.keys():
        return (images, labels), "{stem}"
    first = min(labels)
    tried = [("", "", *first.split(stem, 1)) for stem in sorted(images, key=len, reverse=True) if stem in first]
    tried += [(*a, *b) for a in around(images) for b in around(labels)]
    best = max(tried, key=lambda cut: len(cut_names(images, *cut[:2]).keys() & cut_names(labels, *cut[2:]).keys()),
               default=("",) * 4)
    cores = cut_names(images, *best[:2]), cut_names(labels, *best[2:])
    if cores[0].keys() & cores[1].keys() and len(cores[0]) == len(images) and len(cores[1]) == len(labels):
        return cores, f"{best[2]}{{stem}}{best[3]}"
    return (images, labels), "{stem}"


def cut_names(files, start, end):
    """{core: path} of the files whose stems begin and end with these texts; the other files keep their stems."""
    return {stem[len(start):len(stem) - len(end)] if stem.startswith(start) and stem.endswith(end)
            and len(stem) > len(start + end) else stem: path for stem, path in files.items()}


def around(files):
    """What several names all begin and end with, up to a separator: [(start, end)], with and without each."""
    stems = list(files)
    start = re.match(r".*[_\-. ]|", commonprefix(stems)).group()
    end = re.match(r".*[_\-. ]|", commonprefix([stem[::-1] for stem in stems])).group()[::-1]
    return [("", ""), ("", end), (start, ""), (start, end)]


def check_pairs(images, labels, what, place):
    """FileNotFoundError if pictures and labels do not pair: how many, some of them, the option that pairs them."""
    for have, lack, missing in ((images, labels, what), (labels, images, "image")):
        lonely = sorted(have.keys() - lack.keys())
        if lonely:
            image, label = next(iter(images.values())), next(iter(labels.values()))
            raise FileNotFoundError(
                f"no {missing} for {len(lonely)} of the {len(have)} names: {str(lonely[:5])[1:-1]}"
                f"{' ...' * (len(lonely) > 5)} ({have[lonely[0]]}). Pictures are called like {image.name} in "
                f"{image.parent}, labels like {label.name} in {place}: each picture needs one. If names differ by more "
                f"than a fixed beginning and end, give patterns: --images '.../{{stem}}{image.suffix}' --labels "
                f"'.../{{stem}}_mask{label.suffix}'")


def pair(images, labels, where):
    """[(image, label)] of two {stem: path}, in the order of the stems."""
    check_pairs(images, labels, "label file", next(iter(labels.values())).parent)
    return [(images[stem], labels[stem]) for stem in sorted(images)]


def pair_patterns(folder, layout):
    """{split or "": [(image, [label files], instance file or None)]} of the patterns that a FolderLayout has."""
    images = one_each(matching(folder, with_stem(layout.images)), IMAGE_SUFFIXES, f"--images {layout.images!r}", folder)
    labels = shortened_stems(matching(folder, with_stem(layout.labels)), images, layout.labels)
    numbers = layout.instances and one_each(matching(folder, with_stem(layout.instances)), LABEL_SUFFIXES,
                                            f"--instances {layout.instances!r}", folder)
    for have, lack, missing in ((images, labels, "labels"), (labels, images, "picture")):
        lonely = sorted(have.keys() - lack.keys())
        if lonely:
            near = nearest_pattern(folder, layout, images) if not labels.keys() & images.keys() else ""
            told = ", ".join(stem for _, stem in lonely[:5]) + " ..." * (len(lonely) > 5)
            option = "images" if have is images else "labels"
            raise FileNotFoundError(f"{len(lonely)} of {len(have)} names of --{option} have no {missing}: {told}; "
                                    f"--images {layout.images!r} found {len(images)} names, --labels {layout.labels!r} "
                                    f"{len(labels)}{near}")
    if numbers and numbers.keys() != images.keys():
        lonely = sorted(images.keys() ^ numbers.keys())
        raise FileNotFoundError(f"--instances {layout.instances!r} and the pictures do not pair, such as "
                                f"{lonely[0][1]}")
    parts = {}
    for key in sorted(images):
        parts.setdefault(key[0], []).append((images[key], labels[key], numbers[key] if numbers else None))
    return parts


def one_each(found, suffixes, option, folder):
    """{(split, stem): path} of the files with one of the suffixes that a pattern finds; ValueError for none or two."""
    files = {}
    for split, stem, path in found:
        if path.suffix.lower() not in suffixes:
            continue
        if (split, stem) in files:
            raise ValueError(f"{option}: {files[split, stem]} and {path} have the same {{stem}} {stem!r}: name one of "
                             "them, or put {stem} where they differ")
        files[split, stem] = path
    if not files:
        raise FileNotFoundError(f"{option} finds no files that end in {', '.join(suffixes)} in {folder}")
    return files


def shortened_stems(found, images, pattern):
    """{(split, stem): [paths]} of label files; a stem that no picture has is shortened until one has it."""
    files = {}
    for split, stem, path in found:
        if path.suffix.lower() not in LABEL_SUFFIXES:
            continue
        known = (split, stem)
        if known not in images and pattern.count("*") and "{stem}" in pattern:  # a_1 of {stem}_*: the picture's is a
            short = [stem[:n] for n in range(len(stem) - 1, 0, -1) if (split, stem[:n]) in images]
            known = (split, short[0]) if short else known
        files.setdefault(known, []).append(path)
    if not files:
        raise FileNotFoundError(f"--labels {pattern!r} finds no files that end in {', '.join(LABEL_SUFFIXES)}")
    return files


def nearest_pattern(folder, layout, images):
    """The pattern that would have paired the names, as a sentence; empty if there is none."""
    labels = {path.stem: path for _, _, path in matching(folder, with_stem(layout.labels))}
    stems = {path.stem: path for path in images.values()}
    (_, cores), pattern = match_names(stems, labels)
    if pattern == "{stem}" or not labels:
        return ""
    place = Path(layout.labels).parent
    return f". Did you mean --labels '{place / pattern}{next(iter(labels.values())).suffix}'?"
