"""What queries read and draw: attention maps layer by layer, and what a query specialises in (lesson 06)."""

import numpy as np
import torch.nn.functional as F

from ..studies.queries import share_on_mask
from ..system.tensors import to_numpy
from .canvas import INK, as_image, grey, outline, show
from .palette import NATURAL
from .scenes import draw_mask

LIGHT = np.array([int(NATURAL["duck"][i:i + 2], 16) / 255 for i in (1, 3, 5)])  # where a query looks: yellow


def draw_attention(ax, attention, image, title=None):
    """Weights [h, w] of one query as yellow light on the darkened picture, brightest at the largest weight.

    Cells are squares, as the query sees them. Raises ValueError for negative weights or another shape.
    """
    image, attention = as_image(image), to_numpy(attention).astype(float)
    if attention.ndim != 2 or not np.isfinite(attention).all() or attention.min() < 0 or attention.max() == 0:
        raise ValueError(f"attention is [h, w], 0 or more and somewhere above 0; got shape {list(attention.shape)}")
    rows, columns = (np.arange(n) * m // n for n, m in zip(image.shape[:2], attention.shape))
    light = (attention / attention.max())[rows[:, None], columns][..., None]  # [H, W, 1]
    show(ax, 0.92 * light * LIGHT + (1 - 0.92 * light) * 0.5 * grey(image))
    ax.set_title(title or "", fontsize=9)
    return ax


def draw_reading(figure, image, reading, queries, names, picture=0):
    """One row per query, two panels per layer: the cells it reads (mean over heads), and the mask and class it gives.

    names: K class names, then what to call no object. Best 9.5 inches wide and 1.65 per query high. Returns the axes.
    """
    layers = len(reading.attention)
    axes = figure.subplots(len(queries), 2 * layers, squeeze=False)
    shares = share_on_mask(reading.attention[:, picture].mean(1), reading.mask_logits[:, picture])  # [L, N]
    for row, i in zip(axes, queries):
        for layer in range(layers):
            reads, draws = row[2 * layer:2 * layer + 2]
            draw_attention(reads, reading.attention[layer, picture, :, i].mean(0), image,
                           f"layer {layer}: {shares[layer, i]:.0%} inside")
            probs = reading.class_logits[layer, picture, i].softmax(-1)
            mask = reading.mask_logits[layer, picture, i].sigmoid()
            mask = F.interpolate(mask[None, None], as_image(image).shape[:2])[0, 0]
            draw_mask(draws, mask, image)
            draws.set_title(f"{names[probs.argmax()]} {probs.max():.2f}", fontsize=9)
        row[0].set_ylabel(f"query {i}", fontsize=9)
    return axes


def draw_specialisation(ax, counts, scenes, names):
    """How often each query gave each answer: counts [N, K+1] over `scenes`; a column per query, a row per answer.

    Columns are sorted by the query's favourite class, then by how often it is given. Returns the order of the queries.
    """
    counts = to_numpy(counts)
    if counts.ndim != 2 or counts.shape[1] != len(names) or (counts.sum(1) != scenes).any():
        raise ValueError(f"counts are [N, K+1] with {len(names)} columns, and rows must add up to {scenes} scenes, "
                         f"got shape {list(counts.shape)}")
    best = counts[:, :-1].argmax(1)
    spoke = counts[:, :-1].sum(1)
    order = np.lexsort((-spoke, np.where(spoke > 0, best, len(names))))
    picture = counts[order].T / scenes  # [K+1, N]
    ax.imshow(picture, cmap="Purples", vmin=0, vmax=1, aspect="auto")
    for c, n in np.ndindex(picture.shape):
        if picture[c, n] >= 0.01:
            ax.text(n, c, f"{100 * picture[c, n]:.0f}", ha="center", va="center", fontsize=9,
                    color="white" if picture[c, n] > 0.5 else INK)
    ax.set_xticks(range(len(order)), order, fontsize=9)
    ax.set_yticks(range(len(names)), names, fontsize=9)
    ax.set_xlabel("query", fontsize=9)
    ax.tick_params(length=0)
    outline(ax, np.broadcast_to(np.where(spoke > 0, best, -1)[order], picture.shape), color="0.6", width=0.6)
    return order


def draw_divided_places(ax, centres, speaks, queries, title=None):
    """Where each of some queries draws, relative to where the others among them draw in the same scene.

    centres [S, N, 2] as from mask_centres, speaks bool [S, N]: which answers count. 0 is the mean of a scene's answers;
    down is down in the picture. Scenes in which fewer than two of the queries speak, or all draw in one place (within
    0.03), are left out. Large marks are means.
    """
    speaks = to_numpy(speaks)[:, queries] & np.isfinite(to_numpy(centres)[:, queries]).all(-1)  # [S, M]
    places = np.where(speaks[..., None], to_numpy(centres)[:, queries], 0.0)  # [S, M, 2]
    middle = places.sum(1) / np.maximum(speaks.sum(1), 1)[:, None]  # [S, 2]
    relative = (places - middle[:, None]) * speaks[..., None]  # [S, M, 2]
    apart = (speaks.sum(1) >= 2) & (np.linalg.norm(relative, axis=-1).max(1, initial=0) > 0.03)
    speaks, relative = speaks[apart], relative[apart]
    for m, (i, color, marker) in enumerate(zip(queries, ("water", "boat", "tree", "balloon"), "osD^")):
        x, y = relative[speaks[:, m], m].T
        if not len(x):
            continue
        ax.scatter(x, y, 14, NATURAL[color], marker=marker, alpha=0.45, linewidths=0)
        ax.scatter(x.mean(), y.mean(), 90, NATURAL[color], marker=marker, edgecolors="black", linewidths=1, zorder=4,
                   label=f"query {i}")
    ax.axhline(0, color="0.7", linewidth=0.6, zorder=0)
    ax.axvline(0, color="0.7", linewidth=0.6, zorder=0)
    ax.set(xlim=(-0.5, 0.5), ylim=(0.3, -0.3), xticks=[-0.4, 0, 0.4], yticks=[-0.2, 0, 0.2])
    ax.set_xlabel("to the right, in picture widths", fontsize=9)
    ax.set_ylabel("down, in picture heights", fontsize=9)
    ax.tick_params(labelsize=9)
    ax.set_title(title or "", fontsize=9)
    ax.legend(fontsize=9, loc="upper right", markerscale=0.6, handletextpad=0.2, borderpad=0.3)
    return ax
