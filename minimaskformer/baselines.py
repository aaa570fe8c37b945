"""The paper's two per-pixel baselines, to compare mask classification with (section 4, "Baseline models"; lesson 11).

    PerPixelBaseline       pixel embeddings -> 1x1 convolution -> K class scores per pixel
    PerPixelBaselinePlus   MaskFormer itself with N = K queries, whose k-th mask is read as the scores of class k

Both are trained by cross-entropy per pixel. So the second differs from MaskFormer in the formulation and in nothing
else: same modules, one class score per pixel and query in place of a class for each query.
"""
from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from .config import MaskFormerConfig
from .model import MaskFormer
from .predict import bilinear, resize_short_side, to_input_size, to_tensor
from .targets import check_labels, on_one_canvas

UNKNOWN = -1  # in a label map: void, nobody knows the class


class PixelOutput(NamedTuple):
    """Scores of K classes for every pixel of B images, and the same of every earlier decoder layer (if any)."""
    pixel_logits: torch.Tensor  # [B, K, H/4, W/4]
    aux: tuple = ()


class PerPixelBaseline(nn.Module):
    """Backbone, FPN and a 1x1 convolution: no transformer decoder, no queries, no masks."""

    def __init__(self, config: MaskFormerConfig):
        super().__init__()
        self.config = config
        parts = MaskFormer(replace(config, num_queries=1, decoder_layers=1))  # its decoder is thrown away
        self.backbone, self.pixel_decoder = parts.backbone, parts.pixel_decoder
        self.classifier = nn.Conv2d(config.mask_dim, config.num_classes, 1)
        nn.init.kaiming_normal_(self.classifier.weight, mode="fan_out", nonlinearity="relu")  # as in the reference
        nn.init.zeros_(self.classifier.bias)
        self.register_buffer("pixel_mean", parts.pixel_mean, persistent=False)
        self.register_buffer("pixel_std", parts.pixel_std, persistent=False)

    pad, normalize, positions = MaskFormer.pad, MaskFormer.normalize, MaskFormer.positions  # the same preparation

    def forward(self, images, sizes=None):
        """Normalised float images [B, 3, H, W] (see `MaskFormer.forward`) to a `PixelOutput` [B, K, H/4, W/4]."""
        images, image_mask = self.pad(images, sizes)
        pixel_embeddings, _, _ = self.pixel_decoder(self.backbone(images), image_mask)  # [B, C, H/4, W/4]
        if self.config.pixel_positions:
            pixel_embeddings = pixel_embeddings + self.positions(image_mask, pixel_embeddings)
        return PixelOutput(self.classifier(pixel_embeddings))  # [B, K, H/4, W/4]

    def predict(self, images):
        """The class of every pixel, int64 [H, W], for a picture of any kind and size (or a list, for a list)."""
        return predict_pixels(self, images)


class PerPixelBaselinePlus(nn.Module):
    """MaskFormer with one query per class: query k's mask embedding is the weight vector that scores class k."""

    def __init__(self, config: MaskFormerConfig):
        super().__init__()
        self.config = replace(config, num_queries=config.num_classes)
        self.mask_former = MaskFormer(self.config)
        self.mask_former.class_head = nn.Identity()  # nobody asks what query k has found: it stands for class k

    def forward(self, images, sizes=None):
        """Normalised float images [B, 3, H, W] (see `MaskFormer.forward`) to a `PixelOutput` [B, K, H/4, W/4]."""
        output = self.mask_former(images, sizes)
        return PixelOutput(output.mask_logits, tuple(PixelOutput(layer.mask_logits) for layer in output.aux))

    def normalize(self, images):
        """uint8 images [..., 3, H, W] to normalised float32, as MaskFormer does."""
        return self.mask_former.normalize(images)

    def predict(self, images):
        """The class of every pixel, int64 [H, W], for a picture of any kind and size (or a list, for a list)."""
        return predict_pixels(self, images)


def per_pixel_loss(output, targets):
    """Cross-entropy per pixel at the truth's size, mean over the pixels whose class is known (section 3.1, L_pixel).

    output: a `PixelOutput` [B, K, h, w]; targets: B dicts. Returns a dict: `loss`, the sum over decoder layers, and its
    terms `pixel` (the last layer), `pixel_0` ... (the earlier ones). With no known pixel at all the loss is 0.
    """
    num_classes = output.pixel_logits.shape[1]
    if len(targets) != len(output.pixel_logits) or not targets:
        raise ValueError(f"{len(targets)} targets for a batch of {len(output.pixel_logits)} images")
    truth = torch.stack([label_map(target, num_classes) for target in on_one_canvas(targets)])  # [B, H, W]
    truth = truth.to(output.pixel_logits.device)
    known = (truth != UNKNOWN).sum().clamp(min=1)
    losses = {}
    for i, layer in enumerate((*output.aux, output)):
        logits = F.interpolate(layer.pixel_logits.float(), size=truth.shape[-2:], mode="bilinear", align_corners=False)
        total = F.cross_entropy(logits, truth, ignore_index=UNKNOWN, reduction="sum")  # logits [B, K, H, W]
        losses["pixel" + (f"_{i}" if i < len(output.aux) else "")] = total / known
    losses["loss"] = sum(losses.values())
    return losses


def label_map(target, num_classes):
    """The class of each pixel, int64 [H, W], from a set of (class, mask); -1 where nobody knows it (void, crowd).

    Void is what is not `valid`, and every pixel in no mask. Where masks overlap the later one wins.
    """
    labels, masks = target["labels"].cpu(), target["masks"].cpu()
    check_labels(labels, num_classes)
    classes = torch.full(masks.shape[-2:], UNKNOWN, dtype=torch.int64)  # [H, W]
    for label, mask in zip(labels, masks):
        classes[mask] = label
    if "valid" in target:
        classes[~target["valid"].cpu()] = UNKNOWN
    return classes


@torch.no_grad()
def predict_pixels(model, images):
    """The most likely class of every pixel at each picture's own size; resized and padded as `MaskFormer.predict` does.

    As in the reference, logits (not probabilities) are resized: to the input, cropped, to the picture, then argmax.
    """
    single, config, was_training = not isinstance(images, (list, tuple)), model.config, model.training
    results = []
    model.eval()
    try:
        for picture in map(to_tensor, [images] if single else images):
            image = model.normalize(resize_short_side(picture, config.short_side, config.long_side))  # [3, h, w]
            logits = model(image[None]).pixel_logits[0].float()  # [K, h/4, w/4]
            logits = to_input_size(logits, image.shape[-2:], config.size_divisibility)  # [K, h, w]
            results.append(bilinear(logits, picture.shape[-2:]).argmax(0))  # [H, W]
    finally:
        model.train(was_training)
    return results[0] if single else results
