"""Every preset's settings against a table written from the paper and the reference's configuration files."""
import dataclasses
import re

import numpy as np
import pytest
import torch

from minimaskformer.config import PRESETS, MaskFormerConfig, get_config
from minimaskformer.model import MaskFormer
from minimaskformer.weights.zoo import guess_config

# ADE20K: short side, long side; COCO panoptic: 800, 1333, no padding. Window of Swin; encoder layers on res5.
TABLE = {  # backbone, classes, things, encoder layers, memory, divisibility, short, long, window
    "r50": ("resnet50", 150, 0, 0, "res5", 32, 512, 2048, 7), "r101": ("resnet101", 150, 0, 0, "res5", 32, 512, 2048, 7),
    "r50_panoptic": ("resnet50", 133, 80, 6, "encoder", 1, 800, 1333, 7),
    "r101_panoptic": ("resnet101", 133, 80, 6, "encoder", 1, 800, 1333, 7),
    "swin_t": ("swin_t", 150, 0, 0, "res5", 32, 512, 2048, 7), "swin_s": ("swin_s", 150, 0, 0, "res5", 32, 512, 2048, 7),
    "swin_b": ("swin_b", 150, 0, 0, "res5", 32, 640, 2560, 12), "swin_l": ("swin_l", 150, 0, 0, "res5", 32, 640, 2560, 12),
    "swin_t_panoptic": ("swin_t", 133, 80, 0, "res5", 1, 800, 1333, 7),
    "swin_s_panoptic": ("swin_s", 133, 80, 0, "res5", 1, 800, 1333, 7),
    "swin_b_panoptic": ("swin_b", 133, 80, 0, "res5", 1, 800, 1333, 12),
    "swin_l_panoptic": ("swin_l", 133, 80, 0, "res5", 1, 800, 1333, 12)}


@pytest.mark.parametrize("preset", TABLE)
def test_the_papers_presets(preset):
    c = get_config(preset)
    found = (c.backbone, c.num_classes, len(c.things), c.encoder_layers, c.memory, c.size_divisibility, c.short_side, c.long_side, c.window)
    assert found == TABLE[preset] and c.things == tuple(range(TABLE[preset][2]))
    assert (c.dim, c.mask_dim, c.hidden_dim, c.num_heads, c.decoder_layers, c.feedforward, c.num_queries) == (256, 256, 256, 8, 6, 2048, 100)
    assert (c.dropout, c.stochastic_depth, c.frozen_norm, c.memory_positions, c.pixel_positions) == (0.1, 0.3, True, False, False)
    assert (c.score_threshold, c.overlap_threshold) == (0.8, 0.8)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_normalises_as_imagenet_does_in_rgb(preset):
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of 0 ... 1, R G B
    assert get_config(preset).pixel_mean == pytest.approx([255 * m for m in mean])
    assert get_config(preset).pixel_std == pytest.approx([255 * s for s in std])


def test_changes_reach_the_configuration():
    assert get_config("r50", num_queries=7) == get_config(MaskFormerConfig(num_queries=7))


def test_lists_and_numbers_of_numpy_become_tuples_and_numbers():
    config = MaskFormerConfig(num_classes=np.int64(3), things=np.array([1, 2]), class_names=["a", "b", "c"], dropout=np.float32(0.5))
    same = MaskFormerConfig(num_classes=3, things=(1, 2), class_names=("a", "b", "c"), dropout=0.5)
    assert config == same and hash(config) == hash(same) and type(config.num_classes) is type(config.things[0]) is int
    assert MaskFormerConfig(num_classes=3, things=torch.tensor([2])).things == (2,)


NUMBERS = [field.name for field in dataclasses.fields(MaskFormerConfig) if field.type in (int, float)]


@pytest.mark.parametrize("name, value", [(name, value) for name in NUMBERS for value in (-1, float("nan"), True, "1", None)] + [
    ("num_queries", 2.5), ("decoder_layers", 100_000), ("dim", 100), ("hidden_dim", 0), ("num_heads", 7), ("frozen_norm", 1),
    ("pixel_mean", (1, 2)), ("pixel_mean", 3), ("pixel_std", (1, 0, 1)), ("pixel_std", (1, float("inf"), 1)), ("class_names", "sky"),
    ("class_names", (1,)), ("things", 3), ("things", (1, 1)), ("things", (1.5,)), ("backbone", None), ("memory", 5)])
def test_what_cannot_be_meant_is_refused_with_its_name_and_value(name, value):
    with pytest.raises(ValueError, match=f"{name} is {re.escape(repr(value))}, allowed is "):
        MaskFormerConfig(**{name: value})


def test_heads_divide_the_width_where_there_is_attention():
    assert MaskFormerConfig(dim=96, num_heads=8, hidden_dim=64).dim == 96
    with pytest.raises(ValueError, match="num_heads is 5, allowed is a divisor of dim, which is 96"):
        MaskFormerConfig(dim=96, num_heads=5, hidden_dim=100, encoder_layers=1)
    MaskFormerConfig(dim=96, num_heads=5, hidden_dim=100)  # no encoder: nobody shares the channels of the pyramid
    with pytest.raises(ValueError, match="mask_dim is 6, allowed is a multiple of 4"):
        MaskFormerConfig(mask_dim=6, pixel_positions=True)
    MaskFormerConfig(mask_dim=6)
    with pytest.raises(ValueError, match="hidden_dim is 10, allowed is a multiple of 4"):
        MaskFormerConfig(hidden_dim=10, num_heads=5)


def test_fields_and_presets_that_do_not_exist():
    with pytest.raises(ValueError, match="no field 'num_layer'; there is .*encoder_layers"):
        get_config("r50", num_layer=1)
    with pytest.raises(ValueError, match="unknown preset None; known presets: mini"):
        get_config(None)
    with pytest.raises(ValueError, match="config is a MaskFormerConfig, got 'mini'; build_model"):
        MaskFormer("mini")


def test_other_classes_than_the_preset_s_have_no_names_and_no_things_unless_given():
    mini, four = get_config("mini"), get_config("mini", num_classes=4)
    assert (four.num_classes, four.class_names, four.things) == (4, (), ()) and mini.things == get_config("mini", num_classes=11).things
    assert get_config("mini", num_classes=2, class_names=("a", "b"), things=(1,)).class_names == ("a", "b")


def shapes(classes, encoder):
    """Tensors of a zoo file of R50, as far as its configuration is read off them."""
    names = {f"backbone.stages.2.{i}.conv1.weight": 1 for i in range(6)} | {"backbone.stem.0.weight": 64,
             "class_head.weight": classes + 1, "decoder.query_positions.weight": 30}
    names |= {f"decoder.layers.{i}.norm1.weight": 1 for i in range(4)}
    names |= {f"pixel_decoder.encoder.layers.{i}.norm1.weight": 1 for i in range(6)} if encoder else {}
    return {name: torch.zeros(size) for name, size in names.items()}


@pytest.mark.parametrize("classes, encoder, things", [(133, True, 80), (150, False, 0), (7, True, 0), (7, False, 0)])
def test_things_are_those_of_the_preset_only_where_the_classes_are(classes, encoder, things):
    config = guess_config(shapes(classes, encoder))
    assert (config.num_classes, config.num_queries, config.decoder_layers) == (classes, 30, 4)
    assert config.things == tuple(range(things)) and config.encoder_layers == (6 if encoder else 0)
