"""Lakeland, the embedded data set: a small procedural landscape with panoptic truth, drawn on the fly.

Stuff: sky, mountain, water, grass, path. Things: house, tree, sheep, boat, balloon, duck. What makes panoptic
segmentation interesting is kept: colour does not give the class, connectivity does not give the instance, same-class
things touch and overlap, stuff comes in pieces and is still one segment, boats float, rocks are void (visible, but
unlabelled), a far flock is one crowd segment, and the textures and sprites of "val" are unseen in "train".

A scene depends on (seed of the split, index) alone: scalars come from random.Random; whatever decides a pixel is an
integer or comes from exactly rounded operations only. The same index at another size is the same place, drawn finer.
"""
import bisect
import random
from typing import NamedTuple

import numpy as np
import torch

from ..targets import panoptic_to_target
from .classes import ClassTable
from .lakeland_land import GRASS, PATH, WATER, Landscape, expose, haze
from .lakeland_sprites import SIZE_LADDER, SPRITES, shadow, sprite

NAMES = ("sky", "mountain", "water", "grass", "path", "house", "tree", "sheep", "boat", "balloon", "duck")
LAKELAND_CLASSES = ClassTable(NAMES, tuple(k >= 5 for k in range(11)), tuple(range(1, 12)))
HOUSE, TREE, SHEEP, BOAT, BALLOON, DUCK = range(5, 11)
ROCK = 11  # drawn like a thing, but unlabelled
SPLITS = {"train": 2107, "val": 6278}
FULL_SIZE = {HOUSE: .34, TREE: .36, SHEEP: .22, BOAT: .3, DUCK: .18, ROCK: .13}  # in the foreground, of the side
FIRST, CROWD, VOID_LABEL = 16, 254, 255  # labels while a scene is painted: class of stuff, first thing, crowd, void
GROUND = {HOUSE: (GRASS,), TREE: (GRASS,), SHEEP: (GRASS, PATH), ROCK: (GRASS, PATH), BOAT: (WATER,), DUCK: (WATER,)}


class Lakeland(torch.utils.data.Dataset):
    """Scenes of Lakeland as (image uint8 [3, size, size], target); `split` is "train", "val" or a seed of your own.

    `difficulty` in [0, 1] increases the number of things, herds, colour casts, darkness, haze, noise and camouflage.
    Raises ValueError for an unknown split, a size outside 64 ... 512, a difficulty outside [0, 1], a negative length.
    """

    classes = LAKELAND_CLASSES

    def __init__(self, split="train", size=128, difficulty=0.5, length=10_000):
        if isinstance(split, bool) or not (isinstance(split, int) or split in tuple(SPLITS)):
            raise ValueError(f"Lakeland has the splits 'train' and 'val', or a whole number as seed of another; got "
                             f"{split!r}")
        if isinstance(size, bool) or not isinstance(size, int) or not 64 <= size <= 512:
            raise ValueError(f"size is a whole number of pixels in 64 ... 512, got {size!r}")
        if not 0 <= difficulty <= 1:
            raise ValueError(f"difficulty is a number in [0, 1], got {difficulty!r}")
        if isinstance(length, bool) or not isinstance(length, int) or length < 0:
            raise ValueError(f"length is a whole number >= 0, got {length!r}")
        self.split, self.size, self.difficulty, self.length = split, size, float(difficulty), length
        self.seed = SPLITS.get(split, split)

    def __len__(self):
        return self.length

    def _index(self, index):
        if not -self.length <= index < self.length:
            raise IndexError(f"scene {index} of a Lakeland of {self.length} scenes")
        return int(index) % self.length

    def name(self, index):
        """A file-name-safe id of a scene, such as lakeland_train_000012."""
        split = self.split if self.split in SPLITS else f"seed{self.split}"
        return f"lakeland_{split}_{self._index(index):06d}"

    def scene(self, index):
        """The raw scene: image uint8 [H, W, 3], segment map int32 [H, W] (0 is void), segments_info."""
        image, segment_map, info = draw(self.seed, self._index(index), self.size, self.difficulty)
        return np.ascontiguousarray(image.transpose(1, 2, 0)), segment_map, info

    def __getitem__(self, index):
        image, segment_map, info = draw(self.seed, self._index(index), self.size, self.difficulty)
        return torch.from_numpy(image), panoptic_to_target(segment_map, info, len(LAKELAND_CLASSES))


class Job(NamedTuple):
    """A thing to place: kind, places to try from left to right, foot, size (fractions of the side), look."""
    kind: int
    xs: tuple
    y: float
    size: float
    look: tuple  # number in the bank, mirrored?, order of the colour channels, gain of each (of 256)


def draw(seed, index, n, difficulty):
    """One scene: image uint8 [3, n, n], segment map int32 [n, n], segments_info."""
    rng = random.Random(f"lakeland:{seed}:{index}")

    def u(low, high):
        return low + (high - low) * rng.random()

    land = Landscape(u, seed, n, difficulty)
    scene = Painting(land, seed, *haze(u, land.horizon, n, difficulty))
    flock = plan_flock(u, land, difficulty)
    jobs = plan_things(u, land, difficulty)
    if flock:
        scene.flock(*flock)
    for job in sorted(jobs, key=lambda job: (job.kind != BALLOON, job.y)):  # painter's order: far to near
        scene.place(job)
    return expose(u, scene.image, seed, difficulty), *scene.segments()


def scene_look(u, kind, camouflage):
    """How one thing differs from its sprite in the bank."""
    order = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))[int(u(0, 6))]
    gain = tuple(int(c * u(.82, 1)) for c in camouflage)
    return int(u(0, SPRITES)), u(0, 1) < .5, order if kind in (BOAT, BALLOON) else (0, 1, 2), gain


def plan_things(u, land, difficulty):
    """The things of a scene, herds and woods among them, and the rocks; how many grows with the difficulty."""
    d, horizon, jobs = difficulty, land.horizon, []
    camouflage = tuple(u(150, 256) for _ in range(3)) if u(0, 1) < .5 * d else (256, 256, 256)
    for _ in range(int(u(2 + 2 * d, 5 + 9 * d))):
        kind, x, y, s = int(u(HOUSE, DUCK + 1)), u(0, 1), u(0, 1), u(.8, 1.2)
        if kind in (BOAT, DUCK) and land.lake is None:
            kind = (HOUSE, TREE, SHEEP)[int(3 * x)]
        if kind == BALLOON:
            size = .1 + .2 * (s - .8) / .4
            foot = min(size + y * horizon * .8, horizon * .98)
            jobs.append(Job(kind, (x,), foot, size, scene_look(u, kind, camouflage)))
            continue
        if kind in (BOAT, DUCK):
            cx, cy, rx, ry = land.lake
            x, y = cx + rx * (1.6 * x - .8), cy + ry * (1.5 * y - .7)
            xs = (x, 2 * cx - x, cx)
        else:
            y, xs = horizon + .015 + y * (1.02 - horizon), (x, 1 - x, (x + .5) % 1)
        size = FULL_SIZE[kind] * s * (.4 + .6 * (y - horizon) / (1 - horizon))  # near is large
        jobs.append(Job(kind, xs, y, size, scene_look(u, kind, camouflage)))
        if kind in (SHEEP, DUCK, TREE) and u(0, 1) < .3 + .3 * d:  # a herd or a wood: same class, touching
            for _ in range(int(u(1, 3 + 2 * d))):
                x += (1 if u(0, 1) < .5 else -1) * size * u(.4, .9)
                jobs.append(Job(kind, (x,), y + u(-.02, .02), size * u(.85, 1.1), scene_look(u, kind, camouflage)))
    for _ in range(int(u(0, 1.8 + 3 * d))):
        y = horizon + .03 + u(0, 1 - horizon)
        size = FULL_SIZE[ROCK] * u(.7, 1.3) * (.4 + .6 * (y - horizon) / (1 - horizon))
        jobs.append(Job(ROCK, (u(0, 1),), y, size, scene_look(u, ROCK, camouflage)))
    return jobs


def plan_flock(u, land, difficulty):
    """Sometimes a far flock, herd or wood too small to count: (kind, centre and radii of its ellipse, jobs)."""
    if u(0, 1) >= .06 + .18 * difficulty:
        return None
    kind, x = (SHEEP, TREE, DUCK)[int(u(0, 3))], u(.15, .85)
    y, rx, ry = land.horizon + u(.05, .1), u(.1, .17), .02
    if kind == DUCK and land.lake:
        x, y, rx = land.lake[0], land.lake[1] - .35 * land.lake[3], .4 * land.lake[2]
    elif kind == DUCK:
        kind = SHEEP
    size = .065 if kind == TREE else .042
    jobs = []
    for _ in range(int(u(14, 22))):
        dx, dy = u(-1, 1), u(-1, 1)
        jobs.append(Job(kind, (x + .9 * dx * rx,), y + dy * ry * (1 - dx * dx), size * u(.9, 1.1),
                        scene_look(u, kind, (256, 256, 256))))
    return kind, (x, y - size * .4, rx, ry + size * .5), sorted(jobs, key=lambda job: job.y)


class Painting:
    """A scene while it is painted: image uint16 [3, n, n] and labels uint8 [n, n]."""

    def __init__(self, land, seed, keep, air):
        n = self.n = land.n
        self.stuff, self.labels, self.classes = land.stuff, land.stuff.copy(), []
        self.seed, self.keep, self.air = seed, keep, air
        self.image = np.empty((3, n, n), np.uint16)
        self.image[:] = land.image.view(np.uint8).reshape(n, n, 4)[..., :3].transpose(2, 0, 1)
        self.image *= keep[:, None]
        self.image >>= 8
        self.image += air[..., None]

    def place(self, job, label=None):
        """Paint one thing where it may stand, with its shadow; `label` is for what is not an instance of its own."""
        n, (k, mirrored, order, gain) = self.n, job.look
        step = min(bisect.bisect(SIZE_LADDER, job.size), len(SIZE_LADDER) - 1)
        picture = sprite(self.seed, n, job.kind - HOUSE, k)[step]
        h, w = picture.shape[1:]
        foot = int(job.y * n)
        for x in job.xs:
            left = int(x * n) - w // 2
            if self.stands(job.kind, left, foot, h, w):
                break
        else:
            return
        top, y0, y1, x0, x1 = foot - h, max(foot - h, 0), min(foot, n), max(left, 0), min(left + w, n)
        if y1 - y0 < 3 or x1 - x0 < 3:
            return
        if mirrored:
            picture = picture[:, :, ::-1]
        picture = picture[:, y0 - top:y1 - top, x0 - left:x1 - left]
        alpha, row = picture[3], min(y1, n - 1)
        if job.kind != BALLOON:
            self.shade(shadow(w), left, foot)
        gain = np.array([g * self.keep[row] >> 8 for g in gain], np.uint16)[:, None, None]
        colours = picture[:3] if order == (0, 1, 2) else picture[list(order)]
        view = self.image[:, y0:y1, x0:x1]
        view *= np.subtract(256, alpha, dtype=np.uint16)
        view += colours * gain + alpha * self.air[:, row, None, None]
        view >>= 8
        if label is None:
            label = VOID_LABEL if job.kind == ROCK else FIRST + len(self.classes)
            if job.kind != ROCK:
                self.classes.append(job.kind)
        np.copyto(self.labels[y0:y1, x0:x1], label, where=alpha > 127)

    def stands(self, kind, left, foot, h, w):
        """Whether all the ground under the foot of a thing is of the right kind; balloons need none."""
        if kind == BALLOON:
            return True
        n, low = self.n, min(foot, self.n - 1)
        strip = self.stuff[max(low - max(2, h // 8), 0):low + max(2, n // 50), max(left + w // 8, 0):left + w - w // 8]
        return strip.size > 0 and GROUND[kind][0] <= strip.min() and strip.max() <= GROUND[kind][-1]

    def shade(self, light, left, foot):
        """Darken the ground; a shadow has no label."""
        h, w = light.shape
        top = foot - h * 5 // 8
        y0, y1, x0, x1 = min(max(top, 0), self.n), min(top + h, self.n), max(left, 0), min(left + w, self.n)
        view = self.image[:, y0:y1, x0:x1]
        view *= light[y0 - top:y1 - top, x0 - left:x1 - left]
        view >>= 8

    def flock(self, kind, ellipse, jobs):
        """Paint a crowd: one label for the members and for the ground between them."""
        x, y, rx, ry = ellipse
        at = (2 * np.arange(self.n) + 1) / (2 * self.n)
        region = (((at - x) / rx) ** 2)[None, :] + (((at - y) / ry) ** 2)[:, None] < 1
        ground = region & (self.stuff >= GROUND[kind][0]) & (self.stuff <= GROUND[kind][-1])
        if 10 * int(ground.sum()) < 6 * int(region.sum()):
            return
        np.copyto(self.labels, CROWD, where=ground)
        self.crowd = kind
        for job in jobs:
            self.place(job, CROWD)

    def segments(self):
        """Segment map int32 [n, n] and segments_info; what is too small to see becomes void."""
        area = np.bincount(self.labels.ravel(), minlength=256)
        small_stuff, small_thing = max(10, 40 * self.n ** 2 // 128 ** 2), max(4, 12 * self.n ** 2 // 128 ** 2)
        found = [(k, k, 0) for k in range(5) if area[k] >= small_stuff]
        found += [(FIRST + k, c, 0) for k, c in enumerate(self.classes) if area[FIRST + k] >= small_thing]
        if area[CROWD] >= small_thing:
            found.append((CROWD, self.crowd, 1))
        ids = np.zeros(256, np.int32)
        ids[[f[0] for f in found]] = range(1, len(found) + 1)
        info = [{"id": i, "category_id": c, "isthing": c >= HOUSE, "iscrowd": crowd, "area": int(area[label])}
                for i, (label, c, crowd) in enumerate(found, 1)]
        return ids.take(self.labels), info
