"""The sprites of Lakeland: a canvas, one drawing function for each kind of thing, and the bank that keeps the results.

Everything is drawn in integers (coordinates on a grid of 4096 to a canvas side, exact box filter), so a sprite is the
same to the last bit on every platform. Each is drawn on first use and kept for the process.
"""
import functools
import random

import numpy as np

GRID = 4096  # units per canvas side; a power of two, so pixel centres are whole numbers
SPRITES = 40  # of each kind in a bank
SIZE_LADDER = tuple(round(0.036 * 1.17 ** k, 4) for k in range(17))  # sprite sizes as fractions of the image side


def hsv(hue, saturation, value):
    """Hue, saturation and value in [0, 1] as three integers 0 ... 255."""
    i, f = int(hue * 6) % 6, hue * 6 - int(hue * 6)
    p, q, t = value * (1 - saturation), value * (1 - f * saturation), value * (1 - (1 - f) * saturation)
    rgb = ((value, t, p), (q, value, p), (p, value, t), (p, q, value), (t, p, value), (value, p, q))[i]
    return tuple(int(255 * c) for c in rgb)


def shaded(colour, k):
    """The colour made lighter (k > 1) or darker (k < 1)."""
    return tuple(min(255, int(c * k)) for c in colour)


class Canvas:
    """A square to draw on: int16 [4, side, side] red, green, blue, alpha; lengths are fractions of the side."""

    def __init__(self, side):
        self.side, self.planes = side, np.zeros((4, side, side), np.int16)

    def _box(self, x0, y0, x1, y1):
        step = GRID // self.side
        low, high = (lambda v: min(max(v // step, 0), self.side)), (lambda v: min(max(v // step + 1, 0), self.side))
        ys, xs = np.arange(low(y0), high(y1), dtype=np.int64), np.arange(low(x0), high(x1), dtype=np.int64)
        view = self.planes[:, low(y0):high(y1), low(x0):high(x1)]
        return view, ((2 * ys + 1) * step // 2)[:, None], ((2 * xs + 1) * step // 2)[None, :]

    def _ink(self, view, inside, colour, light):
        for plane, c in zip(view, colour):
            np.copyto(plane, np.clip(c * light >> 8, 0, 255).astype(np.int16), where=inside)
        np.copyto(view[3], np.int16(255), where=inside)

    def ellipse(self, cx, cy, rx, ry, colour, ball=0):
        """`ball` / 256 is how much lighter the upper left is than the middle."""
        cx, cy, rx, ry = (round(v * GRID) for v in (cx, cy, rx, ry))
        view, y, x = self._box(cx - rx, cy - ry, cx + rx, cy + ry)
        dx, dy = (x - cx) * ry, (y - cy) * rx
        self._ink(view, dx * dx + dy * dy <= (rx * ry) ** 2, colour,
                  256 - ball * (dx + dy) // (rx * ry) if ball else np.int64(256))

    def polygon(self, points, colour, fall=0):
        """A convex polygon; `fall` / 256 is how much darker its foot is than its top."""
        points = [(round(x * GRID), round(y * GRID)) for x, y in points]
        xs, ys = [p[0] for p in points], [p[1] for p in points]
        view, y, x = self._box(min(xs), min(ys), max(xs), max(ys))
        left = right = True
        for (ax, ay), (bx, by) in zip(points, points[1:] + points[:1]):
            side = (bx - ax) * (y - ay) - (by - ay) * (x - ax)
            left, right = left & (side >= 0), right & (side <= 0)
        self._ink(view, left | right, colour, 256 - fall * (y - min(ys)) // max(max(ys) - min(ys), 1))

    def rectangle(self, x0, y0, x1, y1, colour, fall=0):
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour, fall)

    def sprites(self, sizes):
        """The drawing cut to what is visible and shrunk to each size: uint8 [4, h, w], colours times alpha."""
        rows, cols = (np.flatnonzero(self.planes[3].any(axis)) for axis in (1, 0))
        cut = self.planes[:, rows[0]:rows[-1] + 1, cols[0]:cols[-1] + 1]
        integral = np.zeros((4, cut.shape[1] + 1, cut.shape[2] + 1), np.int32)
        integral[:, 1:, 1:] = cut.cumsum(1, np.int32).cumsum(2, np.int32)
        return [shrunk(integral, size) for size in sizes]


def shrunk(integral, size):
    """Exact box filter of a picture given by its integral image: longer side `size`, never larger, uint8 [C, h, w]."""
    h, w = (v - 1 for v in integral.shape[1:])
    size = min(size, max(h, w))
    ny, nx = (max(2, (2 * v * size // max(h, w) + 1) // 2) for v in (h, w))
    ys, xs = np.arange(ny + 1) * h // ny, np.arange(nx + 1) * w // nx
    total = np.diff(np.diff(integral[:, ys[:, None], xs], axis=1), axis=2)
    count = np.diff(ys)[:, None] * np.diff(xs)[None, :]
    return ((total + count // 2) // count).astype(np.uint8)


# ---- sprites: each function draws one on a canvas, u(a, b) is a uniform draw

def house(c, u):
    wall = hsv(u(0, .14), u(.05, .45), u(.72, 1))
    roof = hsv((0, .02, .07, .6, .3)[int(u(0, 5))], u(.35, .8), u(.35, .7))
    left, right, top, foot = u(.08, .16), u(.84, .92), u(.44, .54), .96
    if u(0, 1) < .7:
        x = u(.62, .74)
        c.rectangle(x, .08, x + .1, .4, shaded(roof, .7), 40)
        c.rectangle(x - .015, .07, x + .115, .11, shaded(roof, .55))
    c.rectangle(left, top, right, foot, wall, 50)
    middle, ridge = left + (right - left) * u(.4, .6), u(0, .24) if u(0, 1) < .6 else 0.01
    peak = u(.1, .16)
    eaves = [(left - .06, top), (right + .06, top), (middle + ridge, peak), (middle - ridge, peak)]
    c.polygon(eaves, roof, -50)
    for k in range(1, 5):  # rows of tiles
        y, t = peak + (top - peak) * k / 5, k / 5
        a, b = (middle - ridge) * (1 - t) + (left - .06) * t, (middle + ridge) * (1 - t) + (right + .06) * t
        c.rectangle(a, y - .006, b, y + .006, shaded(roof, .8))
    c.rectangle(left - .06, top - .012, right + .06, top + .022, shaded(roof, .6))
    c.rectangle(left, foot - .05, right, foot, shaded(wall, .6))
    door = left + (right - left) * u(.38, .5)
    glass, frame = ((90, 140, 180) if u(0, 1) < .6 else (250, 225, 130)), shaded(wall, 1.25)
    for x in (left + .07, right - .22) if u(0, 1) < .7 else (right - .22,):
        c.rectangle(x - .02, top + .1, x + .17, top + .28, frame)
        c.rectangle(x, top + .12, x + .15, top + .26, glass, -60)
        c.rectangle(x + .066, top + .12, x + .084, top + .26, frame)
    c.rectangle(door, foot - .3, door + .15, foot, hsv(u(0, 1), u(.3, .6), u(.3, .6)), 30)
    c.ellipse(door + .12, foot - .14, .012, .012, (240, 220, 140))


def tree(c, u):
    kind, bark = u(0, 1), ((95, 65, 40), (120, 90, 60), (205, 200, 190))[int(u(0, 3))]
    green = hsv(u(.2, .42) if u(0, 1) < .75 else u(.02, .14), u(.45, .85), u(.35, .75))
    w = u(.03, .055)
    c.polygon([(.5 - w * .7, .4), (.5 + w * .7, .4), (.5 + w * 1.3, .98), (.5 - w * 1.3, .98)], bark, 60)
    if kind < .4:  # conifer: tiers, each with a lit and a shaded half
        tiers, wide = int(u(3, 6)), u(.8, 1.1)
        for i in reversed(range(tiers)):
            y, half = .03 + .72 * i / tiers, wide * (.13 + .25 * i / tiers)
            foot = y + .72 / tiers + .15
            c.polygon([(.5, y), (.5 - half, foot), (.5 + .04, foot + .02)], shaded(green, 1.2), 70)
            c.polygon([(.5, y), (.5 + .03, foot + .02), (.5 + half, foot)], shaded(green, .85), 70)
        return
    wide, tall = (u(.22, .28), u(.18, .25)) if kind < .8 else (u(.07, .12), u(.28, .32))  # leafy, or a poplar
    c.ellipse(.5, .38, wide * 1.15, tall * 1.15, shaded(green, .7), 50)
    for i in range(34):  # leaves: balls from dark at the back to light at the front
        x, y = u(-1, 1), u(-1, 1)
        if x * x + y * y <= 1:
            r = u(.05, .1)
            c.ellipse(.5 + x * wide, .38 + y * tall, r, r * .9, shaded(green, u(.75, .95) + i * .01 - .15 * y), 60)


def sheep(c, u):
    wool = shaded((245, 240, 228), u(.85, 1)) if u(0, 1) < .75 else hsv(u(.04, .1), u(.1, .45), u(.25, .6))
    dark = shaded((70, 58, 52), u(.6, 1.5)) if u(0, 1) < .75 else shaded(wool, .8)
    for x in (.36, .68):
        c.rectangle(x, .6, x + .05, .84, shaded(dark, .7))
    for x in (.29, .61):
        c.rectangle(x, .6, x + .055, .87, dark)
    c.ellipse(.53, .54, .27, .17, shaded(wool, .85), 40)
    for i in range(26):
        x, y = u(-1, 1), u(-1, 1)
        if x * x + y * y <= 1.2:
            r = u(.055, .085)
            c.ellipse(.53 + x * .25, .53 + y * .15, r, r, shaded(wool, .86 + .006 * i - .08 * y), 36)
    c.ellipse(.8, .48, .05, .06, shaded(wool, .95), 30)  # tail
    y = u(.38, .62)  # the head: up, or grazing
    c.ellipse(.19, y, .1, .125, dark, 50)
    c.ellipse(.28, y - .07, .06, .03, shaded(dark, .75))
    c.ellipse(.22, y - .11, .075, .055, shaded(wool, .97), 30)
    c.ellipse(.155, y - .03, .02, .02, (250, 250, 245))
    c.ellipse(.15, y - .03, .01, .012, (10, 10, 10))


def boat(c, u):
    hull, sail = hsv(u(0, 1), u(.35, .8), u(.4, .85)), hsv(u(0, 1), u(0, .2) if u(0, 1) < .55 else u(.4, .75), 1.0)
    bow = u(.03, .1)
    if u(0, 1) < .65:  # under sail
        x, boom = u(.4, .52), u(.6, .68)
        c.rectangle(x - .014, .03, x + .014, .76, (100, 78, 55), 40)
        c.polygon([(x + .03, .06), (x + .03, boom), (u(.8, .94), boom)], sail, 45)
        if u(0, 1) < .5:
            stripe = [(x + .03, boom - .12), (x + .03, boom - .05), (.8, boom - .05), (.72, boom - .12)]
            c.polygon(stripe, shaded(hull, 1.1))
        if u(0, 1) < .75:
            c.polygon([(x - .03, .14), (x - .03, boom), (u(.08, .2), boom)], shaded(sail, .86), 45)
        c.polygon([(x, .02), (x, .09), (x + .13, .055)], hsv(u(0, 1), .8, .9))
        y = .73
    else:  # with a cabin
        y = .62
        c.rectangle(.3, .34, .72, .66, shaded(sail, .95), 40)
        c.rectangle(.26, .29, .77, .36, shaded(hull, .8))
        for x in (.35, .48, .61)[:int(u(2, 4))]:
            c.rectangle(x, .42, x + .08, .53, (70, 100, 130), -50)
        c.rectangle(.56, .1, .66, .29, hsv(u(0, 1), .6, .7), 40)
    c.polygon([(bow, y), (1 - bow, y), (.8, .95), (.2, .95)], hull, 90)
    c.polygon([(bow, y), (1 - bow, y), (1 - bow - .03, y + .05), (bow + .03, y + .05)], shaded(hull, 1.35))
    c.rectangle(.2, .89, .8, .95, shaded(hull, .55))


def balloon(c, u):
    hue, gores, fat = u(0, 1), int(u(3, 8)), u(.31, .39)
    colours = (hsv(hue, u(.55, .85), u(.75, 1)), hsv((hue + u(.12, .6)) % 1, u(.05, .75), u(.8, 1)))
    c.polygon([(.5 - fat * .78, .56), (.5 + fat * .78, .56), (.56, .84), (.44, .84)], shaded(colours[0], .8), 60)
    for i in range(gores):  # nested ellipses look like gores
        c.ellipse(.5, .38, fat * (gores - i) / gores, .36, colours[i % 2], 45)
    if u(0, 1) < .4:
        c.rectangle(.5 - fat * .94, .4, .5 + fat * .94, .47, hsv(u(0, 1), u(.2, .8), .95), 40)
    for x in (.445, .545):
        c.rectangle(x, .8, x + .01, .9, (70, 50, 35))
    c.rectangle(.425, .88, .575, .985, hsv(.08, u(.4, .6), u(.4, .6)), 70)
    c.rectangle(.415, .875, .585, .9, (80, 55, 35))


def duck(c, u):
    body = hsv(u(.08, .16), u(.4, .9), 1.0) if u(0, 1) < .45 else hsv(u(.03, .12), u(.05, .5), u(.4, .95))
    head, bill = (body, hsv(u(.03, .12), .85, .95)) if u(0, 1) < .55 else (hsv(u(.28, .5), .7, .45), (230, 190, 50))
    c.polygon([(.76, .6), (.99, u(.36, .48)), (.9, .76)], shaded(body, .85), 40)
    c.ellipse(.54, .7, .36, .22, body, 60)
    c.ellipse(.6, .66, .22, .13, shaded(body, .82), 60)
    c.polygon([(.7, .6), (.9, .56), (.78, .72)], shaded(body, .72))
    c.polygon([(.22, .4), (.42, .36), (.4, .66), (.24, .66)], head)
    if head != body:
        c.rectangle(.22, .54, .42, .58, (245, 245, 240))
    c.polygon([(.16, .3), (.0, .39), (.16, .44)], bill, 50)
    c.ellipse(.3, .34, .17, .17, head, 60)
    c.ellipse(.24, .3, .032, .032, (250, 250, 250))
    c.ellipse(.235, .3, .02, .02, (10, 10, 10))


def rock(c, u):
    grey = hsv(u(0, 1), u(.02, .16), u(.4, .72))
    for x in (.32, .68, .5)[:int(u(1, 4))]:
        r = u(.2, .3)
        c.ellipse(x, .7, r, r * u(.6, .85), shaded(grey, u(.85, 1.1)), 110)
        c.polygon([(x - r * .5, .62), (x + r * u(-.1, .3), .7 - r * .55), (x + r * .5, .72)], shaded(grey, 1.2), 60)


SPRITE_KINDS = (house, tree, sheep, boat, balloon, duck, rock)


@functools.lru_cache(maxsize=4096)
def sprite(seed, size, kind, k):
    """The k-th sprite of a kind in the bank of a seed, for images of a size: one uint8 [4, h, w] a rung of LADDER."""
    rng = random.Random(f"lakeland:{seed}:sprite:{kind}:{k}")
    canvas = Canvas(max(256, 1 << (size - 1).bit_length()))
    SPRITE_KINDS[kind](canvas, lambda low, high: low + (high - low) * rng.random())
    return canvas.sprites([max(2, round(size * fraction)) for fraction in SIZE_LADDER])


@functools.lru_cache(maxsize=4096)
def shadow(width):
    """A soft ellipse of shade, uint16 [h, width]: how much light of 256 is left."""
    height = max(2, width // 5)
    y, x = ((2 * np.arange(m) + 1 - m) * 256 // m for m in (height, width))
    return (256 - np.clip((65536 - y[:, None] ** 2 - x[None, :] ** 2) // 400, 0, 84)).astype(np.uint16)
