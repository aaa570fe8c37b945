"""From a picture to an answer: resize, batch, run, undo the resizing, read out (lesson 08 is about reading out).

Two bilinear steps, as in the reference: mask logits to the padded network input, cropped to the true image, then to the
picture's own size. Semantic inference resizes the class *scores* in the second step, the other rules the mask logits.
Until they are read out, predictions stay at stride 4, in a sixteenth of the memory; only what an answer needs is
enlarged, a few maps at a time.
"""
import math
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2.functional import resize

from .data.images import upright_array
from .fast.large_maps import Largest, ToPicture, at_once, bands, bilinear, weighted_masks
from .fast.tiles import in_tiles
from .inference import (
    general_inference,
    instance_inference,
    panoptic_inference,
    per_pixel_inference,
    semantic_inference,
    semantic_scores,
)
from .system.arguments import check_predictions, check_things
from .targets import semantic_to_panoptic

TASKS = ("semantic", "instance", "panoptic", "general")
SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)  # of the short side, in test-time augmentation; of 512: 256 ... 896 pixels
PIXELS = 2**20  # in one batch on a CPU, where larger batches cost memory and save no time
GROUP = 2**27  # semantic_map keeps this many score values (512 MiB) at once


class Sizes(NamedTuple):
    """What `read_out` must know about a picture: its own size, and the size the network saw, before padding."""
    picture: tuple  # (H, W)
    network: tuple  # (h, w)


def predict(model, images, task="panoptic", tta=False, size=None, tiles=None, overlap=0.25, **options):
    """See `MaskFormer.predict`: one picture or a list, any sizes, to that task's result at each picture's own size.

    size: the short side that the network sees, in place of the model's. tiles: look at the picture in squares of so
    many pixels, overlapping by at least that share, each resized for the network; their answers become one. tta:
    test-time augmentation, for the semantic task only; `predict_semantic_tta` has its options. Raises ValueError or
    TypeError for anything that is not a picture, FloatingPointError if the network's answer is not finite.
    """
    check_task(task)
    if size is not None and size < 1 or tiles is not None and (tta or task == "general"):
        raise ValueError(f"size is at least 1, and tiles are for the semantic, instance and panoptic task without tta; "
                         f"got size {size}, tiles {tiles}, task {task!r}, tta {tta}")
    scale = 1.0 if size is None else size / model.config.short_side
    if tta:
        if task != "semantic":
            raise ValueError(f"test-time augmentation averages scores per pixel, which only the semantic task has; "
                             f"the task is {task!r}")
        return predict_semantic_tta(model, images, **{"scales": [scale * s for s in SCALES]} | options)
    single = not isinstance(images, (list, tuple))
    pictures = [to_tensor(image) for image in ([images] if single else images)]
    if tiles is not None:
        results = [in_tiles(picture, task, lambda crop: answer_of_crop(model, crop, task, scale, **options), tiles,
                            overlap, options.get("things", model.config.things)) for picture in pictures]
        return results[0] if single else results
    predictions = run(model, pictures, scale=scale)
    check_finite(predictions)
    results = [read_out(model.config, task, *prediction, **options) for prediction in predictions]
    return results[0] if single else results


def answer_of_crop(model, crop, task, scale, **options):
    """What `in_tiles` joins: the semantic scores [K, h, w] of a crop [3, h, w], or its answer for another task."""
    (prediction,) = predictions = run(model, [crop], scale=scale)
    check_finite(predictions)
    return picture_scores(model.config, *prediction) if task == "semantic" else read_out(model.config, task,
                                                                                         *prediction, **options)


def picture_scores(config, class_logits, mask_logits, sizes):
    """Semantic scores [K, H, W] at the picture's size, from what `run` gives for it."""
    mask_logits = to_input_size(mask_logits, sizes.network, config.size_divisibility)  # [N, h, w]
    scores = mask_logits.softmax(0) if config.per_pixel else semantic_scores(class_logits, mask_logits)  # [K, h, w]
    return bilinear(scores, sizes.picture)  # [K, H, W]


def check_task(task):
    """Raise ValueError for an unknown task, listing the known ones."""
    if task not in TASKS:
        raise ValueError(f"unknown task {task!r}; known tasks: {', '.join(TASKS)}")


def to_tensor(image):
    """A PIL image, array [H, W, 3] or [H, W], or tensor [3, H, W], as uint8 tensor [3, H, W]; arrays must be uint8.

    A PIL image may be of any mode; it is turned upright by its EXIF orientation (see `upright_array`).
    """
    if isinstance(image, Image.Image):
        image = upright_array(image)
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
    resized to. Only pictures of the same size after resizing share a batch, so a prediction does not depend on the
    other pictures.
    """
    config, was_training = model.config, model.training
    sides = round(config.short_side * scale), round(config.long_side * scale)
    resized = [resize_short_side(picture, *sides) for picture in pictures]
    order = sorted(range(len(pictures)), key=lambda i: tuple(resized[i].shape))
    batches, results = [], [None] * len(pictures)
    for i in order:
        most = batch_size if model.pixel_mean.is_cuda else min(batch_size, PIXELS // resized[i][0].numel())
        if not batches or len(batches[-1]) >= most or resized[batches[-1][0]].shape != resized[i].shape:
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


def check_finite(predictions):
    """Raise FloatingPointError unless every prediction of `run` is finite; on a GPU the host waits once for all."""
    finite = [c.isfinite().all() & m.isfinite().all() for c, m, _ in predictions]
    bad = [i for i, good in enumerate(torch.stack(finite).tolist() if finite else []) if not good]
    if bad:
        raise FloatingPointError(f"the model's prediction is not finite for {len(bad)} of {len(predictions)} pictures "
                                 f"(number {bad[0]} first): are its weights? Take an earlier checkpoint")


def read_out(config, task, class_logits, mask_logits, size, things=None, **options):
    """The answer of one task for one picture, from what `run` returned for it.

    size: the picture's `Sizes`, or just its (H, W) if the mask logits already have the network's input size.
    """
    check_task(task)
    things = config.things if things is None else things
    if not isinstance(size, Sizes):
        size = Sizes(tuple(size), tuple(mask_logits.shape[-2:]))
        padded = size.network
    else:
        padded = padded_size(size.network, config.size_divisibility)

    to_picture = ToPicture(tuple(padded), tuple(size.network), tuple(size.picture))
    if config.per_pixel:
        return read_pixels(config, task, mask_logits, to_picture, things)
    if task == "semantic":
        return semantic_map(class_logits, mask_logits, padded, *reversed(size), **options)
    if task == "general":
        return general_inference(class_logits, mask_logits, resize=to_picture, **options)
    if task == "instance":
        things = check_things(things, class_logits.shape[-1] - 1)
        if not things:
            raise ValueError("instance inference needs thing classes: the model's config.things is empty; "
                             "pass things=...")
        return instance_inference(class_logits, mask_logits, things, resize=to_picture, **options)
    thresholds = {"score_threshold": config.score_threshold, "overlap_threshold": config.overlap_threshold} | options
    return panoptic_inference(class_logits, mask_logits, things, resize=to_picture, **thresholds)


def read_pixels(config, task, pixel_logits, to_picture, things):
    """`read_out` for a per-pixel baseline, scores [K, h, w]. Panoptic: all pixels of a class are one segment."""
    if task not in ("semantic", "panoptic"):
        raise ValueError(f"a per-pixel model has no queries, and so no answer for the task {task!r}: take semantic, or "
                         f"panoptic, in which all pixels of a class are one segment")
    classes = per_pixel_inference(pixel_logits, to_picture)  # [H, W]
    return classes if task == "semantic" else semantic_to_panoptic(classes.cpu(), config.num_classes, things)


@torch.no_grad()
def semantic_map(class_logits, mask_logits, padded, network, picture):
    """argmax over classes of the semantic scores resized to the size `picture`, int64 [H, W].

    Mask logits [N, h', w'] are enlarged to `padded` and cropped to `network`, where scores are computed a few rows at a
    time. If the picture has another size, the scores of a group of classes, up to GROUP values, are kept; a few classes
    at a time are resized and compared with the best so far: 150 classes of 12 megapixels would be 7 GB.
    """
    num_classes = check_predictions(class_logits, mask_logits)
    if tuple(network) == tuple(picture):
        return torch.cat([semantic_inference(class_logits, band) for band in bands(mask_logits, padded, network)])
    class_probs = class_logits.float().softmax(-1)[:, :-1]  # [N, K+1] -> [N, K]
    largest, few = Largest(picture, mask_logits.device), at_once(mask_logits.device, picture[0] * picture[1])
    group = min(num_classes, max(1, GROUP // (network[0] * network[1])))
    scores = class_probs.new_empty(group, *network)  # [k, h, w]
    for weights in class_probs.split(group, dim=1):  # [N, k]
        top = 0
        for band in bands(mask_logits, padded, network):  # [N, rows, w]
            scores[:weights.shape[1], top:top + band.shape[1]] = weighted_masks(weights, band)
            top += band.shape[1]
        for part in scores[:weights.shape[1]].split(few):
            largest.add(bilinear(part, picture))  # [few, H, W]
    return largest.index()


def predict_semantic_tta(model, image, scales=SCALES, flip=True):
    """The class of each pixel, int64 [H, W], by the mean of the semantic scores over sizes and mirror images.

    image: a picture as `MaskFormer.predict` takes it, or a list of them (then a list comes back). The paper's
    "multi-scale" figures (m.s. in Table 1) are made this way: twelve forward passes for 1.2 to 2.2 points of mIoU on
    ADE20K.
    """
    if isinstance(image, (list, tuple)):
        return [predict_semantic_tta(model, one, scales, flip) for one in image]
    return semantic_scores_tta(model, image, scales, flip).argmax(0)


@torch.no_grad()
def semantic_scores_tta(model, image, scales=SCALES, flip=True):
    """Mean semantic scores, float32 [K, H, W], over `scales` of the model's short side and, with flip, mirror images.

    As in the reference, every version's scores are resized to the picture and then averaged with equal weight. A
    picture and its mirror image share a batch; only a running sum of the scores is kept, so memory depends on the
    largest scale, not on the number of scales. Raises ValueError unless scales are positive numbers, at least one.
    """
    scales = tuple(scales)
    if not scales or not all(0 < scale < math.inf for scale in scales):
        raise ValueError(f"scales are positive numbers, at least one, got {scales}")
    picture = to_tensor(image)
    versions = [picture, picture.flip(-1)] if flip else [picture]
    total = 0
    for scale in scales:
        both, predictions = 0, run(model, versions, scale=scale)
        check_finite(predictions)
        for mirrored, prediction in enumerate(predictions):
            scores = picture_scores(model.config, *prediction)  # [K, H, W]
            both = both + (scores.flip(-1) if mirrored else scores)
        total = total + both
    return total / (len(scales) * len(versions))


def resize_short_side(image, short_side, long_side):
    """Resize [3, H, W] so that the short side is `short_side`, or the long side `long_side` if that is smaller."""
    height, width = image.shape[-2:]
    scale = min(short_side / min(height, width), long_side / max(height, width))
    size = [max(1, round(height * scale)), max(1, round(width * scale))]
    return image if size == [height, width] else resize(image, size, antialias=True)


def to_input_size(mask_logits, size, divisibility):
    """Mask logits [N, h, w] at stride 4 to the padded input, then cropped to the true size: [N, *size]."""
    return bilinear(mask_logits, padded_size(size, divisibility))[:, :size[0], :size[1]]


def padded_size(size, divisibility):
    """The size of a network input: each side rounded up to a multiple of `divisibility`."""
    return tuple(side + -side % divisibility for side in size)
