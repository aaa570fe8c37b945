"""A mask as polygons, to be corrected by hand: the outline through the pixels' corners, with few corners."""
import numpy as np

AWAY = 0.75  # pixels by which a simplified outline may be off, for parts with sides of at least
LARGE = 16  # pixels; less for smaller parts


def mask_polygons(mask, away=AWAY):
    """The outlines of a mask bool [H, W], one for each connected part, as float [P, 2] of x, y; holes are filled.

    Corners are in pixels from the corner of the picture, as COCO and LabelMe count. Parts that are too thin to
    be simplified keep their exact outline.
    """
    from contourpy import contour_generator
    framed = np.pad(mask.astype(np.float64), 1)  # [H + 2, W + 2]
    lines = contour_generator(z=framed).lines(0.5)  # around pixel centres: 0 is that of the frame
    outlines = [line - 0.5 for line in lines if signed_area(line) > 0]  # holes turn the other way
    return [simple if abs(signed_area(simple)) >= 0.5 * signed_area(outline) else outline[:-1]
            for outline in outlines
            for simple in [simplify(outline, away * min(1.0, signed_area(outline) ** 0.5 / LARGE))]]


def signed_area(line):
    """The area that a closed line [P, 2] encloses, above 0 if it runs around an inside, below 0 around a hole."""
    x, y = line[:, 0], line[:, 1]
    return 0.5 * float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))


def simplify(line, away):
    """A closed line [P, 2] (the last corner is the first) without the corners that hardly change its shape.

    Douglas and Peucker's rule: keep the corner farthest from the chord, if it is farther than `away`, and repeat on
    both sides of it. The last corner, the first again, is left out.
    """
    far = int(np.argmax(((line - line[0]) ** 2).sum(axis=1)))
    keep, stack = {0, far}, [(0, far), (far, len(line) - 1)]
    while stack:
        first, last = stack.pop()
        if last - first < 2:
            continue
        chord, between = line[last] - line[first], line[first + 1:last] - line[first]
        length = np.hypot(*chord)
        distance = (np.abs(chord[0] * between[:, 1] - chord[1] * between[:, 0]) / length if length
                    else np.hypot(between[:, 0], between[:, 1]))
        if distance.max() > away:
            middle = first + 1 + int(np.argmax(distance))
            keep.add(middle)
            stack += [(first, middle), (middle, last)]
    return line[sorted(keep)]
