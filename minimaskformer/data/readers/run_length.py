"""COCO's run-length codes, checked before pycocotools decodes them: it fills what a code leaves out with stale memory.

A code lists how many pixels in a row are outside, inside, outside ... the mask, column by column. As text each number
has five bits per character, the lowest first, and bit 32 says that more follow; from the fourth number on it is the
difference from the number two before it.
"""


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
