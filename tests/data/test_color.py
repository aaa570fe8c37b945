"""Ranges of the colour changes, read off pictures that show each alone; and pictures shrunk to the mean."""
import colorsys
import random

import numpy as np
import pytest
import torch

from minimaskformer.data.transforms import vary_color, view
from minimaskformer.targets import panoptic_to_target

DRAWS = 400


def test_brightness_and_contrast_of_a_grey_picture():
    """Grey has no colour to change. Of two halves 64 and 192 the sum shows brightness, the difference contrast."""
    grey = torch.tensor([64, 192], dtype=torch.uint8).repeat(3, 4, 4)
    found = [vary_color(grey, random.Random(i))[0, 0, :2].tolist() for i in range(DRAWS)]
    found = [(low, high) for low, high in found if 0 < low and high < 255]  # not cut off
    brightness = np.array([(low + high) / 256 for low, high in found])
    contrast = np.array([(high - low) / (high + low) * 2 for low, high in found])
    assert 0.85 < brightness.min() < 0.895 and 1.105 < brightness.max() < 1.15
    assert 0.48 < contrast.min() < 0.55 and 1.3 < contrast.max() < 1.52
    for values in (brightness, contrast):  # each in half of the views
        assert 0.35 < (abs(values - 1) < 0.01).mean() < 0.65


def test_hue_and_saturation_of_a_coloured_picture():
    color = torch.tensor([150, 90, 60], dtype=torch.uint8)[:, None, None].expand(-1, 4, 4)
    hue, saturation, _ = np.array([colorsys.rgb_to_hsv(*(vary_color(color, random.Random(i))[:, 0, 0] / 255).tolist())
                                   for i in range(DRAWS)]).T
    first, second, _ = colorsys.rgb_to_hsv(150 / 255, 90 / 255, 60 / 255)
    turned = (hue - first + 0.5) % 1 - 0.5
    assert -0.12 < turned.min() < -0.085 and 0.085 < turned.max() < 0.12
    assert saturation.min() < 0.7 * second and saturation.max() > 1.2 * second
    assert 0.35 < (abs(turned) < 0.01).mean() < 0.65


@pytest.mark.parametrize("axis", [1, 2])
def test_small_views_are_means_and_no_samples(axis):
    """Stripes of period 4 become grey at a quarter of the size; leaving pixels out would make them black."""
    stripes = torch.tensor([255, 0, 0, 255], dtype=torch.uint8).repeat(16)
    image = stripes.reshape([1, 64, 1] if axis == 1 else [1, 1, 64]).expand(3, 64, 64)
    target = panoptic_to_target(np.ones((64, 64), dtype=np.int32), [{"id": 1, "category_id": 0}], 1)
    small, _ = view(image, target, 16, random.Random(0), flip=False)
    assert (small[:, 1:-1, 1:-1].float() - 127.5).abs().max() < 16


def test_saturation_varies_by_itself():
    """Contrast and brightness scale all differences alike: what a coloured patch gains over two grey ones is saturation."""
    patches = torch.tensor([[90, 90, 90], [150, 150, 150], [150, 100, 110]], dtype=torch.uint8).T[:, None].repeat(1, 4, 1)
    changed = torch.stack([vary_color(patches, random.Random(i))[:, 0] for i in range(DRAWS)]).float()  # [DRAWS, 3, patch]
    changed = changed[((changed > 0) & (changed < 255)).flatten(1).all(1)]  # not cut off
    spread = changed.amax(1) - changed.amin(1)  # between channels, which turning the hue leaves
    saturation = (spread[:, 2] / 50) / ((changed[:, 0, 1] - changed[:, 0, 0]) / 60)
    assert len(saturation) > 200 and saturation.min() < 0.6 and saturation.max() > 1.4
    assert 0.35 < ((saturation - 1).abs() < 0.05).float().mean() < 0.65  # in half of the views
