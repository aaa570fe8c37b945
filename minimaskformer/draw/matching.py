"""The picture of a matching: predicted masks left, true masks right, one coloured line per pair (lesson 02)."""
import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from ..system.arguments import check_labels
from ..system.tensors import to_numpy
from .canvas import INK, as_image, new_figure, outline, show, tint
from .names import Labels
from .palette import instance_colors

UNMATCHED = np.array([0.45, 0.45, 0.45])


def draw_matching(figure, image, mask_probs, target, match, classes, max_queries=8, cost=None):
    """Which query answers for which true mask; the lines cross because a set has no order.

    mask_probs: [N, h, w] in 0 ... 1, any resolution; target: {"labels" [T], "masks" [T, H, W]}; match: two index lists.
    It shows the first max_queries pairs and, if there is room, unmatched queries in grey, "left over".
    With cost [N, T] the cost of each pair is written at its query. Best 7.5 inches wide, 0.6 per query high.
    Returns the figure. Raises ValueError if shapes, match or classes do not fit together.
    """
    image, probs = as_image(image), to_numpy(mask_probs).astype(float)
    masks, labels = to_numpy(target["masks"]) > 0, to_numpy(target["labels"]).tolist()
    if probs.ndim != 3 or masks.shape != (len(labels), *image.shape[:2]):
        raise ValueError(f"mask_probs are [N, h, w] and true masks [T, H, W] as large as the picture; got "
                         f"{list(probs.shape)}, {list(masks.shape)}, {len(labels)} labels and a picture of "
                         f"{image.shape[0]} x {image.shape[1]}")
    if probs.size and not (probs.min() >= 0 and probs.max() <= 1):
        raise ValueError(f"mask_probs lie in {probs.min():.3g} ... {probs.max():.3g}, not in 0 ... 1: "
                         "apply a sigmoid to mask logits first")
    check_labels(labels, len(classes), "target labels")
    queries, targets = check_match(match, len(probs), len(masks))
    pairs = dict(list(zip(queries, targets))[:max_queries])
    spare = [i for i in range(len(probs)) if i not in queries][:max_queries - len(pairs)]
    shown, wanted = sorted([*pairs, *spare]), sorted(pairs.values())
    colors = instance_colors(labels, classes)

    scene, left, right = matching_axes(figure, len(shown), len(wanted), image.shape)
    draw_truth(scene, image, masks, labels, colors, classes)
    for ax, i in zip(left, shown):
        mask, color = nearest(probs[i], image.shape), colors[pairs[i]] if i in pairs else UNMATCHED
        show(ax, tint(image, color, 0.85 * mask[..., None]))
        outline(ax, mask >= 0.5, width=0.6)
        below = "left over" if i not in pairs else "" if cost is None else f"cost {to_numpy(cost)[i, pairs[i]]:.2f}"
        ax.set_ylabel(f"query {i}\n{below}".strip(), fontsize=9, rotation=0, ha="right", va="center", labelpad=4,
                      color=INK if i in pairs else UNMATCHED)
    names = numbered(labels, classes)
    for ax, j in zip(right, wanted):
        show(ax, tint(image, colors[j], 0.85 * masks[j][..., None]))
        outline(ax, masks[j], width=0.6)
        ax.text(1.08, 0.5, names[j], transform=ax.transAxes, fontsize=9, va="center")
    for i, j in pairs.items():
        connect(figure, left[shown.index(i)], right[wanted.index(j)], colors[j])
    left[0].set_title("predicted masks", fontsize=9)
    if right:
        right[0].set_title("true masks", fontsize=9)
    return figure


def matching_axes(figure, n, t, shape):
    """Axes for the scene, n queries and t targets: thumbnails as large as the figure's height and width allow."""
    if n == 0:
        raise ValueError("draw_matching needs at least one query to show")
    width, height = figure.bbox.width / figure.dpi, figure.bbox.height / figure.dpi  # inches
    pitch = (height - 0.3) / max(n, t)
    tall = min(pitch * 0.9, 0.16 * width * shape[0] / shape[1])
    wide = tall * shape[1] / shape[0]
    gap = (height - 0.3) / t if t else 0
    query_x, target_x = 0.46 * width, width - 0.75 - wide

    def axes(x, middle, w, h):
        ax = figure.add_axes([x / width, (middle - h / 2) / height, w / width, h / height])
        ax.set_zorder(2)  # over the lines
        return ax

    room = query_x - 0.75
    side = min(1.0, (height - 0.4) / (room * shape[0] / shape[1])) * room
    scene = axes(0.05, (height - 0.3) / 2, side, side * shape[0] / shape[1])
    left = [axes(query_x, (height - 0.3) - (i + 0.5) * pitch, wide, tall) for i in range(n)]
    right = [axes(target_x, (height - 0.3) - (j + 0.5) * gap, wide, tall) for j in range(t)]
    return scene, left, right


def connect(figure, left, right, color):
    """A line between the facing edges of two thumbnails, with dark edges so that a white one shows on paper."""
    a, b = left.get_position(), right.get_position()
    x, y = [a.x1, b.x0], [(a.y0 + a.y1) / 2, (b.y0 + b.y1) / 2]
    line = Line2D(x, y, color=color, linewidth=2, transform=figure.transSubfigure, solid_capstyle="butt", zorder=1)
    line.set_path_effects([withStroke(linewidth=3, foreground=INK)])
    figure.add_artist(line)


def nearest(mask, shape):
    """A mask [h, w] at another resolution, [H, W] = shape[:2], by nearest pixel: the blocks that the network sees."""
    rows = ((np.arange(shape[0]) + 0.5) * mask.shape[0] / shape[0]).astype(int)
    columns = ((np.arange(shape[1]) + 0.5) * mask.shape[1] / shape[1]).astype(int)
    return mask[rows[:, None], columns]


def numbered(labels, classes):
    """Names of the targets, things numbered in the order of the target, as draw_panoptic does."""
    return [f"{classes.names[c]} {labels[:j + 1].count(c)}" if classes.isthing[c] else classes.names[c]
            for j, c in enumerate(labels)]


def draw_truth(ax, image, masks, labels, colors, classes):
    """The scene with every true mask in the colour of its line."""
    flat, covered = np.ones(image.shape), np.zeros(image.shape[:2], int)
    for j, mask in enumerate(masks):
        flat[mask], covered[mask] = colors[j], j + 1
    show(ax, tint(image, flat, 0.65 * (covered > 0)[..., None]))
    outline(ax, covered)
    Labels(ax, [(name, colors[j], masks[j], classes.isthing[labels[j]])
                for j, name in enumerate(numbered(labels, classes)) if masks[j].any()], image.shape[:2])
    ax.set_title("the scene and its true masks", fontsize=9)


def draw_cost(ax, cost, match=None, row_names=None, col_names=None, decimals=2, title=None):
    """A cost matrix [N, T] (queries in rows, targets in columns) with its numbers; matched cells outlined.

    match: (row indices, column indices). Low costs are light. Raises ValueError for another shape, or for a match or
    names that do not fit the matrix.
    """
    cost = to_numpy(cost)
    if cost.ndim != 2:
        raise ValueError(f"a cost matrix is [N, T], got shape {list(cost.shape)}")
    n, t = cost.shape
    row_names = [f"query {i}" for i in range(n)] if row_names is None else list(row_names)
    col_names = [f"target {j}" for j in range(t)] if col_names is None else list(col_names)
    if (len(row_names), len(col_names)) != (n, t):
        raise ValueError(f"a {n} x {t} cost matrix needs {n} row names and {t} column names, "
                         f"got {len(row_names)} and {len(col_names)}")
    rows, columns = check_match(match, n, t) if match is not None else ([], [])
    if ax is None:
        ax = new_figure(max(2.5, 0.8 + 0.55 * t), max(1.8, 0.5 + 0.3 * n))[1]
    shown = np.ma.masked_invalid(cost)
    picture = ax.imshow(shown, cmap="Purples", aspect="auto", interpolation="nearest")
    dark = np.ma.filled(picture.norm(shown) > 0.5, False)
    if n <= 40 and t <= 20:
        for i, j in np.ndindex(n, t):
            ax.text(j, i, f"{cost[i, j]:.{decimals}f}", ha="center", va="center", fontsize=9,
                    color="white" if dark[i, j] else INK)
    for i, j in zip(rows, columns):
        ax.add_patch(Rectangle((j - 0.45, i - 0.45), 0.9, 0.9, fill=False, edgecolor="#ac331d", linewidth=2,
                               path_effects=[withStroke(linewidth=3.5, foreground="white")]))
    ax.set_xticks(range(t), col_names, fontsize=9, rotation=0 if t <= 6 else 40, ha="center" if t <= 6 else "left")
    ax.set_yticks(range(n), row_names, fontsize=9)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    if title:
        ax.set_title(title, fontsize=9)
    return ax


def check_match(match, n, t):
    """The match as two lists; raises ValueError unless they are equally long and inside an n x t matrix."""
    rows, columns = ([int(i) for i in to_numpy(side)] for side in match)
    if len(rows) != len(columns):
        raise ValueError(f"a match is two index lists of equal length, got {len(rows)} queries, {len(columns)} targets")
    if any(not 0 <= i < n for i in rows) or any(not 0 <= j < t for j in columns):
        raise ValueError(f"a match of {n} queries and {t} targets cannot hold queries {rows}, targets {columns}")
    return rows, columns
