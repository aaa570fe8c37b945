"""The model: shapes, the paper's parameter count, symmetries, padding, and torch's own transformer as a peer."""
import math

import pytest
import torch
from torch import nn
from torchvision.models import resnet18, resnet50

from minimaskformer.backbone import Backbone
from minimaskformer.config import PRESETS, get_config
from minimaskformer.model import build_model
from minimaskformer.pixel_decoder import FPN
from minimaskformer.transformer import (
    DecoderLayer,
    EncoderLayer,
    TransformerDecoder,
    TransformerEncoder,
    sine_positions,
)


@pytest.fixture(scope="module")
def mini():
    torch.manual_seed(0)
    return build_model("mini").eval()


def images(batch=2, height=64, width=96, seed=0):
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))


def test_shapes(mini):
    output = mini(images())
    config = mini.config
    assert output.class_logits.shape == (2, config.num_queries, config.num_classes + 1)
    assert output.mask_logits.shape == (2, config.num_queries, 16, 24)
    assert len(output.aux) == config.decoder_layers - 1
    assert all(a.class_logits.shape == output.class_logits.shape and a.mask_logits.shape == output.mask_logits.shape
               for a in output.aux)


def test_any_size_is_padded_to_the_divisibility(mini):
    assert mini(images(height=50, width=70)).mask_logits.shape[-2:] == (16, 24)
    padded = torch.nn.functional.pad(images(height=50, width=70), (0, 26, 0, 14))
    torch.testing.assert_close(mini(images(height=50, width=70)).mask_logits, mini(padded).mask_logits)


@pytest.mark.parametrize("preset, count", [("r50", 41_254_743), ("r50_panoptic", 45_012_038)])
def test_reference_parameter_count(preset, count):
    model = build_model(preset)
    assert sum(p.numel() for p in model.parameters()) == count
    if preset == "r50_panoptic":
        return
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    assert parts["backbone"] == 23_454_912 and parts["pixel_decoder"] == 7_540_480


def test_batch_is_one_by_one(mini):
    batch = images(3)
    together = mini(batch)
    for i in range(3):
        alone = mini(batch[i:i + 1])
        torch.testing.assert_close(together.mask_logits[i], alone.mask_logits[0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(together.class_logits[i], alone.class_logits[0], rtol=1e-4, atol=1e-4)


def test_sizes_keep_attention_off_the_padding(mini):
    batch, sizes = images(2, 64, 96), [(64, 96), (32, 48)]
    batch[1, :, 32:], batch[1, :, :, 48:] = 0, 0
    masked, blind = mini(batch, sizes), mini(batch)
    torch.testing.assert_close(masked.class_logits[0], blind.class_logits[0], rtol=1e-4, atol=1e-4)
    alone = mini(batch[1:, :, :32, :48], sizes[1:])
    gap_masked = (masked.class_logits[1] - alone.class_logits[0]).abs().mean()
    gap_blind = (blind.class_logits[1] - alone.class_logits[0]).abs().mean()
    assert 0 < gap_masked < gap_blind


def test_padding_is_known_from_the_sizes_alone(mini):
    assert mini.pad(images())[1] is None and mini.pad(images(), [(64, 96)] * 2)[1] is None
    assert mini.pad(images(height=50, width=70))[1] is None  # read as image, as in the reference
    _, mask = mini.pad(images(height=50, width=70), [(50, 70), (20, 30)])
    want = torch.zeros(2, 64, 96, dtype=torch.bool)
    want[0, :50, :70], want[1, :20, :30] = True, True
    assert torch.equal(mask, want)


@torch.no_grad()
def test_no_mask_is_a_mask_of_ones(mini):
    memory, image_mask, pixel_embeddings = mini.encode(images())
    assert image_mask is None and pixel_embeddings.shape == (2, 96, 16, 24)
    ones = torch.ones(2, 64, 96, dtype=torch.bool)
    features = mini.backbone(images())
    for with_none, with_ones in zip(mini.pixel_decoder(features)[1], mini.pixel_decoder(features, ones)[1]):
        torch.testing.assert_close(with_none, with_ones)
    for with_none, with_ones in zip(mini.decoder(memory), mini.decoder(memory, ones[:, ::8, ::8])):
        torch.testing.assert_close(with_none, with_ones)
    torch.testing.assert_close(mini.positions(None, memory), mini.positions(ones, memory))


@pytest.mark.parametrize("sizes", [None, [(64, 96), (32, 48)]])
def test_forward_is_encode_decoder_heads(mini, sizes):
    memory, image_mask, pixel_embeddings = mini.encode(images(), sizes)
    assert image_mask is None if sizes is None else image_mask.shape == (2, *memory.shape[-2:])
    got, want = mini.heads(mini.decoder(memory, image_mask), pixel_embeddings), mini(images(), sizes)
    assert torch.equal(got.class_logits, want.class_logits) and torch.equal(got.mask_logits, want.mask_logits)


@pytest.mark.parametrize("memory", ["res3", "res4", "res5", "p3", "p4", "p5"])
def test_every_memory_is_read(memory):
    torch.manual_seed(0)
    model = build_model("mini", memory=memory).eval()
    torch.manual_seed(0)
    other = build_model("mini", memory="p2").eval()
    assert model(images()).class_logits.shape == other(images()).class_logits.shape
    assert not torch.equal(model(images()).class_logits, other(images()).class_logits)


@pytest.mark.parametrize("field", ["memory_positions", "pixel_positions"])
def test_position_switches_change_the_output(field):
    outputs = []
    for value in (True, False):
        torch.manual_seed(0)
        outputs.append(build_model("mini", **{field: value}).eval()(images()).mask_logits)
    assert not torch.allclose(*outputs)


def test_encoder_works_at_its_level():
    outputs = []
    for layers, level in ((0, "p3"), (1, "p3"), (1, "p4"), (1, "res5")):
        torch.manual_seed(0)
        model = build_model("mini", encoder_layers=layers, encoder_level=level).eval()
        outputs.append(model(images()).mask_logits)
    assert not torch.allclose(outputs[0], outputs[1]) and not torch.allclose(outputs[1], outputs[2])
    assert not torch.allclose(outputs[1], outputs[3])
    with pytest.raises(ValueError, match="encoder_level"):
        build_model("mini", encoder_layers=1, encoder_level="p7")
    with pytest.raises(ValueError, match="memory='encoder' needs"):
        build_model("mini", memory="encoder")


def test_permuting_queries_permutes_the_output(mini):
    order = torch.randperm(mini.config.num_queries)
    before = mini(images())
    weight = mini.decoder.query_positions.weight
    original = weight.detach().clone()
    with torch.no_grad():
        weight.copy_(original[order])
        after = mini(images())
        weight.copy_(original)
    torch.testing.assert_close(after.mask_logits, before.mask_logits[:, order], rtol=1e-3, atol=1e-3)


def test_first_self_attention_does_nothing_in_eval_mode(mini):
    before = mini(images()).class_logits
    attention = mini.decoder.layers[0].self_attn
    rows = 2 * attention.embed_dim  # the query and key parts of the joint projection
    original = attention.in_proj_weight.detach().clone()
    with torch.no_grad():
        attention.in_proj_weight[:rows] += 1
        torch.testing.assert_close(mini(images()).class_logits, before, rtol=1e-4, atol=1e-4)
        attention.in_proj_weight.copy_(original)


def test_auxiliary_outputs_are_the_decoder_layers_through_the_shared_norm():
    torch.manual_seed(0)
    deep = build_model("mini", decoder_layers=3).eval()
    shallow = build_model("mini", decoder_layers=2).eval()
    shallow.load_state_dict({k: v for k, v in deep.state_dict().items() if not k.startswith("decoder.layers.2")})
    torch.testing.assert_close(deep(images()).aux[1].mask_logits, shallow(images()).mask_logits)


def test_decoder_layer_is_torchs():
    torch.manual_seed(0)
    ours, peer = DecoderLayer(32, 4, 64, 0.0).eval(), nn.TransformerDecoderLayer(32, 4, 64, 0.0, batch_first=True).eval()
    peer.self_attn.load_state_dict(ours.self_attn.state_dict())
    peer.multihead_attn.load_state_dict(ours.cross_attn.state_dict())
    for a, b in ((peer.linear1, ours.mlp[0]), (peer.linear2, ours.mlp[3]), (peer.norm1, ours.norm1),
                 (peer.norm2, ours.norm2), (peer.norm3, ours.norm3)):
        a.load_state_dict(b.state_dict())
    x, memory = torch.randn(2, 5, 32), torch.randn(2, 9, 32)
    got, weights = ours(x, torch.zeros(1, 5, 32), memory, torch.zeros(1, 9, 32), need_weights=True)
    torch.testing.assert_close(got, peer(x, memory), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 5))  # [B, heads, N]
    mean = ours.cross_attn(ours.norm1(x + ours.self_attn(x, x, x)[0]), memory, memory)[1]
    torch.testing.assert_close(weights.mean(1), mean)


def test_encoder_layer_is_torchs():
    torch.manual_seed(0)
    ours, peer = EncoderLayer(32, 4, 64, 0.0), nn.TransformerEncoderLayer(32, 4, 64, 0.0, batch_first=True)
    peer.self_attn.load_state_dict(ours.self_attn.state_dict())
    for a, b in ((peer.linear1, ours.mlp[0]), (peer.linear2, ours.mlp[3]), (peer.norm1, ours.norm1), (peer.norm2, ours.norm2)):
        a.load_state_dict(b.state_dict())
    x = torch.randn(2, 9, 32)
    torch.testing.assert_close(ours(x, torch.zeros(1, 9, 32)), peer(x), rtol=1e-4, atol=1e-5)


def test_sine_positions_are_the_formula():
    dim, height, width = 8, 3, 5
    got = sine_positions(torch.ones(1, height, width, dtype=torch.bool), dim)[0]
    for y in range(height):
        for x in range(width):
            for offset, t, n in ((0, y + 1, height), (dim // 2, x + 1, width)):
                angle = t / (n + 1e-6) * 2 * math.pi
                for c in range(dim // 2):
                    wave = angle / 10_000 ** (2 * (c // 2) / (dim // 2))
                    want = math.sin(wave) if c % 2 == 0 else math.cos(wave)
                    assert math.isclose(got[offset + c, y, x], want, abs_tol=1e-5)
    with pytest.raises(ValueError, match="multiple of 4"):
        sine_positions(torch.ones(1, 2, 2, dtype=torch.bool), 6)


def test_padding_does_not_move_positions_or_states():
    mask = torch.zeros(1, 6, 8, dtype=torch.bool)
    mask[:, :4, :5] = True
    torch.testing.assert_close(sine_positions(mask, 16)[..., :4, :5],
                               sine_positions(torch.ones(1, 4, 5, dtype=torch.bool), 16))
    decoder = TransformerDecoder(16, 3, 2, 2, 32, 0.0).eval()
    memory = torch.randn(1, 16, 6, 8)
    cut = decoder(memory[..., :4, :5], torch.ones(1, 4, 5, dtype=torch.bool))
    for a, b in zip(decoder(memory, mask), cut):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    encoder = TransformerEncoder(16, 2, 2, 32, 0.0).eval()
    torch.testing.assert_close(encoder(memory, mask)[..., :4, :5], encoder(memory[..., :4, :5]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name, peer", [("resnet18", resnet18), ("resnet50", resnet50)])
def test_backbone_is_torchvisions(name, peer):
    torch.manual_seed(0)
    net, backbone = peer(weights=None).eval(), Backbone(name).eval()
    for ours, theirs in zip((backbone.stem[0], backbone.stem[1], *backbone.stages),
                            (net.conv1, net.bn1, net.layer1, net.layer2, net.layer3, net.layer4)):
        ours.load_state_dict(theirs.state_dict())
    x = images(1, 64, 64)
    features = backbone(x)
    y = net.layer4(net.layer3(net.layer2(net.layer1(net.maxpool(net.relu(net.bn1(net.conv1(x))))))))
    torch.testing.assert_close(features[-1], y)
    assert [f.shape[1] for f in features] == backbone.channels and [64 // f.shape[-1] for f in features] == [4, 8, 16, 32]


def test_frozen_norm_has_no_parameters_and_never_changes():
    frozen, free = Backbone("resnet18", frozen_norm=True), Backbone("resnet18")
    assert not any("bn" in name for name, _ in frozen.named_parameters())
    assert any("bn" in name for name, _ in free.named_parameters())
    before = {k: v.clone() for k, v in frozen.state_dict().items()}
    frozen.train()(images())
    assert all(torch.equal(v, before[k]) for k, v in frozen.state_dict().items())


def test_pixel_decoder_sizes_that_do_not_divide():
    fpn = FPN([8, 8, 8, 8], 32, 16)
    features = [torch.randn(1, 8, h, w) for h, w in ((25, 33), (13, 17), (7, 9), (4, 5))]
    embeddings, pyramid, _ = fpn(features, torch.ones(1, 100, 132, dtype=torch.bool))
    assert embeddings.shape == (1, 16, 25, 33) and [p.shape[-2:] for p in pyramid] == [f.shape[-2:] for f in features]


def test_group_norm_statistics_belong_to_one_image():
    fpn = FPN([8, 8, 8, 8], 32, 16).eval()
    features = [torch.randn(2, 8, s, s) for s in (16, 8, 4, 2)]
    both, *_ = fpn(features, torch.ones(2, 64, 64, dtype=torch.bool))
    one, *_ = fpn([f[:1] for f in features], torch.ones(1, 64, 64, dtype=torch.bool))
    torch.testing.assert_close(both[:1], one, rtol=1e-4, atol=1e-4)


def test_normalize(mini):
    pixels = torch.tensor([0, 128, 255], dtype=torch.uint8)[:, None, None]
    want = [(v - m) / s for v, m, s in zip((0, 128, 255), mini.config.pixel_mean, mini.config.pixel_std)]
    torch.testing.assert_close(mini.normalize(pixels).flatten(), torch.tensor(want))


@pytest.mark.parametrize("call, message", [
    (lambda: build_model("maxi"), "unknown preset 'maxi'; known presets: mini"),
    (lambda: build_model("mini", memory="res9"), "unknown memory 'res9'"),
    (lambda: build_model("mini", backbone="vgg"), "unknown backbone 'vgg'"),
    (lambda: build_model("mini")(torch.zeros(3, 64, 64)), "normalised float"),
    (lambda: build_model("mini")(torch.zeros(1, 3, 64, 64, dtype=torch.uint8)), "model.normalize"),
    (lambda: build_model("mini")(torch.zeros(1, 3, 64, 64), [(65, 64)]), "do not fit"),
])
def test_wrong_calls_are_explained(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_num_classes_and_changes():
    model = build_model("mini", num_classes=3, num_queries=7)
    assert model(images(1)).class_logits.shape == (1, 7, 4)
    assert model.config.class_names == () and model.config.things == ()
    assert get_config("mini", num_queries=9).num_queries == 9 and PRESETS["mini"].num_queries != 9
    assert build_model(model.config).config == model.config
