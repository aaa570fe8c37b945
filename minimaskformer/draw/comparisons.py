"""Pictures that put our small runs beside the paper's published comparisons (lesson 11; studies/published.py)."""
from scipy import stats

from ..data.lakeland import Lakeland
from ..studies.ablations import Budget
from ..studies.error_bars import mean_and_error, paired_difference
from ..studies.published import LADDER, PAIRS, QUERIES, STUDY_METRICS, by_setting, unpack
from ..targets import VOID, panoptic_to_semantic
from .canvas import outline
from .curves import CURVE_COLORS
from .scenes import draw_image, draw_semantic

COLORS = {"miou": CURVE_COLORS["miou"], "pq": CURVE_COLORS["pq_stuff"]}
MARKERS = {"miou": "o", "pq": "s"}


def draw_ladder(axes, runs):
    """From per-pixel to mask classification in three steps: the paper's figures left, ours with error bars right."""
    ours = dict(zip(LADDER, ("per-pixel", "per-pixel+", "fixed", "11 queries")))
    labels = ["per-pixel", "per-pixel+", "mask,\nfixed", "mask,\nbipartite"]
    for k, (metric, name) in enumerate(STUDY_METRICS.items()):
        style = dict(color=COLORS[metric], marker=MARKERS[metric], markersize=5, linewidth=1.4)
        axes[0].plot(range(4), [LADDER[step][k] for step in LADDER], **style)
        values = by_setting(runs, metric)
        mean, error = mean_and_error([values[ours[step]] for step in LADDER])
        axes[1].errorbar(range(4), mean, error, capsize=3, **style)
        for x, step in enumerate(LADDER):
            axes[1].plot([x + 0.14] * len(values[ours[step]]), values[ours[step]], "_", color=COLORS[metric], alpha=0.6)
        for ax, y in zip(axes, (LADDER["bipartite"][k], mean[-1])):
            ax.text(3.35, y, subscript(name), color=COLORS[metric], fontsize=9, va="center")
    for ax, title in zip(axes, ("the paper: ADE20K, 150 classes", "ours: Lakeland, 11 classes")):
        ax.set_xticks(range(4), labels)
        ax.set(xlim=(-0.3, 4.1), ylabel="percent")
        tidy(ax, title)


def draw_queries(axes, runs):
    """Number of queries: how far the paper's three data sets fall below their best mIoU, and what our runs reach."""
    for (title, points), shade, style in zip(QUERIES.items(), ("0.15", "0.45", "0.65"), ("-", "--", ":")):
        best = max(miou for miou, _ in points.values())
        axes[0].plot(list(points), [miou - best for miou, _ in points.values()], style, color=shade, marker=".",
                     label=title)
    axes[0].set_ylabel("mIoU, points below the best")
    axes[0].legend(fontsize=9, frameon=False, loc="lower left")
    ours = {int(name.split()[0]): name for name in ("4 queries", "11 queries", "32 queries", "100 queries")}
    for metric, name in STUDY_METRICS.items():
        values = by_setting(runs, metric)
        mean, error = mean_and_error([values[setting] for setting in ours.values()])
        axes[1].errorbar(list(ours), mean, error, color=COLORS[metric], marker=MARKERS[metric], markersize=5, capsize=3,
                         label=subscript(name))
        for x, setting in ours.items():
            axes[1].plot([x] * len(values[setting]), values[setting], "_", color=COLORS[metric], markersize=9)
    axes[1].axvline(11, color="0.6", linewidth=0.8, linestyle=":")
    axes[1].set(ylabel="percent", ylim=(0, None))
    axes[1].legend(fontsize=9, frameon=False)
    panels = ([20, 50, 100, 300, 1000], "the paper"), (list(ours), "ours (dotted: as many as classes)")
    for ax, (ticks, title) in zip(axes, panels):
        ax.set_xscale("log")
        ax.set_xticks(ticks, map(str, ticks))
        ax.minorticks_off()
        ax.set_xlabel("queries")
        tidy(ax, title)


def draw_differences(axes, runs, pairs=PAIRS):
    """What each change does: paired differences with 95 % intervals, and the paper's figure where it has one.

    The interval is Student's: 4.3 standard errors with three seeds, 1.96 with very many. A bar that crosses zero means
    that these seeds cannot tell.
    """
    names = [name for name in pairs if pairs[name][0] in by_setting(runs, "miou")]
    for ax, (metric, title) in zip(axes, STUDY_METRICS.items()):
        values = by_setting(runs, metric)
        for y, name in enumerate(reversed(names)):
            other, _, published = pairs[name]
            mean, error = (v.item() for v in paired_difference(values[other], values[name]))
            half = stats.t.ppf(0.975, len(values[name]) - 1) * error
            ax.errorbar(mean, y, xerr=half, color=COLORS[metric], marker=MARKERS[metric], markersize=5, capsize=3)
            if published:
                ax.plot(published[list(STUDY_METRICS).index(metric)], y, "D", color="black", markerfacecolor="white",
                        markersize=5, zorder=3)
        ax.axvline(0, color="0.4", linewidth=0.8)
        ax.set_yticks(range(len(names)), [pairs[name][1] for name in reversed(names)] if ax is axes[0] else [])
        ax.set(xlabel="points", xlim=(-95, 50), ylim=(-0.6, len(names) - 0.4))
        ax.set_xscale("symlog", linthresh=10, linscale=1.5)
        ax.set_xticks([-40, -10, -5, 0, 5, 10, 40], ["−40", "−10", "−5", "0", "5", "10", "40"])
        tidy(ax, subscript(title))


def draw_setting_answers(axes, shipped, index, settings):
    """A validation scene, its truth, and what some settings' first seed says about it."""
    budget, classes = Budget(**shipped["budget"]), Lakeland.classes
    image, target = Lakeland("val", budget.size, budget.difficulty)[index]
    truth = panoptic_to_semantic(target["segment_map"], target["segments_info"], VOID)
    draw_image(axes[0], image, title="the scene")
    draw_semantic(axes[1], image, truth, classes, ignore=VOID, labels=False, title="truth")
    for ax, name in zip(axes[2:], settings):
        answer = unpack(shipped["pictures"][name][str(index)], budget.size)
        draw_semantic(ax, image, answer, classes, labels=False, title=name)


def subscript(name):
    """PQ_St as matplotlib writes it."""
    return name.replace("_St", "$_{St}$")


def tidy(ax, title):
    """Grid, title, spines."""
    ax.set_title(title, fontsize=9)
    ax.tick_params(labelsize=9, which="both")
    ax.xaxis.label.set_size(8)
    ax.yaxis.label.set_size(8)
    ax.grid(color="0.92", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def draw_push(ax, push, mask, title):
    """What a loss does to the logits of one mask: red up, blue down (square root, scaled to the largest)."""
    scaled = push / push.abs().max()
    ax.imshow(scaled.sign() * scaled.abs().sqrt(), cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
    outline(ax, mask.numpy())
    ax.set(xticks=[], yticks=[])
    ax.set_title(title, fontsize=9)
