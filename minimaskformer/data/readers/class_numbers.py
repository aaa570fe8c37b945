"""Numbers that are not class numbers: spread out for the eye, or indices into palettes in different orders."""
import numpy as np

FULL = (255, 65535)  # white, in 8 and in 16 bits


class Palettes:
    """The number that each colour of a palette stands for; it has to be the same in every file."""

    def __init__(self):
        self.number_of = {}  # colour -> (number, file)

    def check(self, labels, palette, path):
        """Note the colours of the numbers in labels [H, W]; ValueError if a colour has another number in another file.

        palette: r, g, b, r, g, b, ... Colours that a palette holds twice are ignored.
        """
        colors = [tuple(palette[i:i + 3]) for i in range(0, len(palette), 3)]
        for number in np.flatnonzero(np.bincount(labels.ravel(), minlength=len(colors)))[:len(colors)].tolist():
            color = colors[number]
            if colors.count(color) > 1:
                continue
            other, file = self.number_of.setdefault(color, (number, path))
            if other != number:
                raise ValueError(f"{path} and {file} are palette files, and their palettes differ in order: the colour "
                                 f"{color} is number {number} in one and {other} in the other, so the numbers are not "
                                 f"class numbers. Save all with one palette, or as the colours themselves (mode RGB) "
                                 f"with a table of colours")


def spread(values):
    """Whether three or more numbers are evenly spaced from 0 to white, such as 0, 127, 255, so that the eye sees them.
    """
    values = sorted(values)
    gaps = len(values) - 1
    return gaps >= 2 and values[-1] in FULL and values[-1] >= 2 * gaps and all(
        abs(value - values[-1] * k / gaps) <= 1 for k, value in enumerate(values))


def spread_hint(values):
    """A hint for an error message: how to name numbers that are spread out; empty where they are not."""
    if not spread(values):
        return ""
    lines = [f'"{value} NAME"' for value in sorted(values)]
    return (f". Are the classes written as {listed(sorted(values))}, so that a viewer shows them? Then say so in a "
            f"classes.txt, with the lines {listed(lines)}")


def check_values(values, void, folder):
    """ValueError if the numbers in label files cannot be taken for classes as they are, because one of them is void.

    A black and white mask holds one number besides a void one (255 or 65535); classes that are spread out end in one.
    """
    values, unsaid = sorted(values), sorted(set(values) & set(void))
    if not unsaid or not (len(values) == 2 or spread(values)):
        return
    names = ("background", "object") if len(values) == 2 else ["NAME"] * len(values)
    what = "your object (a black and white mask)" if len(values) == 2 else "a class (they are spread out for the eye)"
    lines = listed(f'"{value} {name}"' for value, name in zip(values, names))
    raise ValueError(f"the labels of {folder} hold {listed(values)} and nothing else. {unsaid[-1]} is void unless you "
                     f"say otherwise: if it is {what}, write the lines {lines} to a classes.txt; if it is not, "
                     f"\"{unsaid[-1]} void\" (in Python: classes=...)")


def listed(parts):
    """Several things as text: a, b and c."""
    *first, last = map(str, parts)
    return f"{', '.join(first)} and {last}" if first else last
