"""COCO's run-length codes, checked before pycocotools decodes them: it fills what a code leaves out with old memory.

A code lists how many pixels in a row are outside, inside, outside ... the mask, column by column. As text each number
is five bits to a character, the lowest first, bit 32 says that more follow; from the third number on it is the
difference to the number two before it.
"""


def check_code(counts, size, place):
    """ValueError unless a run-length code, a list of numbers or its text, covers a mask [height, width] exactly."""
    height, width = size
    numbers = code_numbers(counts, place) if isinstance(counts, str) else counts
    if not isinstance(numbers, list) or not all(type(n) is int for n in numbers):
        raise ValueError(f"{place}: the counts of a run-length code are a text or a list of whole numbers")
    if any(n < 0 for n in numbers):
        raise ValueError(f"{place}: its run-length code has a negative count, {min(numbers)}")
    if sum(numbers) != height * width:
        raise ValueError(f"{place}: its run-length code covers {sum(numbers)} pixels, the image has {height * width} "
                         f"({width} x {height})")


def code_numbers(text, place):
    """The numbers of a code that is a text; ValueError where it is none."""
    numbers, number, shift = [], 0, 0
    for character in text.encode("utf-8"):
        value = character - 48
        if not 0 <= value < 64 or shift > 30:
            raise ValueError(f"{place}: its run-length code has a character or a number that none has")
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
