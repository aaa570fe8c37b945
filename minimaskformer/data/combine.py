"""A data set with fewer, wider classes: 133 categories are too many for a hundred pictures, twelve groups are not."""
from torch.utils.data import Dataset

from ..targets import panoptic_to_target
from .classes import ClassTable


class Regrouped(Dataset):
    """The same pictures with the classes put into groups.

    groups: {group name: names of classes}, in the order of the new class indices. A group is a thing if its classes
    are. Instances stay instances; stuff of one group becomes one segment, because stuff has no instances. Raises
    ValueError for a class that is in no group or in two, that the data set does not have, or for a group of things
    and stuff.
    """

    def __init__(self, dataset, groups):
        self.dataset, old = dataset, dataset.classes
        listed = [name for names in groups.values() for name in names]
        twice = sorted({name for name in listed if listed.count(name) > 1})
        for problem, names in (("are in more than one group", twice),
                               ("are in no group", sorted(set(old.names) - set(listed))),
                               ("are not in the data set", sorted(set(listed) - set(old.names)))):
            if names:
                raise ValueError(f"{len(names)} classes {problem}: {', '.join(names[:10])}")
        isthing = dict(zip(old.names, old.isthing))
        kinds = {group: {isthing[name] for name in names} for group, names in groups.items()}
        mixed = [group for group, kind in kinds.items() if len(kind) != 1]
        if mixed:
            raise ValueError(f"the groups {', '.join(mixed)} hold things and stuff, or nothing: stuff has no instances "
                             f"to count")
        self.classes = ClassTable(tuple(groups), tuple(kinds[group].pop() for group in groups),
                                  tuple(range(1, len(groups) + 1)))
        of_name = {name: k for k, names in enumerate(groups.values()) for name in names}
        self.new_class = [of_name[name] for name in old.names]  # old class index -> new one

    def __len__(self):
        return len(self.dataset)

    def name(self, index):
        """The name that the data set gives its item."""
        return self.dataset.name(index)

    def __getitem__(self, index):
        image, target = self.dataset[index]
        segment_map, info, stuff = target["segment_map"].clone(), [], {}  # stuff: new class -> its one entry
        for segment in target["segments_info"]:
            k = self.new_class[segment["category_id"]]
            if k in self.classes.things or segment.get("iscrowd", 0) or k not in stuff:
                info.append(dict(segment, category_id=k))
                if k in self.classes.stuff and not segment.get("iscrowd", 0):
                    stuff[k] = info[-1]
            else:
                segment_map[segment_map == segment["id"]] = stuff[k]["id"]
                stuff[k]["area"] += segment["area"]
        return image, panoptic_to_target(segment_map, info, len(self.classes))
