"""Lesson 06's exercises: right answers written differently, wrong ones that are no known mistake, and the library."""
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from exercises.banks import *  # noqa: F403
from torch import nn

from minimaskformer import transformer
from minimaskformer.exercises import core
from minimaskformer.exercises.lessons import lesson06
from minimaskformer.exercises.lessons.lesson06_attention import _attend, _cut, _glued, _multi_head, _woven
from minimaskformer.exercises.lessons.lesson06_decoder import _decode
from minimaskformer.exercises.lessons.lesson06_layer import CROSS, SELF, _layer, random_layer, randomised
from minimaskformer.exercises.lessons.lesson06_positions import _angles, _interleaved, _positions

BY_ID = {e.id: e for e in lesson06.EXERCISES}


# --- right answers, written differently -------------------------------------------------------------------------------

def positions_loops(height, width, dim, temperature=10_000.0):
    out = np.zeros((dim, height, width))
    for c in range(dim):
        for y in range(height):
            for x in range(width):
                t, n = (y + 1, height) if c < dim // 2 else (x + 1, width)
                i = c % (dim // 2) // 2
                angle = 2 * math.pi * t / n / temperature ** (2 * i / (dim / 2))
                out[c, y, x] = math.sin(angle) if c % 2 == 0 else math.cos(angle)
    return out


def positions_in_place(height, width, dim, temperature=10_000.0):
    out = torch.empty(dim, height, width)
    exponent = torch.arange(0, dim // 2, 2) / (dim // 2)
    y, x = torch.meshgrid(torch.arange(height) + 1.0, torch.arange(width) + 1.0, indexing="ij")
    for half, (t, n) in enumerate(((y, height), (x, width))):
        angle = (t / n * 2 * math.pi) * torch.exp(-math.log(temperature) * exponent)[:, None, None]
        out[half * dim // 2:(half + 1) * dim // 2:2] = angle.sin()
        out[half * dim // 2 + 1:(half + 1) * dim // 2:2] = angle.cos()
    return out


def positions_library(height, width, dim, temperature=10_000.0):
    return transformer.sine_positions(torch.ones(1, height, width, dtype=torch.bool), dim, temperature)[0]


def attention_loops(q, k, v, padding):
    out = []
    for b in range(len(q)):
        out.append([])
        for query in q[b].tolist():
            kept = [p for p in range(k.shape[1]) if not padding[b, p]]
            scores = [sum(a * c for a, c in zip(query, k[b, p].tolist())) / math.sqrt(len(query)) for p in kept]
            weights = [math.exp(s - max(scores)) for s in scores]
            out[-1].append([sum(w * v[b, p, e].item() for w, p in zip(weights, kept)) / sum(weights)
                            for e in range(v.shape[2])])
    return out


def attention_renormalised(q, k, v, padding):
    weights = torch.exp(torch.einsum("bnd,bpd->bnp", q, k) / math.sqrt(q.shape[2])) * (~padding)[:, None]
    return weights / weights.sum(2, keepdim=True) @ v


def attention_scaled_query(q, k, v, padding):
    q *= q.shape[-1] ** -0.5
    bias = torch.zeros(padding.shape, dtype=q.dtype).masked_fill(padding, -1e9)
    return torch.bmm(torch.softmax(torch.baddbmm(bias[:, None], q, k.transpose(1, 2)), 2), v)


def attention_cell_by_cell(q, k, v, padding):
    """Padded cells cut out of every picture, the result written into an array of numpy's."""
    out = np.zeros((len(q), q.shape[1], v.shape[2]), np.float32)
    for b, keep in enumerate(~padding):
        out[b] = ((k[b, keep] @ q[b].T / k.shape[-1] ** 0.5).softmax(0).T @ v[b, keep]).numpy()
    return out


def attention_torch(q, k, v, padding):
    return F.scaled_dot_product_attention(q, k, v, attn_mask=~padding[:, None])


def heads_loops(q, k, v, weights, num_heads):
    C = q.shape[-1]
    d, W, b = C // num_heads, weights["in_proj_weight"], weights["in_proj_bias"]
    q, k, v = q @ W[:C].T + b[:C], k @ W[C:2 * C].T + b[C:2 * C], v @ W[2 * C:].T + b[2 * C:]
    read = torch.zeros_like(q)
    for h in range(num_heads):
        s = slice(h * d, (h + 1) * d)
        read[..., s] = attention_renormalised(q[..., s], k[..., s], v[..., s], torch.zeros(k.shape[:2]).bool())
    return read @ weights["out_proj.weight"].T + weights["out_proj.bias"]


def heads_einsum(q, k, v, weights, num_heads):
    B, N, C = q.shape
    W, b = weights["in_proj_weight"].view(3, num_heads, -1, C), weights["in_proj_bias"].view(3, num_heads, 1, -1)
    q, k, v = (torch.einsum("bnc,hdc->bhnd", x, W[i]) + b[i] for i, x in enumerate((q, k, v)))
    a = torch.einsum("bhnd,bhpd->bhnp", q, k).div(math.sqrt(C / num_heads)).softmax(-1)
    read = torch.einsum("bhnp,bhpd->bnhd", a, v).reshape(B, N, C)
    return F.linear(read, weights["out_proj.weight"]) + weights["out_proj.bias"]


def heads_folded(q, k, v, weights, num_heads):
    """Heads folded into the batch, as old code did."""
    B, N, C = q.shape
    w, b = weights["in_proj_weight"].split(C), weights["in_proj_bias"].split(C)
    q, k, v = (F.linear(x, w[i], b[i]).view(B, -1, num_heads, C // num_heads).permute(0, 2, 1, 3)
               .reshape(B * num_heads, -1, C // num_heads) for i, x in enumerate((q, k, v)))
    read = torch.bmm((torch.bmm(q, k.mT) / (C // num_heads) ** 0.5).softmax(-1), v)
    read = read.view(B, num_heads, N, -1).permute(0, 2, 1, 3).reshape(B, N, C)
    return F.linear(read, weights["out_proj.weight"], weights["out_proj.bias"])


def heads_torch(q, k, v, weights, num_heads):
    module = nn.MultiheadAttention(q.shape[-1], num_heads, batch_first=True)
    module.load_state_dict(weights)
    return module.to(q.dtype).eval()(q, k, v)[0]


def heads_one_by_one(q, k, v, weights, num_heads):
    C, d = q.shape[-1], q.shape[-1] // num_heads
    q, k, v = (F.linear(x, weights["in_proj_weight"][i * C:(i + 1) * C], weights["in_proj_bias"][i * C:(i + 1) * C])
               for i, x in enumerate((q, k, v)))
    read = [F.scaled_dot_product_attention(*(x[..., h * d:(h + 1) * d] for x in (q, k, v))) for h in range(num_heads)]
    return (torch.cat(read, -1) @ weights["out_proj.weight"].t() + weights["out_proj.bias"]).tolist()


def layer_by_names(layer, x, query_positions, memory, memory_positions):
    with_positions = x + query_positions
    after, _ = layer.self_attn(with_positions, with_positions, x, need_weights=False)
    x = layer.norm1(after + x)
    after, weights = layer.cross_attn(query=x + query_positions, key=memory + memory_positions, value=memory)
    x = layer.norm2(after + x)
    x = x + layer.mlp[3](F.relu(layer.mlp[0](x)))
    return F.layer_norm(x, x.shape[-1:], layer.norm3.weight, layer.norm3.bias)


def layer_picture_by_picture(layer, *args):
    return torch.cat([lesson06.decoder_layer(layer, *(a[b:b + 1] for a in args)) for b in range(len(args[0]))])


def layer_in_place(layer, x, query_positions, memory, memory_positions):
    x += layer.self_attn(x + query_positions, x + query_positions, x)[0]
    x = layer.norm1(x)
    memory_positions += memory
    x += layer.cross_attn(x + query_positions, memory_positions, memory)[0]
    x = layer.norm2(x)
    x += layer.mlp(x)
    return layer.norm3(x)


def states_list(layers, norm, query_positions, memory, memory_positions):
    x = torch.zeros(len(memory), *query_positions.shape, dtype=memory.dtype)
    out = []
    for layer in layers:
        x = layer(x, query_positions[None], memory, memory_positions, need_weights=True)[0]
        out.append(norm(x))
    return out


def states_numpy(layers, norm, query_positions, memory, memory_positions):
    B, (N, C) = len(memory), query_positions.shape
    positions = query_positions.repeat(B, 1, 1)
    x, out = positions * 0, np.zeros((len(layers), B, N, C))
    for i in range(len(layers)):
        x = lesson06.decoder_layer(layers[i], x, positions, memory, memory_positions)
        out[i] = norm(x).numpy()
    return out


def states_normed_together(layers, norm, query_positions, memory, memory_positions):
    x, raw = torch.zeros(1, 1, 1, dtype=memory.dtype).expand(len(memory), *query_positions.shape), []
    for layer in layers:
        x, _ = layer(x, query_positions, memory, memory_positions)
        raw += [x]
    return norm(torch.stack(raw))


def assign_back(states, order):
    out = torch.empty_like(states)
    out[:, order] = states
    return out


def back_loop(states, order):
    order = order.tolist()
    return [[row[order.index(j)].tolist() for j in range(len(order))] for row in states]


def histogram_loops(class_logits):
    S, N, K1 = class_logits.shape
    out = np.zeros((N, K1), int)
    for s in range(S):
        for i in range(N):
            row = class_logits[s, i].tolist()
            out[i, row.index(max(row))] += 1
    return out


def histogram_bincount(class_logits):
    S, N, K1 = class_logits.shape
    flat = class_logits.softmax(-1).argmax(-1) + K1 * torch.arange(N)
    return torch.bincount(flat.flatten(), minlength=N * K1).view(N, K1)


def histogram_compare(class_logits):
    return (class_logits == class_logits.amax(-1, keepdim=True)).sum(0)


RIGHT = {
    "06.2": [positions_loops, positions_in_place, positions_library,
             lambda *args: torch.tensor(positions_loops(*args)).float(), lambda *args: positions_loops(*args).tolist()],
    "06.1": [attention_loops, attention_renormalised, attention_scaled_query, attention_torch,
             attention_cell_by_cell,
             lambda *args: attention_renormalised(*core.doubled(args)).numpy(),
             lambda q, k, v, pad: torch.stack([attention_torch(q[b:b + 1], k[b:b + 1], v[b:b + 1], pad[b:b + 1])[0]
                                               for b in range(len(q))]),
             lambda q, k, v, pad: ((q @ k.transpose(-2, -1)) * q.size(-1) ** -0.5).masked_fill(
                 pad.unsqueeze(1), torch.finfo(q.dtype).min).softmax(dim=-1).matmul(v)],
    "06.3": [heads_loops, heads_einsum, heads_folded, heads_torch, heads_one_by_one, lambda *args: heads_einsum(*core.doubled(args)),
             lambda *args: heads_folded(*args).detach().numpy()],
    "06.4": [layer_by_names, layer_picture_by_picture, layer_in_place, lambda layer, *args: layer(*args)[0],
             lambda *args: layer_by_names(*core.doubled(args)), lambda *args: layer_by_names(*args).numpy()],
    "06.5": [states_list, states_numpy, states_normed_together, lambda *args: states_list(*core.doubled(args)),
             lambda *args: tuple(states_list(*args))],
    "06.6": [assign_back, back_loop, lambda s, o: s[:, torch.sort(o).indices], lambda s, o: s.index_select(1, o.argsort()),
             lambda s, o: s.numpy()[:, np.argsort(o.numpy())], lambda s, o: s.transpose(0, 1)[o.argsort()].transpose(0, 1),
             lambda s, o: torch.einsum("bnc,nm->bmc", s, F.one_hot(o).to(s)), lambda s, o: s.index_copy(1, o, s),
             lambda s, o: torch.gather(s, 1, o.argsort()[None, :, None].expand_as(s))],
    "06.7": [histogram_loops, histogram_bincount, histogram_compare,
             lambda x: torch.stack([(x.argmax(2) == c).sum(0) for c in range(x.shape[2])], 1),
             lambda x: histogram_loops(x).tolist(), lambda x: histogram_loops(x.double()).astype(np.int32)],
}
WRONG = {
    "06.2": [lambda h, w, d, t=1e4: _positions(h, w, d, t, angles=lambda n: _angles(n) / (2 * math.pi)).roll(d // 2, 0),
             lambda h, w, d, t=1e4: _positions(h, w, d, t, power=1, pair=lambda a: torch.cat([a.sin(), a.cos()], -1)),
             lambda h, w, d, t=1e4: _positions(h, w, d, 1e4).permute(1, 2, 0),
             lambda h, w, d, t=1e4: _interleaved(_angles(h)[:, None] * torch.ones(d // 2)).T,
             lambda h, w, d, t=1e4: 2 * _positions(h, w, d, t), lambda h, w, d, t=1e4: torch.zeros(d, h, w),
             lambda h, w, d, t=1e4: _positions(h, w, d, t, angles=lambda n: _angles(n) - 2 * math.pi / n,
                                               pair=lambda a: torch.cat([a.sin(), a.cos()], -1)),
             lambda h, w, d, t=1e4: _positions(h, w, d, t) * (h < 4), lambda h, w, d, t=1e4: torch.ones(d, h, w),
             lambda h, w, d: positions_loops(h, w, d), lambda h, w, d, t=1e4: None],
    "06.1": [lambda q, k, v, p: _attend(q, k, v, p, scale=lambda *_: 1, inside=0.0),
             lambda q, k, v, p: _attend(q, k, v, p, inside=None, after=0.0, scale=lambda q, k, v: q.shape[-1]),
             lambda q, k, v, p: _attend(q, k, v, p, which=lambda p: ~p, scale=lambda *_: 1),
             lambda q, k, v, p: _attend(q, k, v, p, axis=1, scale=lambda *_: 1),
             lambda q, k, v, p: _attend(q, k, v, ~p, inside=None, after=0.0), lambda q, k, v, p: v.mean(1, keepdim=True),
             lambda q, k, v, p: attention_torch(q, k, v, p) + 1,
             lambda q, k, v, p: attention_torch(q, k, v, p) * (0 if p.any() else 1),
             lambda q, k, v, p: _attend(q, k, v, p, inside=None, weigh=lambda s: s.sigmoid()),
             lambda q, k, v, p: attention_loops(q, k, v, p)[0], lambda q, k, v, p: q @ v],
    "06.3": [lambda *args: _multi_head(*args, split=_cut, merge=_glued, scale=lambda d, C: C ** 0.5),
             lambda *args: _multi_head(*args, thirds=(1, 0, 2), out=False),
             lambda *args: _multi_head(*args, left=(True, True), bias=False),
             lambda *args: _multi_head(*args, thirds=(0, 0, 0), bias=False), lambda q, *rest: _multi_head(q, *rest) - q,
             lambda *args: _multi_head(*args, split=_woven, mean=True), lambda *args: 2 * heads_einsum(*args),
             lambda q, k, v, w, n: heads_einsum(q, v, v, w, n), lambda q, k, v, w, n: w["out_proj.weight"],
             lambda q, k, v, w, n: heads_einsum(q, k, v, w, n)[:, :, :1], lambda q, k, v, w, n: w["in_proj.weight"]],
    "06.4": [lambda *args: _layer(*args, self_at=SELF | {"v": True}, norms=(1, 2, 0)),
             lambda *args: _layer(*args, cross_at=CROSS | {"k": False, "v": True}),
             lambda *args: _layer(*args, norms=(2, 1, 3), wrap=lambda x, f, norm: x + f(norm(x))),
             lambda *args: _layer(*args, order=("cross", "mlp"), norms=(1, 3)),
             lambda layer, *args: _layer(layer, *args, wrap=lambda x, f, norm: norm(f(x)), norms=(1, 2, 0)),
             lambda layer, x, p, *rest: x + p, lambda layer, *args: _layer(layer, *args, wrap=lambda x, f, norm: f(x)),
             lambda layer, x, *rest: x, lambda layer, *args: layer(*args), lambda layer, x, *rest: layer.norm3(x),
             lambda layer, *args: layer.norm3(lesson06.decoder_layer(layer, *args)),
             lambda layer, x, *rest: layer.self_attn(x, x, x)],
    "06.5": [lambda *args: _decode(*args, start=lambda p: p, final=lambda x, norm, last: x),
             lambda *args: _decode(*args, carry=lambda x, norm: norm(x), final=lambda x, norm, last: norm(norm(x))),
             lambda *args: _decode(*args, reset=True, final=lambda x, norm, last: x),
             lambda *args: _decode(*args, start=lambda p: p, which=lambda layers: list(layers)[::-1]),
             lambda *args: _decode(*args, initial=True)[:-1],
             lambda *args: _decode(*args, start=lambda p: p)[-1], lambda layers, norm, *args: norm(args[0]),
             lambda *args: torch.stack(states_list(*args)).mean(0), lambda *args: _decode(*args)[:, 0],
             lambda layers, norm, q, m, p: layers(q)],
    "06.6": [lambda s, o: s[:, o][:, o].flip(2), lambda s, o: s[:, o.flip(0)], lambda s, o: s[:, o].flip(1),
             lambda s, o: s[:, o.argsort()[1:]], lambda s, o: s.roll(1, 1), lambda s, o: o.argsort(), lambda s, o: s * 0,
             lambda s, o: s[:, o.argsort()][:, o.argsort()]],
    "06.7": [lambda x: histogram_bincount(x[..., :-1]).T, lambda x: histogram_bincount(x).flip(1),
             lambda x: histogram_bincount(x[1:]), lambda x: torch.ones(x.shape[1:], dtype=torch.int64),
             lambda x: histogram_bincount(x) + 1, lambda x: histogram_bincount(-x)[:, :-1],
             lambda x: histogram_bincount(x).float(), lambda x: x.argmax(-1),
             lambda x: histogram_bincount(x).float() / histogram_bincount(x).sum(0), lambda x: x.softmax(-1).mean(0)],
}


def test_a_softmax_that_overflows_is_remarked_on():
    assert "not finite" in core.judge(BY_ID["06.1"], attention_renormalised).text
    assert "Remark" not in core.judge(BY_ID["06.1"], attention_torch).text


# --- the references are the library's functions -----------------------------------------------------------------------

@pytest.mark.parametrize("height, width, dim", [(3, 7, 8), (16, 16, 128), (5, 2, 36)])
def test_positions_are_the_librarys(height, width, dim):
    mask = torch.zeros(2, height + 3, width + 2, dtype=torch.bool)
    mask[:, :height, :width] = True
    got = lesson06.sine_positions(height, width, dim, 500.0)
    want = transformer.sine_positions(mask, dim, 500.0)
    assert torch.allclose(got.float(), want[1, :, :height, :width], atol=1e-5)


def test_attention_is_torchs():
    q, k, v, padding = BY_ID["06.1"].fixtures[0].args
    assert torch.allclose(lesson06.attention(q, k, v, padding), attention_torch(q, k, v, padding), atol=1e-6)


def test_heads_are_those_of_a_library_layer():
    layer = random_layer(12, 3, 7)
    q, k, v = (torch.randn(2, n, 12, generator=torch.Generator().manual_seed(n)) for n in (4, 6, 6))
    got = lesson06.multi_head_attention(q, k, v, layer.cross_attn.state_dict(), 3)
    assert torch.allclose(got, layer.cross_attn(q, k, v)[0], atol=1e-5)


def test_layer_and_states_are_the_librarys():
    torch.manual_seed(0)
    decoder = transformer.TransformerDecoder(12, num_queries=4, num_layers=3, num_heads=3, feedforward=20)
    decoder = randomised(decoder, 5)  # a fresh final norm would change nothing after norm3
    memory = torch.randn(2, 12, 3, 5)
    mask = torch.ones(2, 3, 5, dtype=torch.bool)
    positions = transformer.sine_positions(mask, 12).flatten(2).mT
    args = memory.flatten(2).mT, positions
    got = lesson06.decoder_states(decoder.layers, decoder.norm, decoder.query_positions.weight, *args)
    assert torch.allclose(got, torch.stack(decoder(memory, mask)), atol=1e-5)
    x, query_positions = torch.randn(2, 4, 12), torch.randn(2, 4, 12)
    want = decoder.layers[1](x, query_positions, *args)[0]
    assert torch.allclose(lesson06.decoder_layer(decoder.layers[1], x, query_positions, *args), want, atol=1e-5)


def by_place(q, k, v, weights, num_heads):
    names = ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")
    return core.find("06.3").reference(q, k, v, dict(zip(names, weights.values())), num_heads)


def squeezed(number):
    return lambda *args: core.find(number).reference(*args).squeeze()


@pytest.mark.parametrize(("number", "solution"), [
    ("06.3", by_place), ("06.3", squeezed("06.3")), ("06.4", squeezed("06.4")), ("06.5", squeezed("06.5")),
    ("06.7", lambda x: F.one_hot(x.argmax(-1)).sum(0)),
    ("06.7", lambda x: torch.stack([torch.bincount(answers) for answers in x.argmax(-1).T]))])
def test_no_size_or_order_of_the_examples_is_right_by_chance(number, solution):
    assert core.judge(core.find(number), solution).kind != "passed"
