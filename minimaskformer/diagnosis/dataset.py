"""`python -m minimaskformer inspect`: what is in a data set and what is wrong with it. Run it before training.

Every picture and every label is read once. Numbers come first, because they are what training sees; then the files
that look wrong; then a sheet of pictures, because only the eye sees that labels lie a few pixels too far left.
"""
import hashlib
import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from unicodedata import combining, east_asian_width

import numpy as np
from PIL import Image

from ..data.checks import even_indices, files_of, map_threads
from ..data.faults import reasons as faults
from ..data.faults import void_hint
from ..data.images import is_turned
from ..data.readers.label_maps import looks_lossy
from ..data.tally import Content, content_of, map_content, tallied
from ..system.files import write_text
from ..system.text import plain

DRAWN = 200  # how many scenes of a data set without files are looked at, unless there is a limit
CELL = 16  # pixels of one cell of the mask logits, 4 x 4: a smaller segment has less than one
FILES_PER_REASON = 5  # files named per reason; the file suspicious.txt has them all


@dataclass
class Look:
    """What one picture holds."""
    index: int
    file: str
    size: tuple = (0, 0)  # height, width
    segments: Counter = field(default_factory=Counter)  # class index -> segments, crowds left out
    pixels: Counter = field(default_factory=Counter)  # class index -> pixels
    crowds: int = 0
    void: int = 0  # pixels that are not valid
    reasons: list = field(default_factory=list)  # what looks wrong
    error: str = ""  # why it cannot be used
    content: Content = None  # what the labels hold


def look(dataset, index):
    """Read one item and say what it holds and what looks wrong; an item that cannot be used has an `error`."""
    result = Look(index, file_of(dataset, index))
    try:
        image, target = dataset[index]
        result.content = (content_of(dataset, index) if hasattr(dataset, "read_map") else
                          map_content(target["segment_map"], target["segments_info"]))
    except (ValueError, OSError) as error:
        result.error = str(error)
        return result
    result.size = tuple(image.shape[1:])
    for segment in target["segments_info"]:
        if segment.get("iscrowd", 0):
            result.crowds += 1
        else:
            result.segments[segment["category_id"]] += 1
            result.pixels[segment["category_id"]] += segment["area"]
    result.void = int((~target["valid"]).sum())
    result.reasons = odd_reasons(dataset, index, image, target, result)
    return result


def odd_reasons(dataset, index, image, target, result):
    """What looks wrong with an item that can be read, one line each."""
    found = []
    if not target["valid"].any():
        found.append("void everywhere: there is nothing to learn from it")
    elif result.void > 0.9 * math.prod(result.size):
        found.append("more than 90 % void")
    if not result.segments:
        found.append("no segment at all")
    elif len(result.segments) == 1 and len(dataset.classes) > 1:
        found.append("one class only")
    tiny = sum(0 < s["area"] < CELL for s in target["segments_info"] if not s.get("iscrowd", 0))
    if tiny:
        found.append(f"segments below {CELL} pixels")
    if result.content.empty:
        found.append("annotations that enclose no pixel: outside the image, or made for another size?")
    if result.content.misfits:
        found.append("annotations whose \"bbox\" does not fit their mask: which of the two is wrong?")
    if result.content.lossy or looks_lossy(target["segment_map"].numpy()):
        found.append("labels full of single pixels: once saved as JPEG, or resized with interpolation?")
    if int(image.min()) == int(image.max()):
        found.append("the image is one flat colour")
    deep = False
    if hasattr(dataset, "files"):
        with Image.open(dataset.files(index)[0]) as picture:
            deep = picture.mode.startswith("I")
            if is_turned(picture):
                found.append("EXIF rotation, which is not applied: do the labels fit the stored pixels?")
    return found + nearly_black(image, deep)


def nearly_black(image, deep):
    """A line for an image without bright pixels. deep: from a 16-bit file, which may hold fewer bits, unscaled."""
    bits = int(image.max()).bit_length()  # of the high byte
    bits += bits % 2  # files have 10, 12 or 14
    if not 0 < bits <= (6 if deep else 4):
        return []
    return [f"nearly black: the brightest value is at most {2 ** bits - 1} of 255"
            + (f"; a {8 + bits}-bit file? Then multiply its values by {2 ** (8 - bits)}" if deep else "")]


def file_of(dataset, index):
    """The image file of an item, or its name if there is no file."""
    return str(dataset.files(index)[0]) if hasattr(dataset, "files") else dataset.name(index)


def duplicate_files(files, others=()):
    """{file: an earlier file, or one of `others`, with the very same bytes}. Only files of equal length are read."""
    first, twins, by_length = {}, {}, defaultdict(list)
    for file in [*others, *files]:
        if Path(file).is_file():
            by_length[Path(file).stat().st_size].append(file)
    known = set(others)
    for same in by_length.values():
        for file in same if len(same) > 1 else ():
            digest = hashlib.blake2b(Path(file).read_bytes()).digest()
            if first.setdefault(digest, file) != file and file not in known:
                twins[file] = first[digest]
    return twins


def inspect(dataset, limit=None, other=None, workers=None, progress=True):
    """Look at a data set: a list of `Look`s, for all items or for `limit` of them, spread evenly.

    other: the other split; images that occur in both are suspicious: validation would then test on training data.
    """
    if limit is None and not hasattr(dataset, "files"):
        limit = DRAWN
    indices = even_indices(len(dataset), limit)
    looks = map_threads(lambda index: look(dataset, index), indices, workers, "inspect" if progress else None)
    if hasattr(dataset, "files"):
        others = [file_of(other, i) for i in range(len(other))] if hasattr(other, "files") else []
        twins = duplicate_files([found.file for found in looks], others)
        for found in looks:
            if found.file in twins:
                where = "the other split" if twins[found.file] in set(others) else "this split"
                found.reasons.append(f"the same image occurs in {where} a second time")
    return looks


def data_report(looks, dataset, title):
    """The findings as text."""
    good = [found for found in looks if not found.error]
    lines = [f"{title}: {len(looks)} of {len(dataset)} pictures looked at", ""]
    if good:
        lines += [*class_table(good, dataset.classes), "", *sizes(good), *amounts(good), ""]
    lines += suspects(looks, signs(good, dataset))
    return "\n".join(lines) + "\n"


def signs(looks, dataset):
    """What looks wrong with the data set as a whole, one sentence each: first what `train` would refuse."""
    if not looks:
        return []
    counted = tallied(dataset.classes, len(looks), ((found.content, found.file) for found in looks))
    source = files_of(dataset)
    return faults(counted, source) or void_hint(counted, source)


def class_table(looks, classes):
    """A row per class: index, label in the files, name, kind, pictures, segments, share of the labelled pixels."""
    pixels, segments = sum((found.pixels for found in looks), Counter()), sum((f.segments for f in looks), Counter())
    images = Counter(k for found in looks for k in found.segments)
    total = max(1, sum(pixels.values()))
    rows = [("class", "label", "name", "kind", "pictures", "segments", "pixels")]
    rows += [(str(k), str(classes.ids[k]), plain(name), "thing" if classes.isthing[k] else "stuff", str(images[k]),
              str(segments[k]), f"{100 * pixels[k] / total:.2f} %" if images[k] else "never")
             for k, name in enumerate(classes.names)]
    widest = [max(width(row[i]) for row in rows) for i in range(7)]
    lines = ["  ".join(cell + space if i in (2, 3) else space + cell for i, (cell, w) in enumerate(zip(row, widest))
                       for space in [" " * (w - width(cell))]) for row in rows]
    never = [plain(name) for k, name in enumerate(classes.names) if not images[k]]
    if never:
        lines.append(f"{len(never)} of {len(classes)} classes never occur: {', '.join(never[:12])}"
                     + " ..." * (len(never) > 12))
    return lines


def width(text):
    """Columns that a text takes in a terminal: Chinese, Japanese and Korean characters take two, accents none."""
    return sum(0 if combining(c) else 1 + (east_asian_width(c) in "WF") for c in text)


def sizes(looks):
    """The image sizes, most frequent first."""
    count = Counter((w, h) for h, w in (found.size for found in looks))
    often = ", ".join(f"{w} x {h} ({n})" for (w, h), n in count.most_common(5))
    short = sorted(min(found.size) for found in looks)
    rest = f" and {len(count) - 5} other sizes" if len(count) > 5 else ""
    return [f"sizes (width x height): {often}{rest}",
            f"short sides: {short[0]} to {short[-1]}, median {short[len(short) // 2]}"]


def amounts(looks):
    """Void, segments and crowds: one line each."""
    area = sum(math.prod(found.size) for found in looks)
    void = sum(found.void for found in looks)
    worst = max(looks, key=lambda found: found.void / math.prod(found.size))
    most = max(looks, key=lambda found: sum(found.segments.values()))
    count = [sum(found.segments.values()) for found in looks]
    lines = [f"void: {100 * void / area:.2f} % of the pixels, most in {plain(worst.file)} "
             f"({100 * worst.void / math.prod(worst.size):.0f} %)" if void else "void: none",
             f"segments in a picture: {np.mean(count):.1f} on average, {max(count)} at most ({plain(most.file)}); a "
             f"model needs more queries than that",
             f"crowds: {sum(found.crowds for found in looks)}, in {sum(found.crowds > 0 for found in looks)} pictures"]
    return lines


def suspects(looks, whole=()):
    """Files that cannot be used, what looks wrong as a whole, and files that look wrong, a few for each reason."""
    broken = [found for found in looks if found.error]
    lines = [f"cannot be used: {len(broken)}", *(f"  {found.error}" for found in broken[:4 * FILES_PER_REASON])]
    lines += [f"  ... and {len(broken) - 4 * FILES_PER_REASON} more"] * (len(broken) > 4 * FILES_PER_REASON)
    by_reason = defaultdict(list)
    for found in looks:
        for reason in found.reasons:
            by_reason[reason].append(found.file)
    number = sum(bool(found.reasons) for found in looks)
    lines += [f"suspicious: {number}" + " and the data set as a whole" * bool(whole),
              *(f"  {text}" for text in whole)]
    for reason, files in sorted(by_reason.items(), key=lambda pair: len(pair[1])):  # the rare ones tell more
        lines += [f"  {len(files)} x {reason}", *(f"      {plain(file)}" for file in files[:FILES_PER_REASON])]
        lines += [f"      ... and {len(files) - FILES_PER_REASON} more"] * (len(files) > FILES_PER_REASON)
    return lines


def write_report(looks, dataset, title, folder):
    """Leave report.txt, suspicious.txt (every such file with its reasons), sheet.png and suspicious.png in a folder."""
    from ..draw.thumbnails import choose, draw_sheet
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    text = data_report(looks, dataset, title)
    write_text(folder / "report.txt", text)
    rows = [f"{plain(found.file)}\t{plain(found.error) or '; '.join(found.reasons)}" for found in looks
            if found.error or found.reasons]
    write_text(folder / "suspicious.txt", "".join(row + "\n" for row in rows))
    good = [found for found in looks if not found.error]
    odd = [found for found in good if found.reasons]
    for name, chosen in (("sheet.png", choose(good)), ("suspicious.png", choose_odd(odd))):
        if chosen:
            draw_sheet(dataset, chosen, folder / name)
        else:
            (folder / name).unlink(missing_ok=True)  # left by an earlier run on another state of the files
    return text


def choose_odd(odd, count=12):
    """Up to `count` suspicious pictures, the rarest reasons first."""
    often = Counter(reason for found in odd for reason in found.reasons)
    return sorted(odd, key=lambda found: min(often[reason] for reason in found.reasons))[:count]
