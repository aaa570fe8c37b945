"""The land of Lakeland: textures, the landscape of sky, mountains, grass, path and lake they paint; haze and camera.

A texture has one byte per pixel, a shade; which colours the shades mean is drawn anew for every scene. Whatever decides
a pixel is an integer, or a float made by exactly rounded operations only (+ - * / sqrt), so all platforms agree.
"""
import functools
import math
import random

import numpy as np

SKY, MOUNTAIN, WATER, GRASS, PATH = range(5)
TEXTURES = 12  # of each class in a bank
SINE = np.array([round(16384 * math.sin(math.pi * k / 2048)) for k in range(4096)], np.int64)
ZIGZAG = np.array([16 * abs((k - 1024) % 4096 - 2048) - 16384 for k in range(4096)], np.int64)


def value_noise(rng, side, cells):
    """Sum of smooth random lattices: cells is [(rows, columns), ...], each octave 0.6 as strong; uint8 [side, side]."""
    total, weight = np.zeros((side, side), np.int32), 1024
    for rows, cols in cells:
        lattice = np.frombuffer(rng.randbytes((rows + 2) * (cols + 2)), np.uint8).reshape(rows + 2, cols + 2)
        lattice = lattice.astype(np.int32)
        (iy, fy), (ix, fx) = (divmod(np.arange(side) * 256 * m // side, 256) for m in (rows, cols))
        fy, fx = ((f * f * (768 - 2 * f) >> 16).astype(np.int32) for f in (fy, fx))  # smoothstep, 0 ... 256
        lines = lattice[iy] * (256 - fy[:, None]) + lattice[iy + 1] * fy[:, None]
        total += ((lines[:, ix] * (256 - fx) + lines[:, ix + 1] * fx) >> 16) * weight >> 4
        weight = weight * 3 // 5
    low, high = int(total.min()), int(total.max())
    return ((total - low) * 255 // max(high - low, 1)).astype(np.uint8)


@functools.lru_cache(maxsize=512)
def texture(seed, size, stuff, k):
    """The k-th texture of a stuff class in the bank of a seed: uint8 [1.5 size, 1.5 size].

    Sky holds 16 steps of cloud, grass keeps 255 for flowers, the others are shades 0 ... 255.
    """
    rng, side = random.Random(f"lakeland:{seed}:texture:{stuff}:{k}"), size * 3 // 2
    grain = np.frombuffer(rng.randbytes(side * side), np.uint8).reshape(side, side)
    if stuff == SKY:
        cover = value_noise(rng, side, [(6, 3), (12, 6), (24, 12), (48, 24)]).astype(np.int32)
        return np.clip((cover - int(120 + 70 * rng.random())) // 5, 0, 15).astype(np.uint8)
    if stuff == MOUNTAIN:
        body = value_noise(rng, side, [(9, 9), (18, 18), (36, 36), (72, 72)]).astype(np.int32)
        ridge = np.abs(value_noise(rng, side, [(8, 14), (16, 28), (32, 56)]).astype(np.int32) - 128)
        return np.clip(body * 3 // 4 + np.minimum(ridge, 48) * 3 // 2 - 12 + (grain >> 4), 0, 255).astype(np.uint8)
    if stuff == WATER:
        return value_noise(rng, side, [(24, 6), (48, 12), (72, 24), (96, 24)])
    if stuff == GRASS:
        body = value_noise(rng, side, [(6, 6), (12, 12), (48, 48), (96, 96), (144, 144)]).astype(np.int32)
        at = np.arange(side) * 192 // side  # flowers of the same width in every size
        flowers = np.frombuffer(rng.randbytes(2 * 192 * 192), "<u2").reshape(192, 192) < int(600 * rng.random())
        return np.where(flowers[at][:, at], 255, np.minimum(body * 3 // 4 + (grain >> 2), 247)).astype(np.uint8)
    return (value_noise(rng, side, [(12, 12), (96, 96)]) // 2 + grain // 2).astype(np.uint8)


class Landscape:
    """The stuff of a scene: colours uint32 [n, n] (packed RGBx), classes uint8 [n, n]; where the horizon and lake are.

    `u(low, high)` makes the scene's random draws; lengths are fractions of the side.
    """

    def __init__(self, u, seed, n, difficulty):
        self.n, self.u, self.seed, self.difficulty = n, u, seed, difficulty
        self.image, self.stuff = np.empty((n, n), np.uint32), np.zeros((n, n), np.uint8)
        self.rows, self.x = np.arange(n, dtype=np.int16)[:, None], 2 * np.arange(n, dtype=np.int64) + 1
        horizon = self.horizon = u(.3, .48)
        ground = self.curve(horizon, u(.005, .03), .5, 2.5)
        self.sky(int(ground.max()) + 1)
        if u(0, 1) < .8:
            rock = self.jitter(((112, 108, 135), (98, 120, 112), (140, 112, 104), (120, 120, 122))[int(u(0, 4))])
            snow = u(.02, .09) if u(0, 1) < .45 else None
            for k in range(2):  # a pale far range and a near one
                top = self.curve(horizon - u(.1, .17) + .07 * k, u(.06, .1) - .02 * k, 1.2 + k, 3.5 + k, ZIGZAG, 4)
                self.mountains(top, int(ground.max()) + 1, [c + (28 - 28 * k) for c in rock], snow if k == 0 else None)
        shades = self.crop(GRASS, perspective=True)
        self.paint(GRASS, shades, self.rows > ground, int(ground.min()), n, *self.meadow())
        path, lake = u(0, 1) < .65, u(0, 1) < .78
        if path:
            self.path()
        self.lake = self.water() if lake else None

    def jitter(self, colour):
        """The colour with each channel moved at random, further in a difficult world."""
        reach = 10 + 26 * self.difficulty
        return [min(255, max(0, int(c + self.u(-reach, reach)))) for c in colour]

    def curve(self, base, height, slow, fast, wave=SINE, octaves=3, along=None):
        """A line of random waves, in pixels int16 [n]: `base` and `height` are fractions of the side."""
        turns = [int(256 * self.u(slow, fast) * (1 + .9 * k)) for k in range(octaves)]  # waves a side, of 256
        phases = [int(self.u(0, 4096)) for _ in range(octaves)]
        total = np.full(self.n, int(base * 2 ** 16), np.int64)
        for k in range(octaves):
            angle = turns[k] * 8 * self.x // self.n + phases[k] & 4095
            total += int(height * 2 ** 16 / (1, 2, 3.5, 6)[k]) * wave[angle] >> 14
        return (total * self.n >> 16).astype(np.int16)

    def crop(self, stuff, perspective=False):
        """A random texture cut to [n, n], shades 0 ... 255; `perspective` squeezes its rows towards the horizon."""
        tile, n = texture(self.seed, self.n, stuff, int(self.u(0, TEXTURES))), self.n
        x, y, flip = int(self.u(0, n // 2)), self.u(0, .3), self.u(0, 1) < .5
        if perspective:
            near = np.maximum(self.rows[:, 0] / n - self.horizon + .06, 0)  # hills may rise above the horizon
            rows = ((near + (1 - (1 - near) ** 2) * .5) * n + y * n).astype(np.int64)
            tile = tile[np.minimum(rows, len(tile) - 1)]
        else:
            tile = tile[int(y * n):int(y * n) + n]
        return tile[:, x:x + n][:, ::-1] if flip else tile[:, x:x + n]

    def paint(self, stuff, shades, mask, top, foot, dark, light, extra=None):
        """Colour rows top ... foot of the mask with shades from dark to light, and say what they are."""
        top, foot = max(top, 0), min(foot, self.n)
        lut = np.zeros((256, 4), np.uint8)
        k = np.arange(256)[:, None]
        lut[:, :3] = (np.array(dark) * (255 - k) + np.array(light) * k) // 255
        if extra:
            lut[extra[0]:, :3] = extra[1]
        mask = mask[top:foot]
        np.copyto(self.image[top:foot], lut.view(np.uint32)[:, 0].take(shades[top:foot]), where=mask)
        np.copyto(self.stuff[top:foot], stuff, where=mask)

    def sky(self, foot):
        """Blue, grey or dusk from top to horizon, with clouds: a table of 64 heights and 16 steps of cloud."""
        high, low, cloud = (((62, 122, 210), (178, 214, 245), (250, 250, 250)),
                            ((84, 74, 140), (250, 184, 132), (250, 205, 190)),
                            ((120, 135, 155), (200, 208, 215), (228, 228, 230)),
                            ((50, 90, 165), (245, 215, 175), (255, 240, 225)))[int(self.u(0, 4))]
        high, low, cloud = (np.array(self.jitter(c)) for c in (high, low, cloud))
        height, cover = np.arange(64)[:, None, None], np.arange(16)[None, :, None]
        table = np.zeros((64, 16, 4), np.uint8)
        table[..., :3] = ((high * (63 - height) + low * height) * (20 - cover) + cloud * cover * 63) // 1260
        row = np.minimum(np.arange(foot) * 64 // foot, 63).astype(np.uint16)[:, None] * np.uint16(16)
        self.image[:foot] = table.view(np.uint32).ravel().take(self.crop(SKY)[:foot] + row)

    def mountains(self, top, foot, rock, snow):
        """One range under the curve `top`, with snow on what is higher than the rest."""
        shades, mask = self.crop(MOUNTAIN), self.rows > top
        dark, light = [int(c * .62) for c in rock], [min(255, int(c * 1.25)) for c in rock]
        self.paint(MOUNTAIN, shades, mask, int(top.min()), foot, dark, light)
        if snow:
            line = int(top.min()) + int(snow * self.n)
            white = mask & (self.rows < line + (shades.astype(np.int16) * (self.n // 32) >> 8))
            self.paint(MOUNTAIN, shades, white, int(top.min()), line + self.n // 16, (176, 186, 205), (255, 255, 255))

    def meadow(self):
        """Dark and light colour of the grass, and its flowers."""
        dark, light = (((46, 100, 34), (140, 190, 72)), ((60, 92, 40), (170, 182, 88)), ((30, 84, 46), (104, 164, 84)),
                       ((104, 92, 48), (204, 184, 104)))[int(self.u(0, 3.1 + .6 * self.difficulty))]
        flower = ((250, 238, 120), (244, 244, 250), (240, 150, 180), (190, 140, 220))[int(self.u(0, 4))]
        return self.jitter(dark), self.jitter(light), (255, flower)

    def path(self):
        """A path that winds from the horizon to the viewer, wider as it comes nearer."""
        n, top = self.n, self.horizon
        near = np.clip((self.rows[:, 0] / n - top) / (1 - top), 0, 1)
        swing = SINE[(near * int(self.u(1500, 5000)) + int(self.u(0, 4096))).astype(np.int64) & 4095] / 16384
        middle = self.u(.2, .8) + self.u(-.5, .5) * near + self.u(.04, .1) * swing * (.3 + near)
        half = .006 + self.u(.04, .1) * near
        left, right = (((middle + side * half) * n).astype(np.int16)[:, None] for side in (-1, 1))
        x = self.rows.T
        mask = (x >= left) & (x < right) & (self.stuff == GRASS)
        dark, light = (((150, 120, 85), (226, 202, 158)), ((122, 118, 114), (196, 192, 186)),
                       ((128, 84, 60), (196, 146, 112)))[int(self.u(0, 3))]
        self.paint(PATH, self.crop(PATH, True), mask, int(top * n) - 1, n, self.jitter(dark), self.jitter(light))

    def water(self):
        """A lake between an upper and a lower shore; it covers the path, which is then in two pieces."""
        n, u = self.n, self.u
        cx, cy, rx, ry = u(.05, .95), u(self.horizon + .12, .92), u(.28, .65), u(.09, .22)
        offset = (self.x / (2 * n) - cx) / rx
        bulge = np.sqrt(np.maximum(1 - offset * offset, 0))
        top = ((cy - ry * bulge) * n + self.curve(0, .018, 1, 4) * bulge).astype(np.int16)
        foot = ((cy + ry * bulge) * n + self.curve(0, .03, 1, 4) * bulge).astype(np.int16)
        shades = self.crop(WATER, True)
        dark, light = (((24, 74, 132), (92, 164, 210)), ((20, 96, 116), (112, 192, 192)),
                       ((46, 70, 112), (152, 152, 178)),
                       ((50, 84, 72), (130, 160, 130)))[int(u(0, 3.2 + .8 * self.difficulty))]
        dark, light = self.jitter(dark), self.jitter(light)
        rim = max(1, n // 100)
        rows = int(top.min()), int(foot.max()) + 1
        mask = (self.rows > top) & (self.rows < foot) & (self.stuff >= GRASS)
        self.paint(WATER, shades, mask, *rows, [(c + 150) // 2 for c in dark], [(c + 255) // 2 for c in light])
        inner = (self.rows > top + rim) & (self.rows < foot - rim) & mask
        self.paint(WATER, shades, inner, *rows, dark, light, (206, [min(255, c + 34) for c in light]))
        return cx, cy, rx, ry


def haze(u, horizon, n, difficulty):
    """Air by row, thickest at the horizon: light kept uint16 [n] of 256, and light added uint16 [3, n]."""
    thick = u(.1, .2) + (u(.15, .45) if u(0, 1) < .5 * difficulty else 0)
    away = (np.arange(n) / n - horizon) / np.where(np.arange(n) < horizon * n, -.35, .5)
    air = (256 * thick * np.maximum(1 - away, 0)).astype(np.int64)
    return (256 - air).astype(np.uint16), (np.array([[205], [214], [224]]) * air >> 8).astype(np.uint16)


def expose(u, image, seed, difficulty):
    """The camera: colour cast, darkness and sensor noise; uint8 [3, n, n]."""
    d, n = difficulty, image.shape[1]
    light = u(1 - .35 * d, 1.04)
    gain = [int(128 * light * (1 + (.05 + .2 * d) * (u(0, 1) + u(0, 1) - 1))) for _ in range(3)]
    image *= np.array(gain, np.uint16)[:, None, None]
    image >>= 7
    y, x, strength = int(u(0, n // 2)), int(u(0, n // 2)), int((3 + 30 * d) * u(.7, 1.3))
    grain = noise(seed, n)[:, y:y + n, x:x + n] * np.int16(strength)
    grain >>= 8
    grain += image.view(np.int16)
    return np.clip(grain, 0, 255, out=grain).astype(np.uint8)


@functools.lru_cache(maxsize=8)
def noise(seed, size):
    """Sensor noise int16 [3, 1.5 size, 1.5 size], near a bell curve with standard deviation 64."""
    rng, side = random.Random(f"lakeland:{seed}:noise"), size * 3 // 2
    total = sum(np.frombuffer(rng.randbytes(3 * side * side), np.uint8).astype(np.int16) for _ in range(3))
    return (total - 382).reshape(3, side, side) // 2
