"""Lesson 05's exercises: right answers written differently, wrong ones that are no known mistake, and the library."""
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from exercises.banks import *  # noqa: F403
from torch import nn

from minimaskformer import load_checkpoint
from minimaskformer.backbone import Backbone
from minimaskformer.exercises import core
from minimaskformer.exercises.lessons import lesson05
from minimaskformer.pixel_decoder import FPN

BY_ID = {e.id: e for e in lesson05.EXERCISES}


# --- 05.1 -------------------------------------------------------------------------------------------------------------

def sizes_by_halving(height, width, divisibility):
    sizes, sides = [], [math.ceil(n / divisibility) * divisibility for n in (height, width)]
    for halving in range(5):
        sides = [(n + 1) // 2 for n in sides]
        if halving:
            sizes.append(tuple(sides))
    return tuple(sizes)


def sizes_by_running_it(height, width, divisibility):
    x = torch.zeros(1, 1, height, width)
    x = F.pad(x, (0, -width % divisibility, 0, -height % divisibility))
    out = []
    for _ in range(5):
        x = F.conv2d(x, torch.zeros(1, 1, 3, 3), stride=2, padding=1)
        out.append(x.shape[-2:])
    return out[1:]


def sizes_in_numpy(height, width, divisibility):
    sides = np.array([height, width])
    sides = sides + (divisibility - sides % divisibility) % divisibility
    return np.ceil(sides / np.array([4, 8, 16, 32])[:, None]).astype(int)


# --- 05.2 -------------------------------------------------------------------------------------------------------------

def norm_loops(x, groups, weight, bias, eps=1e-5):
    out, per = torch.empty_like(x), x.shape[1] // groups
    for b in range(len(x)):
        for g in range(groups):
            part = x[b, g * per:(g + 1) * per]
            mean = part.sum() / part.numel()
            var = (part ** 2).sum() / part.numel() - mean ** 2
            for c in range(g * per, (g + 1) * per):
                out[b, c] = (x[b, c] - mean) / (var + eps) ** 0.5 * weight[c] + bias[c]
    return out


def norm_in_place(x, groups, weight, bias, eps=1e-5):
    y = x.view(x.shape[0], groups, -1, *x.shape[2:])
    y -= y.mean((2, 3, 4), keepdim=True)
    y /= (y.square().mean((2, 3, 4), keepdim=True) + eps).sqrt()
    return x.mul_(weight.view(1, -1, 1, 1)).add_(bias.view(1, -1, 1, 1))


def norm_in_numpy(x, groups, weight, bias, eps=1e-5):
    b, c, h, w = x.shape
    y = x.numpy().reshape(b, groups, c // groups, h, w)
    y = (y - y.mean((2, 3, 4), keepdims=True)) / np.sqrt(y.var((2, 3, 4), keepdims=True) + eps)
    return y.reshape(b, c, h, w) * weight.numpy()[None, :, None, None] + bias.numpy()[:, None, None]


def norm_over_groups_of_pixels(x, groups, weight, bias, eps=1e-5):  # wrong: a reshape that scatters the channels
    y = x.reshape(len(x), -1, groups)
    y = (y - y.mean(1, keepdim=True)) / (y.var(1, keepdim=True, correction=0) + eps).sqrt()
    return y.reshape(x.shape) * weight[:, None, None] + bias[:, None, None]


def norm_unbiased_without_root(x, groups, weight, bias, eps=1e-5):  # two mistakes
    y = x.reshape(len(x), groups, -1)
    y = (y - y.mean(2, keepdim=True)) / (y.var(2, keepdim=True) + eps)
    return y.reshape(x.shape) * weight[:, None, None] + bias[:, None, None]


def norm_by_folding(x, groups, weight, bias, eps=1e-5):
    """GroupNorm is BatchNorm of a single image whose channels are all the groups."""
    y = F.batch_norm(x.reshape(1, len(x) * groups, -1), None, None, training=True, eps=eps)
    return y.reshape(x.shape) * weight[:, None, None] + bias[:, None, None]


def norm_by_layer_norm(x, groups, weight, bias, eps=1e-5):
    y = x.unflatten(1, (groups, -1))
    return F.layer_norm(y, y.shape[2:], eps=eps).flatten(1, 2) * weight[:, None, None] + bias[:, None, None]


# --- 05.3 -------------------------------------------------------------------------------------------------------------

def down_loops(coarse, feature, weight):
    _, _, H, W = feature.shape
    h, w = coarse.shape[-2:]
    out = torch.zeros(len(feature), len(weight), H, W)
    for i in range(H):
        for j in range(W):
            out[:, :, i, j] = feature[:, :, i, j] @ weight.T + coarse[:, :, i * h // H, j * w // W]
    return out


def down_repeated(coarse, feature, weight):
    up = coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)[..., :feature.shape[2], :feature.shape[3]]
    return (feature.permute(0, 2, 3, 1) @ weight.T).permute(0, 3, 1, 2).add_(up)


def down_by_modules(coarse, feature, weight):
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], 1, bias=False)
    conv.weight = nn.Parameter(weight[:, :, None, None])
    return conv(feature) + nn.Upsample(size=feature.shape[2:])(coarse)


def down_by_index(coarse, feature, weight):
    rows, columns = torch.arange(feature.shape[2]) // 2, torch.arange(feature.shape[3]) // 2
    return np.einsum("dc,bchw->bdhw", weight, feature) + coarse[:, :, rows[:, None], columns].numpy()


# --- 05.4, 05.5 -------------------------------------------------------------------------------------------------------

def masks_loops(mask_embeddings, pixel_embeddings):
    B, C, H, W = pixel_embeddings.shape
    return [[[[sum(m[c] * pixel_embeddings[b, c, i, j] for c in range(C)).item() for j in range(W)] for i in range(H)]
             for m in mask_embeddings[b]] for b in range(B)]


def cost_by_running_it(inputs, outputs, kernel, stride, height, width):
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    with torch.no_grad():
        pixels = conv(torch.zeros(1, inputs, height, width)).shape[-2:].numel()
    return conv.weight.numel(), conv.weight.numel() * pixels


def cost_in_floats(inputs, outputs, kernel, stride, height, width):
    parameters = np.prod([inputs, outputs, kernel, kernel])
    return [parameters, parameters * int(np.ceil(height / stride)) * int(np.ceil(width / stride))]


# --- 05.6 -------------------------------------------------------------------------------------------------------------

class Decoder(nn.Module):
    """The decoder of a reader who builds modules and loads the weights into them."""

    def __init__(self, channels, dim, mask_dim):
        super().__init__()
        self.laterals = nn.ModuleList(nn.Sequential(nn.Conv2d(c, dim, 1, bias=False), nn.GroupNorm(32, dim))
                                      for c in channels[:3])
        self.outputs = nn.ModuleList(
            nn.Sequential(nn.Sequential(nn.Conv2d(c, dim, 3, padding=1, bias=False), nn.GroupNorm(32, dim)), nn.ReLU())
            for c in (dim, dim, dim, channels[3]))
        self.mask_features = nn.Conv2d(dim, mask_dim, 3, padding=1)

    def forward(self, features, encoder):
        p = self.outputs[3](features[3])
        for i in reversed(range(3)):
            p = self.outputs[i](F.interpolate(p, features[i].shape[2:]) + self.laterals[i](features[i]))
            if i == 1:
                p = encoder(p)
        return self.mask_features(p)


def decoder_by_modules(features, weights, encoder):
    decoder = Decoder([f.shape[1] for f in features], len(weights["outputs.0.0.0.weight"]),
                      len(weights["mask_features.weight"])).to(features[0].dtype)
    decoder.load_state_dict(weights)
    return decoder(features, encoder)


def decoder_by_the_library(features, weights, encoder):
    decoder = FPN([f.shape[1] for f in features], 64, 5, lambda y, mask: encoder(y), "p3").to(features[0].dtype)
    decoder.load_state_dict(weights)
    return decoder(features, torch.ones(len(features[0]), 32, 32, dtype=torch.bool))[0]


def decoder_unrolled(features, weights, encoder, final=lambda x: x, up=F.interpolate, lateral_act=lambda x: x):
    res2, res3, res4, res5 = features
    w = weights

    def block(x, name, padding):
        x = F.conv2d(x, w[name + ".0.weight"], None, 1, padding)
        return F.group_norm(x, 32, w[name + ".1.weight"], w[name + ".1.bias"])

    def lateral(x, i):
        return lateral_act(block(x, f"laterals.{i}", 0))

    p5 = F.relu(block(res5, "outputs.3.0", 1))
    p4 = F.relu(block(lateral(res4, 2) + up(p5, size=res4.shape[2:]), "outputs.2.0", 1))
    p3 = encoder(F.relu(block(lateral(res3, 1) + up(p4, size=res3.shape[2:]), "outputs.1.0", 1)))
    p2 = F.relu(block(lateral(res2, 0) + up(p3, size=res2.shape[2:]), "outputs.0.0", 1))
    return final(F.conv2d(p2, w["mask_features.weight"], w["mask_features.bias"], padding=1))


def decoder_of_means(features, weights, encoder):
    """Half of lateral plus half of up is right too: the GroupNorm after the convolution takes the factor out."""
    return decoder_unrolled(features, weights, encoder, up=lambda x, size: F.interpolate(x, size=size) / 2,
                            lateral_act=lambda x: x / 2)


def decoder_in_double(features, weights, encoder):
    return decoder_unrolled([f.double() for f in features], {k: v.double() for k, v in weights.items()}, encoder)


def bilinear(x, size):
    return F.interpolate(x, size=size, mode="bilinear")


def dot(m, e):
    return torch.einsum("bnc,bchw->bnhw", m, e)


RIGHT = {
    "05.1": [sizes_by_halving, sizes_by_running_it, sizes_in_numpy,
             lambda h, w, d: torch.tensor(sizes_by_halving(h, w, d))],
    "05.2": [norm_loops, norm_in_place, norm_in_numpy, norm_by_layer_norm, norm_by_folding, F.group_norm,
             lambda x, *a: norm_loops(x.double(), *a), lambda x, *a: norm_loops(x, *a).tolist()],
    "05.3": [down_loops, down_repeated, down_by_modules, down_by_index,
             lambda *a: down_loops(*(v.double() for v in a))],
    "05.4": [masks_loops, lambda m, e: (m @ e.flatten(2)).view(len(m), -1, *e.shape[2:]),
             lambda m, e: (m[..., None, None] * e[:, None]).sum(2), lambda m, e: np.einsum("bnc,bchw->bnhw", m, e),
             lambda m, e: (e.permute(0, 2, 3, 1) @ m.mT[:, None]).permute(0, 3, 1, 2),
             lambda m, e: torch.stack([F.conv2d(e[b], m[b, :, :, None, None]) for b in range(len(m))]).double()],
    "05.5": [cost_by_running_it, cost_in_floats,
             lambda i, o, k, s, h, w: (k * k * i * o, k * k * i * o * (1 + (h - 1) // s) * (1 + (w - 1) // s)),
             lambda *a: torch.tensor(cost_by_running_it(*a))],
    "05.6": [decoder_by_modules, decoder_by_the_library, decoder_unrolled, decoder_in_double, decoder_of_means,
             lambda f, w, e: torch.cat([decoder_unrolled([m[b:b + 1] for m in f], w, e) for b in range(len(f[0]))]),
             lambda *a: decoder_unrolled(*a).numpy()],
}
WRONG = {
    "05.1": [lambda h, w, d: [(h, w)] * 4, lambda h, w, d: sizes_by_halving(h, w, d)[:3],
             lambda h, w, d: sizes_by_halving(w, h, d)[::-1], lambda h, w, d: [(n // 4, m // 8) for n, m in [(h, w)] * 4],
             lambda h, w, d: sizes_by_halving(h + 4, w, d), lambda h, w, d: None,
             lambda h, w, d: [(h // s, w // s) for s in (4, 8, 16, 32)], lambda h, w, d: sizes_in_numpy(h, w, d).T[::-1]],
    "05.2": [lambda x, g, w, b, e=1e-5: F.group_norm(x, g, b, w, 1e-5), lambda x, g, w, b, e=1e-5: F.group_norm(x, 2, w, b, e),
             lambda x, g, w, b, e=1e-5: F.group_norm(x.relu(), g, w, b, e),
             lambda x, g, w, b, e=1e-5: F.group_norm(x, g, w, -b, e) * 2,
             lambda x, g, w, b, e=1e-5: F.group_norm(x, 1, None, None, e), lambda x, *a: x, norm_over_groups_of_pixels,
             norm_unbiased_without_root, lambda x, g, w, b, e=1e-5: torch.zeros_like(x) + b[:, None, None]],
    "05.3": [lambda c, f, w: down_loops(c.relu(), f, w).relu(), lambda c, f, w: down_loops(c, f.relu(), w),
             lambda c, f, w: down_loops(c, f, w) + 1, lambda c, f, w: down_loops(c.flip(-1), f, w),
             lambda c, f, w: down_loops(2 * c, f, w), lambda c, f, w: down_loops(bilinear(c, f.shape[2:]).relu(), f, w),
             lambda c, f, w: F.interpolate(c, scale_factor=2) + f, lambda c, f, w: down_loops(c, f, w.T).relu(),
             lambda c, f, w: down_loops(c, f.reshape(2, 3, *f.shape[2:]), w)],
    "05.4": [lambda m, e: dot(m, e).sigmoid() / 2, lambda m, e: dot(m, e) + 1, lambda m, e: -dot(m, e),
             lambda m, e: dot(m.sigmoid(), e), lambda m, e: dot(m, e).flatten(2), lambda m, e: dot(m.flip(1), e),
             lambda m, e: dot(m, e.relu()).sigmoid()],
    "05.5": [lambda i, o, k, s, h, w: (i * o * k, i * o * k * h * w), lambda *a: sum(cost_by_running_it(*a)),
             lambda i, o, k, s, h, w: (i * o * k * k, h * w), lambda *a: (0, 0),
             lambda i, o, k, s, h, w: (i * o * k * k + o, 2 * i * o * k * k * h * w)],
    "05.6": [lambda f, w, e: decoder_unrolled(f, w, e, up=bilinear, lateral_act=F.relu),
             lambda f, w, e: decoder_unrolled(f, w, e, final=F.relu, lateral_act=F.relu),
             lambda f, w, e: decoder_unrolled(f, w, e, final=torch.sigmoid),
             lambda f, w, e: decoder_unrolled(f, w, e, lateral_act=lambda x: -x),
             lambda f, w, e: decoder_unrolled(f, w, lambda y: y.relu() + 1),
             lambda f, w, e: decoder_unrolled(f, w, lambda y: y, up=lambda x, size: F.interpolate(x, scale_factor=2)),
             lambda f, w, e: decoder_unrolled(f, w, lambda y: e(y.numpy())),  # a crash with the real encoder only
             lambda f, w, e: decoder_unrolled(f, w, lambda y: y + e(y)),
             lambda f, w, e: decoder_unrolled(f, w, lambda y: y, up=bilinear),
             lambda f, w, e: decoder_unrolled(f[::-1], w, e)],
}


# --- the references agree with the library ----------------------------------------------------------------------------

@pytest.fixture(scope="module")
def mini():
    model = load_checkpoint("mini")
    image = torch.randn(2, 3, 96, 160, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return model, model.backbone(image), torch.ones(2, 96, 160, dtype=torch.bool)


@torch.no_grad()
def test_the_whole_decoder_is_the_shipped_models(mini):
    model, features, image_mask = mini
    expected, pyramid, _ = model.pixel_decoder(features, image_mask)
    mask = torch.ones(2, 12, 20, dtype=torch.bool)
    got = BY_ID["05.6"].reference(features, model.pixel_decoder.state_dict(),
                                  lambda y: model.pixel_decoder.encoder(y, mask))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    lateral = model.pixel_decoder.laterals[2]
    step = BY_ID["05.3"].reference(torch.zeros_like(pyramid[3]), features[2], lateral[0].weight[:, :, 0, 0])
    normed = BY_ID["05.2"].reference(step, 32, lateral[1].weight, lateral[1].bias)
    torch.testing.assert_close(normed, lateral(features[2]), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_mask_logits_are_the_models(mini):
    model = mini[0]
    image = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    seen = []
    hooks = [model.mask_head.register_forward_hook(lambda m, i, o: seen.append(o[-1])),
             model.pixel_decoder.register_forward_hook(lambda m, i, o: seen.append(o[0]))]
    output = model(image)
    for hook in hooks:
        hook.remove()
    pixels, masks = seen
    pixels = pixels + model.positions(torch.ones(1, 64, 96, dtype=torch.bool), pixels)
    torch.testing.assert_close(BY_ID["05.4"].reference(masks, pixels), output.mask_logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["mini", "resnet18", "mobilenet_v2"])
def test_sizes_are_the_backbones(name):
    backbone = Backbone(name).eval()
    with torch.no_grad():
        found = [list(f.shape[-2:]) for f in backbone(torch.zeros(1, 3, 75, 101))]
    assert found == BY_ID["05.1"].reference(75, 101, 1)


def test_natural_fixtures_would_hide_these_mistakes():
    """What each fixture is for: without it a mistake would pass."""
    def hidden(exercise_id, name, fixtures):
        exercise = BY_ID[exercise_id]
        mistake = next(m for m in exercise.mistakes if m.name == name)
        return all(exercise.same(core.call(mistake.fn, core.doubled(exercise.fixtures[i].args)),
                                 core.call(exercise.reference, core.doubled(exercise.fixtures[i].args)))
                   for i in fixtures)
    assert hidden("05.1", "rounded down", (0,)) and hidden("05.1", "not padded", (1,))
    assert hidden("05.2", "eps outside the square root", (0, 2)) and hidden("05.2", "eps left out", (0,))
    assert hidden("05.3", "nearest-exact, which reads other cells at odd sizes", (0, 2))
    assert hidden("05.5", "the pixels of the input", (0, 2))
    assert hidden("05.6", "the encoder left out", (0, 2)) and hidden("05.6", "nearest-exact upsampling", (0, 1))
    assert hidden("05.3", "twice the coarse size, whatever the feature's", (0, 2))
    assert hidden("05.6", "twice the coarse size, whatever the feature's", (0, 1))


def test_the_decoders_weights_go_by_their_names_and_a_batch_may_be_of_one():
    reference = BY_ID["05.6"].reference
    names = list(BY_ID["05.6"].fixtures[0].args[1])
    assert core.judge(BY_ID["05.6"], lambda f, w, e: reference(f, dict(zip(names, w.values())), e)).kind != "passed"
    assert core.judge(BY_ID["05.6"], lambda f, w, e: reference(f, w, e).squeeze()).kind == "form"
