"""Image and labels move together: scale jitter, crop, flip, and the collation of a batch.

Every step acts on the image and on its *panoptic map*; the set of (class, mask) is made anew from the moved map. So a
mask can not move without its image, masks emptied by a crop drop out, and void stays void.
"""
import random

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import Dataset
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as T

from ..targets import pad_target, panoptic_to_target


class TrainingViews(Dataset):
    """A data set seen through random scale, crop and flip: every item is an image of `size` x `size` and its target.

    scale: the image's short side becomes size * u, u uniform in `scale`; what the crop lacks is padded (void). Draws
    depend on (seed, epoch, index) only, not on the worker or the order, so a run can be repeated.
    """

    def __init__(self, dataset, size, scale=(1.0, 1.0), seed=0):
        if size < 1 or not 0 < scale[0] <= scale[1]:
            raise ValueError(f"views need a positive size and 0 < scale[0] <= scale[1], got {size} and {scale}")
        self.dataset, self.size, self.scale, self.seed = dataset, size, scale, seed
        self.classes = dataset.classes

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, key):
        """key: an index, or (epoch, index) to see the same picture another way each epoch."""
        epoch, index = key if isinstance(key, tuple) else (0, key)
        image, target = self.dataset[index]
        size, map_size = tuple(image.shape[-2:]), tuple(target["segment_map"].shape)
        if size != map_size:
            raise ValueError(f"item {index}: image of {size} and segment map of {map_size} differ in size")
        rng = random.Random(f"views:{self.seed}:{epoch}:{index}")
        return view(image, target, self.size, rng, self.scale, len(self.classes))


def view(image, target, size, rng, scale, num_classes):
    """One random view of (image uint8 [3, H, W], target): scaled, cropped to size x size, maybe flipped."""
    segment_map = target["segment_map"]
    short_side = round(size * rng.uniform(*scale))
    image, segment_map = resize_pair(image, segment_map, short_side)
    height, width = segment_map.shape
    top, left = rng.randint(0, max(0, height - size)), rng.randint(0, max(0, width - size))
    image, segment_map = image[:, top:top + size, left:left + size], segment_map[top:top + size, left:left + size]
    if rng.random() < 0.5:
        image, segment_map = image.flip(-1), segment_map.flip(-1)
    padding = (0, size - image.shape[-1], 0, size - image.shape[-2])
    image, segment_map = F.pad(image, padding), F.pad(segment_map, padding)  # padding is id 0, void
    return image, rebuild(target, segment_map, num_classes)


def resize_pair(image, segment_map, short_side):
    """Resize image (bilinear, antialiased) and panoptic map (nearest) so that the short side is `short_side`."""
    height, width = segment_map.shape
    scale = short_side / min(height, width)
    size = [max(1, round(height * scale)), max(1, round(width * scale))]
    if size == [height, width]:
        return image, segment_map
    return (T.resize(image, size, antialias=True),
            T.resize(segment_map[None], size, interpolation=InterpolationMode.NEAREST_EXACT)[0])


def rebuild(target, segment_map, num_classes):
    """The target of a moved panoptic map: segments that lost all their pixels are gone, areas are counted again."""
    ids, areas = np.unique(segment_map.numpy(), return_counts=True)
    area = dict(zip(ids.tolist(), areas.tolist()))
    info = [dict(s, area=area[s["id"]]) for s in target["segments_info"] if s["id"] in area]
    return panoptic_to_target(segment_map.contiguous(), info, num_classes)


def collate(items):
    """A list of (image uint8 [3, h, w], target) as images uint8 [B, 3, H, W], sizes [(h, w)], B targets on H x W.

    Padding is at the right and bottom: zeros in the image, no mask, not valid.
    """
    images, targets = zip(*items)
    for image, target in items:
        size, mask_size = tuple(image.shape[-2:]), tuple(target["masks"].shape[-2:])
        if size != mask_size:
            raise ValueError(f"an image of {size} came with masks of {mask_size}")
    sizes = [tuple(image.shape[-2:]) for image in images]
    height, width = max(h for h, _ in sizes), max(w for _, w in sizes)
    batch = torch.stack([F.pad(image, (0, width - w, 0, height - h)) for image, (h, w) in zip(images, sizes)])
    return batch, sizes, [pad_target(target, height, width) for target in targets]
