"""Label pictures: files whose pixels are numbers, and what the numbers mean.

Three things are kept apart: the *value* in the file (Cityscapes writes 26 for car), the *class index* of the library
(13), and void (values that mean nothing). The class table holds the first two; an off-by-one shift is never implicit.
"""
from pathlib import Path
from unicodedata import normalize

import numpy as np

from ...system.text import plain
from ..classes import ClassTable
from ..images import open_image
from .class_numbers import spread_hint

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
LABEL_SUFFIXES = (".png", ".tif", ".tiff", ".bmp")  # lossless ones
UNREAD = (".gif", ".heic", ".heif", ".avif", ".jp2", ".jxl", ".dng", ".psd")  # pictures that we do not read
OTHER_LABELS = " Save label files as PNG, with the same numbers in them."
LOSSY = " JPEG changes the labels saved in it, so they cannot be used."
VOID_VALUES = (255, 65535)  # what 8-bit and 16-bit label files write where nobody knows the class


def read_labels(path, palettes=None):
    """A label file as int32 [H, W]: one channel of 8 or 16 bits, or palette indices.

    palettes: a `Palettes` that this file's palette must agree with. Raises ValueError for coloured pictures, floating
    point and negative numbers, and for files with several pages.
    """
    picture = open_image(path)
    labels = label_array(picture, path)  # [H, W]
    if palettes is not None and picture.mode == "P":
        palettes.check(labels, picture.getpalette(), path)
    return labels


def label_array(picture, path):
    """A Pillow image as int32 [H, W]; see `read_labels`."""
    if picture.mode not in ("1", "L", "P") and not picture.mode.startswith("I"):
        raise ValueError(f"{path} has Pillow mode {picture.mode}, but a label file has one channel of 8 or 16 bits "
                         f"that holds numbers{what_it_may_be(picture)}")
    labels = np.array(picture).astype(np.int32)  # [H, W]
    if labels.min() < 0:
        raise ValueError(f"{path} holds the label {labels.min()}: labels are not negative")
    return labels


def what_it_may_be(picture):
    """A guess at how a label file came to have several channels, and what to do."""
    if picture.mode == "F":
        return ": save the numbers as integers"
    channels = np.asarray(picture.convert("RGB"))
    if (channels == channels[..., :1]).all():
        return ". Its channels are equal, so one of them is enough: save it as a grey picture"
    return ": is it a photo, or a picture of coloured labels? Save the numbers themselves, not their colours"


def by_stem(folder, suffixes, ending=""):
    """{stem: path} of a folder's files with one of the suffixes; hidden files are passed over.

    ending: what all file names end with before the suffix, cut off from the stems (such as "_gtFine_labelIds"). Stems
    are in Unicode's composed form: a Mac may write é as e and an accent in a picture's name but not in its labels'.
    Raises ValueError if no file is found, if two have the same stem, if such files lie in folders inside the folder,
    and for images of the UNREAD kinds: whoever put them there wants them used.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no such folder: {folder}")
    files, others, inside = {}, [], []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            inside += visible_files(path, suffixes)
            continue
        if path.suffix.lower() not in suffixes or not path.stem.endswith(ending):
            others.append(path)
            continue
        stem = normalize("NFC", path.stem.removesuffix(ending))
        if stem in files:
            raise ValueError(f"{files[stem]} and {path} have the same name before the dot: remove one")
        files[stem] = path
    if inside:
        raise ValueError(f"{len(inside)} files lie in folders inside {folder}, such as {inside[0]}. Files are read "
                         f"only where they lie in {folder} itself: move them there, or move the inner folders away")
    unread = [path for path in others if suffixes is IMAGE_SUFFIXES and path.suffix.lower() in UNREAD]
    if unread:
        raise ValueError(f"{len(unread)} pictures in {folder} are in a format that is not read: "
                         f"{', '.join(path.name for path in unread[:5])}{' ...' * (len(unread) > 5)}. Save them as PNG "
                         "or JPEG, or move them away together with their labels")
    if not files:
        kinds = sorted({path.suffix.lower() for path in others} - {""})
        raise ValueError(f"{folder} holds no files that end in {', '.join(ending + suffix for suffix in suffixes)}"
                         + f", only files that end in {', '.join(kinds)}" * bool(kinds) + "."
                         + LOSSY * (suffixes is LABEL_SUFFIXES and bool({".jpg", ".jpeg"} & set(kinds)))
                         + OTHER_LABELS * (suffixes is LABEL_SUFFIXES and bool({".gif", ".webp"} & set(kinds))))
    return files


def visible_files(folder, suffixes):
    """The files at any depth in a folder that have one of the suffixes, except hidden ones; sorted."""
    return [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in suffixes and path.is_file()
            and not any(part.startswith(".") for part in path.relative_to(folder).parts)]


def pair_stems(images, labels, what="label file"):
    """The stems of two {stem: path}, sorted; FileNotFoundError if one lacks a stem that the other has."""
    for have, lack, missing in ((images, labels, what), (labels, images, "image")):
        lonely = sorted(have.keys() - lack.keys())
        if lonely:
            paths, place = ", ".join(str(have[stem]) for stem in lonely[:3]), next(iter(lack.values())).parent
            raise FileNotFoundError(f"no {missing} in {place} for {len(lonely)} of the names: {str(lonely[:20])[1:-1]}"
                                    f"{' ...' * (len(lonely) > 20)} ({paths}). Image and {what} have the same name "
                                    f"before the dot{lossy_partners(place, set(lonely)) if missing == what else ''}")
    return sorted(images)


def lossy_partners(folder, stems):
    """A sentence on the JPEGs of a folder of labels that have these stems; empty without any."""
    files = [path.name for path in sorted(folder.iterdir())
             if normalize("NFC", path.stem) in stems and path.suffix.lower() in (".jpg", ".jpeg")]
    return f". There is {', '.join(files[:5])}{' ...' * (len(files) > 5)}.{LOSSY}" if files else ""


def label_segments(labels, classes, void=VOID_VALUES, instances=None, where="label map"):
    """What a label picture means: (segment_map int32 [H, W], segments_info), with 0 for void.

    labels: int [H, W], each value one of `classes.ids` or of `void`. A class is one segment, unless there are
    `instances` (int [H, W]) and it is a thing: then each instance number above 0 is a segment, and pixels of a thing
    that have instance 0 are a crowd (they belong to some instance, but nobody said which).
    Raises ValueError with `where` for values that are neither class nor void, and for maps of different sizes.
    """
    values, counts = count_values(labels)
    bad = [(v, n) for v, n in zip(values, counts) if v not in classes.ids and v not in void]
    if bad:
        told = ", ".join(f"{v} ({n} pixel{'' if n == 1 else 's'})" for v, n in bad[:10])
        told += f" and {len(bad) - 10} more" * (len(bad) > 10)
        raise ValueError(f"{where} holds the labels {told}, which are neither in the class table (label values "
                         f"{spans(classes.ids)}) nor void ({spans(void)})"
                         f"{lossy_hint(labels) or spread_hint(values.tolist())}")
    lookup = np.zeros(int(values[-1]) + 1, dtype=np.int32)  # file value -> class index + 1; void stays 0
    for k, value in enumerate(classes.ids):
        if value < len(lookup):
            lookup[value] = k + 1
    segment_map = lookup[labels]  # [H, W]
    if instances is not None:
        if instances.shape != labels.shape:
            raise ValueError(f"{where}: labels are {labels.shape[1]} x {labels.shape[0]}, instances "
                             f"{instances.shape[1]} x {instances.shape[0]} (width x height)")
        return split_things(segment_map, instances, classes)
    areas = np.bincount(segment_map.ravel(), minlength=len(classes) + 1)  # [K + 1], the first is void
    return segment_map, [{"id": k + 1, "category_id": k, "isthing": isthing, "iscrowd": 0, "area": int(areas[k + 1])}
                         for k, isthing in enumerate(classes.isthing) if areas[k + 1]]


def split_things(segment_map, instances, classes):
    """A map of class index + 1 with the things split by instance number; ids above K are instances."""
    K = len(classes)
    things = np.array([False, *classes.isthing])[segment_map]  # [H, W]
    single = things & (instances > 0)
    numbers = int(instances.max(initial=0)) + 1
    keys = segment_map[single].astype(np.int64) * numbers + instances[single]  # class and number make an instance
    found = count_values(keys)[0]
    segment_map = segment_map.copy()
    segment_map[single] = K + 1 + np.searchsorted(found, keys)
    areas = np.bincount(segment_map.ravel(), minlength=K + 1)
    info = [{"id": k + 1, "category_id": k, "isthing": isthing, "iscrowd": int(isthing), "area": int(areas[k + 1])}
            for k, isthing in enumerate(classes.isthing) if areas[k + 1]]
    return segment_map, info + [
        {"id": K + 1 + n, "category_id": int(key) // numbers - 1, "isthing": True, "iscrowd": 0,
         "area": int(areas[K + 1 + n])} for n, key in enumerate(found)]


def count_values(labels):
    """(values, counts) of the numbers in a map, sorted; counting beats sorting for the usual small numbers."""
    if labels.max(initial=0) < 1 << 22:
        counts = np.bincount(labels.ravel())
        values = np.flatnonzero(counts)
        return values, counts[values]
    return np.unique(labels, return_counts=True)


def isolated_share(labels):
    """The share of pixels that differ from all four neighbours: hardly any in labels, many after JPEG or blurring."""
    inner = labels[1:-1, 1:-1]
    if inner.size == 0:
        return 0.0
    alone = ((inner != labels[:-2, 1:-1]) & (inner != labels[2:, 1:-1])
             & (inner != labels[1:-1, :-2]) & (inner != labels[1:-1, 2:]))
    return float(alone.mean())


def ramp_share(labels):
    """Of the pixels where a row or column changes its value, the share in the middle of a rise or fall.

    Interpolation turns steps into ramps: 0 0 255 255 becomes 0 64 191 255. In labels ramps are rare, because the pixel
    between two classes would have to belong to a third one, whose number lies between theirs.
    """
    ramps = changes = 0
    for lines in (labels, labels.T):
        steps = np.sign(np.diff(lines.astype(np.int64), axis=1))  # [H, W - 1]
        ramps += int((steps[:, 1:] * steps[:, :-1] > 0).sum())
        changes += int((steps[:, 1:] != 0).sum())
    return ramps / max(1, changes)


def looks_lossy(labels, values=8):
    """Whether a label map with at least so many values looks as if saved as JPEG or resized with interpolation."""
    return len(count_values(labels)[0]) >= values and (isolated_share(labels) > 0.005 or ramp_share(labels) > 0.25)


LOSSY_HINT = ("Many single pixels have values of their own: was the file once saved as JPEG, or resized with "
              "interpolation? Go back to the original")


def lossy_hint(labels):
    """A hint for an error message, empty where the labels do not look lossy."""
    return f". {LOSSY_HINT}" if looks_lossy(labels) else ""


def spans(values):
    """Numbers as short text: 1 ... 150, 255."""
    values, parts = sorted(values), []
    for v in values:
        if parts and parts[-1][1] == v - 1:
            parts[-1][1] = v
        else:
            parts.append([v, v])
    return ", ".join(str(a) if a == b else f"{a}, {b}" if b == a + 1 else f"{a} ... {b}" for a, b in parts) or "none"


def remap_table(classes: ClassTable, void=()):
    """How label values in the files become class indices, as a text table in which runs are one line."""
    rows, k = [], 0
    while k < len(classes):
        end = k
        while end + 1 < len(classes) and classes.ids[end + 1] == classes.ids[end] + 1:
            end += 1
        names = plain(classes.names[k]) + f" ... {plain(classes.names[end])}" * (k != end)
        many = k != end
        rows.append((f"{classes.ids[k]} ... {classes.ids[end]}" if many else f"{classes.ids[k]}",
                     f"{k} ... {end}" if many else f"{k}", names))
        k = end + 1
    rows += [(spans(void), "void", "not learnt, not counted")] if void else []
    rows = [("label in the files", "class index", "name"), *rows]
    width = [max(len(row[i]) for row in rows) for i in (0, 1)]
    return "\n".join(f"  {a:<{width[0]}}   {b:<{width[1]}}   {c}" for a, b, c in rows)
