"""What the labels of a data set hold, counted: the targets of each class, crowds, and signs of wrong labels.

`Content` is what one item's labels hold, `Tally` their sum. What the sums mean is in faults.py.
"""
import math
from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Content:
    """What the labels of one item hold. Classes are indices; a target is a segment that is learnt."""
    size: tuple  # height, width
    targets: Counter = field(default_factory=Counter)  # class -> segments that are not crowds and have pixels
    crowds: Counter = field(default_factory=Counter)  # class -> crowds
    empty: Counter = field(default_factory=Counter)  # class -> annotations that enclose no pixel
    void: int = 0  # pixels whose class nobody knows
    values: frozenset = frozenset()  # the numbers in a file of classes
    numbers: frozenset = frozenset()  # the numbers in a file of instances, 0 left out
    parts: int = 0  # connected parts, if there is only one number
    lossy: bool = False  # labels full of in-between values: interpolated, or once saved as JPEG
    boxes: int = 0  # annotations whose "bbox" was compared with their mask
    misfits: tuple = ()  # ids of those whose box is not that of their mask
    scales: tuple = ()  # (sx, sy) of those among them whose box is the mask's, scaled by these
    polygons: int = 0  # annotations that are polygons
    farthest: float = 0.0  # the largest coordinate of a corner
    turned: bool = False  # the picture has an EXIF orientation, which is not applied


@dataclass
class Tally:
    """The sum of several `Content`s, and where the extremes are."""
    classes: object  # ClassTable
    of: int  # items of the data set; the tally may cover only some of them
    items: int = 0
    targets: Counter = field(default_factory=Counter)
    crowds: Counter = field(default_factory=Counter)
    empty: Counter = field(default_factory=Counter)
    void: int = 0
    pixels: int = 0
    most: tuple = (0, "")  # targets in one picture, and its name
    values: set = field(default_factory=set)
    numbers: set = field(default_factory=set)
    several: int = 0  # pictures with more than one instance number
    numbered: int = 0  # pictures with any
    parts: int = 0
    lossy: list = field(default_factory=list)  # names
    boxes: int = 0
    misfits: int = 0
    scales: list = field(default_factory=list)
    polygons: int = 0
    farthest: float = 0.0
    smallest: float = math.inf  # the shortest side of a picture with polygons
    turned: list = field(default_factory=list)  # names

    def add(self, content, name):
        """Count one item in."""
        self.items += 1
        self.targets += content.targets
        self.crowds += content.crowds
        self.empty += content.empty
        self.void += content.void
        self.pixels += content.size[0] * content.size[1]
        self.most = max(self.most, (sum(content.targets.values()), name), key=lambda pair: pair[0])
        self.values |= content.values
        self.numbers |= content.numbers
        self.several += len(content.numbers) > 1
        self.numbered += bool(content.numbers)
        self.parts += content.parts
        self.lossy += [name] * content.lossy
        self.boxes += content.boxes
        self.misfits += len(content.misfits)
        self.scales += content.scales
        self.polygons += content.polygons
        self.farthest = max(self.farthest, content.farthest)
        self.smallest = min(self.smallest, *content.size) if content.polygons else self.smallest
        self.turned += [name] * content.turned

    @property
    def whole(self):
        """Whether every item of the data set is counted."""
        return self.items == self.of


def tallied(classes, of, contents):
    """The sum of (Content, name) pairs."""
    total = Tally(classes, of)
    for content, name in contents:
        total.add(content, name)
    return total


def map_content(segment_map, segments_info, **more):
    """The Content of a panoptic map [H, W] (0 is void) and its list of segments."""
    segments = [s for s in segments_info if s["area"]]
    labelled = sum(s["area"] for s in segments if not s.get("iscrowd", 0))
    return Content(tuple(segment_map.shape), Counter(s["category_id"] for s in segments if not s.get("iscrowd", 0)),
                   Counter(s["category_id"] for s in segments if s.get("iscrowd", 0)),
                   void=segment_map.shape[0] * segment_map.shape[1] - labelled, **more)


def content_of(dataset, index):
    """What the labels of an item hold, without its image; from the data set itself, if it knows more than its map says.
    """
    return dataset.content(index) if hasattr(dataset, "content") else map_content(*dataset.read_map(index))
