"""Colours: golden OKLab values; distances in another colour space and another simulation of colour blindness."""
import numpy as np
import pytest

from minimaskformer.data.classes import ClassTable
from minimaskformer.draw.palette import (
    NATURAL,
    class_colors,
    deuteranopia,
    instance_colors,
    oklab_to_rgb,
    rgb_to_oklab,
    shade,
)

LAKELAND = ClassTable(tuple(NATURAL), tuple(k >= 5 for k in range(11)), tuple(range(1, 12)))


def table(k, name="class"):
    return ClassTable(tuple(f"{name} {i}" for i in range(k)), (True,) * k, tuple(range(k)))


def cielab(rgb):
    """sRGB to CIELAB (D65), the older yardstick: a difference of 2 is just visible, 10 is seen at a glance."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = linear @ np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]).T
    f = np.cbrt(xyz / [0.9505, 1.0, 1.089])
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)


def vienot(rgb):
    """Deuteranopia after Vienot, Brettel and Mollon 1999: red and green both become a mixture of the two."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = linear @ np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]]).T
    seen = np.clip(seen, 0, 1)
    return np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055)


def closest(colors):
    gaps = np.linalg.norm(colors[:, None] - colors[None], axis=-1)
    return (gaps + 1e9 * np.eye(len(colors))).min()


def test_oklab_golden_values():
    # Ottosson's page: white, and the primaries as browsers convert them (CSS Color 4)
    assert np.allclose(rgb_to_oklab([1, 1, 1]), [1, 0, 0], atol=1e-3)
    assert np.allclose(rgb_to_oklab([1, 0, 0]), [0.62796, 0.22486, 0.12585], atol=1e-4)
    assert np.allclose(rgb_to_oklab([0, 0, 1]), [0.45201, -0.03246, -0.31153], atol=1e-4)
    rgb = np.random.default_rng(0).random((50, 3))
    assert np.allclose(oklab_to_rgb(rgb_to_oklab(rgb)), rgb, atol=1e-6)


def test_deuteranopia_keeps_grey_and_merges_red_with_green():
    assert np.allclose(deuteranopia(np.full(3, 0.5)), 0.5, atol=1e-3)
    red, green = np.array([0.8, 0.25, 0.2]), np.array([0.45, 0.5, 0.2])
    assert np.linalg.norm(deuteranopia(red) - deuteranopia(green)) < 0.5 * np.linalg.norm(red - green)


def test_lakeland_colors_are_far_apart_for_all_eyes():
    colors = class_colors(LAKELAND)
    assert closest(cielab(colors)) > 25
    assert closest(cielab(vienot(colors))) > 15


def test_natural_colors_are_what_they_say():
    lightness, a, b = rgb_to_oklab(class_colors(LAKELAND)).T
    k = {name: i for i, name in enumerate(LAKELAND.names)}
    assert lightness[k["sky"]] > lightness[k["water"]] + 0.2 and lightness[k["tree"]] < lightness[k["grass"]] - 0.3
    assert a[k["grass"]] < -0.05 and a[k["house"]] > 0.1 and b[k["duck"]] > 0.15 and b[k["water"]] < -0.1
    assert lightness[k["sheep"]] > 0.95


@pytest.mark.parametrize("k, gap", [(1, 0), (8, 28), (20, 16), (80, 7.5), (150, 6)])
def test_generated_palettes(k, gap):
    colors = class_colors(table(k))
    assert colors.shape == (k, 3) and (0 <= colors).all() and (colors <= 1).all()
    assert np.array_equal(colors, class_colors(table(k, "other name")))  # deterministic, by order
    assert closest(cielab(colors)) > gap
    assert np.array_equal(colors, class_colors(table(k + 5))[:k])  # more classes do not change the first ones


def test_known_names_keep_their_color_in_other_tables():
    mixed = ClassTable(("car", "sky", "bus", "tree"), (True, False, True, False), (3, 5, 7, 9))
    colors, lakeland = class_colors(mixed), class_colors(LAKELAND)
    assert np.array_equal(colors[1], lakeland[0]) and np.array_equal(colors[3], lakeland[6])
    assert closest(cielab(colors)) > 25


def test_instances_are_shades_of_the_class_and_stuff_is_not():
    colors = class_colors(LAKELAND)
    categories = [7, 0, 7, 5, 7, 0]
    shades = instance_colors(categories, LAKELAND)
    assert shades.shape == (6, 3) and instance_colors([], LAKELAND).shape == (0, 3)
    assert np.allclose(shades[0], colors[7], atol=1e-9) and np.allclose(shades[3], colors[5], atol=1e-9)
    assert np.array_equal(shades[1], colors[0]) and np.array_equal(shades[5], colors[0])
    for k in LAKELAND.things:
        family = np.stack([shade(colors[k], order) for order in range(16)])
        assert closest(cielab(family)) > 0.3  # never the same twice
        steps = np.linalg.norm(np.diff(cielab(family), axis=0), axis=1)
        assert steps.min() > 2  # neighbours in the list differ visibly


def test_shades_stay_with_their_class():
    colors = class_colors(LAKELAND)
    families = [np.stack([shade(c, i) for i in range(16 if LAKELAND.isthing[k] else 1)]) for k, c in enumerate(colors)]
    for i, a in enumerate(families):
        for b in families[i + 1:]:
            assert np.linalg.norm(cielab(a)[:, None] - cielab(b)[None], axis=-1).min() > 18
            assert np.linalg.norm(cielab(vienot(a))[:, None] - cielab(vienot(b))[None], axis=-1).min() > 8
