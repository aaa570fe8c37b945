"""The pixel decoder: four feature maps to one embedding per pixel at stride 4 (paper, section 3.3; lesson 05)."""
import torch.nn.functional as F
from torch import nn


class FPN(nn.Module):
    """Four feature maps to one embedding per pixel: from the coarsest map down, each finer one adds its detail.

        p5      = smooth(res5)                              smooth(x)  = ReLU(GroupNorm(conv3x3(x)))
        p_l     = smooth(lateral(res_l) + up(p_{l+1}))      lateral(x) = GroupNorm(conv1x1(x)), l = 4, 3, 2
        E_pixel = conv3x3(p2)                               up(x): nearest, to the size of res_l

    `forward([res2, res3, res4, res5], image_mask)` returns the pixel embeddings [B, mask_dim, H/4, W/4], the smoothed
    maps [p2, p3, p4, p5], each [B, dim, H/s, W/s], and res5 as it enters. With `encoder`, a transformer encoder
    works on one map: on res5, projected to `dim` (the paper's panoptic models), or on p5 ... p2 (mini: p3).

    Laterals have *no* ReLU, so they can subtract as well as add. The last 3 x 3 is bare: embeddings are read by a
    dot product and need both signs. (The paper's text says 1 x 1 there; its code, and we, have 3 x 3.)
    """

    def __init__(self, channels, dim=256, mask_dim=256, encoder=None, encoder_level=None):
        super().__init__()
        self.encoder, self.encoder_level = encoder, encoder_level if encoder is not None else None
        self.encoder_proj = nn.Identity()
        if self.encoder_level == "res5":
            self.encoder_proj = nn.Conv2d(channels[-1], dim, 1)
            channels = [*channels[:-1], dim]
        self.laterals = nn.ModuleList([conv_norm(c, dim, kernel=1) for c in channels[:-1]])
        self.outputs = nn.ModuleList([nn.Sequential(conv_norm(c, dim, kernel=3), nn.ReLU(inplace=True))
                                      for c in (*[dim] * (len(channels) - 1), channels[-1])])
        self.mask_features = nn.Conv2d(dim, mask_dim, 3, padding=1)
        for conv in [m for m in self.modules() if isinstance(m, nn.Conv2d)]:
            nn.init.kaiming_uniform_(conv.weight, a=1)  # Xavier-like, as in the reference
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)

    def forward(self, features, image_mask=None):
        encoded = self.encode("res5", self.encoder_proj(features[-1]), image_mask)  # [B, dim or C_5, H/32, W/32]
        p = self.encode("p5", self.outputs[3](encoded), image_mask)  # [B, dim, H/32, W/32]
        pyramid = [p]
        for level in (4, 3, 2):
            lateral = self.laterals[level - 2](features[level - 2])  # [B, dim, h, w] of res_l
            upsampled = F.interpolate(p, size=lateral.shape[-2:], mode="nearest")  # [B, dim, h, w]
            p = self.encode(f"p{level}", self.outputs[level - 2](lateral + upsampled), image_mask)
            pyramid.insert(0, p)
        return self.mask_features(p), pyramid, encoded  # [B, mask_dim, H/4, W/4]

    def encode(self, level, p, image_mask):
        """The transformer encoder, at the one level that has it."""
        return self.encoder(p, resize_mask(image_mask, p)) if level == self.encoder_level else p


def resize_mask(image_mask, like):
    """A pixel mask [B, H, W] at the size of a feature map [B, C, h, w]: a cell is image if its top-left pixel is.

    None means that all of it is image, and stays None.
    """
    if image_mask is None:
        return None
    return F.interpolate(image_mask[:, None].float(), size=like.shape[-2:])[:, 0] > 0


def conv_norm(inputs, outputs, kernel):
    """Convolution without bias, then GroupNorm with 32 groups (statistics per image: no dependence on the batch)."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
                         nn.GroupNorm(32, outputs))
