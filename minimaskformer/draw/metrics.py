"""Pictures of metrics: scenes to count pixels in, precision against recall, classes as dots, classes confused."""
import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from ..mask_ap import average_precision
from ..system.tensors import to_numpy
from ..system.text import plain
from .canvas import INK, new_figure, no_math
from .scenes import draw_panoptic
from .thumbnails import shortened

CLASS_METRICS = {"IoU": ("#3364b8", "s"), "PQ": ("#ac331d", "o"), "AP": ("#dd8934", "D")}  # colour and marker of each
NUMBERED = 40  # with more classes, a number in every cell would be too small to read
CELL = 0.19  # inches, room for one line of letters; a number needs twice that


def draw_cells(ax, segment_map, segments_info, classes, names, nothing="void", title=None):
    """A tiny panoptic map with a line around every pixel, each segment with its name and number of pixels.

    names: one per entry, in their order; nothing: what id 0 means in this map. Returns the axes. Raises ValueError for
    another number of names.
    """
    segment_map = to_numpy(segment_map)
    if len(names) != len(segments_info):
        raise ValueError(f"{len(segments_info)} segments need as many names, got {len(names)}")
    draw_panoptic(ax, None, segment_map, segments_info, classes, labels=False, title=title)
    height, width = segment_map.shape
    ax.vlines(np.arange(1, width) - 0.5, -0.5, height - 0.5, color=INK, linewidth=0.4, alpha=0.35)
    ax.hlines(np.arange(1, height) - 0.5, -0.5, width - 0.5, color=INK, linewidth=0.4, alpha=0.35)
    for name, i in [*zip(names, (s["id"] for s in segments_info)), (nothing, 0)]:
        mask = segment_map == i
        if mask.any():
            y, x = axis_middle(mask)
            text = ax.text(x, y, f"{name} {mask.sum()}", ha="center", va="center", fontsize=9, color=INK)
            text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
    return ax


def axis_middle(mask):
    """The centre of the longest run of pixels in a mask; among equals, of the run nearest to the mask's centre."""
    runs = []
    for y, row in enumerate(mask):
        edges = np.flatnonzero(np.diff(np.r_[0, row.astype(int), 0])).reshape(-1, 2)  # [runs, (start, end)]
        runs += [(end - start, y, (start + end - 1) / 2) for start, end in edges]
    longest, center = max(length for length, _, _ in runs), np.argwhere(mask).mean(0)
    return min(((y, x) for length, y, x in runs if length == longest), key=lambda at: np.hypot(*(at - center)))


def draw_precision_recall(ax, scores, right, total, title=None):
    """The ranked list of one class as a curve: a dot per prediction, filled where it is right, its score beside it.

    Arguments as average_precision takes them; the grey area is what it measures. Returns the axes. Raises ValueError
    for an empty list.
    """
    scores, right = to_numpy(scores), to_numpy(right)
    if len(scores) == 0 or len(scores) != len(right):
        raise ValueError(f"the curve needs as many scores as verdicts, and at least one; got {len(scores)} and "
                         f"{len(right)}")
    order = np.argsort(-scores, kind="stable")
    scores, right = scores[order], right[order]
    hits = np.cumsum(right)
    recall, precision = hits / total, hits / np.arange(1, len(hits) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    ax.fill_between([0, *recall], [best[0], *best], step="pre", color="0.85", linewidth=0)
    ax.plot(recall, precision, color=CLASS_METRICS["AP"][0], linewidth=1, zorder=2)
    color = CLASS_METRICS["AP"][0]
    texts = {}  # position: the scores of the dots there
    for r, p, score, good in zip(recall.tolist(), precision.tolist(), scores.tolist(), right.tolist()):
        face = color if good else "white"
        ax.plot(r, p, "o", color=color, markerfacecolor=face, markersize=6, zorder=3, clip_on=False)
        texts.setdefault((r, p), []).append(f"{score:.1f}")
    for (r, p), here in texts.items():
        side = {"xytext": (6, 7), "ha": "left"} if r < 0.2 else {"xytext": (-6, 3), "ha": "right"}
        ax.annotate(", ".join(here), (r, p), textcoords="offset points", fontsize=9, va="center", **side)
    value = average_precision(scores, right, total)
    ax.set(xlim=(0, 1), ylim=(0, 1.05), xlabel="recall", ylabel="precision")
    ax.set_title(f"{title + ': ' if title else ''}AP {value:.3f}", fontsize=9)
    ax.tick_params(labelsize=9)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def draw_class_metrics(ax, results, classes):
    """IoU, PQ and AP of every class as dots on a line; `results` is what `evaluate` returns. Returns the axes.

    A metric without a value (AP of stuff, a class that did not occur) has no dot.
    """
    panoptic, instance = results["panoptic"]["per_class"], results["instance"].get("per_class", {})
    order = [*classes.stuff, *classes.things]
    for row, k in enumerate(order):
        name = classes.names[k]
        values = {"IoU": results["semantic"]["iou"][k], "PQ": panoptic.get(name, {}).get("pq", np.nan),
                  "AP": instance.get(name, np.nan)}
        known = [v for v in values.values() if np.isfinite(v)]
        ax.plot([min(known, default=0), max(known, default=0)], [row, row], color="0.8", linewidth=2, zorder=1)
        for metric, value in values.items():
            color, marker = CLASS_METRICS[metric]
            ax.plot(value, row, marker, color=color, markersize=6, zorder=2, clip_on=False)
    ax.axhline(len(classes.stuff) - 0.5, color="0.5", linewidth=0.8, linestyle=":")
    ax.set_yticks(range(len(order)), [classes.names[k] for k in order], fontsize=9)
    ax.set(xlim=(0, 1), ylim=(len(order) - 0.5, -0.5))
    ax.grid(axis="x", color="0.9", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.tick_params(length=0, labelsize=9)
    ax.spines[:].set_visible(False)
    handles = [Line2D([], [], color=c, marker=m, linestyle="", label=name) for name, (c, m) in CLASS_METRICS.items()]
    ax.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, fontsize=9, frameon=False)
    return ax


def draw_confusion(confusion, classes):
    """Rows: true classes; columns: predicted ones; each row in percent of its pixels. Returns the Figure.

    confusion: pixels, int [K, K+1], the last column is "no answer", shown if it holds any. Classes that occur in
    neither truth nor prediction are left out, and counted in the title; rows without a pixel are grey.
    """
    K = len(classes)
    total = confusion.sum(1)  # [K]
    kept = [k for k in range(K) if total[k] or confusion[:, k].any()]
    columns = kept + [K] * bool(confusion[:, K].any())
    if not kept:
        raise ValueError("there is no pixel of a known class in the truth: nothing can be confused")
    shares = 100 * confusion[np.ix_(kept, columns)] / np.maximum(total[kept], 1)[:, None]  # [k, k'], in percent
    names = [shortened(plain(classes.names[k]), 24) for k in kept]
    numbered = len(kept) <= NUMBERED
    cell = 2 * CELL if numbered else CELL
    figure, ax = new_figure(cell * len(columns), cell * len(kept))
    figure.set_layout_engine("none")  # slow with hundreds of names; saving makes room for what lies outside
    ax.set_position([0, 0, 1, 1])
    empty = np.array([[0.9] * 3 if not total[k] else [1.0] * 3 for k in kept])  # [k, 3]
    ax.imshow(np.broadcast_to(empty[:, None], (len(kept), len(columns), 3)), interpolation="nearest")
    ax.imshow(np.ma.masked_less(shares, 0.5), cmap="Blues", norm=PowerNorm(0.5, 0, 100), interpolation="nearest")
    ax.set_xticks(range(len(columns)), map(no_math, names + ["(no answer)"] * (len(columns) > len(kept))), rotation=90)
    ax.set_yticks(range(len(kept)), map(no_math, names))
    ax.tick_params(length=0, labelsize=9, labeltop=True, labelright=not numbered)
    ax.set_xticks(np.arange(1, len(columns)) - 0.5, minor=True)
    ax.set_yticks(np.arange(1, len(kept)) - 0.5, minor=True)
    ax.grid(which="minor", color="0.85", linewidth=0.5)
    ax.tick_params(which="minor", length=0)
    ax.spines[:].set(linewidth=0.5, color="0.4")
    for row, column in zip(*np.nonzero(shares >= 0.5)) if numbered else ():
        ax.text(column, row, f"{shares[row, column]:.0f}", ha="center", va="center", fontsize=9,
                color="white" if shares[row, column] > 40 else INK)
    left_out = f"; classes that never occur, left out here: {K - len(kept)}" * (len(kept) < K)
    ax.set_title(f"percent of the pixels of each true class (rows) by predicted class{left_out}", fontsize=9)
    return figure


def worst_confusions(confusion, classes, count=10):
    """[(true name, predicted name, share of the true class's pixels)], those with the most pixels first."""
    names = [*map(plain, classes.names), "(no answer)"]
    wrong, total = confusion.copy(), confusion.sum(1)
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:count]
    places = [np.unravel_index(i, wrong.shape) for i in order]
    return [(names[t], names[p], float(wrong[t, p] / total[t])) for t, p in places if wrong[t, p]]
