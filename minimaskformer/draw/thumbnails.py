"""A sheet of pictures of a data set, each beside its labels: what `inspect` leaves to be looked at."""
import math
from collections import Counter

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from .. import draw
from .canvas import find_letters, no_math
from .names import Labels
from .palette import instance_colors

COUNT = 12
NAMES_SHOWN = 10  # classes named on a picture
ALPHA = 0.5  # the picture shows through: do the labels lie where the things are?
DPI = 150
GAP = 10  # pixels kept free after a caption
PICTURE_SIDE = 1024  # larger pictures are thinned out before they are drawn


def choose(looks, count=COUNT):
    """Up to `count` of the pictures looked at: first those that show classes not yet seen, then some spread evenly."""
    chosen, seen, rest = [], set(), list(looks)
    while rest and len(chosen) < count:
        best = max(rest, key=lambda found: len(found.segments.keys() - seen))
        if not best.segments.keys() - seen:
            break
        chosen.append(best)
        rest.remove(best)
        seen |= best.segments.keys()
    missing = min(count - len(chosen), len(rest))
    chosen += [rest[i * len(rest) // missing] for i in range(missing)]
    return sorted(chosen, key=lambda found: found.index)


def draw_sheet(dataset, looks, path):
    """Pairs of image and labels, two pairs in a row, saved as a file."""
    columns = min(2, len(looks))
    rows = -(-len(looks) // columns)
    tall = sorted(found.size[0] / found.size[1] for found in looks)[len(looks) // 2]
    figure, axes = draw.new_figure(5.8 * columns, (2.9 * min(1.5, tall) + 0.5) * rows, rows, 2 * columns,
                                   "constrained" if tall > 1.5 else "compressed")  # the captions need the room
    panels, titles = axes.reshape(-1, 2), []
    for (left, right), found in zip(panels, looks):
        image, target = dataset[found.index]
        draw_pair(left, right, *thinned(image, target), dataset.classes)
        titles += [caption(left, [dataset.name(found.index), f"{found.size[1]} x {found.size[0]}"]),
                   caption(right, [count_text(found), *found.reasons[:1]])]
    for ax in panels[len(looks):].flat:
        ax.set_axis_off()
    fit_captions(figure, axes.reshape(rows, -1), titles)
    return draw.save_figure(figure, path, DPI)


def count_text(found):
    """How many segments, and how much void, in a few words."""
    count, void = sum(found.segments.values()), found.void / math.prod(found.size)
    return f"{count} segment{'s' * (count != 1)}" + f", {100 * void:.0f} % void" * (void >= 0.005)


def caption(ax, lines):
    """Write two lines above a panel; a missing second one stays blank, so that the first lines of a row align."""
    return ax.set_title(no_math("\n".join([*lines, " "][:2])), fontsize=9, loc="left", pad=2)


def fit_captions(figure, axes, titles):
    """Shorten the captions of a grid of axes [rows, columns] to the room up to the next panel in the row."""
    figure.set_dpi(DPI)  # letters are not exactly as wide at another resolution
    find_letters(titles)
    renderer, texts = FigureCanvasAgg(figure).get_renderer(), [title.get_text() for title in titles]
    for title in titles:
        title.set_text("x\nx")  # long ones would push the panels aside
    figure.get_layout_engine().execute(figure)  # now the panels have their places,
    figure.set_layout_engine("none")  # and they keep them
    for ax in axes.flat:
        ax.apply_aspect()
    starts = [[ax.get_window_extent(renderer).x0 for ax in row] + [figure.bbox.width] for row in axes]
    rooms = [end - start - GAP for row in starts for start, end in zip(row, row[1:])]
    for title, text, room in zip(titles, texts, rooms):
        title.set_text("\n".join([shortest(line, title, room, renderer) for line in text.split("\n")]))


def shortest(line, title, room, renderer):
    """A line as long as the room (in pixels): whole words and an ellipsis, or the first word's beginning and end."""
    words = line.split(" ")
    shorter = [" ".join(words[:n]).rstrip(",;:") + " ..." for n in range(len(words) - 1, 0, -1)]
    shorter += [shortened(words[0], length) for length in range(len(words[0]) - 1, 5, -1)]
    for text in (line, *shorter):
        title.set_text(text)  # measured as it will be drawn
        if title.get_window_extent(renderer).width <= room:
            return text
    return "..."


def draw_pair(left, right, image, target, classes):
    """The image, and its labels over it: as a map, or as a stack where masks overlap or background is not labelled."""
    draw.draw_image(left, image)
    if classes.stuff:
        named = class_names([(s["id"], s["category_id"], s["area"]) for s in target["segments_info"]], classes)
        draw.draw_panoptic(right, image, target["segment_map"], target["segments_info"], classes, ALPHA, named)
        return
    labels, areas = target["labels"].tolist(), target["masks"].flatten(1).sum(1).tolist()
    result = {"masks": target["masks"], "labels": target["labels"], "scores": torch.ones(len(labels))}
    draw.draw_instances(right, image, result, classes, alpha=ALPHA, labels=False)
    colors = instance_colors(labels, classes)
    Labels(right, [(text, colors[i], target["masks"][i].numpy(), True)
                   for i, text in class_names(list(zip(range(len(labels)), labels, areas)), classes).items()],
           tuple(image.shape[1:]))


def class_names(segments, classes):
    """{id: text}: the name of each of the largest classes once, on its largest segment, and how many there are.

    segments: (id, class index, area). A name on every segment would hide the labels one wants to see.
    """
    largest, count, area = {}, Counter(), Counter()
    for i, k, size in sorted(segments, key=lambda segment: -segment[2]):
        largest.setdefault(k, i)
        count[k] += 1
        area[k] += size
    return {largest[k]: classes.names[k] + f" x {count[k]}" * (count[k] > 1) for k, _ in area.most_common(NAMES_SHOWN)}


def thinned(image, target):
    """Image and target with only every n-th row and column, so that the longer side is at most PICTURE_SIDE."""
    step = -(-max(image.shape[1:]) // PICTURE_SIDE)
    thin = {name: target[name][..., ::step, ::step] for name in ("masks", "valid", "segment_map")}
    return image[:, ::step, ::step], {**target, **thin}


def shortened(name, length=34):
    """A long name with its middle left out."""
    return name if len(name) <= length else f"{name[:length // 2 - 1]}...{name[-length // 2 + 2:]}"
