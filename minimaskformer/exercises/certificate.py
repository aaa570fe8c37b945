"""Pictures of a learner's MaskFormer: which of its parts are their own, and the certificate of lesson 13."""
from matplotlib.patches import FancyBboxPatch

from ..draw.canvas import INK
from .parts import PARTS, SECTIONS

OWN, BORROWED = "#9fd8a4", "0.9"
PLACES = {"07": (0, 0), "05": (1, 0), "06": (2, 0), "08": (3, 0), "09": (4, 0),  # column, row: what answers a picture,
          "01": (0, 1), "02": (1, 1), "03": (2, 1), "04": (3, 1), "10": (4, 1)}  # and below it what learns
WIDTH, HEIGHT, LINE = 2.3, 1.6, 0.21
FLOW = (("07", "05"), ("05", "06"), ("06", "08"), ("08", "09"), ("01", "02"), ("02", "03"), ("03", "04"), ("04", "10"),
        ("06", "02"))


def draw_parts(ax, own, title=None):
    """The parts of the model, lesson by lesson: the learner's in green, the borrowed ones grey.

    own: the exercise numbers of the learner's parts, as `mine().OWN` has them. Best on an Axes of 11 x 3.9 inches.
    Returns the axes.
    """
    ax.set(xlim=(-0.1, 5 * WIDTH - 0.1), ylim=(-0.1, 2 * HEIGHT + 0.15))
    ax.set_axis_off()
    ax.set_position((0, 0, 1, 0.93))  # the names need all of the width
    corner = {lesson: (column * WIDTH, (1 - row) * (HEIGHT + 0.12)) for lesson, (column, row) in PLACES.items()}
    for lesson, (what, parts) in SECTIONS.items():
        x, y = corner[lesson]
        ax.text(x, y + HEIGHT - 0.24, f"{lesson} {what.partition(':')[0]}", fontsize=9, weight="bold", color=INK)
        for i, (number, name) in enumerate(parts.items()):
            top = y + HEIGHT - 0.47 - i * LINE
            ax.add_patch(FancyBboxPatch((x + 0.04, top - 0.05), WIDTH - 0.4, LINE - 0.1, boxstyle="round,pad=0.03",
                                        linewidth=0.5, edgecolor=INK, facecolor=OWN if number in own else BORROWED))
            ax.text(x + 0.08, top, f"{number} {name}", fontsize=9, va="center", color=INK)
    for start, end in FLOW:
        (x, y), (u, v) = corner[start], corner[end]
        ends = ((x + WIDTH - 0.3, y + HEIGHT - 0.6), (u - 0.04, v + HEIGHT - 0.6)) if y == v else (
            (x + 0.7, y + 0.3), (u + WIDTH - 0.9, v + HEIGHT - 0.08))
        ax.annotate("", ends[1], ends[0], arrowprops={"arrowstyle": "-|>", "color": INK, "linewidth": 0.9})
    ax.set_title(title or f"{len(own)} of {len(PARTS)} parts are yours (green); the rest is borrowed", fontsize=9)
    return ax


def draw_certificate(figure, my, figures, losses, name="", draw_answer=None):
    """The end of the course: whose model it is, its parts, its lines, its figures, what it sees, how it learnt.

    my: the module of `mine()`. figures: {name: value in [0, 1]}; losses: of a training run. draw_answer(ax) draws what
    it sees. Returns the figure.
    """
    top, bottom = figure.subfigures(2, 1, height_ratios=(1, 0.95))
    draw_parts(top.subplots(), my.OWN, title=f"A MaskFormer{' by ' + name if name else ''}: {len(my.OWN)} of "
                                             f"{len(PARTS)} parts, {my.LINES} lines, written by hand")
    axes = bottom.subplots(1, 3)
    axes[0].set_axis_off()
    axes[0].set_title("with the shipped weights", fontsize=9)
    rows = [f"{label.upper().replace('MIOU', 'mIoU')} {100 * value:.1f}" for label, value in figures.items()]
    axes[0].text(0.5, 0.5, "\n".join(rows), ha="center", va="center", fontsize=20, linespacing=1.6, color=INK)
    if draw_answer is not None:
        draw_answer(axes[1])
    axes[2].plot(range(1, len(losses) + 1), losses, color=INK, linewidth=1)
    axes[2].set_xlabel("step")
    axes[2].set_title(f"loss of {len(losses)} steps from nothing", fontsize=9)
    return figure
