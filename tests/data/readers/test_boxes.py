"""Boxes against masks: what fits, what does not, and what fits except for the unit."""
import numpy as np
import pytest

from minimaskformer.data.readers.boxes import box_of_mask, box_of_polygons, compare_boxes

SIZE = (100, 200)


def compared(written, mine):
    return compare_boxes([({"id": 7, "bbox": written}, mine)], SIZE)


@pytest.mark.parametrize("written, mine, expected", [
    ([10, 20, 30, 40], (10, 20, 30, 40), (1, (), ())),
    ([10.4, 19.2, 29, 41.5], (10, 20, 30, 40), (1, (), ())),  # rounded differently
    ([0, 0, 20, 30], (-15, -5, 35, 35), (1, (), ())),  # cut at the border, the polygon is not
    ([20, 40, 60, 80], (10, 20, 30, 40), (1, (7,), ((2.0, 2.0),))),
    ([10, 20, 30, 40], (0.05, 0.2, 0.15, 0.4), (1, (7,), (pytest.approx((200, 100)),))),
    ([60, 20, 30, 40], (10, 20, 30, 40), (1, (7,), ())),  # elsewhere
    ([10, 20, 40, 60], (10, 20, 30, 40), (1, (7,), ())),  # two corners
    ([0, 0, 1, 1], (10, 20, 30, 40), (1, (7,), ())),  # made up
    ([0, 0, 0, 0], (10, 20, 30, 40), (0, (), ())), (None, (10, 20, 30, 40), (0, (), ())),
    (["a", 0, 1, 1], (10, 20, 30, 40), (0, (), ())), ([float("nan"), 0, 1, 1], (10, 20, 30, 40), (0, (), ())),
    ([10, 20, 30, 40], None, (0, (), ())),
])
def test_what_fits(written, mine, expected):
    assert compared(written, mine) == expected


def test_boxes_around_polygons_and_masks():
    mask = np.zeros(SIZE, bool)
    mask[20:60, 10:40] = True
    assert box_of_mask(mask) == (10, 20, 30, 40) and box_of_mask(mask & False) is None
    assert box_of_polygons([[10, 20, 40, 20, 40, 60], [-5, 30, 0, 30, 0, 70]]) == (-5, 20, 45, 50)
    assert box_of_polygons([]) is None
