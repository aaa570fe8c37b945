"""Your own data set in Python, in torchvision's form for detection: (image, {"labels": ..., "masks": ...})."""
import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from .classes import ClassTable
from .images import rgb_array
from .readers.objects import objects_target

BACKGROUND = ("background", "__background__", "_background_", "bg")


def from_torchvision(dataset, classes):
    """A data set of dicts with labels and masks, such as torchvision's detection models take, as one of ours.

    dataset: items are (image, target); an image is a Pillow picture, uint8 [3, H, W] or [1, H, W], or floats 0 ... 1
    that are not normalised; a target has labels int [T] and masks bool or 0 and 1 [T, H, W], maybe iscrowd [T].
    classes: the names. If the first is "background", labels are positions in the list and 0 means no object, as in
    torchvision; otherwise labels are 0 ... K-1. All are things, and pixels in no mask are a stuff class "background" at
    the end. Anything else raises ValueError naming the item, when it is read.
    """
    return TorchvisionDataset(dataset, classes)


class TorchvisionDataset(Dataset):
    """What `from_torchvision` returns."""

    def __init__(self, dataset, classes):
        names = tuple(map(str, classes))
        self.dataset, self.first = dataset, int(bool(names) and names[0].lower() in BACKGROUND)
        things = names[self.first:]
        if not things or len(set(things)) < len(things) or set(things) & set(BACKGROUND):
            raise ValueError(f"classes are the names of the objects, each once, with or without \"background\" in "
                             f"front, got {list(classes)}")
        self.classes = ClassTable((*things, "background"), (True,) * len(things) + (False,),
                                  tuple(range(1, len(things) + 2)))

    def __len__(self):
        return len(self.dataset)

    def name(self, index):
        """The item's number: a data set in Python has no names."""
        return f"item_{index}"

    def __getitem__(self, index):
        image, target = self.dataset[index]
        where = f"item {index}"
        if not isinstance(target, dict) or not {"labels", "masks"} <= set(target):
            raise ValueError(f"{where}: the target is a dict with \"labels\" and \"masks\", got "
                             f"{sorted(target) if isinstance(target, dict) else type(target).__name__}")
        image = image_tensor(image, where)  # [3, H, W]
        size = tuple(image.shape[1:])
        labels = torch.as_tensor(target["labels"]).reshape(-1).tolist()
        masks = mask_array(target["masks"], where)  # [T, H, W]
        crowds = torch.as_tensor(target.get("iscrowd", torch.zeros(len(labels)))).reshape(-1).tolist()
        if not len(labels) == len(masks) == len(crowds) or masks.shape[1:] != size and len(masks):
            raise ValueError(f"{where}: {len(labels)} labels, masks of shape {masks.shape}, {len(crowds)} crowds and "
                             f"an image of {size} do not belong together")
        bad = sorted({k for k in labels if not 0 <= k - self.first < len(self.classes) - 1})
        if bad:
            hint = "" if self.first else ("; if labels count from 1, as torchvision's do, put \"background\" in front "
                                          "of the names")
            raise ValueError(f"{where}: the labels {bad[:5]} are not {self.first} ... "
                             f"{len(self.classes) - 2 + self.first} ({', '.join(self.classes.names[:-1][:8])}){hint}")
        objects = zip((int(k) - self.first for k in labels), map(int, crowds), masks)
        return image, objects_target([found for found in objects if found[2].any()], size, len(self.classes) - 1)


def image_tensor(image, where):
    """A picture as uint8 RGB [3, H, W]."""
    if isinstance(image, Image.Image):
        return torch.from_numpy(rgb_array(image, where)).permute(2, 0, 1).contiguous()  # [3, H, W]
    image = torch.as_tensor(image).as_subclass(torch.Tensor)
    if image.ndim != 3 or image.shape[0] not in (1, 3):
        raise ValueError(f"{where}: an image is [3, H, W] or [1, H, W], got shape {tuple(image.shape)}")
    if image.is_floating_point():
        if not (image.min() >= 0 and image.max() <= 1):
            raise ValueError(f"{where}: floats are 0 ... 1, got {float(image.min()):.3g} ... {float(image.max()):.3g}: "
                             "leave normalisation to the model")
        image = (image * 255).round().to(torch.uint8)
    elif image.dtype != torch.uint8:
        raise ValueError(f"{where}: an image is uint8 or float, got {image.dtype}")
    return image.expand(3, -1, -1).contiguous()


def mask_array(masks, where):
    """Masks as bool [T, H, W]: in masks of numbers, 0 is outside and one other number inside."""
    masks = np.asarray(torch.as_tensor(masks).as_subclass(torch.Tensor).cpu())
    if masks.ndim == 4 and masks.shape[1] == 1:
        masks = masks[:, 0]  # [T, 1, H, W], as in a model's predictions
    if masks.ndim != 3 and masks.size:
        raise ValueError(f"{where}: masks are [T, H, W], got shape {masks.shape}")
    if masks.dtype != bool and len(values := np.unique(masks)) > 2:
        raise ValueError(f"{where}: masks hold {len(values)} values, {values[:5].tolist()} ...: 0 is outside, one "
                         "other value is inside, and each object needs a mask of its own")
    return masks.reshape(-1, *masks.shape[-2:]) != 0
