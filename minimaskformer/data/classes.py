"""The class table of a data set: which names, which of them are things, and which numbers the files use.

Inside the library a class is its *index* 0 ... K-1; files (COCO, ADE20K, label PNGs) use *category ids* of their own.
The table is the one place where the two meet, so that an off-by-one shift is never implicit.
"""
from dataclasses import dataclass
from operator import index

from ..system.text import printable


@dataclass(frozen=True)
class ClassTable:
    """Names, thing flags and file ids of K classes, in index order.

    Stuff (sky, grass) has one segment per image and class; a thing (sheep) has one per instance.
    """
    names: tuple[str, ...]
    isthing: tuple[bool, ...]
    ids: tuple[int, ...]  # category ids in the files; index k of the library is ids[k] on disk

    def __post_init__(self):
        object.__setattr__(self, "names", tuple(map(printable, self.names)))  # they come from files
        if not self.names:
            raise ValueError("a class table needs at least one class")
        if not len(self.names) == len(self.isthing) == len(self.ids):
            raise ValueError(f"class table of unequal columns: {len(self.names)} names, "
                             f"{len(self.isthing)} thing flags, {len(self.ids)} ids")
        if not all(flag in (0, 1) for flag in self.isthing):
            raise ValueError(f"isthing is True or False for each of the {len(self.names)} classes, got {self.isthing}")
        try:
            object.__setattr__(self, "ids", tuple(map(index, self.ids)))  # Python's whole numbers, of NumPy's too
        except TypeError:
            raise ValueError(f"ids are the whole numbers of the classes in files, got {self.ids}") from None
        if len(set(self.ids)) != len(self.ids):
            raise ValueError(f"class table with repeated category ids: {sorted(self.ids)}")

    def __len__(self):
        return len(self.names)

    @property
    def things(self) -> tuple[int, ...]:
        """Indices of the thing classes."""
        return tuple(k for k, isthing in enumerate(self.isthing) if isthing)

    @property
    def stuff(self) -> tuple[int, ...]:
        """Indices of the stuff classes."""
        return tuple(k for k, isthing in enumerate(self.isthing) if not isthing)

    def index(self, category_id: int) -> int:
        """The class index of a category id in the files; raises ValueError with the known ids."""
        try:
            return self.ids.index(category_id)
        except ValueError:
            raise ValueError(f"category id {category_id} is not in the class table; known ids: "
                             f"{list(self.ids)}") from None


def classes_of(model):
    """The class table a model was trained with, from its configuration."""
    config = model.config
    names = config.class_names or tuple(f"class {k}" for k in range(config.num_classes))
    isthing = tuple(k in config.things for k in range(len(names)))
    return ClassTable(tuple(names), isthing, tuple(range(1, len(names) + 1)))
