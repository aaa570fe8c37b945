"""Curves of one training run, and of several side by side: broken runs against a good one, layers, query scores."""
import numpy as np
from matplotlib.ticker import MaxNLocator

from .canvas import new_figure, save_figure

CURVE_NAMES = {"pq": "PQ", "pq_things": "PQ things", "pq_stuff": "PQ stuff", "miou": "mIoU"}
CURVE_COLORS = {"loss": "#000000", "class": "#3364b8", "focal": "#ac331d", "dice": "#dd8934", "pq": "#000000",
         "pq_things": "#ac331d", "pq_stuff": "#3364b8", "miou": "#2e8b57", "lr": "#000000"}


def draw_curves(rows, path=None):
    """Curves of a training run: loss terms (log scale), metrics in percent, learning rate, each where the log has it.

    rows: dicts with "step" and any of loss, class, focal, dice, lr, or of pq, pq_things, pq_stuff, miou (fractions or
    percent); of two rows with the same step and name the later counts, as after a resume. Returns the Figure, and saves
    it if a path is given. Raises ValueError if no row holds any of these.
    """
    panels = [("loss", ("loss", "class", "focal", "dice")), ("metrics", ("pq", "pq_things", "pq_stuff", "miou")),
              ("learning rate", ("lr",))]
    curves = {name: read_curve(rows, name) for _, names in panels for name in names}
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
                ax.plot(steps, values, color=CURVE_COLORS[name], alpha=0.2, linewidth=0.6)
                values = smooth(values)
            marker = "o" if len(steps) < 30 and title != "learning rate" else None
            ax.plot(steps, values, color=CURVE_COLORS[name], linewidth=1.4, marker=marker, markersize=3,
                    label=CURVE_NAMES.get(name, name))
        finish_axes(ax, title, names)
    if path is not None:
        save_figure(figure, path)
    return figure


def read_curve(rows, name):
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


def finish_axes(ax, title, names):
    """Scale, grid, legend of one panel of curves."""
    ax.set_title(title, fontsize=9)
    ax.set_xlabel("step", fontsize=9)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    if title == "loss":
        ax.set_yscale("log")
    else:
        ax.set_ylim(bottom=0)
        ax.ticklabel_format(axis="y", scilimits=(-2, 3))
        ax.yaxis.get_offset_text().set_fontsize(7)
    ax.tick_params(labelsize=9, which="both")
    ax.grid(color="0.9", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    if len(names) > 1:
        low, high = ax.get_ylim()  # room for the legend above the curves
        ax.set_ylim(top=high * (high / low) ** 0.25 if title == "loss" else 1.12 * high)
        style = {"loc": "upper right", "ncols": 2} if title == "loss" else {"loc": "upper center", "ncols": 4,
                                                                             "handlelength": 1, "columnspacing": 1}
        ax.legend(fontsize=9, frameon=False, **style)


TERMS = {"class": 1.0, "focal": 20.0, "dice": 1.0}  # what a term weighs in the total


TICKS = (0.1, 0.2, 0.5, 1, 2, 5)


RIGHT = "0.6"  # the run that all others are compared with


def draw_gallery(figure, runs, right, columns=4):
    """One panel per run: the last layer's three loss terms, weighted, over the thin grey ones of a good run.

    runs: {title: rows of log.jsonl}; right: rows. The last evaluation in the log is under the title. Returns the axes.
    Raises ValueError without runs, or for a run whose log has no losses.
    """
    if not runs:
        raise ValueError("a gallery needs at least one run")
    rows = -(-len(runs) // columns)
    axes = np.reshape(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False), -1)
    for ax, (title, log) in zip(axes, runs.items()):
        for name, weight in TERMS.items():
            steps, values = read_curve(log, name)
            if not len(steps):
                raise ValueError(f"the log of {title!r} has no term {name!r}")
            ax.plot(*weighted(right, name, weight), color=RIGHT, linewidth=0.8)
            ax.plot(steps, weight * smooth(values), color=CURVE_COLORS[name], linewidth=1.5,
                    label=name if weight == 1 else f"{weight:g} {name}")
        ax.set_title(f"{title}\n{last_figures(log)}", fontsize=9)
        ax.set(yscale="log", ylim=(0.1, 5))
        ax.set_yticks(TICKS, map(str, TICKS))
        ax.minorticks_off()
        ax.tick_params(labelsize=9, which="both")
        ax.grid(color="0.92", linewidth=0.6)
        ax.spines[["top", "right"]].set_visible(False)
    for ax in axes[len(runs):]:
        ax.set_axis_off()
    for ax in axes[max(0, len(runs) - columns):len(runs)]:
        ax.set_xlabel("step", fontsize=9)
    for ax in axes[:len(runs):columns]:
        ax.set_ylabel("loss term, log scale", fontsize=9)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    return axes[:len(runs)]


def weighted(log, name, weight):
    """Steps and smoothed, weighted values of one term."""
    steps, values = read_curve(log, name)
    return steps, weight * smooth(values)


def last_figures(log):
    """ "PQ 39, mIoU 55" of the last evaluation of a log, in percent."""
    found = [row for row in log if row.get("pq") is not None]
    if not found:
        return "not evaluated"
    return ", ".join(f"{CURVE_NAMES[name]} {100 * found[-1][name]:.0f}" for name in ("pq", "miou"))


def draw_layers(ax, log):
    """The total loss of each decoder layer over the steps; the last layer, which answers, is the strong line.

    Raises ValueError for a log without auxiliary losses.
    """
    layers = sorted({int(name[6:]) for row in log for name in row if name.startswith("class_")})
    if not layers:
        raise ValueError("this log has no auxiliary losses (class_0, ...)")
    shades = np.linspace(0.75, 0.45, len(layers))
    for suffix, color, label in [*((f"_{i}", str(shade), f"layer {i}") for i, shade in zip(layers, shades)),
                                 ("", CURVE_COLORS["class"], "last layer")]:
        total = sum(weight * read_curve(log, name + suffix)[1] for name, weight in TERMS.items())
        ax.plot(read_curve(log, "class" + suffix)[0], smooth(total), color=color, linewidth=1.4, label=label)
    ax.set(ylim=(0, None), xlabel="step")
    ax.legend(fontsize=9, frameon=False)
    return ax


def draw_scores(ax, histogram, title=None):
    """How many queries have a best class score in each tenth of 0 ... 1; histogram: ten counts."""
    if len(histogram) != 10:
        raise ValueError(f"a score histogram has ten counts, got {len(histogram)}")
    ax.bar(np.arange(10) / 10 + 0.05, np.array(histogram) / max(1, sum(histogram)), 0.09, color="#3364b8")
    ax.set(xlabel="best class score of a query", ylabel="share of the queries", xlim=(0, 1), ylim=(0, 1))
    if title:
        ax.set_title(title, fontsize=9)
    return ax
