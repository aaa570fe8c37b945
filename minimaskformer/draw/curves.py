"""Pictures of numbers: the cost matrix and the curves of a training run."""
import numpy as np
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from .canvas import INK, as_array, new_figure, save_figure

NAMES = {"pq": "PQ", "pq_things": "PQ things", "pq_stuff": "PQ stuff", "miou": "mIoU"}
LINES = {"loss": "#000000", "class": "#3364b8", "focal": "#ac331d", "dice": "#dd8934", "pq": "#000000",
         "pq_things": "#ac331d", "pq_stuff": "#3364b8", "miou": "#2e8b57", "lr": "#000000"}


def draw_cost(ax, cost, match=None, row_names=None, col_names=None, decimals=2, title=None):
    """A cost matrix [N, T] (queries in rows, targets in columns) with its numbers; matched cells outlined.

    match: (row indices, column indices). Low costs are light. Raises ValueError for another shape, or for a match or
    names that do not fit the matrix.
    """
    cost = as_array(cost)
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
            ax.text(j, i, f"{cost[i, j]:.{decimals}f}", ha="center", va="center", fontsize=7,
                    color="white" if dark[i, j] else INK)
    for i, j in zip(rows, columns):
        ax.add_patch(Rectangle((j - 0.45, i - 0.45), 0.9, 0.9, fill=False, edgecolor="#ac331d", linewidth=2,
                               path_effects=[withStroke(linewidth=3.5, foreground="white")]))
    ax.set_xticks(range(t), col_names, fontsize=7, rotation=0 if t <= 6 else 40, ha="center" if t <= 6 else "left")
    ax.set_yticks(range(n), row_names, fontsize=7)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    if title:
        ax.set_title(title, fontsize=9)
    return ax


def check_match(match, n, t):
    """The match as two lists; raises ValueError unless they are equally long and inside an n x t matrix."""
    rows, columns = ([int(i) for i in as_array(side)] for side in match)
    if len(rows) != len(columns):
        raise ValueError(f"a match is two index lists of equal length, got {len(rows)} queries, {len(columns)} targets")
    if any(not 0 <= i < n for i in rows) or any(not 0 <= j < t for j in columns):
        raise ValueError(f"a match of {n} queries and {t} targets cannot hold queries {rows}, targets {columns}")
    return rows, columns


def draw_curves(rows, path=None):
    """Curves of a training run: loss terms (log scale), metrics in percent, learning rate, each where the log has it.

    rows: dicts with "step" and any of loss, class, focal, dice, lr, or of pq, pq_things, pq_stuff, miou (fractions or
    percent); of two rows for one step and name the later counts, as after a resume. Returns the Figure, saves it if a
    path is given. Raises ValueError if no row holds any of these.
    """
    panels = [("loss", ("loss", "class", "focal", "dice")), ("metrics", ("pq", "pq_things", "pq_stuff", "miou")),
              ("learning rate", ("lr",))]
    curves = {name: curve(rows, name) for _, names in panels for name in names}
    panels = [(title, [n for n in names if len(curves[n][0])]) for title, names in panels]
    panels = [(title, names) for title, names in panels if names]
    if not panels:
        raise ValueError(f"no curves to draw: none of {len(rows)} rows has a step with {', '.join(curves)}")
    figure, axes = new_figure(3.3 * len(panels), 2.5, 1, len(panels))
    figure.get_layout_engine().set(wspace=0.06)
    for ax, (title, names) in zip(np.ravel(axes), panels):
        for name in names:
            steps, values = curves[name]
            if title == "loss" and len(steps) >= 40:
                ax.plot(steps, values, color=LINES[name], alpha=0.2, linewidth=0.6)
                values = smooth(values)
            marker = "o" if len(steps) < 30 and title != "learning rate" else None
            ax.plot(steps, values, color=LINES[name], linewidth=1.4, marker=marker, markersize=3,
                    label=NAMES.get(name, name))
        finish(ax, title, names)
    if path is not None:
        save_figure(figure, path)
    return figure


def curve(rows, name):
    """Steps and values of one name in the log, sorted by step, the last row of a step winning."""
    found = {int(row["step"]): float(row[name]) for row in rows if row.get(name) is not None and "step" in row}
    steps = np.array(sorted(found), dtype=float)
    return steps, np.array([found[int(step)] for step in steps])


def smooth(values):
    """Mean over a window of a twentieth of the run, narrower at both ends; non-finite values are skipped."""
    half = max(1, len(values) // 40)
    out = np.empty(len(values))
    for i in range(len(values)):
        near = values[max(0, i - half):i + half + 1]
        near = near[np.isfinite(near)]
        out[i] = near.mean() if len(near) else np.nan
    return out


def finish(ax, title, names):
    """Scale, grid, legend of one panel of curves."""
    ax.set_title(title, fontsize=9)
    ax.set_xlabel("step", fontsize=8)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    if title == "loss":
        ax.set_yscale("log")
    else:
        ax.set_ylim(bottom=0)
        ax.ticklabel_format(axis="y", scilimits=(-2, 3))
        ax.yaxis.get_offset_text().set_fontsize(7)
    ax.tick_params(labelsize=7, which="both")
    ax.grid(color="0.9", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    if len(names) > 1:
        low, high = ax.get_ylim()  # room for the legend above the curves
        ax.set_ylim(top=high * (high / low) ** 0.25 if title == "loss" else 1.12 * high)
        style = {"loc": "upper right", "ncols": 2} if title == "loss" else {"loc": "upper center", "ncols": 4,
                                                                             "handlelength": 1, "columnspacing": 1}
        ax.legend(fontsize=7, frameon=False, **style)
