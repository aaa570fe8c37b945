"""The one palette of the project: a colour per class that even red-green-blind eyes can tell apart.

Distances between colours are measured in OKLab, a space in which equal steps look about equally large. One man in
twelve has trouble telling red from green, so every colour is also checked under simulated deuteranopia (Machado et
al. 2009).
"""
import numpy as np

# Lakeland's eleven colours: natural ones, found by a search that moved each inside its own range of lightness, chroma
# and hue until the closest pair, for normal, deuteranope and protanope eyes, was as far apart as it would go.
NATURAL = {"sky": "#7accf3", "mountain": "#8d8cc0", "water": "#3364b8", "grass": "#8de37f", "path": "#c3a98d",
           "house": "#ac331d", "tree": "#0f3f2e", "sheep": "#f6f1f3", "boat": "#dd8934", "balloon": "#b23f79",
           "duck": "#fded2d"}
VOID_COLOR = np.array([0.62, 0.62, 0.62])  # always hatched, so it is never mistaken for a grey class

TO_CONES = np.array([[0.4122214708, 0.5363325363, 0.0514459929],  # OKLab (Ottosson 2020): linear RGB to cone responses
                     [0.2119034982, 0.6806995451, 0.1073969566],
                     [0.0883024619, 0.2817188376, 0.6299787005]])
TO_LAB = np.array([[0.2104542553, 0.7936177850, -0.0040720468],  # ... and their cube roots to lightness, a, b
                   [1.9779984951, -2.4285922050, 0.4505937099],
                   [0.0259040371, 0.7827717662, -0.8086757660]])
DEUTERANOPIA = np.array([[0.367322, 0.860646, -0.227968],  # Machado, Oliveira, Fernandes 2009, severity 1, linear RGB
                         [0.280085, 0.672501, 0.047413],
                         [-0.011820, 0.042940, 0.968881]])


def class_colors(classes):
    """One sRGB colour in 0 ... 1 per class of a ClassTable: float64 [K, 3].

    Lakeland's names (sky, tree, sheep ...) have their natural colour in every table. Each other class, in index order,
    gets the colour that is farthest from all colours before it, the same at every call.
    """
    colors = np.full((len(classes), 3), np.nan)
    for k, name in enumerate(classes.names):
        if name in NATURAL:
            colors[k] = [int(NATURAL[name][i:i + 2], 16) / 255 for i in (1, 3, 5)]
    candidates = farthest_candidates()
    gap = np.full(len(candidates), np.inf)  # from each candidate to the closest colour already taken
    for taken in colors[~np.isnan(colors[:, 0])]:
        gap = np.minimum(gap, distance(candidates, taken))
    for k in np.flatnonzero(np.isnan(colors[:, 0])):
        colors[k] = candidates[gap.argmax()]
        gap = np.minimum(gap, distance(candidates, colors[k]))
    return colors


def instance_colors(category_ids, classes):
    """One colour per segment: float64 [M, 3]. Instances of one thing class get shades of its colour, in list order.

    The first instance has the class colour itself; shades differ in lightness only. Stuff keeps the class colour.
    """
    colors, seen, out = class_colors(classes), {}, np.zeros((len(category_ids), 3))
    for i, c in enumerate(category_ids):
        order = seen[c] = seen.get(c, -1) + 1
        out[i] = shade(colors[c], order) if classes.isthing[c] else colors[c]
    return out


def shade(color, order):
    """The order-th shade of a colour: its lightness moved inside a window too narrow to reach another class."""
    lab = rgb_to_oklab(color)
    low, high = (-0.05, 0.065) if lab[0] < 0.5 else (-0.12, 0.02) if lab[0] > 0.9 else (-0.10, 0.04)
    fraction, digit, rest = 0.0, 0.5, order  # van der Corput: 0, 1/2, 1/4, 3/4, 1/8 ... never a repeat
    while rest:
        fraction, digit, rest = fraction + digit * (rest % 2), digit / 2, rest // 2
    start = -low / (high - low)  # order 0 is the colour itself
    lab[0] += low + (high - low) * ((start + fraction) % 1)
    return np.clip(oklab_to_rgb(lab), 0, 1)


def farthest_candidates():
    """Colours to choose from: a regular grid of sRGB without those that look black, white, grey (void) or neon."""
    levels = np.linspace(0, 1, 13)
    rgb = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)  # [2197, 3]
    lab = rgb_to_oklab(rgb)
    lightness, chroma = lab[:, 0], np.hypot(lab[:, 1], lab[:, 2])
    return rgb[(0.35 < lightness) & (lightness < 0.92) & (0.05 < chroma) & (chroma < 0.2)]


def distance(a, b):
    """How far apart two sRGB colours look: the smaller of normal and deuteranope OKLab distance (about 0 ... 1)."""
    normal = np.linalg.norm(rgb_to_oklab(a) - rgb_to_oklab(b), axis=-1)
    deuteranope = np.linalg.norm(rgb_to_oklab(deuteranopia(a)) - rgb_to_oklab(deuteranopia(b)), axis=-1)
    return np.minimum(normal, deuteranope)


def deuteranopia(rgb):
    """The sRGB colours that eyes without green cones see instead of these: [..., 3] to [..., 3]."""
    return encode(np.clip(decode(np.asarray(rgb, float)) @ DEUTERANOPIA.T, 0, 1))


def rgb_to_oklab(rgb):
    """sRGB 0 ... 1 to OKLab: lightness 0 ... 1, a (green to red), b (blue to yellow)."""
    return np.cbrt(decode(np.asarray(rgb, float)) @ TO_CONES.T) @ TO_LAB.T


def oklab_to_rgb(lab):
    """The inverse of rgb_to_oklab; colours outside the screen's range are cut off by `encode`."""
    return encode((lab @ np.linalg.inv(TO_LAB).T) ** 3 @ np.linalg.inv(TO_CONES).T)


def decode(srgb):
    """sRGB to linear light."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def encode(linear):
    """Linear light to sRGB, cut to 0 ... 1."""
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
