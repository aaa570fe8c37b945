"""Pictures of training runs side by side: curves against a right run, losses by layer, scores of the queries."""
import numpy as np

from .curves import LINES, NAMES, curve, smooth

TERMS = {"class": 1.0, "focal": 20.0, "dice": 1.0}  # what a term weighs in the total
TICKS = (0.1, 0.2, 0.5, 1, 2, 5)
RIGHT = "0.6"  # the run that all others are held against


def draw_gallery(figure, runs, right, columns=4):
    """One panel per run: the last layer's three loss terms, weighted, over the thin grey ones of a right run.

    runs: {title: rows of log.jsonl}; right: rows. The last evaluation in the log stands under the title. Returns the
    axes. Raises ValueError without runs, or for a run whose log has no losses.
    """
    if not runs:
        raise ValueError("a gallery needs at least one run")
    rows = -(-len(runs) // columns)
    axes = np.reshape(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False), -1)
    for ax, (title, log) in zip(axes, runs.items()):
        for name, weight in TERMS.items():
            steps, values = curve(log, name)
            if not len(steps):
                raise ValueError(f"the log of {title!r} has no term {name!r}")
            ax.plot(*weighted(right, name, weight), color=RIGHT, linewidth=0.8)
            ax.plot(steps, weight * smooth(values), color=LINES[name], linewidth=1.5,
                    label=name if weight == 1 else f"{weight:g} {name}")
        ax.set_title(f"{title}\n{last_figures(log)}", fontsize=8)
        ax.set(yscale="log", ylim=(0.1, 5))
        ax.set_yticks(TICKS, map(str, TICKS))
        ax.minorticks_off()
        ax.tick_params(labelsize=7, which="both")
        ax.grid(color="0.92", linewidth=0.6)
        ax.spines[["top", "right"]].set_visible(False)
    for ax in axes[len(runs):]:
        ax.set_axis_off()
    for ax in axes[max(0, len(runs) - columns):len(runs)]:
        ax.set_xlabel("step", fontsize=8)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return axes[:len(runs)]


def weighted(log, name, weight):
    """Steps and smoothed, weighted values of one term."""
    steps, values = curve(log, name)
    return steps, weight * smooth(values)


def last_figures(log):
    """ "PQ 39, mIoU 55" of the last evaluation of a log, in percent."""
    found = [row for row in log if row.get("pq") is not None]
    if not found:
        return "not evaluated"
    return ", ".join(f"{NAMES[name]} {100 * found[-1][name]:.0f}" for name in ("pq", "miou"))


def draw_layers(ax, log):
    """The total loss of each decoder layer over the steps; the last layer, which answers, is the strong line.

    Raises ValueError for a log without auxiliary losses.
    """
    layers = sorted({int(name[6:]) for row in log for name in row if name.startswith("class_")})
    if not layers:
        raise ValueError("this log has no auxiliary losses (class_0, ...)")
    shades = np.linspace(0.75, 0.45, len(layers))
    for suffix, color, label in [*((f"_{i}", str(shade), f"layer {i}") for i, shade in zip(layers, shades)),
                                 ("", LINES["class"], "last layer")]:
        total = sum(weight * curve(log, name + suffix)[1] for name, weight in TERMS.items())
        ax.plot(curve(log, "class" + suffix)[0], smooth(total), color=color, linewidth=1.4, label=label)
    ax.set(ylim=(0, None), xlabel="step")
    ax.legend(fontsize=8, frameon=False)
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
