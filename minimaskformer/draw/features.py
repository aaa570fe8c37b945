"""Pictures of feature maps: signed maps, embeddings as colours, terms of a dot product (lesson 05)."""
import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from ..system.tensors import to_numpy
from .canvas import INK, new_figure, outline, show
from .palette import NATURAL

SIGNED = LinearSegmentedColormap.from_list("signed", [NATURAL["water"], "#ffffff", NATURAL["house"]])
LEVELS = 24  # tones of red, and of blue


def draw_map(ax, values, limit=None, cell=None, numbers=False, segments=None, title=None):
    """A signed map [h, w]: red above 0, blue below, white at 0, full colour at +-limit (default: its largest value).

    cell: (row, column) to frame. numbers: write each value into its cell. segments: a map of ids [H, W], H and W the
    same multiple of h and w, whose borders are drawn on top. Returns the axes.
    Raises ValueError for another shape, values that are not finite, or a cell outside the map.
    """
    ax, values = new_figure()[1] if ax is None else ax, to_numpy(values).astype(float)
    if values.ndim != 2 or not np.isfinite(values).all():
        raise ValueError(f"a map is [h, w] of finite numbers, got shape {list(values.shape)}")
    limit = (np.abs(values).max() or 1.0) if limit is None else limit
    levels = np.round(LEVELS * np.clip(values / limit, -1, 1)) / LEVELS  # few colours, small files
    show(ax, SIGNED(0.5 + 0.5 * levels)[..., :3])
    if numbers:
        for row, column in np.ndindex(values.shape):
            ax.text(column, row, f"{values[row, column]:g}".replace("-", "\N{MINUS SIGN}"), ha="center", va="center",
                    fontsize=9, color="white" if abs(values[row, column]) > 0.75 * limit else INK)
    if segments is not None:
        times = len(segments) // len(values)
        outline(ax, to_numpy(segments)[times // 2::times, times // 2::times], width=0.6)  # the id in each cell's middle
    if cell is not None:
        frame(ax, cell, values.shape)
    ax.set_title(title or "", fontsize=9)
    return ax


def frame(ax, cell, shape):
    """A frame around one cell, black between white so that it shows on any colour."""
    row, column = (int(i) for i in cell)
    if not (0 <= row < shape[0] and 0 <= column < shape[1]):
        raise ValueError(f"the map is {shape[0]} x {shape[1]} and has no cell ({row}, {column})")
    ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="black", linewidth=1.2,
                           path_effects=[withStroke(linewidth=3, foreground="white")]))


def embedding_colors(embeddings, scale=None):
    """One colour per pixel from its embedding: [C, h, w] to float [h, w, 3] in 0 ... 1; similar vectors look alike.

    The three directions in which the embeddings differ most (principal components) become red, green and blue.
    scale: other embeddings [C, *, *] to take the directions from, so that two pictures can be compared.
    """
    vectors, reference = as_vectors(embeddings), as_vectors(embeddings if scale is None else scale)  # [h*w, C]
    center = reference.mean(0)
    axes = np.linalg.svd(reference - center, full_matrices=False)[2][:3]  # [3, C]
    axes *= np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(1)])[:, None]  # a sign that does not depend on luck
    low, high = np.quantile((reference - center) @ axes.T, [0.02, 0.98], axis=0)
    width = np.maximum(high - low, 1e-6 * (high - low).max() + 1e-12)
    colors = np.clip(((vectors - center) @ axes.T - low) / width, 0, 1)  # [h*w, 3]
    return colors.reshape(*embeddings.shape[1:], 3)


def draw_embeddings(ax, embeddings, scale=None, title=None):
    """Embeddings [C, h, w] as a picture, see `embedding_colors`. Returns the axes."""
    ax = show(new_figure()[1] if ax is None else ax, embedding_colors(embeddings, scale))
    ax.set_title(title or "", fontsize=9)
    return ax


def as_vectors(embeddings):
    """Embeddings [C, h, w] as float64 vectors [h*w, C]."""
    embeddings = to_numpy(embeddings).astype(float)
    if embeddings.ndim != 3 or len(embeddings) < 3:
        raise ValueError(f"embeddings are [C, h, w] with at least 3 channels, got shape {list(embeddings.shape)}")
    return embeddings.reshape(len(embeddings), -1).T


def draw_terms(figure, mask_embedding, pixel_embeddings, sums=(1, 4, 16), largest=4):
    """How C channels become one mask: the terms m_c E_c that vary most over the picture, and sums of the first few.

    mask_embedding: [C], pixel_embeddings: [C, h, w]. Upper row: the `largest` terms. Lower row: the sum of the first
    `sums` terms in that order, and of all. Returns the figure.
    """
    terms = to_numpy(mask_embedding)[:, None, None] * to_numpy(pixel_embeddings)  # [C, h, w]
    order = np.argsort(-terms.std((1, 2)))
    total = terms.sum(0)
    counts = (*sums, len(terms))
    axes = figure.subplots(2, max(largest, len(counts)))
    for ax in axes.flat:
        ax.set_axis_off()
    limit = 0.5 * np.abs(terms[order[:largest]]).max()  # half: values far from 0 may saturate
    for ax, c in zip(axes[0], order[:largest]):
        draw_map(ax, terms[c], limit, title=f"channel {c}").set_axis_on()
    for ax, count in zip(axes[1], counts):
        draw_map(ax, terms[order[:count]].sum(0), 0.25 * np.abs(total).max(),
                 title="all: the mask logits" if count == len(terms) else f"sum of {count}").set_axis_on()
    return figure
