"""The pixel decoder: four feature maps to one embedding per pixel at stride 4 (paper, section 3.3; lesson 05)."""
import torch.nn.functional as F
from torch import nn


class FPN(nn.Module):
    """Feature pyramid: from the coarsest map down, upsample by 2 (nearest), add the lateral, smooth with a 3 x 3.

    `forward([res2, res3, res4, res5])` returns the pixel embeddings [B, mask_dim, H/4, W/4] and the smoothed maps
    [p2, p3, p4, p5], each [B, dim, H/s, W/s]. Laterals have GroupNorm and *no* ReLU, so they can take away as well as
    add. The last 3 x 3 is bare: pixel embeddings are read by a dot product and need no sign. (The paper's text says
    1 x 1 there; its code, and we, have 3 x 3.)
    """

    def __init__(self, channels, dim=256, mask_dim=256):
        super().__init__()
        self.laterals = nn.ModuleList([conv_norm(c, dim, kernel=1) for c in channels[:-1]])
        self.outputs = nn.ModuleList([nn.Sequential(conv_norm(c, dim, kernel=3), nn.ReLU(inplace=True))
                                      for c in (*[dim] * (len(channels) - 1), channels[-1])])
        self.mask_features = nn.Conv2d(dim, mask_dim, 3, padding=1)
        for conv in [m for m in self.modules() if isinstance(m, nn.Conv2d)]:
            nn.init.kaiming_uniform_(conv.weight, a=1)  # Xavier-like, as in the reference
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)

    def forward(self, features):
        y = self.outputs[-1](features[-1])  # [B, dim, H/32, W/32]
        pyramid = [y]
        for feature, lateral, output in reversed(list(zip(features[:-1], self.laterals, self.outputs))):
            y = F.interpolate(y, size=feature.shape[-2:], mode="nearest")  # [B, dim, 2h, 2w]
            y = output(lateral(feature) + y)
            pyramid.insert(0, y)
        return self.mask_features(y), pyramid  # [B, mask_dim, H/4, W/4]


def conv_norm(inputs, outputs, kernel):
    """Convolution without bias, then GroupNorm with 32 groups (statistics per image: no dependence on the batch)."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
                         nn.GroupNorm(32, outputs))
