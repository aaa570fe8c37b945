"""Backbones: an image as four feature maps of strides 4, 8, 16 and 32 (lesson 05).

Everything is torchvision's own network; we only cut it at the four places where the resolution halves. The maps are
named as in the paper's code: res2 (stride 4), res3 (8), res4 (16), res5 (32).
"""
from torch import nn
from torchvision.models import mobilenet_v2, resnet
from torchvision.models.regnet import BlockParams, RegNet
from torchvision.ops import FrozenBatchNorm2d

from .swin import SWINS, Swin

# The mini backbone is a RegNet of our own size: one or two residual blocks a stage, full (not grouped) convolutions.
MINI_DEPTHS, MINI_WIDTHS = [1, 1, 2, 1], [48, 96, 160, 224]
RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101")
MOBILENETS = ("mobilenet_v2",)
BACKBONES = ("mini", *RESNETS, *MOBILENETS, *SWINS)


def build_backbone(config):
    """The network a configuration names: `forward(images [B, 3, H, W]) -> [res2, res3, res4, res5]`, `.channels`."""
    if config.backbone in SWINS:
        return Swin(config.backbone, config.window, config.stochastic_depth)
    return Backbone(config.backbone, config.frozen_norm)


class Backbone(nn.Module):
    """A torchvision network as `forward(images [B, 3, H, W]) -> [res2, res3, res4, res5]`, channels in `.channels`."""

    def __init__(self, name, frozen_norm=False):
        super().__init__()
        if name not in BACKBONES:
            raise ValueError(f"unknown backbone {name!r}; known: {', '.join(BACKBONES)}")
        norm = FrozenBatchNorm2d if frozen_norm else nn.BatchNorm2d
        if name == "mini":
            self.stem, self.stages, self.channels = _mini(norm)
        elif name in MOBILENETS:
            self.stem, self.stages, self.channels = _mobilenet(norm)
        else:
            self.stem, self.stages, self.channels = _resnet(name, norm)

    def forward(self, images):
        x = self.stem(images)  # [B, C, H/4, W/4] for a ResNet, [B, C, H/2, W/2] for the others
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features  # strides 4, 8, 16, 32


def _resnet(name, norm):
    net = getattr(resnet, name)(weights=None, norm_layer=norm)
    stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
    channels = [stage[-1].conv2.out_channels * stage[-1].expansion for stage in
                (net.layer1, net.layer2, net.layer3, net.layer4)]
    return stem, nn.ModuleList([net.layer1, net.layer2, net.layer3, net.layer4]), channels


def _mobilenet(norm):
    blocks = mobilenet_v2(weights=None, norm_layer=norm).features  # the last, a 1 x 1 to 1280 channels, is left out
    stages = [blocks[2:4], blocks[4:7], blocks[7:14], blocks[14:18]]  # each begins where the resolution halves
    return blocks[:2], nn.ModuleList(stages), [stage[-1].out_channels for stage in stages]


def _mini(norm):
    params = BlockParams(MINI_DEPTHS, MINI_WIDTHS, MINI_WIDTHS, [1.0] * 4, [2] * 4)
    net = RegNet(params, stem_width=32, num_classes=1, norm_layer=norm)
    return net.stem, nn.ModuleList(net.trunk_output.children()), list(MINI_WIDTHS)
