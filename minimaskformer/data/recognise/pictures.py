"""Label pictures, recognised: in their own folders, beside the pictures, or where patterns say."""
from dataclasses import replace
from pathlib import Path

from ...system.text import read_text
from .class_tables import find_table
from .label_pictures import open_label_pictures
from .pairs import find_beside, find_places, pair_folders, pair_patterns
from .patterns import matching
from .splits import Found, add_part


def label_pictures(folder, layout):
    """Label pictures in their own folders, or beside the pictures."""
    found = find_places(folder)
    if not found:
        beside = find_beside(folder)
        if not beside:
            return None
        ending, parts = beside
        return of_pairs(f"labels called NAME{ending}.png beside the pictures", parts, folder, layout)
    (images, labels), places = found
    numbers = folder / ("instances" if labels.startswith("labels/") else "SegmentationObject")
    wanted = numbers.is_dir() and (numbers.name == "instances" or layout.kind == "panoptic")
    parts, patterns = {}, set()
    for split, (images_dir, labels_dir) in places.items():
        parts[split], pattern = pair_folders(images_dir, labels_dir, (numbers / labels_dir.name if "{split}" in labels
                                                                      else numbers) if wanted else None)
        patterns.add(pattern)
    named = "" if patterns == {"{stem}"} else f", called {', '.join(sorted(patterns))}"
    if labels == "PedMasks":
        layout = replace(layout, kind=layout.kind or "instances")
    if wanted:
        layout = replace(layout, kind=layout.kind or "panoptic")
    what = f"pictures in {images}/, labels in {labels}/{named}".replace("{split}", "SPLIT").replace("{stem}", "NAME")
    return of_pairs(what, parts, folder, layout)


def label_patterns(folder, layout):
    """Label pictures as --images and --labels say."""
    parts = pair_patterns(folder, layout)
    if len(parts) > 1 and "" in parts:
        raise ValueError(f"--images {layout.images!r}: some pictures are in a split, others are not")
    return of_pairs(f"{layout.images} and {layout.labels}", parts, folder, layout)


def of_pairs(what, parts, folder, layout):
    """`Found` for {split: [(image, label[s][, instances])]}."""
    parts = {split: [(image, label if isinstance(label, list) else [label], (*rest, None)[0])
                     for image, label, *rest in items] for split, items in parts.items()}
    if set(parts) == {""}:
        parts = by_lists(folder, parts[""], layout) or parts
    every = [item for items in parts.values() for item in items]
    table = find_table(folder, layout) if layout.kind != "instances" else None
    named = f", classes of {table.source}" if table and table.source else ""
    kind = layout.kind or "semantic"
    return Found(f"{what}{named} ({kind})", parts,
                 lambda items: open_label_pictures(items, every, table, layout, folder),
                 tuple(vars(layout)), lambda item: str(item[0]))


def by_lists(folder, items, layout):
    """{split: items} by text files of stems, such as ImageSets/Segmentation/train.txt; None if there are none."""
    if layout.val_share:
        return None
    of_stem = {item[0].stem: item for item in items}
    for place in [layout.lists] if layout.lists else ["ImageSets/Segmentation/{split}.txt", "{split}.txt"]:
        found = [(split, path) for split, _, path in matching(folder, place) if split]
        if found:
            parts = {}
            for split, path in found:
                add_part(parts, split, listed_items(path, of_stem), path)
            return parts
    if layout.lists:
        raise FileNotFoundError(f"--lists {layout.lists!r} finds no file in {folder} for train, val or test; write "
                                "{split} in place of the split's name")
    return None


def listed_items(path, of_stem):
    """The items of a text file of names, one per line: stems or file names; more columns may follow."""
    lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    found = [next((name for text in (line, line.split()[0]) for name in (text, Path(text).name, Path(text).stem)
                   if name in of_stem), None) for line in lines]
    lonely = [line for line, name in zip(lines, found) if name is None]
    if lonely:
        raise FileNotFoundError(f"{path} lists {len(lonely)} of {len(lines)} names without a picture, such as "
                                f"{', '.join(lonely[:5])}")
    return [of_stem[name] for name in dict.fromkeys(found)]
