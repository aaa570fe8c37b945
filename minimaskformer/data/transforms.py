"""Image and labels move together: scale jitter, crop, flip, colour, and the collation of a batch.

The image and everything aligned with its pixels (masks, valid, the panoptic map) are tv_tensors in one dict, and every
step of torchvision's transforms v2 is applied to the whole dict. So a mask cannot move without its image, masks
emptied by a crop are dropped, overlapping masks stay whole, and void stays void.
"""
import random

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as T
from torchvision.tv_tensors import Image, Mask

from ..targets import pad_target

CROP_TRIES = 10  # how often a crop with too much of one category is redrawn, as in the reference


class TrainingViews(Dataset):
    """A data set seen through random scale, crop, flip and colour: items are images of `size` x `size` and targets.

    scale: the image's short side becomes size * u, u uniform in `scale`; what the crop lacks is padded (void).
    flip: mirror a view with probability one half. color: vary brightness, contrast, saturation and hue.
    category_limit: redraw a crop, up to ten times, if one category has this share of the known pixels or more (the
    reference's SINGLE_CATEGORY_MAX_AREA; 1 is no limit).
    Draws depend on (seed, epoch, index) only, not on the worker or the order, so a run can be repeated.
    """

    def __init__(self, dataset, size, scale=(1.0, 1.0), seed=0, flip=True, color=False, category_limit=1.0):
        if size < 1 or not 0 < scale[0] <= scale[1]:
            raise ValueError(f"views need a positive size and 0 < scale[0] <= scale[1], got {size} and {scale}")
        if not 0 < category_limit <= 1:
            raise ValueError(f"category_limit is a share of the pixels, above 0 and at most 1, got {category_limit}")
        self.dataset, self.size, self.scale, self.seed = dataset, size, scale, seed
        self.flip, self.color, self.category_limit = flip, color, category_limit
        self.classes = dataset.classes

    def __len__(self):
        return len(self.dataset)

    def name(self, index):
        """The name that the data set gives its item."""
        return self.dataset.name(index)

    def __getitem__(self, key):
        """key: an index, or (epoch, index) for a different view of the same picture each epoch."""
        epoch, index = key if isinstance(key, tuple) else (0, key)
        image, target = self.dataset[index]
        size = tuple(image.shape[-2:])
        for name in ("masks", "valid", "segment_map"):
            if tuple(target[name].shape[-2:]) != size:
                raise ValueError(f"item {index} ({self.name(index)}): image of {size} and {name} of "
                                 f"{tuple(target[name].shape[-2:])} differ in size")
        rng = random.Random(f"views:{self.seed}:{epoch}:{index}")
        return view(image, target, self.size, rng, self.scale, self.flip, self.color, self.category_limit)


def view(image, target, size, rng, scale=(1.0, 1.0), flip=True, color=False, category_limit=1.0):
    """One random view of (image uint8 [3, H, W], target): scaled, cropped to size x size, maybe flipped and coloured.

    rng: a random.Random. Returns (image uint8 [3, size, size], target). What each option does: TrainingViews.
    """
    sample = {"image": Image(image), "masks": Mask(target["masks"]), "valid": Mask(target["valid"]),
              "segment_map": Mask(target["segment_map"])}
    sample = resize_all(sample, round(size * rng.uniform(*scale)))
    sample = crop_all(sample, size, rng, target["labels"], category_limit)
    if flip and rng.random() < 0.5:
        sample = {name: T.horizontal_flip(value) for name, value in sample.items()}
    if color:
        sample["image"] = vary_color(sample["image"], rng)
    moved = {name: value.as_subclass(torch.Tensor).contiguous() for name, value in sample.items()}
    return moved.pop("image"), rebuild(target, moved)


def resize_all(sample, short_side):
    """Resize so that the short side is `short_side`: the image bilinear and antialiased, all else by nearest pixel."""
    height, width = sample["image"].shape[-2:]
    scale = short_side / min(height, width)
    size = [max(1, round(height * scale)), max(1, round(width * scale))]
    if size == [height, width]:
        return sample
    return {name: T.resize(value, size, antialias=True) if isinstance(value, Image) else resize_labels(value, size)
            for name, value in sample.items()}


def resize_labels(mask, size):
    """Labels or masks [..., H, W] at another size; every value is one that was there.

    Each pixel takes the value under its own centre. v2's rule for a Mask, NEAREST, is half a pixel off the resized
    image, and works in float32, where segment ids above 2**24 would become other ids.
    """
    rows, columns = (((torch.arange(new) + 0.5) * old / new).long() for new, old in zip(size, mask.shape[-2:]))
    return Mask(mask.as_subclass(torch.Tensor)[..., rows[:, None], columns])


def crop_all(sample, size, rng, labels, category_limit=1.0):
    """Crop to size x size at a random place, padded with zeros (black, no mask, void) where the image is smaller."""
    height, width = sample["image"].shape[-2:]
    for _ in range(CROP_TRIES):
        top, left = rng.randint(0, max(0, height - size)), rng.randint(0, max(0, width - size))
        cropped = {name: T.crop(value, top, left, size, size) for name, value in sample.items()}
        if category_limit == 1 or largest_share(cropped["masks"], labels) < category_limit:
            break
    return cropped


def largest_share(masks, labels):
    """The share of the labelled pixels that the largest category has; 1 where no pixel is labelled."""
    areas = masks.as_subclass(torch.Tensor).flatten(1).sum(1)  # [T]
    per_category = torch.zeros(int(labels.max()) + 1 if len(labels) else 1, dtype=areas.dtype)
    per_category.index_add_(0, labels, areas)
    return (per_category.max() / per_category.sum()).item() if per_category.any() else 1.0


def vary_color(image, rng):
    """Brightness, contrast, saturation and hue, each in half of the views; contrast before the colours or after them.

    The ranges are those of SSD (Liu et al. 2016), which the reference uses, with torchvision's arithmetic.
    """
    steps = [(T.adjust_saturation, 0.5, 1.5), (T.adjust_hue, -0.1, 0.1)]  # hue in turns: 36 degrees to either side
    steps.insert(rng.choice((0, 2)), (T.adjust_contrast, 0.5, 1.5))
    for adjust, low, high in [(T.adjust_brightness, 0.875, 1.125), *steps]:
        if rng.random() < 0.5:
            image = adjust(image, rng.uniform(low, high))
    return image


def rebuild(target, moved):
    """The target after a move: masks that lost all their pixels are gone, areas are counted again."""
    kept = moved["masks"].flatten(1).any(1)  # [T]
    ids, areas = np.unique(moved["segment_map"].numpy(), return_counts=True)
    area = dict(zip(ids.tolist(), areas.tolist()))
    info = [dict(s, area=area[s["id"]]) for s in target["segments_info"] if s["id"] in area]
    return {"labels": target["labels"][kept], "masks": moved["masks"][kept], "valid": moved["valid"],
            "segment_map": moved["segment_map"], "segments_info": info}


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
