"""MaskFormer: the wiring of Figure 2 of the paper (lesson 07).

    image -> backbone -> pixel decoder -> pixel embeddings ------------------------.
                  `-> memory -> transformer decoder (N queries) -> mask embeddings -> dot product -> N masks
                                                              `-> N class predictions

Each layer of the decoder gives such an answer: the last one's is the model's, the earlier ones' are for the loss.
"""
from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from .backbone import build_backbone, load_backbone_weights
from .config import MAPS, MaskFormerConfig, check_maps, get_config
from .pixel_decoder import FPN, resize_mask
from .transformer import TransformerDecoder, TransformerEncoder, positions_like


class Output(NamedTuple):
    """N pairs (class, mask) for each of B images, and the same from every earlier decoder layer."""
    class_logits: torch.Tensor  # [B, N, K+1], no-object is index K
    mask_logits: torch.Tensor  # [B, N, H/4, W/4]
    aux: tuple = ()


class PixelOutput(NamedTuple):
    """Scores of K classes for every pixel of B images, and the same of every earlier decoder layer (if any)."""
    pixel_logits: torch.Tensor  # [B, K, H/4, W/4]
    aux: tuple = ()

    @property
    def class_logits(self):
        """[B, 0, K+1]: there are no queries."""
        return self.pixel_logits.new_zeros(len(self.pixel_logits), 0, self.pixel_logits.shape[1] + 1)

    @property
    def mask_logits(self):
        """The scores [B, K, H/4, W/4], for what takes the maps of any model."""
        return self.pixel_logits


class Pixels(nn.Module):
    """What happens to images before the network: normalisation, padding, and the position of each pixel."""

    def __init__(self, config: MaskFormerConfig):
        super().__init__()
        if not isinstance(config, MaskFormerConfig):
            raise ValueError(f"config is a MaskFormerConfig, got {config!r}; build_model takes names of presets too")
        self.config = config
        self.register_buffer("pixel_mean", torch.tensor(config.pixel_mean)[:, None, None], persistent=False)
        self.register_buffer("pixel_std", torch.tensor(config.pixel_std)[:, None, None], persistent=False)

    def normalize(self, images):
        """uint8 images [..., 3, H, W] to normalised float32: (value - mean) / std per channel."""
        return (images.to(self.pixel_mean.device).float() - self.pixel_mean) / self.pixel_std

    def pad(self, images, sizes=None):
        """Images zero-padded at the right and bottom to the divisibility, and the mask bool [B, H, W] of true pixels.

        The mask is None if `sizes` show no padding.
        """
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise ValueError(f"images are normalised float [B, 3, H, W], got {images.dtype} {tuple(images.shape)}; "
                             f"use model.normalize on uint8 images, or model.predict on pictures")
        B, _, H, W = images.shape
        d = self.config.size_divisibility
        height, width = (H + d - 1) // d * d, (W + d - 1) // d * d
        padded = F.pad(images, (0, width - W, 0, height - H))
        if sizes is None:
            return padded, None
        if len(sizes) != B or any(not (0 < h <= H and 0 < w <= W) for h, w in sizes):
            raise ValueError(f"sizes {list(sizes)} do not fit a batch of {B} images of {H} x {W}")
        if all((h, w) == (height, width) for h, w in sizes):
            return padded, None
        image_mask = torch.ones(B, height, width, dtype=torch.bool, device=images.device)
        for mask, (h, w) in zip(image_mask, sizes):
            mask[h:], mask[:, w:] = False, False
        return padded, image_mask

    def positions(self, image_mask, like):
        """Sine positions with the shape and type of a feature map; image_mask [B, H, W] as `pad` gives it."""
        return positions_like(like, resize_mask(image_mask, like))


class MaskFormer(Pixels):
    """MaskFormer (Cheng et al. 2021). Build one with `build_model`."""

    def __init__(self, config: MaskFormerConfig):
        super().__init__(config)
        check_maps(config)
        self.backbone = build_backbone(config)
        channels = self.backbone.channels
        encoder = TransformerEncoder(config.dim, config.encoder_layers, config.num_heads, config.feedforward,
                                     config.dropout) if config.encoder_layers else None
        self.pixel_decoder = FPN(channels, config.dim, config.mask_dim, encoder, config.encoder_level)
        width = dict(zip(MAPS, (*channels, *[config.dim] * 5)))[config.memory]
        self.input_proj = nn.Conv2d(width, config.hidden_dim, 1) if width != config.hidden_dim else nn.Identity()
        self.decoder = TransformerDecoder(config.hidden_dim, config.num_queries, config.decoder_layers,
                                          config.num_heads, config.feedforward, config.dropout)
        self.class_head = nn.Linear(config.hidden_dim, config.num_classes + 1)
        self.mask_head = nn.Sequential(nn.Linear(config.hidden_dim, config.hidden_dim), nn.ReLU(),
                                       nn.Linear(config.hidden_dim, config.hidden_dim), nn.ReLU(),
                                       nn.Linear(config.hidden_dim, config.mask_dim))

    def forward(self, images, sizes=None):
        """Normalised float images [B, 3, H, W], zero-padded to a multiple of `size_divisibility`, to an `Output`.

        sizes: the true (height, width) of each image. With it, attention skips the padding and positions run over the
        true image. Without it padding is read as image, as in the reference code. Either way GroupNorm's statistics in
        the pixel decoder and convolutions at the border still depend on the padding. `predict` avoids both by batching
        images of one size only.
        """
        memory, image_mask, pixel_embeddings = self.encode(images, sizes)
        states = self.decoder(memory, image_mask)  # after each of L layers: [B, N, D]
        return self.heads(states, pixel_embeddings)

    def encode(self, images, sizes=None):
        """Everything before the queries, images and sizes as in `forward`: what they read, and what masks are made of.

        Returns the memory [B, D, h, w], its image_mask bool [B, h, w] (None: no padding), and the pixel embeddings
        [B, C, H/4, W/4].
        """
        images, image_mask = self.pad(images, sizes)  # [B, 3, H, W], bool [B, H, W] or None
        features = self.backbone(images)  # res2 ... res5: [B, C_s, H/s, W/s] for s = 4, 8, 16, 32
        pixel_embeddings, pyramid, encoded = self.pixel_decoder(features, image_mask)  # [B, C, H/4, W/4], p2 ... p5
        maps = dict(zip(MAPS, (*features, *pyramid, encoded)))
        memory = self.input_proj(maps[self.config.memory])  # [B, D, h, w]
        if self.config.pixel_positions:
            pixel_embeddings = pixel_embeddings + self.positions(image_mask, pixel_embeddings)
        if self.config.memory_positions:
            memory = memory + self.positions(image_mask, memory)
        return memory, resize_mask(image_mask, memory), pixel_embeddings

    def heads(self, states, pixel_embeddings):
        """The answer of every layer: the same two heads read each state [B, N, D], the last layer's is the output.

        Class logits are one linear layer; mask logits the dot product of mask and pixel embeddings (section 3.3). No
        softmax, no sigmoid: the losses and the inference rules take logits.
        """
        states = torch.stack(states)  # [L, B, N, D]
        class_logits = self.class_head(states)  # [L, B, N, K+1]
        mask_embeddings = self.mask_head(states)  # [L, B, N, C]
        mask_logits = torch.einsum("lbnc,bchw->lbnhw", mask_embeddings, pixel_embeddings)  # [L, B, N, H/4, W/4]
        *aux, last = (Output(c, m) for c, m in zip(class_logits, mask_logits))
        return Output(last.class_logits, last.mask_logits, tuple(aux))

    def predict(self, images, task="panoptic", **options):
        """The result of a task ("semantic", "instance", "panoptic", "general") for a picture, at its own size.

        images: one PIL image, uint8 array [H, W, 3] or tensor [3, H, W], or a list of them (then a list comes back).
        A PIL image is turned upright by its EXIF orientation and may have any mode (16-bit, palette, ...). options go
        to the task's inference function (score_threshold, overlap_threshold, top_k); size=N has the network see a short
        side of N, tiles=N looks at a large picture in overlapping squares of N pixels, and tta=True with task
        "semantic" averages over sizes and mirror images (`predict_semantic_tta`). The model is in eval mode during the
        call. For many pictures of mixed sizes call model.compile(dynamic=True) first: it compiles once, not for each.
        """
        from .predict import predict
        return predict(self, images, task, **options)


class PerPixelBaseline(Pixels):
    """What MaskFormer is compared with: backbone, FPN and a 1x1 convolution, no queries, no masks (section 4)."""

    def __init__(self, config: MaskFormerConfig):
        super().__init__(replace(config, per_pixel=True))
        parts = MaskFormer(replace(config, num_queries=1, decoder_layers=1))  # its decoder is thrown away
        self.backbone, self.pixel_decoder = parts.backbone, parts.pixel_decoder
        self.classifier = nn.Conv2d(config.mask_dim, config.num_classes, 1)
        nn.init.kaiming_normal_(self.classifier.weight, mode="fan_out", nonlinearity="relu")  # as in the reference
        nn.init.zeros_(self.classifier.bias)

    def forward(self, images, sizes=None):
        """Normalised float images [B, 3, H, W] (see `MaskFormer.forward`) to a `PixelOutput` [B, K, H/4, W/4]."""
        images, image_mask = self.pad(images, sizes)
        pixel_embeddings, _, _ = self.pixel_decoder(self.backbone(images), image_mask)  # [B, C, H/4, W/4]
        if self.config.pixel_positions:
            pixel_embeddings = pixel_embeddings + self.positions(image_mask, pixel_embeddings)
        return PixelOutput(self.classifier(pixel_embeddings))  # [B, K, H/4, W/4]

    def predict(self, images, task="semantic", **options):
        """As `MaskFormer.predict`: "semantic", or "panoptic", in which all pixels of a class are one segment."""
        from .predict import predict
        return predict(self, images, task, **options)


def model_of(config):
    """The network that a configuration describes, freshly initialised."""
    return (PerPixelBaseline if config.per_pixel else MaskFormer)(config)


def build_model(preset, num_classes=None, backbone_weights=None, **changes):
    """A freshly initialised MaskFormer, or PerPixelBaseline, from a preset name or a MaskFormerConfig.

    Fields may be changed by keyword; if `num_classes` differs from the preset's, give class_names and things too, or
    they become empty.
    backbone_weights: None (random), "DEFAULT" (torchvision downloads its ImageNet weights) or a file of such weights.
    """
    if num_classes is not None:
        changes["num_classes"] = num_classes
    model = model_of(get_config(preset, **changes))
    if backbone_weights is not None:
        load_backbone_weights(model.backbone, model.config.backbone, backbone_weights)
    return model
