"""Pictures of inference: every candidate segment with its fate, the thresholds' heat maps, who won which pixel (08)."""
import numpy as np
from matplotlib.gridspec import GridSpec

from ..system.tensors import to_numpy
from .canvas import INK, as_image, outline, show, tint
from .palette import class_colors

GOOD, BAD, LOST = "#2e6f9e", "#ac331d", "#a05a00"  # text and frames: right, wrong, right but removed
MARKS = {"found": ("found", GOOD), "false alarm": ("false alarm", BAD), "missed": ("MISSED", LOST),
         "false alarm avoided": ("rightly removed", GOOD), "duplicate avoided": ("duplicate", GOOD),
         "": ("joined the first", INK)}
FATE_ROWS = (("kept", ("segment", "merged")), ("removed: score", ("score",)), ("removed: overlap", ("overlap",)))


def draw_candidates(figure, image, judged, classes, columns=8):
    """Every query that sees an object, one thumbnail each, in rows by what became of it; returns the figure.

    judged: what `studies.thresholds.judge_candidates` returns. The pixels a candidate stands for (its segment, or what
    it had won) are coloured and outlined, the rest of its own mask is pale. Above: query, class, score. Below: pixels
    won / pixels of its mask, and what the truth says. Best 10 inches wide; the height adapts to the rows.
    """
    image = as_image(image)
    groups = [(name, [j for j in judged if j.candidate.fate in fates]) for name, fates in FATE_ROWS]
    columns = min(columns, max([1] + [len(members) for _, members in groups]))
    lines = [(name if start == 0 else "", members[start:start + columns]) for name, members in groups
             for start in range(0, max(1, len(members)), columns)]
    width = figure.get_figwidth() / (columns + 0.9)
    figure.set_figheight(len(lines) * (width * image.shape[0] / image.shape[1] + 0.55))  # 0.55 inches of text
    grid = GridSpec(len(lines), columns + 1, figure, width_ratios=[0.9] + [1] * columns)
    for row, (name, members) in enumerate(lines):
        head = figure.add_subplot(grid[row, 0])
        head.set_axis_off()
        head.text(1.0, 0.5, name.replace(": ", ":\n"), fontsize=9, ha="right", va="center", fontweight="bold")
        for column, item in enumerate(members):
            draw_candidate(figure.add_subplot(grid[row, column + 1]), image, item, classes)
        if not members and name:
            empty = figure.add_subplot(grid[row, 1])
            empty.set_axis_off()
            empty.text(0.0, 0.5, "none", fontsize=9, va="center")
    return figure


def draw_candidate(ax, image, judged, classes):
    """One candidate: its pixels over the grey picture, its numbers around it, its frame in the verdict's colour."""
    c, (text, color) = judged.candidate, MARKS[judged.verdict]
    region, mask = to_numpy(judged.region), to_numpy(judged.mask)
    show(ax, tint(image, class_colors(classes)[c.category_id], np.where(region, 0.9, 0.4 * mask)[..., None]))
    outline(ax, region, width=0.7)
    ax.spines[:].set(linewidth=2.0 if c.fate in ("segment", "merged") or judged.verdict == "missed" else 0.8,
                     color=color, linestyle="-" if c.segment_id else (0, (3, 2)))
    ax.set_title(f"{c.query}: {classes.names[c.category_id]} {c.score:.2f}", fontsize=9, pad=2)
    won = f"{c.won_area}/{c.mask_area} = {c.ratio:.2f}" if c.fate != "score" else f"mask: {c.mask_area}"
    ax.set_xlabel(f"{won}\n{text}", fontsize=9, labelpad=2, color=color)
    return ax


def draw_grid(axes, grid, score_thresholds, overlap_thresholds, names=("pq", "sq", "rq"), mark=None):
    """One heat map per figure of a `threshold_grid` (studies), in percent; `mark` (score, overlap) gets a frame."""
    for ax, name in zip(axes, names):
        values = 100 * np.array([[cell[name] for cell in row] for row in grid])  # [score, overlap]
        picture = ax.imshow(values, cmap="cividis", aspect="auto", origin="lower")
        for i, j in np.ndindex(values.shape):
            ax.text(j, i, f"{values[i, j]:.1f}", ha="center", va="center", fontsize=9,
                    color="black" if picture.norm(values[i, j]) > 0.55 else "white")
        if mark in [(s, o) for s in score_thresholds for o in overlap_thresholds]:
            j, i = list(overlap_thresholds).index(mark[1]), list(score_thresholds).index(mark[0])
            ax.plot([j - .5, j + .5, j + .5, j - .5, j - .5], [i - .5, i - .5, i + .5, i + .5, i - .5], color="#d55e00",
                    linewidth=2, clip_on=False)
        ax.set_xticks(range(len(overlap_thresholds)), overlap_thresholds, fontsize=9)
        ax.set_yticks(range(len(score_thresholds)), score_thresholds, fontsize=9)
        ax.set_xlabel("overlap threshold", fontsize=9)
        ax.set_title(f"{name.upper()} in %", fontsize=9)
    axes[0].set_ylabel("score threshold", fontsize=9)
    return axes


def winners(query_map, class_map, classes):
    """A result of general inference as a panoptic pair for `draw_panoptic`: a segment per query that won a pixel."""
    query_map, class_map = to_numpy(query_map), to_numpy(class_map)
    queries, first = np.unique(query_map, return_index=True)
    info = [{"id": int(i) + 1, "category_id": int(class_map.flat[at]), "isthing": classes.isthing[class_map.flat[at]]}
            for i, at in zip(queries, first) if i >= 0]
    return query_map + 1, info
