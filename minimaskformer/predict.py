"""From a picture to an answer: resize, batch, run, undo, read out (lesson 08 is about the reading).

Two bilinear steps, as in the reference: mask logits to the padded network input, cropped to the true image, then to the
picture's own size. Semantic inference resizes the class *scores* in the second step, the other rules the mask logits.
"""
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor, resize

from .inference import general_inference, instance_inference, panoptic_inference, semantic_scores

TASKS = ("semantic", "instance", "panoptic", "general")


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
    """Per uint8 picture [3, H, W]: (class_logits [N, K+1], mask_logits [N, h, w] at the network's input size, (H, W)).

    scale multiplies the short (and the largest long) side that pictures are resized to.
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
                mask_logits = to_input_size(mask_logits.float(), images.shape[-2:], config.size_divisibility)
                results[i] = class_logits.float(), mask_logits, tuple(pictures[i].shape[-2:])
    finally:
        model.train(was_training)
    return results


def read_out(config, task, class_logits, mask_logits, size, things=None, **options):
    """The answer of one task for one picture of `size` (H, W), from its class logits and input-size mask logits."""
    check_task(task)
    things = config.things if things is None else things
    if task == "semantic":
        scores = semantic_scores(class_logits, mask_logits, **options)  # [K, h, w]
        return bilinear(scores, size).argmax(0)  # [H, W]
    mask_logits = bilinear(mask_logits, size)  # [N, H, W]
    if task == "general":
        return general_inference(class_logits, mask_logits, **options)
    if task == "instance":
        if not tuple(things):
            raise ValueError("instance inference needs thing classes: the model's config.things is empty; "
                             "pass things=...")
        return instance_inference(class_logits, mask_logits, things, **options)
    thresholds = {"score_threshold": config.score_threshold, "overlap_threshold": config.overlap_threshold}
    return panoptic_inference(class_logits, mask_logits, things, **thresholds | options)


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
    """Bilinear resize of [C, h, w] to [C, *size]."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return F.interpolate(maps[None], size=tuple(size), mode="bilinear", align_corners=False)[0]
