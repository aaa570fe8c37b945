"""Exercises of lesson 07: banks of right and wrong solutions, and references that equal the library."""
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from exercises.banks import *  # noqa: F403

from minimaskformer import build_model
from minimaskformer.exercises import core
from minimaskformer.exercises.lessons import lesson07
from minimaskformer.exercises.lessons.lesson07_batch import batch_with
from minimaskformer.exercises.lessons.lesson07_count import count_with
from minimaskformer.exercises.lessons.lesson07_heads import masks_with
from minimaskformer.exercises.lessons.lesson07_layers import answers_with, wired
from minimaskformer.exercises.lessons.lesson07_pictures import picture_with
from minimaskformer.predict import bilinear, to_input_size
from minimaskformer.studies.cost import cost_by_part

BY_ID = {e.id: e for e in lesson07.EXERCISES}


# --- right, written differently ---------------------------------------------------------------------------------------

def masks_loops(states, layers, pixels):
    out = torch.zeros(len(states), states.shape[1], *pixels.shape[-2:])
    for b in range(len(states)):
        for i, x in enumerate(states[b]):
            for k, (weight, bias) in enumerate(layers):
                x = weight @ x + bias
                x = x.clamp(min=0) if k < 2 else x
            for y in range(pixels.shape[2]):
                for z in range(pixels.shape[3]):
                    out[b, i, y, z] = (x * pixels[b, :, y, z]).sum()
    return out


def masks_modules(states, layers, pixels):
    modules = []
    for weight, bias in layers:
        module = torch.nn.Linear(*weight.shape[::-1])
        module.load_state_dict({"weight": weight, "bias": bias})
        modules += [module.to(weight.dtype), torch.nn.ReLU(inplace=True)]
    e = torch.nn.Sequential(*modules[:-1])(states)
    return (e @ pixels.flatten(2)).unflatten(2, pixels.shape[-2:])


def masks_numpy(states, layers, pixels):
    x = states.numpy().astype(np.float64)
    for k, (weight, bias) in enumerate(layers):
        x = x @ weight.numpy().T + bias.numpy()
        x = np.maximum(x, 0) if k < 2 else x
    return np.einsum("bnc,bchw->bnhw", x, pixels.numpy())


def answers_loop(states, norm, class_head, mask_head, pixels):
    classes, masks = [], []
    for x in states:
        x = norm(x)
        classes.append(class_head(x))
        masks.append((mask_head(x) @ pixels.flatten(2)).reshape(*x.shape[:2], *pixels.shape[2:]))
    return [classes[-1], masks[-1], classes[:-1], masks[:-1]]


def answers_lists(states, norm, class_head, mask_head, pixels):
    classes = [class_head(norm(x)) for x in states]
    return classes, [torch.einsum("bnc,bcyx->bnyx", mask_head(norm(x)), pixels) for x in states]


def answers_from_lists(*args):
    classes, masks = answers_lists(*args)
    return classes[-1].double(), masks[-1].double().numpy(), torch.stack(classes[:-1]).double(), np.stack(masks[:-1])


def answers_pop(states, norm, class_head, mask_head, pixels):
    states = [norm(s) for s in states]
    last = states.pop()
    mask = lambda s: torch.matmul(mask_head(s), pixels.flatten(2)).view(*s.shape[:2], *pixels.shape[-2:])  # noqa: E731
    return class_head(last), mask(last), [class_head(s) for s in states], [mask(s) for s in states]


def answers_batched(states, norm, class_head, mask_head, pixels):
    x = torch.cat([norm(s)[None] for s in states])
    masks = (mask_head(x)[..., None, None] * pixels[None, :, None]).sum(3)
    c = class_head(x)
    return c[len(c) - 1], masks[len(c) - 1], c[:len(c) - 1], masks[:len(c) - 1]


def forward_all_layers(images, parts):
    features = parts["backbone"](images)
    states = torch.stack(list(parts["decoder"](parts["input_proj"](features[3]))))
    masks = torch.einsum("lbnc,bchw->lbnhw", parts["mask_head"](states), parts["pixel_decoder"](features))
    return parts["class_head"](states)[-1], masks[-1]


def forward_one_by_one(images, parts):
    classes, masks = [], []
    for image in images:
        res2, res3, res4, res5 = parts["backbone"](image[None])
        x = parts["decoder"](parts["input_proj"](res5))[-1]
        pixels = parts["pixel_decoder"]([res2, res3, res4, res5])
        classes.append(parts["class_head"](x)[0])
        masks.append((parts["mask_head"](x) @ pixels.flatten(2)).unflatten(-1, pixels.shape[2:])[0])
    return classes, masks


def parameters_by_torch(num_layers, num_queries, dim, feedforward, memory_channels):
    with torch.device("meta"):
        layer = torch.nn.TransformerDecoderLayer(dim, 1, feedforward)
        parts = [*[layer] * num_layers, torch.nn.LayerNorm(dim), torch.nn.Embedding(num_queries, dim),
                 torch.nn.Conv2d(memory_channels, dim, 1)]
        return sum(p.numel() for part in parts for p in part.parameters())


def parameters_loop(L, N, D, H, C):
    total = C * D + D
    for _ in range(L):
        for _ in range(2):
            total += 3 * D * D + 3 * D + D * D + D
        total += H * D + H + D * H + D
        total += 3 * (D + D)
    return total + D + D + N * D


def batch_normalised_list(pictures, mean, std, divisibility):
    xs = [(p.float() - mean.view(3, 1, 1)) / std.view(3, 1, 1) for p in pictures]
    H = int(np.ceil(max(x.shape[1] for x in xs) / divisibility) * divisibility)
    W = int(np.ceil(max(x.shape[2] for x in xs) / divisibility) * divisibility)
    batch = torch.stack([F.pad(x, (0, W - x.shape[2], 0, H - x.shape[1])) for x in xs])
    masks = [F.pad(torch.ones(x.shape[1:]), (0, W - x.shape[2], 0, H - x.shape[1])) > 0 for x in xs]
    return batch, masks


def batch_padded_with_the_mean(pictures, mean, std, divisibility):
    H, W = (-(-max(p.shape[k] for p in pictures) // divisibility) * divisibility for k in (1, 2))
    batch = mean[None, :, None, None].repeat(len(pictures), 1, H, W)
    mask = np.zeros((len(pictures), H, W), int)
    for i, p in enumerate(pictures):
        batch[i, :, :p.shape[1], :p.shape[2]] = p
        mask[i, :p.shape[1], :p.shape[2]] = 1
    return (batch - mean[:, None, None]) / std[:, None, None], mask


def batch_with_a_loop_over_channels(pictures, mean, std, divisibility):
    sides = torch.tensor([p.shape[1:] for p in pictures]).max(0).values
    H, W = ((sides + divisibility - 1) // divisibility * divisibility).tolist()
    batch, mask = np.zeros((len(pictures), 3, H, W)), np.zeros((len(pictures), H, W), bool)
    for i, p in enumerate(pictures):
        for c in range(3):
            batch[i, c, :p.shape[1], :p.shape[2]] = (p[c].numpy().astype(float) - mean[c].item()) / std[c].item()
        mask[i][:p.shape[1], :p.shape[2]] = True
    return [batch, mask]


def batch_multiplied(pictures, mean, std, divisibility):
    H, W = (max(p.shape[k] for p in pictures) for k in (-2, -1))
    H, W = H + (divisibility - H) % divisibility, W + (divisibility - W) % divisibility
    mask = torch.stack([(torch.arange(H)[:, None] < p.shape[1]) & (torch.arange(W) < p.shape[2]) for p in pictures])
    raw = torch.stack([F.pad(p, (0, W - p.shape[2], 0, H - p.shape[1])) for p in pictures])
    return ((raw - mean[None, :, None, None]) / std[None, :, None, None]) * mask[:, None], mask


def picture_by_library(mask_logits, padded, size, picture_size):
    return bilinear(bilinear(mask_logits, padded)[:, :size[0], :size[1]], picture_size)


def picture_one_query_at_a_time(mask_logits, padded, size, picture_size):
    out = []
    for m in mask_logits:
        m = F.interpolate(m[None, None].double(), padded, mode="bilinear")
        out.append(F.interpolate(m[:, :, :size[0], :size[1]], picture_size, mode="bilinear")[0, 0].numpy())
    return np.stack(out)


def resize_matrix(n, m):
    """Bilinear interpolation of n values to m as a matrix [m, n]."""
    where = ((torch.arange(m) + 0.5) * n / m - 0.5).clamp(0, n - 1).double()
    low, t = where.floor().long(), where - where.floor()
    matrix = torch.zeros(m, n, dtype=torch.float64)
    matrix[torch.arange(m), low] += 1 - t
    matrix[torch.arange(m), (low + 1).clamp(max=n - 1)] += t
    return matrix


def picture_by_matrices(x, padded, size, picture_size):
    rows = resize_matrix(size[0], picture_size[0]) @ resize_matrix(x.shape[1], padded[0])[:size[0]]
    columns = resize_matrix(size[1], picture_size[1]) @ resize_matrix(x.shape[2], padded[1])[:size[1]]
    return rows @ x.double() @ columns.T


def picture_in_batch(x, padded, size, picture_size):
    up = torch.nn.Upsample(size=padded, mode="bilinear")(x.unsqueeze(0))
    return torch.nn.Upsample(size=picture_size, mode="bilinear")(up[..., :size[0], :size[1]]).squeeze(0)


RIGHT = {
    "07.1": [masks_loops, masks_modules, masks_numpy,
             lambda s, layers, p: masks_loops(s, layers, p).double(),
             lambda s, layers, p: masks_loops(s, layers, p).tolist()],
    "07.2": [answers_loop, answers_from_lists, answers_pop, answers_batched,
             lambda *args: tuple(answers_loop(*args)), lambda s, *rest: answers_loop(tuple(s), *rest)],
    "07.3": [forward_all_layers, forward_one_by_one, lambda x, parts: list(forward_all_layers(x, parts)),
             lambda x, parts: forward_all_layers(x.double(), parts),
             lambda x, parts: tuple(v.numpy() for v in forward_all_layers(x, parts))],
    "07.4": [parameters_by_torch, parameters_loop, lambda *args: torch.tensor(parameters_loop(*args)),
             lambda L, N, D, F_, C: D * (C + 1 + N + 2) + L * (8 * D * (D + 1) + 2 * D * F_ + F_ + 7 * D)],
    "07.5": [batch_normalised_list, batch_padded_with_the_mean, batch_with_a_loop_over_channels, batch_multiplied],
    "07.6": [picture_by_library, picture_one_query_at_a_time, picture_by_matrices, picture_in_batch,
             lambda *args: picture_by_matrices(*args).tolist()],
}


# --- wrong, and no known mistake (or two at once) ---------------------------------------------------------------------

def relu(x):
    return x.clamp(min=0)


def same(x):
    return x


def _sigmoid_both(*args):
    return tuple(x.sigmoid() for x in answers_loop(*args)[:2]) + tuple(torch.stack(x) for x in answers_loop(*args)[2:])


WRONG = {
    "07.1": [masks_with(acts=(same, relu, relu, relu), linear=lambda x, w, b: x @ w.T),  # two mistakes
             masks_with(acts=(same, relu, relu, relu), product=lambda e, p: torch.einsum("bnc,bchw->bnhw", e, p).sigmoid()),
             masks_with(acts=(same,) * 4, linear=lambda x, w, b: x @ w.T),
             masks_with(acts=(same, torch.tanh, torch.tanh, same)), masks_with(which=(0, 0, 2)),
             lambda s, layers, p: torch.full((len(s), s.shape[1], *p.shape[2:]), 0.5), lambda s, layers, p: masks_loops(s, layers, p) * 2,
             lambda s, layers, p: s, lambda s, layers, p: s @ p, lambda s, layers, p: None,
             lambda s, layers, p: masks_loops(s, layers[::-1], p)],
    "07.2": [answers_with(normed=lambda x, n: x, split=lambda x: (x[-1], x)),  # two mistakes
             answers_with(normed=lambda x, n: x, split=lambda x: (x[0], x[1:])),
             answers_with(normed=lambda x, n: n(x.flip(0))), _sigmoid_both,
             answers_with(split=lambda x: (x.mean(0), x[:-1])), lambda *args: answers_loop(*args)[:2],
             lambda *args: answers_loop(*args)[0], lambda *args: args[0] @ args[-1],
             answers_with(normed=lambda x, n: x, split=lambda x: (x[-1], x[:-1].flip(0))),
             lambda *args: [torch.stack(list(x)) * 0 for x in answers_loop(*args)],
             answers_with(normed=lambda x, n: F.layer_norm(x, x.shape[-1:]))],
    "07.3": [wired(memory=lambda f, p, parts: f[0]), wired(state=lambda s: s[0], embed=lambda x, parts: x),  # two each
             wired(memory=lambda f, p, parts: f[-1], change=lambda c, m: (c, m.sigmoid())),
             wired(memory=lambda f, p, parts: parts["input_proj"](f[1]), state=sum), wired(state=lambda s: 3 * s[-1]),
             lambda x, parts: wired()(x / 255, parts), lambda x, parts: wired()(x.flip(1), parts),
             wired(state=lambda s: s[0], change=lambda c, m: (c[..., :-1], m)),
             lambda x, parts: forward_all_layers(2 * x, parts), lambda x, parts: forward_all_layers(x, parts)[:1] * 2,
             lambda x, parts: wired()(x, parts | {"input_proj": lambda y: parts["input_proj"](y).flatten(2)}),  # no map
             lambda x, parts: forward_all_layers(x, parts)[0], lambda x, parts: parts["decoder"](x)],
    "07.4": [count_with(bias=0, queries=0), count_with(attentions=1, norms=2), count_with(mlp=1, conv=0),  # two each
             count_with(final=0, queries=0), count_with(conv=0, final=0), lambda L, *rest: count_with()(L + 1, *rest),
             lambda *args: parameters_loop(*args) / 1e6, lambda L, N, D, F_, C: L * N * D * F_ * C,
             lambda *args: parameters_loop(*args) + 1, lambda *args: 2 * parameters_loop(*args),
             lambda *args: str(parameters_loop(*args))],
    "07.5": [batch_with(fill=0, up=lambda s, d: s), batch_with(fill=0, square=True),  # two each
             batch_with(fill=0, marked=lambda m: ~m), batch_with(square=True, marked=torch.ones_like),
             batch_with(scaled=lambda p, m, s: (p / 255 - m[:, None, None]).flip(0)),
             batch_with(fill=0, place=lambda canvas, size: (canvas[0] - size[0], 0)),
             lambda p, m, s, d: batch_with()(p[::-1], m, s, d), lambda p, m, s, d: [x * 0 for x in batch_with()(p, m, s, d)],
             lambda p, m, s, d: batch_normalised_list(p, m, s, d)[0], lambda p, m, s, d: batch_with()(p, m, s, 2 * d),
             lambda p, m, s, d: torch.stack(p)],
    "07.6": [picture_with(before=torch.sigmoid, crop=lambda x, s, p: x),  # two each
             picture_with(crop=lambda x, s, p: x, after=torch.sigmoid),
             picture_with(before=torch.sigmoid, after=torch.sigmoid),
             picture_with(first=lambda x, to: F.interpolate(x[None], size=to)[0], after=torch.sigmoid),
             picture_with(crop=lambda x, s, p: x, second=lambda x, to: F.interpolate(x[None], size=to)[0]),
             picture_with(crop=lambda x, s, p: x[:, -s[0]:, -s[1]:], after=torch.sigmoid),
             lambda x, padded, size, picture: F.interpolate(x[None], picture, mode="bilinear", align_corners=True)[0],
             lambda x, padded, size, picture: picture_by_library(x, padded, size, picture) * 2,
             lambda x, padded, size, picture: picture_by_library(x, picture, size, padded),
             lambda x, padded, size, picture: x, lambda x, padded, size, picture: picture_by_library(x, *[padded] * 3)],
}


# --- the references are the library's functions -----------------------------------------------------------------------

@pytest.fixture(scope="module")
def r50():
    torch.manual_seed(0)
    return build_model("r50", num_classes=7, num_queries=5, decoder_layers=2).eval().requires_grad_(False)


def test_heads_and_wiring_equal_the_library(r50):
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    everywhere = torch.ones(2, 64, 96, dtype=torch.bool)
    before_norm = []
    handle = r50.decoder.norm.register_forward_hook(lambda module, inputs, output: before_norm.append(inputs[0]))
    output = r50(images)
    handle.remove()

    parts = {name: getattr(r50, name) for name in ("backbone", "input_proj", "class_head", "mask_head")}
    parts["pixel_decoder"] = lambda features: r50.pixel_decoder(features, everywhere)[0]
    parts["decoder"] = lambda memory: r50.decoder(memory, everywhere[:, ::32, ::32])
    for mine, library in zip(BY_ID["07.3"].reference(images, parts), output):
        torch.testing.assert_close(mine, library)

    pixels = parts["pixel_decoder"](r50.backbone(images))
    c, m, aux_c, aux_m = BY_ID["07.2"].reference(before_norm, r50.decoder.norm, r50.class_head, r50.mask_head, pixels)
    for mine, library in zip((c, m, aux_c[0], aux_m[0]), (*output[:2], *output.aux[0][:2])):
        torch.testing.assert_close(mine, library)

    layers = [(r50.mask_head[i].weight, r50.mask_head[i].bias) for i in (0, 2, 4)]
    mine = BY_ID["07.1"].reference(r50.decoder.norm(before_norm[-1]), layers, pixels)
    torch.testing.assert_close(mine, output.mask_logits)


@pytest.mark.parametrize("preset", ["r50", "r18"])
def test_count_is_the_librarys(preset):
    model = build_model(preset)
    c = model.config
    mine = BY_ID["07.4"].reference(c.decoder_layers, c.num_queries, c.hidden_dim, c.feedforward, model.backbone.channels[-1])
    assert mine == cost_by_part(model, 64, 64).parts["transformer decoder"].parameters
    assert preset != "r50" or mine == 10_023_168


def test_batch_and_picture_are_the_librarys():
    model = build_model("mini")
    g = torch.Generator().manual_seed(0)
    pictures = [torch.randint(0, 256, (3, *size), generator=g, dtype=torch.uint8) for size in ((40, 70), (64, 33))]
    batch, image_mask = BY_ID["07.5"].reference(pictures, model.pixel_mean.flatten(), model.pixel_std.flatten(), 32)
    raw = torch.zeros(2, 3, 64, 70)
    for canvas, picture in zip(raw, pictures):
        canvas[:, :picture.shape[1], :picture.shape[2]] = model.normalize(picture)
    library, library_mask = model.pad(raw, [p.shape[-2:] for p in pictures])
    torch.testing.assert_close(batch, library)
    assert torch.equal(image_mask, library_mask)

    x = torch.randn(4, 16, 24, generator=g)
    mine = BY_ID["07.6"].reference(x, (64, 96), (50, 90), (75, 140))
    torch.testing.assert_close(mine, bilinear(to_input_size(x, (50, 90), 32), (75, 140)))


def test_pictures_keep_their_order_and_a_batch_may_be_of_one():
    reference = core.find("07.5").reference
    for solution in (lambda pictures, *rest: reference(sorted(pictures, key=lambda p: -p.shape[1]), *rest),
                     lambda pictures, *rest: reference([p[:, :pictures[0].shape[1]] for p in pictures], *rest),
                     lambda *args: tuple(part.squeeze() for part in reference(*args))):
        assert core.judge(core.find("07.5"), solution).kind != "passed"


def test_what_may_be_either_of_two_mistakes_is_said_to_be():
    text = core.judge(core.find("07.4"), lambda L, N, D, *rest: core.find("07.4").reference(L, N, D, *rest) - D).text
    assert "Looks like: D too few." in text and "input_proj" in text and "final norm" in text
