"""Backbones: an image as four feature maps of strides 4, 8, 16 and 32 (lesson 05).

Everything is torchvision's own network; we only cut it at the four places where the resolution halves. The maps are
named as in the paper's code: res2 (stride 4), res3 (8), res4 (16), res5 (32). ImageNet weights come from torchvision's
download or from a file; since the networks are torchvision's, only the tensor names change. Heads that classify the
whole image (and MobileNetV2's last 1 x 1 convolution) are left out.
"""
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import get_model, get_model_weights, list_models, mobilenet_v2, resnet
from torchvision.models.regnet import BlockParams, RegNet
from torchvision.ops import FrozenBatchNorm2d

from .swin import SWINS, Swin
from .system.tensors import read_torch

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
        norm = FrozenNorm if frozen_norm else nn.BatchNorm2d
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


class FrozenNorm(FrozenBatchNorm2d):
    """Frozen BatchNorm: torchvision's, with the same values from one operation instead of two."""

    def forward(self, x):
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


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


HEADS = ("fc.", "classifier.", "head.")


def prefixes(name):
    """Prefixes of a backbone's tensor names, as a dict: our prefix -> torchvision's."""
    if name in RESNETS:
        return {"stem.0.": "conv1.", "stem.1.": "bn1."} | {f"stages.{i}.": f"layer{i + 1}." for i in range(4)}
    if name in MOBILENETS:  # slices of one sequence, which keep their numbers
        return {"stem.": "features."} | {f"stages.{i}.": "features." for i in range(4)}
    if name in SWINS and name in list_models():  # the norms of our four maps have no pretrained counterpart
        return ({"stem.": "features.0."} | {f"stages.{i}.": f"features.{2 * i + 1}." for i in range(4)}
                | {f"merges.{i}.": f"features.{2 * i + 2}." for i in range(3)})
    known = ", ".join((*RESNETS, *MOBILENETS, *(swin for swin in SWINS if swin in list_models())))
    raise ValueError(f"torchvision has no weights for the backbone {name!r}; it has some for: {known}")


def load_backbone_weights(backbone, name, weights="DEFAULT"):
    """Copy ImageNet weights into a backbone (`MaskFormer.backbone`) of that torchvision name ("resnet50", ...).

    weights: "DEFAULT" or another name of torchvision's (downloaded and cached by torchvision), or a file with a state
    dict of the whole network or of its `features`. Tensors are paired by name; if names do not fit but the file has
    exactly as many tensors as the network without its head, they are paired in order. Returns what was loaded, as text.
    Raises FileNotFoundError, or a ValueError that lists every missing, unexpected or misshapen tensor; the backbone is
    then left unchanged.
    """
    rules, own = prefixes(name), backbone.state_dict()
    wanted = {}  # our name -> torchvision's
    for ours in own:
        for start, replacement in rules.items():
            if ours.startswith(start):
                wanted[ours] = replacement + ours[len(start):]
    with torch.device("meta"):  # names and shapes without memory
        template = get_model(name, weights=None).state_dict()
    given = read_weights(name, weights)
    tensors = torchvision_names(given, template)
    found = {ours: tensors[theirs] for ours, theirs in wanted.items() if theirs in tensors}
    problems = [f"missing: {theirs}" for ours, theirs in wanted.items()
                if ours not in found and not theirs.endswith("num_batches_tracked")]
    problems += [f"unexpected: {theirs}" for theirs in tensors if theirs not in template]
    problems += [f"shape of {wanted[ours]}: {tuple(tensor.shape)} in the file, {tuple(own[ours].shape)} in the backbone"
                 for ours, tensor in found.items() if tensor.shape != own[ours].shape]
    if problems:
        raise ValueError(f"{weights} does not fit the backbone {name}:\n  " + "\n  ".join(problems))
    backbone.load_state_dict(found, strict=False)
    in_order = "" if set(given) & (set(template) | {theirs.removeprefix("features.") for theirs in template}) else \
        ", paired in order, because their names are others"
    return f"{name} with {len(found)} tensors of {weights_name(name, weights)}{in_order}"


def weights_name(name, weights):
    """What weights are called that `load_backbone_weights` takes: torchvision's name for them, or the file."""
    published = get_model_weights(name).__members__
    return f"torchvision's {published[str(weights)].name}" if str(weights) in published else str(weights)


def read_weights(name, weights):
    """A dict name -> tensor from torchvision's download or from a file; a file's code is never run."""
    published = get_model_weights(name).__members__
    if str(weights) in published:
        try:
            return published[str(weights)].get_state_dict(progress=True, check_hash=True)
        except OSError as error:  # no network, or a full disk
            raise OSError(f"could not download {published[str(weights)].url} ({error}): fetch that file in another "
                          f"way and give its path instead of {weights}") from error
    path = Path(weights)
    if not path.is_file():
        raise FileNotFoundError(f"no backbone weights at {path}; give a file, or one of torchvision's names for "
                                f"{name}: {', '.join(published)}")
    return read_torch(path)


def torchvision_names(tensors, template):
    """The same tensors under the names of torchvision's whole network, whose state dict is `template`."""
    if all(theirs in template for theirs in tensors):
        return tensors
    if all(f"features.{theirs}" in template for theirs in tensors):
        return {f"features.{theirs}": tensor for theirs, tensor in tensors.items()}
    trunk = [theirs for theirs in template if not theirs.startswith(HEADS)]
    if len(tensors) == len(trunk):
        return dict(zip(trunk, tensors.values()))
    return tensors
