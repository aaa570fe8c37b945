"""Check a data set before the first step: every label file read once, every bad one named, every class counted.

A run that stops after an hour because picture 40,000 has a label 151 has wasted the hour. The checks need no image
pixels: label files are decoded and compared with the class table; of images only the size is read.
"""
import os
from concurrent.futures import ThreadPoolExecutor

from PIL import Image
from tqdm.auto import tqdm

from .images import BROKEN, check_one_page, check_same_size, is_turned, page_numbers, unreadable
from .tally import content_of, tallied

FILES_NAMED = 20  # files listed in an error
LONG = 1000  # from this many files on, a progress bar


def scan_labels(dataset, limit=None, workers=None):
    """Raise ValueError with a list of the bad files of a data set, each with what is wrong with it, if there are any.

    An item is bad if it has a label that the class table lacks, a file that is missing, truncated or of the wrong kind,
    or an image of another size than its labels. limit: check only this many items, spread evenly over the data set.
    Data sets that are drawn, not read, such as Lakeland, have no files (no `read_map`) and pass at once. Returns the
    number of items checked.
    """
    counted = count_labels(dataset, limit, workers)
    return counted.items if counted else 0


def count_labels(dataset, limit=None, workers=None):
    """`scan_labels`, and what the labels hold: a Tally. None for data sets that are drawn, not read."""
    dataset = files_of(dataset)
    if not hasattr(dataset, "read_map"):
        return None
    indices = even_indices(len(dataset), limit)
    found = map_threads(lambda index: check_files(dataset, index), indices, workers,
                        "checking labels" if len(indices) > LONG else None)
    stop_at_bad([problem for problem, _ in found if problem], len(indices),
                "Mend or remove these files, or the class table; `python -m minimaskformer inspect` shows the whole "
                "data set")
    named = ((content, dataset.name(i)) for i, (_, content) in zip(indices, found))
    return tallied(dataset.classes, len(dataset), named)


def files_of(dataset):
    """The data set that has the files: views and groups of another data set hold it as `dataset`."""
    while not hasattr(dataset, "read_map") and hasattr(dataset, "dataset"):
        dataset = dataset.dataset
    return dataset


def stop_at_bad(bad, count, remedy="Mend or remove these files"):
    """Raise ValueError listing the first of `bad`, texts of what is wrong with items, if there are any."""
    if bad:
        listed = "\n".join(f"  {error}" for error in bad[:FILES_NAMED])
        more = f"\n  ... and {len(bad) - FILES_NAMED} more" if len(bad) > FILES_NAMED else ""
        raise ValueError(f"{len(bad)} of the {count} items checked cannot be used:\n{listed}{more}\n{remedy}")


def even_indices(count, limit=None):
    """`limit` indices spread evenly over 0 ... count - 1, or all of them."""
    if limit is not None and limit < 1:
        raise ValueError(f"a limit is at least 1, got {limit}")
    if limit is None or limit >= count:
        return list(range(count))
    return [i * count // limit for i in range(limit)]


def map_threads(function, items, workers=None, progress=None):
    """[function(item) for each item], in threads: while Pillow decodes a file the others can run.

    progress: the label of a progress bar; None for no bar.
    """
    with ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1)) as pool:
        return list(tqdm(pool.map(function, items), total=len(items), desc=progress, disable=progress is None))


def check_files(dataset, index):
    """(what is wrong with one item's files, as text that names them, or None; what its labels hold, or None)."""
    try:
        content = content_of(dataset, index)
        image_file, label_files = dataset.files(index)
        size, content.turned = stored_size(image_file)
        check_same_size({str(image_file): size, str(label_files[0]): content.size}, dataset.name(index))
    except (ValueError, OSError) as error:
        return str(error), None
    return None, content


def stored_size(path):
    """((height, width), whether an EXIF orientation turns it) from an image file's header, no pixel decoded."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no such image file: {path}")
    try:
        with Image.open(path) as picture:
            size, turned = (picture.height, picture.width), is_turned(picture)
            pages = page_numbers(picture)
    except BROKEN as error:
        raise unreadable(path, error) from error
    check_one_page(pages, path)
    return size, turned
