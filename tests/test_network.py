"""Parts of the network by their values: how they are initialised, where dropout acts, the pyramid written out."""
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from minimaskformer import build_model
from minimaskformer.pixel_decoder import FPN
from minimaskformer.swin import Swin, WindowAttention
from minimaskformer.transformer import DecoderLayer, EncoderLayer, TransformerDecoder, TransformerEncoder

CHANNELS = [32, 64, 96, 128]


def features(batch=1):
    g = torch.Generator().manual_seed(0)
    return [torch.randn(batch, c, 32 // s, 48 // s, generator=g) for c, s in zip(CHANNELS, (4, 8, 16, 32))]


def test_the_pyramid_is_its_equations():
    torch.manual_seed(0)
    fpn = FPN(CHANNELS, dim=64, mask_dim=48).eval()
    for p in fpn.parameters():  # norms and biases too
        nn.init.normal_(p, std=0.3)
    state, maps = fpn.state_dict(), features()

    def norm(x, name):
        return F.group_norm(x, 32, state[f"{name}.1.weight"], state[f"{name}.1.bias"])

    def smooth(x, i):
        return F.relu(norm(F.conv2d(x, state[f"outputs.{i}.0.0.weight"], padding=1), f"outputs.{i}.0"))
    p = smooth(maps[3], 3)
    for i in (2, 1, 0):
        lateral = norm(F.conv2d(maps[i], state[f"laterals.{i}.0.weight"]), f"laterals.{i}")  # no ReLU
        rows, columns = (torch.arange(n) * m // n for n, m in zip(lateral.shape[2:], p.shape[2:]))
        p = smooth(lateral + p[:, :, rows][:, :, :, columns], i)  # the nearest pixel above
    expected = F.conv2d(p, state["mask_features.weight"], state["mask_features.bias"], padding=1)
    found = fpn(maps, None)[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert (found < 0).any() and state["mask_features.weight"].shape == (48, 64, 3, 3)


def test_the_pyramid_begins_as_in_the_reference():
    torch.manual_seed(0)
    encoder = TransformerEncoder(64, 1, 4, 128)
    fpn = FPN(CHANNELS, dim=64, mask_dim=64, encoder=encoder, encoder_level="res5")
    convolutions = [m for m in fpn.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 3 + 4 + 1 + 1
    for conv in convolutions:
        bound = math.sqrt(3 / conv.weight[0].numel())  # kaiming uniform with a = 1: sqrt(6 / (2 fan_in))
        assert conv.weight.abs().max() <= bound and conv.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)
        assert conv.bias is None or not conv.bias.any()


@pytest.mark.parametrize("part", [TransformerEncoder, TransformerDecoder])
def test_transformers_begin_with_xavier(part):
    torch.manual_seed(0)
    model = part(dim=64, num_layers=1, num_heads=4, feedforward=512)
    for layer in model.layers:
        for weight in (layer.mlp[0].weight, layer.mlp[3].weight, layer.self_attn.in_proj_weight, layer.self_attn.out_proj.weight):
            bound = math.sqrt(6 / sum(weight.shape))
            assert 0.97 * bound < weight.abs().max() <= bound


def test_swin_begins_with_small_weights():
    torch.manual_seed(0)
    swin = Swin("swin_t")
    for module in swin.modules():
        if isinstance(module, nn.Linear):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.1)
            assert module.bias is None or not module.bias.any()
        if isinstance(module, WindowAttention):
            assert module.relative_position_bias_table.std().item() == pytest.approx(0.02, rel=0.15)


PLACES = {"inside self-attention": lambda layer: [(layer.self_attn, "dropout")], "inside the MLP": lambda layer: [(layer.mlp[2], "p")],
          "after each part": lambda layer: [(layer.dropout, "p")],
          "inside cross-attention": lambda layer: [(layer.cross_attn, "dropout")]}


@pytest.mark.parametrize("kind, place", [(k, p) for k in (EncoderLayer, DecoderLayer) for p in PLACES if k is DecoderLayer or "cross" not in p])
def test_dropout_acts_in_every_place_of_the_reference(kind, place):
    torch.manual_seed(0)
    layer = kind(32, 4, 64, dropout=0.3).train()
    assert all(getattr(module, name) == 0.3 for find in (PLACES[place],) for module, name in find(layer))
    for other, find in PLACES.items():
        if other != place and (kind is DecoderLayer or "cross" not in other):
            for module, name in find(layer):
                setattr(module, name, 0.0)
    x, memory = torch.randn(2, 5, 32), torch.randn(2, 9, 32)
    inputs = (x, torch.randn(2, 5, 32), memory, torch.randn(2, 9, 32)) if kind is DecoderLayer else (x, torch.randn(2, 5, 32))

    def out():
        result = layer(*inputs)
        return result[0] if kind is DecoderLayer else result
    assert not torch.allclose(out(), out())
    layer.eval()
    assert torch.equal(out(), out())


@pytest.mark.parametrize("branch", ["read", "mlp", "self"])
def test_dropout_after_each_part_of_a_decoder_layer(branch):
    """With dropout 1 after the parts nothing of attention and MLP is left: the layer is its three norms."""
    torch.manual_seed(0)
    layer = DecoderLayer(32, 4, 64, dropout=0.0).train()
    layer.dropout.p = 1.0
    x = torch.randn(2, 5, 32)
    y, _ = layer(x, torch.randn(2, 5, 32), torch.randn(2, 9, 32), torch.randn(2, 9, 32))
    torch.testing.assert_close(y, layer.norm3(layer.norm2(layer.norm1(x))))


def test_changing_the_classes_takes_names_and_things_along():
    small = dict(dim=32, mask_dim=32, hidden_dim=32, feedforward=32, decoder_layers=1, encoder_layers=0)
    changed = build_model("mini", num_classes=5, **small).config
    assert (changed.num_classes, changed.class_names, changed.things) == (5, (), ())
    same = build_model("mini", num_classes=11, **small).config
    assert len(same.class_names) == 11 and same.things == (5, 6, 7, 8, 9, 10)
    given = build_model("mini", num_classes=2, class_names=("a", "b"), things=(1,), **small).config
    assert given.class_names == ("a", "b") and given.things == (1,)
