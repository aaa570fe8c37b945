"""Does an annotation's "bbox" fit its mask? If not, one of the two is for another picture or in other units.

A box is [x, y, width, height] in pixels. Nothing is learnt from it; it is a second witness to where the object lies.
"""
import math

SLACK = 2.0  # pixels that boxes may differ by, because tools round differently
SHARE = 0.1  # of the side, because masks are drawn a little wide or narrow


def finite_or_none(value):
    """A finite number from a JSON as a float, None for anything else."""
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if good else None


def box_of_polygons(polygons):
    """The box around polygons [x1, y1, x2, y2, ...] as written, even outside the picture; None if there are none."""
    xs, ys = [x for p in polygons for x in p[::2]], [y for p in polygons for y in p[1::2]]
    return (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)) if xs else None


def box_of_mask(mask):
    """The box around the pixels of a mask bool [H, W]; None if there are none."""
    rows, columns = mask.any(axis=1).nonzero()[0], mask.any(axis=0).nonzero()[0]
    if not len(rows):
        return None
    return (int(columns[0]), int(rows[0]), int(columns[-1] - columns[0]) + 1, int(rows[-1] - rows[0]) + 1)


def compare_boxes(pairs, size):
    """(boxes compared, ids of those that do not fit, (sx, sy) of those that fit after scaling), for (annotation, box).

    Missing or empty boxes are skipped. size: (H, W) of the picture, to which boxes are cut.
    """
    compared, misfits, scales = 0, [], []
    for annotation, mine in pairs:
        written = annotation["bbox"]
        if not isinstance(written, list) or len(written) != 4 or None in [finite_or_none(x) for x in written]:
            continue
        if mine is None or min(written[2:]) <= 0 or min(mine[2:]) <= 0:
            continue
        compared += 1
        if not any(fits(written, box) for box in (mine, cut(mine, size))):
            misfits.append(annotation["id"])
            scale = written[2] / mine[2], written[3] / mine[3]
            moved = [side * s for side, s in zip(mine, scale * 2)]
            if fits(written, moved, slack=min(SLACK, 0.1 * max(written[2:]))):
                scales.append(scale)
    return compared, tuple(misfits), tuple(scales)


def fits(box, other, slack=SLACK):
    """Whether two boxes are the same, up to `slack` pixels and a tenth of a side at each end."""
    ends = [(b[i] + b[i + 2] * end, b[i + 2]) for b in (box, other) for i in (0, 1) for end in (0, 1)]
    return all(abs(a - b) <= slack + SHARE * max(side, other_side)
               for (a, side), (b, other_side) in zip(ends[:4], ends[4:]))


def cut(box, size):
    """A box cut to a picture of (H, W)."""
    (x, y, width, height), (H, W) = box, size
    left, top, right, bottom = max(0, x), max(0, y), min(W, x + width), min(H, y + height)
    return left, top, right - left, bottom - top
