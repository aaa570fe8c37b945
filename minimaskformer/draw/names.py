"""Names on a picture that never cover each other, whatever the picture's size on the page.

How much room a name takes is known only when the figure is drawn: layout moves axes, and one figure is shown at 100
and saved at 300 dots per inch. So the names are placed at that moment, by an artist that draws nothing itself.
"""
import numpy as np
from matplotlib.artist import Artist
from matplotlib.collections import LineCollection
from scipy.ndimage import distance_transform_edt

from .canvas import find_letters, no_math

CELLS = 128  # names are placed on a grid of at most this many cells a side
PAD = 0.2  # around the text, in font sizes


class Labels(Artist):
    """Places one name per region: near its middle, on free ground, hiding as little of small things as possible.

    items: (text, colour, mask bool [H, W], isthing). Larger regions choose first. A name that finds no place within
    `reach` (a fraction of the picture's longer side) of its region is left out rather than put where it misleads.
    """

    def __init__(self, ax, items, shape, fontsize=9, reach=0.3):
        super().__init__()
        self.set_in_layout(False)
        self.set_zorder(4)
        self.stride = max(1, -(-max(shape) // CELLS))
        self.reach, self.fontsize = reach, fontsize
        items = sorted(items, key=lambda item: -int(item[2].sum()))
        self.regions = [shrink_mask(mask, self.stride) for _, _, mask, _ in items]
        self.anchors = [middle(region) for region in self.regions]
        self.isthing = [isthing for *_, isthing in items]
        h, w = shrink_mask(np.zeros(shape, bool), self.stride).shape
        self.harm = np.zeros((h, w))  # what covering a cell costs: a whole thing hidden counts 1, stuff nearly nothing
        for region, isthing in zip(self.regions, self.isthing):
            self.harm += region * ((1.0 if isthing else 0.2) / max(1, region.sum()))
        self.lines = LineCollection([], colors="0.12", linewidths=0.6, zorder=5)
        self.lines.set_in_layout(False)
        ax.add_collection(self.lines, autolim=False)
        self.texts = [self.text(ax, text, color, anchor) for (text, color, _, _), anchor in zip(items, self.anchors)]
        ax.add_artist(self)

    def text(self, ax, text, color, anchor):
        dark = np.dot(color, [0.299, 0.587, 0.114]) < 0.5
        box = dict(boxstyle=f"round,pad={PAD},rounding_size=0.25", facecolor=color, edgecolor="0.12", linewidth=0.4)
        text = ax.text(*self.to_data(*anchor), no_math(text), fontsize=self.fontsize, ha="center", va="center",
                       zorder=6, color="white" if dark else "black", bbox=box)
        text.set_in_layout(False)
        find_letters([text])
        return text

    def to_data(self, y, x):
        """Cell coordinates (cell corners are whole numbers) to the picture's pixel coordinates, as x, y."""
        return x * self.stride - 0.5, y * self.stride - 0.5

    def draw(self, renderer):
        """Choose every place anew for the current size of the axes; nothing is painted here."""
        scale = abs(self.axes.transData.transform([[1, 1]]) - self.axes.transData.transform([[0, 0]]))[0]
        inches = self.axes.get_window_extent(renderer).width / self.axes.figure.dpi
        size = min(self.fontsize, max(6.0, 4.0 * inches))  # small panels, small names
        placed, leaders = [], []
        for text, region, anchor, isthing in zip(self.texts, self.regions, self.anchors, self.isthing):
            text.set_fontsize(size)
            text.set_visible(True)  # a hidden text has no extent, and an earlier drawing without room hid it
            extent, pad = text.get_window_extent(renderer), 2 * PAD * renderer.points_to_pixels(size)
            box = np.array([extent.height + pad, extent.width + pad]) / scale[::-1] / self.stride  # in cells, h and w
            corner = self.choose(np.ceil(box).astype(int) + 1, region, anchor, isthing, placed)
            text.set_visible(corner is not None)
            if corner is None:
                continue
            placed.append((*corner, *(np.ceil(box).astype(int) + 1)))
            place = self.to_data(corner[0] + (box[0] + 1) / 2, corner[1] + (box[1] + 1) / 2)
            if text.get_position() != place:
                text.set_position(place)
            y, x, h, w = placed[-1]
            if not region[max(0, y - 2):y + h + 2, max(0, x - 2):x + w + 2].any():  # does not touch its own region
                leaders.append([place, self.to_data(*anchor)])
        self.lines.set_segments(leaders)

    def choose(self, box, region, anchor, isthing, placed):
        """The upper left cell of the best free place for a box (h, w) of cells, or None."""
        rows, columns = np.array(region.shape) - box + 1
        if rows < 1 or columns < 1:
            return None
        y, x = np.arange(rows)[:, None], np.arange(columns)[None]
        away = np.hypot(y + box[0] / 2 - anchor[0], x + box[1] / 2 - anchor[1]) / max(region.shape)
        outside = 1 - window_sums(region, box) / box.prod()
        harm = window_sums(self.harm, box) - window_sums(region, box) * (0.6 * isthing / region.sum())  # own: cheaper
        cost = harm + away + outside * (0.1 if isthing else 0.6)
        for top, left, h, w in placed:
            cost[max(0, top - box[0] + 1):top + h, max(0, left - box[1] + 1):left + w] = np.inf
        cost[away > self.reach] = np.inf
        best = np.unravel_index(cost.argmin(), cost.shape)
        return None if np.isinf(cost[best]) else tuple(int(i) for i in best)


def shrink_mask(mask, stride):
    """A mask [H, W] in cells of stride x stride pixels; a cell is set if any pixel of it is."""
    h, w = mask.shape
    padded = np.pad(mask, ((0, -h % stride), (0, -w % stride)))
    return padded.reshape(-(-h // stride), stride, -(-w // stride), stride).any((1, 3))


def middle(region):
    """The centre (y, x) of the cell deepest inside a region, where a name sits best; the picture's edge counts too."""
    depth = distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
    y, x = np.nonzero(depth > depth.max() - 0.5)  # a long strip is deepest along a whole line: take its middle
    best = np.abs(y - y.mean()) + np.abs(x - x.mean())
    return float(y[best.argmin()]) + 0.5, float(x[best.argmin()]) + 0.5


def window_sums(values, box):
    """Sums of values [H, W] over every window of box = (h, w) cells: [H - h + 1, W - w + 1]."""
    total = np.pad(values, ((1, 0), (1, 0))).cumsum(0, dtype=float).cumsum(1)
    h, w = box
    return total[h:, w:] - total[:-h, w:] - total[h:, :-w] + total[:-h, :-w]
