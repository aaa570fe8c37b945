"""From a picture to an answer: resize, batch, run, undo, read out (lesson 08 is about the reading).

Two bilinear steps, as in the reference: mask logits to the padded network input, cropped to the true image, then to the
picture's own size. Semantic inference resizes the class *scores* in the second step, the other rules the mask logits.
Between the network and the reading, predictions wait at stride 4, a sixteenth of their memory.
"""
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor, resize

from . import inference
from .inference import general_inference, instance_inference, panoptic_inference, sure_queries

TASKS = ("semantic", "instance", "panoptic", "general")


class Sizes(NamedTuple):
    """What `read_out` must know of a picture: its own size, and the size the network saw, before padding."""
    picture: tuple  # (H, W)
    network: tuple  # (h, w)


def predict(model, images, task="panoptic", tta=False, **options):
    """See `MaskFormer.predict`: one picture or a list, any sizes, to that task's result at each picture's own size.

    tta: test-time augmentation, for the semantic task only; see tta.py for its options.
    """
    check_task(task)
    if tta:
        from .tta import predict_semantic_tta
        if task != "semantic":
            raise ValueError(f"test-time augmentation averages scores per pixel, which only the semantic task has; "
                             f"the task is {task!r}")
        return predict_semantic_tta(model, images, **options)
    single = not isinstance(images, (list, tuple))
    pictures = [to_tensor(image) for image in ([images] if single else images)]
    results = [read_out(model.config, task, *prediction, **options) for prediction in run(model, pictures)]
    return results[0] if single else results


def check_task(task):
    """Raise ValueError for an unknown task, listing the known ones."""
    if task not in TASKS:
        raise ValueError(f"unknown task {task!r}; known tasks: {', '.join(TASKS)}")


def to_tensor(image):
    """A PIL image, array [H, W, 3] or [H, W], or tensor [3, H, W], all uint8, as uint8 tensor [3, H, W]."""
    if isinstance(image, Image.Image):
        return pil_to_tensor(image.convert("RGB"))
    if isinstance(image, np.ndarray):
        array = np.stack([image] * 3, -1) if image.ndim == 2 else image
        if array.dtype == np.uint8 and array.ndim == 3 and array.shape[-1] == 3 and array.size:
            return torch.from_numpy(np.ascontiguousarray(array)).permute(2, 0, 1)
        raise ValueError(f"an image array is uint8 [H, W, 3] or [H, W], got {image.dtype} {image.shape}")
    if isinstance(image, torch.Tensor):
        if image.dtype == torch.uint8 and image.ndim == 3 and image.shape[0] == 3 and image.numel():
            return image
        raise ValueError(f"an image tensor is uint8 [3, H, W], got {image.dtype} {tuple(image.shape)}")
    raise TypeError(f"an image is a PIL image, a uint8 array or a uint8 tensor, got {type(image).__name__}; "
                    f"open files with PIL.Image.open")


@torch.no_grad()
def run(model, pictures, batch_size=16, scale=1.0):
    """Per uint8 picture [3, H, W]: (class_logits [N, K+1], mask_logits at stride 4 of the padded input, `Sizes`).

    These three are what `read_out` takes. scale multiplies the short (and the largest long) side that pictures are
    resized to.
    Only pictures that have one size after resizing share a batch, so the company changes nothing about a prediction.
    """
    config, was_training = model.config, model.training
    sides = round(config.short_side * scale), round(config.long_side * scale)
    resized = [resize_short_side(picture, *sides) for picture in pictures]
    order = sorted(range(len(pictures)), key=lambda i: tuple(resized[i].shape))
    batches, results = [], [None] * len(pictures)
    for i in order:
        if not batches or len(batches[-1]) == batch_size or resized[batches[-1][0]].shape != resized[i].shape:
            batches.append([])
        batches[-1].append(i)
    model.eval()
    try:
        for batch in batches:
            images = model.normalize(torch.stack([resized[i] for i in batch]))  # [B, 3, h, w]
            output = model(images)
            for i, class_logits, mask_logits in zip(batch, output.class_logits, output.mask_logits):
                sizes = Sizes(tuple(pictures[i].shape[-2:]), tuple(images.shape[-2:]))
                results[i] = class_logits.float(), mask_logits.float(), sizes
    finally:
        model.train(was_training)
    return results


def read_out(config, task, class_logits, mask_logits, size, things=None, **options):
    """The answer of one task for one picture, from what `run` gave for it.

    size: the `Sizes` of the picture; or just its (H, W), for mask logits already enlarged to the network's input size.
    """
    check_task(task)
    things = config.things if things is None else things
    picture = size.picture if isinstance(size, Sizes) else size

    def to_input(logits):  # [n, h/4, w/4] -> [n, h, w]
        return to_input_size(logits, size.network, config.size_divisibility) if isinstance(size, Sizes) else logits

    def to_picture(logits):  # ... -> [n, H, W]
        return bilinear(to_input(logits), picture)

    if task == "semantic":
        return semantic_map(class_logits, mask_logits, to_input, picture, **options)
    if task == "general":
        return general_inference(class_logits, to_picture(mask_logits), **options)
    if task == "instance":
        if not tuple(things):
            raise ValueError("instance inference needs thing classes: the model's config.things is empty; "
                             "pass things=...")
        return instance_inference(class_logits, to_picture(mask_logits), things, **options)
    thresholds = {"score_threshold": config.score_threshold, "overlap_threshold": config.overlap_threshold} | options
    sure = sure_queries(class_logits, thresholds["score_threshold"])[2].nonzero().flatten()
    # the other masks take no part: no need to enlarge them
    return panoptic_inference(class_logits[sure], to_picture(mask_logits[sure]), things, **thresholds)


@torch.no_grad()
def semantic_map(class_logits, mask_logits, to_input, size):
    """argmax over classes of the semantic scores resized to `size` (H, W), int64, without ever holding all K of them.

    A group of classes at a time against the best so far: 150 classes of 2048 x 1024 pixels would need 1.2 GB, twice.
    Masks [N, ...] become probabilities [N, h, w] by `to_input` a group of queries at a time, for the same reason.
    """
    inference.check_predictions(class_logits, mask_logits)
    class_probs = class_logits.float().softmax(-1)[:, :-1]  # [N, K+1] -> [N, K]
    mask_probs = enlarged_probs(mask_logits, to_input)  # [N, h, w]
    at_once = max(1, inference.CHUNK // max(size[0] * size[1], mask_probs[0].numel()))  # classes
    best, best_class = None, None
    for first in range(0, class_probs.shape[1], at_once):
        with torch.autocast(mask_probs.device.type, enabled=False):
            scores = torch.einsum("nk,nhw->khw", class_probs[:, first:first + at_once], mask_probs)  # [k, h, w]
        top, index = bilinear(scores, size).max(0)  # [H, W]
        if best is None:
            best, best_class = top, index
        else:
            best_class = torch.where(top > best, index + first, best_class)  # a tie stays with the earlier class
            best = torch.maximum(top, best)
    return best_class


def enlarged_probs(mask_logits, to_input, at_once=4):
    """sigmoid(to_input(mask_logits)) [N, h, w], a few queries at a time: only the result is ever large."""
    for first in range(0, len(mask_logits), at_once):
        part = to_input(mask_logits[first:first + at_once]).float().sigmoid()
        if first == 0:
            mask_probs = part.new_empty(len(mask_logits), *part.shape[1:])
        mask_probs[first:first + len(part)] = part
    return mask_probs


def resize_short_side(image, short_side, long_side):
    """Resize [3, H, W] so that the short side is `short_side`, or the long side `long_side` if that is smaller."""
    height, width = image.shape[-2:]
    scale = min(short_side / min(height, width), long_side / max(height, width))
    size = [max(1, round(height * scale)), max(1, round(width * scale))]
    return image if size == [height, width] else resize(image, size, antialias=True)


def to_input_size(mask_logits, size, divisibility):
    """Mask logits [N, h, w] at stride 4 to the padded input, then cropped to the true size: [N, *size]."""
    padded = tuple(side + -side % divisibility for side in size)
    return bilinear(mask_logits, padded)[:, :size[0], :size[1]]


def bilinear(maps, size):
    """Bilinear resize of [C, h, w] to [C, *size]; C may be 0."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    if len(maps) == 0:
        return maps.new_zeros(0, *size)
    return F.interpolate(maps[None], size=tuple(size), mode="bilinear", align_corners=False)[0]
