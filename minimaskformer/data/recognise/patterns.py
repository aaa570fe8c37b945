"""A folder of any layout: patterns that say which pictures and labels there are and which belong together.

  PNGImages/*.png   PedMasks/{stem}_mask.png       one label file per picture
  {stem}/images/*   {stem}/masks/*.png             several: one file per object

`{stem}` is what a picture and its labels have in common, `{split}` the name of a split (train, val, test, or a common
variant of these), `*` anything. In a picture pattern without `{stem}` the last `*` is taken for it.
"""
import re
from dataclasses import dataclass
from pathlib import Path
from unicodedata import normalize

from .splits import WORDS, split_of

KINDS = ("semantic", "instances", "panoptic")


@dataclass(frozen=True)
class FolderLayout:
    """The layout of a folder, if it cannot be recognised; every field may be left out.

    images, labels, instances, lists: patterns, see above (lists: text files of stems, "{split}.txt"). classes: a file
    of class names, or names separated by commas. colors: a file of colours and names. kind: what the numbers in label
    files are. val_share: the share of the pictures that is for validation.
    """
    images: str | None = None
    labels: str | None = None
    instances: str | None = None
    lists: str | None = None
    classes: str | None = None
    colors: str | None = None
    kind: str | None = None
    val_share: float | None = None

    def __post_init__(self):
        if self.kind not in (None, *KINDS):
            raise ValueError(f"--kind is one of {', '.join(KINDS)}, got {self.kind!r}")
        if (self.images is None) != (self.labels is None):
            raise ValueError("--images and --labels go together: where the pictures are, and where their labels are")
        for option in ("images", "labels", "instances", "lists"):
            check_pattern(getattr(self, option), f"--{option}")


def check_pattern(pattern, option):
    """ValueError for a pattern that leads out of the data folder, or uses an unknown name in braces."""
    if pattern is None:
        return
    if ".." in re.split(r"[/\\]", pattern) or pattern.startswith(("/", "\\")) or re.match(r"\w:", pattern):
        raise ValueError(f"{option} {pattern!r}: patterns are relative to the data folder and must not lead out of it")
    unknown = set(re.findall(r"\{(.*?)\}", pattern)) - {"stem", "split"}
    if unknown:
        raise ValueError(f"{option} {pattern!r}: in braces there may be stem and split, not "
                         f"{', '.join(sorted(unknown))}")


def with_stem(pattern):
    """The pattern with {stem} in it: instead of its last `*`, if it has none."""
    head, star, tail = pattern.rpartition("*")
    if "{stem}" in pattern or not star:
        return pattern
    return f"{head}{{stem}}{tail or '.*'}"  # PNGImages/*.png; photos/* is photos/{stem}.*


def matching(folder, pattern):
    """[(split or "", stem, path)] of the files in a folder that a pattern fits, sorted; hidden ones are passed over."""
    expression, found = regular(pattern), []
    parts = [part if part == "**" else re.sub(r"(\{\w+\}|\*)+", "*", part) for part in pattern.split("/")]
    for path in sorted(Path(folder).glob("/".join(parts))):
        inside = normalize("NFC", path.relative_to(folder).as_posix())
        match = expression.fullmatch(inside)
        if not match or not path.is_file() or any(part.startswith(".") for part in inside.split("/")):
            continue
        groups = match.groupdict()
        found.append((split_of(groups.get("split", "")) or "", groups.get("stem", path.stem), path))
    return found


def regular(pattern):
    """A pattern as a regular expression with the groups stem and split; a repeated one must match the same text."""
    words = "|".join(word for words in WORDS.values() for word in sorted(words, key=len, reverse=True))
    groups = {"{stem}": r"[^/]+", "{split}": f"(?i:{words})", "*": r"[^/]*", "**/": r"(?:.*/)?"}
    parts, seen = [], set()
    for part in re.split(r"(\{stem\}|\{split\}|\*\*/|\*)", pattern):
        if part in ("{stem}", "{split}"):
            name = part[1:-1]
            parts.append(f"(?P={name})" if name in seen else f"(?P<{name}>{groups[part]})")
            seen.add(name)
        else:
            parts.append(groups.get(part) or re.escape(part))
    return re.compile("".join(parts))
