"""From the tensor names of another library to ours, by an ordered list of rules."""
import re


def renamed(name, rules):
    """Apply each (pattern, replacement) in order, as `re.sub` does; a replacement may be a function of the match."""
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def shifted(template, factor=1, by=0):
    """A replacement in which {} stands for factor * (the number in the pattern's last bracket) + by.

    Other brackets are \\1, \\2 ... as in `re.sub`.
    """
    return lambda match: match.expand(template).replace("{}", str(factor * int(match[match.lastindex]) + by))
