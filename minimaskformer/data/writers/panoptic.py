"""A data set as COCO panoptic files: images/SPLIT/, panoptic/SPLIT/ and panoptic_SPLIT.json."""
from ..readers.coco_panoptic import write_panoptic


def write_panoptic_files(folder, dataset, split, items=None):
    """Write a data set with `write_panoptic`, copying its picture files; returns the JSON's path.

    items: the indices, for a progress bar. Where masks overlap the smaller lies on top, as in the data set's map.
    """
    indices = list(range(len(dataset)))
    files = [dataset.files(i)[0] for i in indices] if hasattr(dataset, "files") else None
    return write_panoptic(folder, (dataset[i] for i in (indices if items is None else items)), dataset.classes, split,
                          [dataset.name(i) for i in indices], pictures=files)
