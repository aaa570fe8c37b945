"""What is mistaken for what: a confusion matrix as a picture."""
import numpy as np
from matplotlib.colors import PowerNorm

from ..system.text import plain
from .canvas import INK, new_figure, no_math
from .thumbnails import shortened

NUMBERED = 40  # with more classes, a number in every cell would be too small to read
CELL = 0.19  # inches, room for one line of letters; a number needs twice that


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
    ax.tick_params(length=0, labelsize=8, labeltop=True, labelright=not numbered)
    ax.set_xticks(np.arange(1, len(columns)) - 0.5, minor=True)
    ax.set_yticks(np.arange(1, len(kept)) - 0.5, minor=True)
    ax.grid(which="minor", color="0.85", linewidth=0.5)
    ax.tick_params(which="minor", length=0)
    ax.spines[:].set(linewidth=0.5, color="0.4")
    for row, column in zip(*np.nonzero(shares >= 0.5)) if numbered else ():
        ax.text(column, row, f"{shares[row, column]:.0f}", ha="center", va="center", fontsize=8,
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
