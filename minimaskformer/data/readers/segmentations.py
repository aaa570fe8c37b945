"""COCO's segmentations, polygons and run-length codes: checked, and then decoded by pycocotools.

A run-length code lists how many pixels in a row are outside, inside, outside ... the mask, column by column. As text
each number has five bits per character, the lowest first, and bit 32 says that more follow; from the fourth number on
it is the difference from the number two before it. What a code leaves out pycocotools would fill with stale memory.
"""
from pathlib import Path

import numpy as np

from ...system.text import printable
from .mask_files import read_mask

FARTHEST = 1e6  # pixels


def checked_segmentation(annotation, size, place):
    """The segmentation of an annotation, if it consists of polygons or a run-length code for that size.

    Polygons of one or two points enclose nothing and are left out (pycocotools would take two points for a box).
    """
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, Path):
        return segmentation
    if not segmentation:
        raise ValueError(f"{place} has no \"segmentation\": is it only a box?")
    if isinstance(segmentation, dict):
        if "counts" not in segmentation or segmentation.get("size") != list(size):
            raise ValueError(f"{place}: a run-length code has \"counts\" and a \"size\" equal to the image's [height, "
                             f"width] {list(size)}, got size {printable(segmentation.get('size'))}")
        return segmentation
    for polygon in segmentation:
        if not isinstance(polygon, list) or len(polygon) % 2 or not all(isinstance(x, (int, float)) for x in polygon):
            raise ValueError(f"{place}: a polygon is a list x1, y1, x2, y2, ... of numbers, got {str(polygon)[:60]}")
        if not all(abs(x) <= FARTHEST for x in polygon):  # nan or far away: pycocotools would end the whole process
            raise ValueError(f"{place}: a polygon has a corner nowhere near the image: {str(polygon)[:60]}")
    return [polygon for polygon in segmentation if len(polygon) >= 6]


def decode_mask(segmentation, height, width, place):
    """A COCO segmentation as bool [H, W]: polygons, or a run-length code, compressed (text) or not (a list)."""
    from pycocotools import mask as rle
    if isinstance(segmentation, Path):  # never from a JSON
        return read_mask(segmentation, (height, width))
    if isinstance(segmentation, dict):
        if segmentation.get("size") != [height, width]:
            raise ValueError(f"{place}: its run-length code is for {printable(segmentation.get('size'))}, the image is "
                             f"{[height, width]} (height, width)")
        check_code(segmentation.get("counts"), (height, width), place)
    try:
        if isinstance(segmentation, list):
            codes = rle.merge(rle.frPyObjects(segmentation, height, width)) if segmentation else None
        elif isinstance(segmentation["counts"], list):
            codes = rle.frPyObjects(segmentation, height, width)
        else:
            codes = segmentation
        if codes is None:
            return np.zeros((height, width), dtype=bool)
        mask = rle.decode(codes)
    except Exception as error:  # pycocotools raises bare Exception, and whatever Cython raises for bad types
        raise ValueError(f"{place}: pycocotools cannot decode the segmentation ({error})") from error
    if mask.shape != (height, width):
        raise ValueError(f"{place}: its mask is {mask.shape[1]} x {mask.shape[0]}, but the image is {width} x {height}")
    return mask.astype(bool)


def check_code(counts, size, place):
    """ValueError unless a run-length code, a list of numbers or its text, covers a mask [height, width] exactly."""
    height, width = size
    numbers = code_numbers(counts, place) if isinstance(counts, str) else counts
    if not isinstance(numbers, list) or not all(type(n) is int for n in numbers):
        raise ValueError(f"{place}: the counts of a run-length code must be text or a list of whole numbers")
    if any(n < 0 for n in numbers):
        raise ValueError(f"{place}: its run-length code has a negative count, {min(numbers)}")
    if sum(numbers) != height * width:
        raise ValueError(f"{place}: its run-length code covers {sum(numbers)} pixels, the image has {height * width} "
                         f"({width} x {height})")


def code_numbers(text, place):
    """The numbers of a code given as text; ValueError if it is not valid."""
    numbers, number, shift = [], 0, 0
    for character in text.encode("utf-8"):
        value = character - 48
        if not 0 <= value < 64 or shift > 30:
            raise ValueError(f"{place}: its run-length code has an invalid character or number")
        number |= (value & 31) << shift
        shift += 5
        if value & 32:
            continue
        if value & 16:  # the sign
            number -= 1 << shift
        numbers.append(number + (numbers[-2] if len(numbers) > 2 else 0))
        number = shift = 0
    if shift:
        raise ValueError(f"{place}: its run-length code ends in the middle of a number")
    return numbers
