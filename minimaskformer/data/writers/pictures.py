"""Copy pictures of a data set into another folder: the file itself if there is one, so that not a pixel changes."""
from PIL import Image

from ...system.files import copy_file


def copy_picture(folder, dataset, index, read):
    """Put the picture of an item into a folder: (its file name, (height, width), read(dataset, index, target))."""
    image, target = dataset[index]  # [3, H, W]
    name = f"{dataset.name(index)}{picture_suffix(dataset, index)}"
    if hasattr(dataset, "files"):
        copy_file(dataset.files(index)[0], folder / name)
    else:
        Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()).save(folder / name)  # [H, W, 3]
    return name, tuple(image.shape[1:]), read(dataset, index, target)


def picture_suffix(dataset, index):
    """The suffix of an item's picture, .png if it has no file."""
    return dataset.files(index)[0].suffix if hasattr(dataset, "files") else ".png"
