"""Pairs of a picture and its label files, opened according to what their numbers are: classes, instances, or both."""
from contextlib import suppress
from dataclasses import replace
from functools import partial

from ..checks import map_threads
from ..readers.coco_content import open_objects, upright_sizes
from ..readers.colors import color_numbers, read_colors
from ..readers.instances import InstanceFolder
from ..readers.label_maps import read_labels
from ..readers.semantic import SemanticFolder

MANY = 8  # with this many classes or more, label values may be numbers of objects


def open_label_pictures(items, every_item, table, layout, folder):
    """The data set of [(image, [label files], instance file or None)].

    layout.kind: "semantic" (label values are classes), "instances" (they number the objects of one class, or each file
    has one object) or "panoptic" (there are instance files). Without a table, the classes are the values that occur in
    `every_item`, those of all splits, so that the splits agree.
    """
    several = next((item for item in items if len(item[1]) != 1), None)
    if layout.kind == "instances":
        names = thing_and_background(layout)
        if several or "*" in (layout.labels or "").replace("**/", "").rpartition("{stem}")[2]:
            return open_masks([(image, [(names[0], path) for path in labels]) for image, labels, _ in items], names[:1],
                              folder)
        return InstanceFolder.from_files([(image, labels[0]) for image, labels, _ in items], *names)
    if several:
        raise ValueError(f"{several[0]} has {len(several[1])} label files, such as {several[1][0]}: with one file per "
                         "object give --kind instances, otherwise name one file per picture")
    panoptic = layout.kind == "panoptic"
    if panoptic and not items[0][2]:
        raise ValueError("--kind panoptic needs files that number the instances: --instances 'instances/{stem}.png'")
    read = (partial(read_colors, colors=table.colors), color_numbers) if table.colors else (None, None)
    rows = [(image, labels[0], *([numbers] if panoptic else ())) for image, labels, numbers in items]
    classes, void = table.classes, table.void
    if classes is None:
        every = [(image, labels[0], *([numbers] if panoptic else ())) for image, labels, numbers in every_item]
        found = SemanticFolder.from_files(every, read=read)
        check_class_option(found)
        classes = found.classes
    elif panoptic and not classes.things:  # the table does not say: everything but the background can be counted
        classes = replace(classes, isthing=tuple(name.lower() != "background" for name in classes.names))
    dataset = SemanticFolder.from_files(rows, classes, void, read=read)
    others = {labels[0] for _, labels, _ in every_item} - {labels[0] for _, labels, _ in items}
    if others and not table.colors:
        with suppress(ValueError, OSError):  # errors of another split are reported when it is opened
            read_labels(min(others), dataset.palettes)  # so that palettes agree between splits too
    return dataset


def check_class_option(dataset):
    """ValueError if the values look like numbers of objects: in each picture 0 ... n, and n differs; or a class and
    such a number in one, as in 26003."""
    if len(dataset.classes) < MANY or dataset.classes.things:
        return
    for factor in (1000, 256):
        high = [value for value in dataset.classes.ids if value >= factor]
        kinds = {value // factor for value in high}
        if len(high) >= MANY and 2 * len(kinds) <= len(high):
            raise ValueError(f"{dataset.items[0][1].parent}: the label files hold {len(high)} numbers from {high[0]} "
                             f"to {high[-1]}: is each a class times {factor} and the number of an object? Part them in "
                             "two files, labels/ and instances/. If they are classes, name them: --classes, or a "
                             "classes.txt")
    values = [sorted(found[0] - set(dataset.void)) for found in map_threads(dataset.values_of, range(len(dataset)))]
    if all(of == list(range(len(of))) for of in values) and len(set(map(len, values))) > 2:
        raise ValueError(f"{dataset.items[0][1].parent}: each label file holds the numbers 0 ... n without a gap, n "
                         f"being {min(map(len, values)) - 1} ... {max(map(len, values)) - 1}: do they number objects? "
                         "Then give --kind instances. If they are classes, name them: --classes, or a classes.txt")


def open_masks(items, names, folder):
    """The data set of [(image, [(class name, mask file)])]: one file per object."""
    sizes = upright_sizes([image for image, _ in items])
    pictures = [(image, size, tuple(path for _, path in masks), [(name, path, path.name) for name, path in masks])
                for (image, masks), size in zip(items, sizes)]
    return open_objects(pictures, names, folder)


def thing_and_background(layout):
    """The names of the one class of `instances` and of its background, from --classes."""
    names = [name.strip() for name in (layout.classes or "object").split(",")]
    if len(names) > 2 or not all(names):
        raise ValueError(f"--kind instances has one class: --classes NAME or NAME,BACKGROUND, got {layout.classes!r}")
    return (*names, "background")[:2]
