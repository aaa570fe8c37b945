"""The loss of the per-pixel baseline that MaskFormer is compared with: one cross-entropy (section 3.1; lesson 11)."""
import torch
import torch.nn.functional as F
from torch import nn

from ..system.distributed import sum_over_processes, world_size
from ..targets import VOID, label_map, on_one_canvas, pad_target


def per_pixel_loss(output, targets, known=None):
    """Cross-entropy per pixel at the truth's size, mean over the pixels whose class is known (section 3.1, L_pixel).

    output: a `PixelOutput` [B, K, h, w]; targets: B dicts; known: divide by this number, where these images are only a
    part of the batch. Returns a dict: `loss`, the sum over decoder layers, and its terms `pixel` (the last layer),
    `pixel_0` ... (the earlier ones). With no known pixel at all the loss is 0.
    """
    num_classes = output.pixel_logits.shape[1]
    if len(targets) != len(output.pixel_logits) or not targets:
        raise ValueError(f"{len(targets)} targets for a batch of {len(output.pixel_logits)} images")
    truth = torch.stack([label_map(target, num_classes) for target in on_one_canvas(targets)])  # [B, H, W]
    truth = truth.to(output.pixel_logits.device)
    known = (truth != VOID).sum().clamp(min=1) if known is None else known
    losses = {}
    for i, layer in enumerate((*output.aux, output)):
        logits = F.interpolate(layer.pixel_logits.float(), size=truth.shape[-2:], mode="bilinear", align_corners=False)
        total = F.cross_entropy(logits, truth, ignore_index=VOID, reduction="sum")  # logits [B, K, H, W]
        losses["pixel" + (f"_{i}" if i < len(output.aux) else "")] = total / known
    losses["loss"] = sum(losses.values())
    return losses


class PixelCriterion(nn.Module):
    """`per_pixel_loss` as a training step calls it: in place of `SetCriterion`, for a `PerPixelBaseline`."""

    def __init__(self, num_classes):
        super().__init__()
        self.num_classes = num_classes

    def forward(self, output, targets, known=None):
        height, width = output.pixel_logits.shape[-2:]  # the images were padded to 4 times that
        return per_pixel_loss(output, [pad_target(target, 4 * height, 4 * width) for target in targets], known)

    def normalizers(self, targets, num_queries, device):
        """Number of pixels of known class in the whole batch, at least 1, averaged over processes exactly once."""
        known = sum(int((label_map(target, self.num_classes) != VOID).sum()) for target in targets)
        return sum_over_processes(torch.full((), float(known), device=device)).clamp(min=1) / world_size()
