"""Pictures of scenes and answers: panoptic, semantic and instance maps, single masks, contact sheets.

Each draw_* function takes a matplotlib Axes (or None for a new figure of its own), draws into it and returns it.
Pictures are tensors [3, H, W], arrays [H, W, 3] or PIL images; maps and masks are tensors or arrays.
Colours come from palette.py, outlines and stripes from canvas.py, the placing of names from names.py.
"""
import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from scipy import ndimage

from ..system.arguments import check_labels, check_segments
from ..system.tensors import to_numpy
from .canvas import as_image, grey, image_of_size, new_figure, no_math, outline, save_figure, show, tint
from .curves import draw_curves
from .matching import draw_cost, draw_matching
from .names import Labels
from .palette import VOID_COLOR, class_colors, instance_colors

__all__ = ["class_colors", "contact_sheet", "draw_cost", "draw_curves", "draw_image", "draw_instances", "draw_mask",
           "draw_matching", "draw_panoptic", "draw_semantic", "four_readings", "legend", "new_figure",
           "save_figure"]


SWATCHES = 23  # at most this many classes in the legend of a contact sheet
LEGEND = dict(frameon=False, handlelength=1.4, handleheight=1.1, columnspacing=1.2, borderpad=0)
MASK = (0.84, 0.37, 0.0)  # for a mask whose class does not matter: vermilion


def own_axes(ax):
    return new_figure()[1] if ax is None else ax


def draw_image(ax, image, title=None):
    """The picture as it is, every pixel a clean square."""
    ax = show(own_axes(ax), as_image(image))
    ax.set_title(title or "", fontsize=9)
    return ax


def draw_panoptic(ax, image, segment_map, segments_info, classes, alpha=0.65, labels=True, title=None):
    """A panoptic map: one colour and one name per segment, things numbered; void and crowd hatched.

    segment_map: integer [H, W], 0 is void. segments_info: dicts with id, category_id (class index), maybe iscrowd.
    image None: flat colours. labels: True, False, or a dict {segment id: text} to write just those.
    Raises ValueError if map and list do not describe each other, or the picture has another size.
    """
    ax, segment_map = own_axes(ax), to_numpy(segment_map)
    check_drawable(segment_map, "segment map")
    check_segments(torch.as_tensor(segment_map), segments_info, len(classes))
    image = image_of_size(image, segment_map.shape, "segment map")
    colors = dict(zip((s["id"] for s in segments_info),
                      instance_colors([s["category_id"] for s in segments_info], classes)))
    ids, index = np.unique(segment_map, return_inverse=True)
    index = index.reshape(segment_map.shape)
    crowds = [s["id"] for s in segments_info if s.get("iscrowd", 0)]
    flat = np.array([colors.get(i, VOID_COLOR) for i in ids.tolist()])[index]  # [H, W, 3]
    show(ax, tint(image, flat, alpha if image is not None else 1.0), np.isin(segment_map, [0, *crowds]))
    outline(ax, index)
    if labels is not False:
        names = segment_names(segments_info, classes) if labels is True else labels
        Labels(ax, [(names[s["id"]], colors[s["id"]], mask, classes.isthing[s["category_id"]]) for s in segments_info
                    if s["id"] in names and (mask := segment_map == s["id"]).any()], segment_map.shape)
    ax.set_title(title or "", fontsize=9)
    return ax


def segment_names(segments_info, classes):
    """What to write on each segment, by id: "grass", "sheep 1", "sheep 2", "sheep (crowd)"."""
    names, count = {}, {}
    for s in segments_info:
        c = s["category_id"]
        names[s["id"]] = classes.names[c]
        if s.get("iscrowd", 0):
            names[s["id"]] += " (crowd)"
        elif classes.isthing[c]:
            count[c] = count.get(c, 0) + 1
            names[s["id"]] += f" {count[c]}"
    return names


def draw_semantic(ax, image, label_map, classes, ignore=255, alpha=0.65, labels=True, title=None):
    """A class map: one colour per class, its name on each of its larger regions; `ignore` is void and hatched.

    label_map: integer [H, W]. Raises ValueError for a value that is neither a class index nor `ignore`.
    """
    ax, label_map = own_axes(ax), to_numpy(label_map)
    check_drawable(label_map, "label map")
    void = label_map == ignore
    present = [c for c in np.unique(label_map).tolist() if c != ignore]
    check_labels(present, len(classes), "label map")
    image, colors = image_of_size(image, label_map.shape, "label map"), class_colors(classes)
    flat = np.where(void[..., None], VOID_COLOR, colors[np.where(void, 0, label_map)])  # [H, W, 3]
    show(ax, tint(image, flat, alpha if image is not None else 1.0), void)
    outline(ax, label_map)
    if labels:
        Labels(ax, [(classes.names[c], colors[c], region, classes.isthing[c])
                    for c in present for region in large_regions(label_map == c)], label_map.shape)
    ax.set_title(title or "", fontsize=9)
    return ax


def large_regions(mask, share=0.03):
    """The connected regions of a mask that cover at least `share` of the picture, and always the largest one."""
    pieces, count = ndimage.label(mask)
    areas = np.bincount(pieces.ravel(), minlength=count + 1)
    areas[0] = 0
    keep = [i for i in range(1, count + 1) if areas[i] >= share * mask.size] or [int(areas.argmax())]
    return [pieces == i for i in keep]


def draw_instances(ax, image, result, classes, min_score=0.5, alpha=0.6, labels=True, title=None):
    """An instance result {"masks", "labels", "scores"}: a stack, not a map, so masks may overlap.

    Masks below min_score are not drawn; higher scores lie on top. image None: on white.
    Raises ValueError for columns of unequal length, a label outside the table or a picture of another size.
    """
    ax = own_axes(ax)
    masks, categories, scores = (to_numpy(result[name]) for name in ("masks", "labels", "scores"))
    if masks.ndim != 3 or not len(masks) == len(categories) == len(scores):
        raise ValueError(f"an instance result holds masks [M, H, W], labels [M] and scores [M]; got shapes "
                         f"{list(masks.shape)}, {list(categories.shape)}, {list(scores.shape)}")
    check_labels(categories, len(classes), "instance result")
    image = image_of_size(image, masks.shape[1:], "masks of the instance result")
    order = [i for i in np.argsort(-scores, kind="stable") if scores[i] >= min_score]  # best first
    masks, categories = masks[order] > 0, categories[order].tolist()
    colors = instance_colors(categories, classes)
    rgb = np.ones((*masks.shape[1:], 3)) if image is None else grey(image)
    for mask, color in zip(masks[::-1], colors[::-1]):
        rgb[mask] = alpha * color + (1 - alpha) * rgb[mask]
    show(ax, rgb)
    for mask in masks[::-1]:
        outline(ax, mask)
    if labels:
        Labels(ax, [(f"{classes.names[c]} {scores[i]:.2f}", color, mask, True)
                    for i, c, color, mask in zip(order, categories, colors, masks) if mask.any()], masks.shape[1:])
    ax.set_title(title or "", fontsize=9)
    return ax


def draw_mask(ax, mask, image=None, color=None, level=0.5, title=None):
    """One mask [H, W]: bool as a flat colour, floats in 0 ... 1 as a heat map with a line where they cross `level`.

    Over a picture, or with a given colour, probability is opacity.
    Raises ValueError for a picture of another size or floats outside 0 ... 1.
    """
    ax, mask = own_axes(ax), to_numpy(mask)
    check_drawable(mask, "mask", kinds="biuf")
    image = image_of_size(image, mask.shape, "mask")
    if mask.dtype.kind == "f":
        if not (mask.min() >= 0 and mask.max() <= 1):
            raise ValueError(f"mask probabilities lie in 0 ... 1, these lie in {mask.min():.3g} ... {mask.max():.3g}: "
                             "apply a sigmoid to mask logits first")
        if image is None and color is None:
            show(ax, colormaps["viridis"](mask)[..., :3])
        else:
            show(ax, tint(image, np.array(MASK if color is None else color), 0.85 * mask[..., None]))
        contour(ax, mask, level)
    else:
        inside = mask[..., None] > 0  # [H, W, 1]
        flat = np.where(inside, MASK if color is None else color, 0.95)
        show(ax, flat if image is None else tint(image, flat, 0.65 * inside))
        outline(ax, inside[..., 0])
    ax.set_title(title or "", fontsize=9)
    return ax


def contour(ax, probs, level):
    """The line probs = level, black between white so that it shows on any colour; none where nothing crosses it."""
    if probs.min() < level < probs.max() and min(probs.shape) > 1:
        lines = ax.contour(probs, [level], colors="black", linewidths=0.9)
        lines.set_path_effects([withStroke(linewidth=2.2, foreground="white")])


def legend(ax, classes, only=None, columns=None, void=True, fontsize=9):
    """A swatch and a name per class (or for the class indices in `only`), and the stripes of void."""
    ax = own_axes(ax)
    handles = swatches(classes, range(len(classes)) if only is None else only, void)
    ax.set_axis_off()
    ax.legend(handles=handles, loc="center", ncols=columns or min(len(handles), 6), fontsize=fontsize, **LEGEND)
    return ax


def swatches(classes, only, void=True):
    colors = class_colors(classes)
    handles = [Patch(facecolor=colors[k], edgecolor="0.12", linewidth=0.5, label=no_math(classes.names[k]))
               for k in only]
    striped = Patch(facecolor=0.6 * VOID_COLOR + 0.4, edgecolor=0.55 * VOID_COLOR, hatch="/////", linewidth=0.5,
                    label="void")
    return handles + [striped] * void


def four_readings(figure, image, semantic, instances, panoptic, classes, min_score=0.5):
    """The course's signature picture: one scene and its three readings side by side; best 12 x 3.3 inches.

    semantic: [H, W] classes; instances: an instance result; panoptic: (segment_map, segments_info). Returns the axes.
    """
    axes = figure.subplots(1, 4)
    draw_image(axes[0], image, title="image")
    draw_semantic(axes[1], image, semantic, classes, title="semantic: a class for every pixel")
    draw_instances(axes[2], image, instances, classes, min_score, title="instance: a stack of things")
    draw_panoptic(axes[3], image, *panoptic, classes, title="panoptic: every pixel in one segment")
    return axes


def contact_sheet(items, classes, path=None, columns=None):
    """Image, truth and prediction of N scenes; items are (image, truth, prediction, title), both maps panoptic pairs.

    columns: scenes side by side. Saved as a file if a path is given. Returns the Figure.
    """
    items = list(items)
    if not items:
        raise ValueError("a contact sheet needs at least one (image, truth, prediction, title)")
    columns = columns or (1 if len(items) < 3 else 2)
    rows = -(-len(items) // columns)
    tall = [min(1, h / w) for h, w, _ in (as_image(image).shape for image, *_ in items)]  # portraits: narrower panels
    heights = [1.9 * max(tall[row * columns:(row + 1) * columns]) + 0.16 for row in range(rows)]
    figure, axes = new_figure(5.7 * columns, sum(heights), rows, 3 * columns, "constrained", height_ratios=heights)
    axes = np.reshape(axes, (rows * columns, 3))
    used = set()
    for panels, (image, truth, prediction, title) in zip(axes, items):
        draw_image(panels[0], image)
        draw_panoptic(panels[1], image, *truth, classes, labels=False)
        draw_panoptic(panels[2], image, *prediction, classes, labels=False)
        for ax, text in zip(panels, (title, "truth", "prediction")):
            ax.set_title(no_math(text), fontsize=9, loc="left", pad=2)
        used |= {s["category_id"] for s in [*truth[1], *prediction[1]]}
    for ax in axes[len(items):].flat:
        ax.set_axis_off()
    handles = swatches(classes, sorted(used)[:SWATCHES])
    if len(used) > SWATCHES:
        handles.append(Patch(alpha=0, label=f"and {len(used) - SWATCHES} more"))
    figure.set_figheight(sum(heights) + 0.17 + 0.18 * -(-len(handles) // (6 * columns)))
    figure.legend(handles=handles, loc="outside lower center", ncols=6 * columns, fontsize=9, **LEGEND)
    if path is not None:
        save_figure(figure, path)
    return figure


def check_drawable(values, what, kinds="biu"):
    if values.ndim != 2 or values.dtype.kind not in kinds:
        raise ValueError(f"a {what} is {'an integer' if kinds == 'biu' else 'a bool or float'} array [H, W], got "
                         f"{values.dtype} of shape {list(values.shape)}")
