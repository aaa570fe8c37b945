"""Swin against its definition: a slow forward in float64 that knows no windows, rolls or masks, only who sees whom."""
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import torchvision

from minimaskformer import build_model, load_checkpoint
from minimaskformer.config import get_config
from minimaskformer.swin import Swin, from_windows, relative_position_index, to_windows
from minimaskformer.training.optim import parameter_groups
from minimaskformer.training.recipes import TrainConfig
from minimaskformer.weights import zoo
from minimaskformer.weights.checkpoint import load_tensors

GOLDEN = Path(__file__).parent / "golden"
sys.path.insert(0, str(GOLDEN))
import fill  # noqa: E402

KEYS = GOLDEN / "models" / "ade_swin_t.keys.txt"


@pytest.fixture(scope="module")
def weights():
    return fill.state_dict(KEYS)


@pytest.fixture(scope="module")
def model(weights):
    tensors = zoo.convert_zoo(weights)
    model = build_model(zoo.guess_config(tensors))
    load_tensors(model, tensors)
    return model.eval()


def slow_attention(x, w, name, heads, window, shift):
    """Self-attention of a map [H, W, C]: each pair of cells at once, the forbidden ones at minus infinity."""
    H, W, C = x.shape
    x = F.pad(x, (0, 0, 0, -W % window, 0, -H % window))
    h, v = x.shape[:2]
    cells = []
    for y in range(h):
        for z in range(v):
            a, b = (y - shift) % h, (z - shift) % v  # where the shifted grid of windows puts this cell
            cells.append((a // window, b // window, y < shift, z < shift, a % window, b % window))
    cells = torch.tensor(cells)
    sees = (cells[:, None, :4] == cells[None, :, :4]).all(-1)  # same window, and no wrap around the border between them
    offset = cells[:, None, 4:] - cells[None, :, 4:] + window - 1
    table = w[f"{name}.relative_position_bias_table"][offset[..., 0] * (2 * window - 1) + offset[..., 1]]
    q, k, value = (x.reshape(h * v, C) @ w[f"{name}.qkv.weight"].T + w[f"{name}.qkv.bias"]).reshape(
        h * v, 3, heads, C // heads).unbind(1)
    logits = torch.einsum("ihd,jhd->ijh", q, k) / (C // heads) ** 0.5 + table
    attention = logits.masked_fill(~sees[..., None], float("-inf")).softmax(1)
    out = torch.einsum("ijh,jhd->ihd", attention, value).reshape(h * v, C)
    return (out @ w[f"{name}.proj.weight"].T + w[f"{name}.proj.bias"]).reshape(h, v, C)[:H, :W]


def slow_swin(image, weights, heads=(3, 6, 12, 24), depths=(2, 2, 6, 2), window=7):
    """The four maps of one image [3, H, W] in float64, with the reference's names of the weights."""
    w = {name.removeprefix("backbone."): value.double() for name, value in weights.items() if name.startswith("backbone.")}

    def norm(x, name):
        x = x - x.mean(-1, keepdim=True)
        return x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0)

    image = F.pad(image.double(), (0, -image.shape[2] % 4, 0, -image.shape[1] % 4))
    H, W = image.shape[1] // 4, image.shape[2] // 4
    x = torch.stack([torch.stack([(w["patch_embed.proj.weight"] * image[:, 4 * y:4 * y + 4, 4 * z:4 * z + 4]).sum((1, 2, 3))
                                  for z in range(W)]) for y in range(H)]) + w["patch_embed.proj.bias"]
    x = norm(x, "patch_embed.norm")
    maps = []
    for s in range(4):
        for i in range(depths[s]):
            name = f"layers.{s}.blocks.{i}"
            x = x + slow_attention(norm(x, f"{name}.norm1"), w, f"{name}.attn", heads[s], window, i % 2 * (window // 2))
            hidden = linear(norm(x, f"{name}.norm2"), f"{name}.mlp.fc1")
            x = x + linear(hidden * (1 + torch.erf(hidden / 2 ** 0.5)) / 2, f"{name}.mlp.fc2")
        maps.append(norm(x, f"norm{s}").permute(2, 0, 1))
        if s < 3:
            H, W, C = x.shape
            four = torch.zeros(-(-H // 2), -(-W // 2), 4 * C, dtype=x.dtype)
            for y in range(H):
                for z in range(W):
                    part = y % 2 + 2 * (z % 2)  # column by column: top left, bottom left, top right, bottom right
                    four[y // 2, z // 2, part * C:(part + 1) * C] = x[y, z]
            x = linear(norm(four, f"layers.{s}.downsample.norm"), f"layers.{s}.downsample.reduction")
    return maps


@pytest.mark.parametrize("size", [(64, 96), (97, 70)])
def test_maps_equal_a_slow_forward(model, weights, size):
    """Sizes that do not divide, res5 maps (2 x 3, 4 x 3) inside one window."""
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours = model.backbone.double()(images.double())
        single = model.backbone.float()(images)
    for i in range(2 if size[0] == 64 else 1):
        for got, want, in_float32 in zip(ours, slow_swin(images[i], weights), single):
            torch.testing.assert_close(got[i], want, rtol=0, atol=1e-10)
            torch.testing.assert_close(in_float32[i], want.float(), rtol=0, atol=2e-5)


def test_window_7_on_a_map_of_one_window_is_cut_by_the_shift(model):
    """torchvision does not shift there. Elsewhere its own network gives our maps."""
    theirs, ours = torchvision.models.swin_t().eval(), model.backbone
    theirs.load_state_dict(torchvision_names(ours), strict=False)
    outputs = []
    for stage in (1, 3, 5, 7):
        theirs.features[stage].register_forward_hook(lambda module, x, y: outputs.append(y))
    for height, width, equal in ((256, 232, True), (160, 128, False)):
        outputs.clear()
        images = torch.randn(1, 3, height, width)
        with torch.no_grad():
            got = ours(images)
            theirs(images)
            want = [norm(x).permute(0, 3, 1, 2) for norm, x in zip(ours.norms, outputs)]
        for a, b in zip(got[:3], want[:3]):
            torch.testing.assert_close(a, b, rtol=0, atol=2e-5)
        assert torch.allclose(got[3], want[3], rtol=0, atol=2e-5) == equal
        assert equal or (got[3] - want[3]).abs().max() > 0.1


def torchvision_names(swin):
    """Our tensors under torchvision's names: features.0 is the stem, odd numbers are stages, even ones merges."""
    tensors = {}
    for name, value in swin.state_dict().items():
        part, _, rest = name.partition(".")
        number, _, rest_of = rest.partition(".")
        place = {"stem": "0", "stages": f"{2 * int(number) + 1}", "merges": f"{2 * int(number) + 2}"}.get(part)
        if place:
            tensors[f"features.{place}.{rest if part == 'stem' else rest_of}"] = value
    return tensors


def test_windows_and_back():
    x = torch.randn(2, 6, 9, 4)
    windows = to_windows(x, 3)
    assert windows.shape == (2, 6, 9, 4)
    assert torch.equal(windows[1, 4, 5], x[1, 3 + 1, 3 + 2])  # second row, second column of windows; cell (1, 2)
    assert torch.equal(from_windows(windows, 3, (6, 9)), x)


def test_relative_positions_are_the_reference_s(weights):
    index = weights["backbone.layers.0.blocks.0.attn.relative_position_index"]
    assert torch.equal(relative_position_index(7), index)


@pytest.mark.parametrize("preset, count, backbone", [
    ("swin_t", 41_757_009, 27_520_698), ("swin_s", 63_074_913, 48_838_602), ("swin_b", 101_829_391, 86_880_376)])
def test_parameter_counts(preset, count, backbone):
    """T: the reference's. S, B: torchvision's blocks, four norms, tables for our windows."""
    with torch.device("meta"):
        model = build_model(preset)
        theirs = torchvision.models.get_model(preset)
    parts = {name: sum(p.numel() for p in child.parameters()) for name, child in model.named_children()}
    assert parts["backbone"] == backbone
    assert sum(parts.values()) == count
    if preset == "swin_t":
        assert parts["pixel_decoder"] == 4_304_640
    else:
        own = sum(p.numel() for name, p in theirs.named_parameters() if name.startswith("features."))
        tables = sum(block.attn.num_heads for stage in model.backbone.stages for block in stage)
        tables *= (2 * model.config.window - 1) ** 2 - 13 ** 2  # B: windows of 12, not 7
        assert backbone == own + tables + 2 * sum(model.backbone.channels)


def test_a_zoo_file(weights, model, tmp_path):
    assert fill.digest(weights) == "89b8e6416058c85bdbb8cc79aec37dacf63fdef1f5669d714e8ef22741e248ec"
    torch.save({"model": weights}, tmp_path / "model_final.pth")
    loaded = load_checkpoint(tmp_path / "model_final.pth")
    assert loaded.config == get_config("swin_t")
    assert all(torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), model.float().state_dict().values()))


def test_the_zoo_s_configurations_are_told_from_shapes():
    for preset in ("swin_t", "swin_s", "swin_b", "swin_l", "swin_t_panoptic", "swin_b_panoptic"):
        with torch.device("meta"):
            tensors = build_model(preset).state_dict()
        assert zoo.guess_config(tensors) == get_config(preset)
    small = get_config("swin_b", window=7, num_classes=5, num_queries=9)
    with torch.device("meta"):
        assert zoo.guess_config(build_model(small).state_dict()) == small


def test_stochastic_depth_grows_and_acts_in_training_only():
    torch.manual_seed(0)
    swin = Swin("swin_t", stochastic_depth=0.3)
    rates = [block.stochastic_depth.p for stage in swin.stages for block in stage]
    assert rates == pytest.approx([0.3 * i / 11 for i in range(12)])
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert len({swin(images)[3].sum().item() for _ in range(4)}) > 1
        swin.eval()
        assert torch.equal(swin(images)[3], swin(images)[3])
    with torch.device("meta"):
        assert build_model("swin_t", stochastic_depth=0.5).backbone.stages[3][1].stochastic_depth.p == 0.5


def test_gradients_reach_every_parameter(model):
    model.zero_grad()
    output = model.float()(torch.randn(1, 3, 64, 64))
    (output.class_logits.square().sum() + output.mask_logits.square().mean()).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    model.zero_grad()
    assert without == []


def test_tables_and_norms_have_no_weight_decay(model):
    groups = parameter_groups(model, TrainConfig())
    decayed = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
    for name, parameter in model.named_parameters():
        free = "table" in name or "norm" in name or name.startswith(("backbone.stem.2", "decoder.query_positions")) \
            or (name.startswith("pixel_decoder") and parameter.ndim == 1 and name != "pixel_decoder.mask_features.bias")
        assert (id(parameter) not in decayed) == free, name
