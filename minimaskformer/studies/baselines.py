"""The paper's two per-pixel baselines for mask classification (section 4, "Baseline models"; lesson 11).

    PerPixelBaseline       pixel embeddings -> 1x1 convolution -> K class scores per pixel
    PerPixelBaselinePlus   MaskFormer itself with N = K queries, whose k-th mask is read as the scores of class k

Both are trained with per-pixel cross-entropy. So the second differs from MaskFormer only in the formulation: the same
modules, but one class score per pixel and query instead of a class for each query.

A third way needs no model of its own: `likelihood_loss` trains MaskFormer itself, without any matching, to make the
semantic score of each pixel's true class large (section 3.4: "leads to poor performance").
"""
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn

from ..config import MaskFormerConfig
from ..model import MaskFormer, PerPixelBaseline, PixelOutput  # noqa: F401  the first baseline can be trained like ours
from ..predict import bilinear, resize_short_side, to_input_size, to_tensor
from ..targets import VOID, label_map, on_one_canvas
from ..training.per_pixel_loss import per_pixel_loss  # noqa: F401  the loss of both


class PerPixelBaselinePlus(nn.Module):
    """MaskFormer with one query per class: query k's mask embedding is the weight vector that scores class k."""

    def __init__(self, config: MaskFormerConfig):
        super().__init__()
        self.config = replace(config, num_queries=config.num_classes)
        self.mask_former = MaskFormer(self.config)
        self.mask_former.class_head = nn.Identity()  # query k need not say what it has found: it stands for class k

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


def likelihood_loss(output, targets, normalise=False, stride=1):
    """Minus the log of the semantic score of each pixel's true class, mean over known pixels (section 3.4; lesson 11).

    -log sum_i p_i(c) m_i[h, w], summed over decoder layers; with `normalise`, the score is first divided by the scores
    of all K classes. output: a MaskFormer's `Output` of B images; targets: B dicts; `stride` s takes every s-th row and
    column of the truth. Returns a dict as `per_pixel_loss` does: `loss`, `likelihood`, `likelihood_0` ...
    """
    num_classes = output.class_logits.shape[-1] - 1
    if len(targets) != len(output.class_logits) or not targets:
        raise ValueError(f"{len(targets)} targets for a batch of {len(output.class_logits)} images")
    truth = torch.stack([label_map(target, num_classes) for target in on_one_canvas(targets)])  # [B, H, W]
    truth = truth[:, stride // 2::stride, stride // 2::stride].to(output.class_logits.device)
    losses = {}
    for i, layer in enumerate((*output.aux, output)):
        mask_logits = F.interpolate(layer.mask_logits.float(), size=truth.shape[-2:], mode="bilinear",
                                    align_corners=False)  # [B, N, H, W]
        name = "likelihood" + (f"_{i}" if i < len(output.aux) else "")
        losses[name] = pixel_likelihood(layer.class_logits.float(), mask_logits, truth)
        if normalise:
            losses[name] = losses[name] + log_total_score(layer.class_logits.float(), mask_logits, truth)
    losses["loss"] = sum(losses.values())
    return losses


def pixel_likelihood(class_logits, mask_logits, truth):
    """-log sum_i p_i(c) m_i at each pixel of known class c, mean over those pixels: a scalar (0 if there is none).

    class_logits [B, N, K+1], mask_logits [B, N, H, W], truth int64 [B, H, W], -1 where unknown. The log of a sum of
    products is a log-sum-exp of sums of logs: a score of 1e-60 gives a loss of 138, not infinity.
    """
    log_probs = class_logits.log_softmax(-1)  # [B, N, K+1]
    log_masks = F.logsigmoid(mask_logits).flatten(2)  # [B, N, H*W]
    known = (truth != VOID).flatten(1)  # [B, H*W]
    classes = truth.clamp(min=0).flatten(1)[:, None].expand_as(log_masks)  # [B, N, H*W]
    log_scores = (log_probs.gather(2, classes) + log_masks).logsumexp(1)  # [B, H*W]
    return -(log_scores * known).sum() / known.sum().clamp(min=1)


def log_total_score(class_logits, mask_logits, truth):
    """log sum_c sum_i p_i(c) m_i, mean over pixels with a known class: what normalising adds to `pixel_likelihood`.

    Shapes as there. The sum over the K classes of p_i(c) is 1 - p_i(no object).
    """
    log_object = class_logits.log_softmax(-1)[..., :-1].logsumexp(-1)  # [B, N]
    log_masks = F.logsigmoid(mask_logits).flatten(2)  # [B, N, H*W]
    known = (truth != VOID).flatten(1)  # [B, H*W]
    log_totals = (log_object[..., None] + log_masks).logsumexp(1)  # [B, H*W]
    return (log_totals * known).sum() / known.sum().clamp(min=1)


def responsibilities(class_logits, mask_logits, truth):
    """The share of each query in the score of a pixel's true class: p_i(c) m_i / sum_j p_j(c) m_j (lesson 11).

    One image: class_logits [N, K+1], mask_logits [N, H, W], truth int64 [H, W] of known classes, to [N, H, W]. Its
    negative is the gradient of -log sum_i p_i(c) m_i with respect to log(p_i(c) m_i): which queries are told to change.
    """
    log_probs = class_logits.log_softmax(-1)[:, truth]  # [N, K+1] -> [N, H, W]
    return (log_probs + F.logsigmoid(mask_logits)).softmax(0)  # [N, H, W], sums to 1 over queries


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
