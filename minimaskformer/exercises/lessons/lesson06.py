"""Exercises of lesson 06, queries: attention, positions, heads, a decoder layer, the decoder, order, specialisation."""
import torch
import torch.nn.functional as F

from ..core import Exercise, Remark
from .lesson06_attention import (
    ATTENTION_FIXTURES,
    ATTENTION_MISTAKES,
    HEADS_FIXTURES,
    HEADS_GROWING,
    HEADS_MISTAKES,
)
from .lesson06_decoder import DECODER_FIXTURES, DECODER_IN_MODEL, DECODER_MISTAKES
from .lesson06_layer import LAYER_FIXTURES, LAYER_IN_MODEL, LAYER_MISTAKES
from .lesson06_positions import (
    HISTOGRAM_FIXTURES,
    HISTOGRAM_MISTAKES,
    ORDER_FIXTURES,
    ORDER_MISTAKES,
    POSITION_FIXTURES,
    POSITION_MISTAKES,
)

TITLE = "Queries"


# --- 06.1, 06.3 attention -------------------------------------------------------------------------------------------

def attention(q, k, v, padding):
    scores = q @ k.mT / q.shape[-1] ** 0.5  # [B, N, P]
    scores = scores.masked_fill(padding[:, None, :], -torch.inf)  # exp(-inf) = 0: not read
    return scores.softmax(-1) @ v  # [B, N, E]


def multi_head_attention(q, k, v, weights, num_heads):
    w, b = weights["in_proj_weight"].chunk(3), weights["in_proj_bias"].chunk(3)  # for q, k and v
    q, k, v = (F.linear(x, w[i], b[i]) for i, x in enumerate((q, k, v)))  # [B, N or P, C]
    q, k, v = (x.unflatten(-1, (num_heads, -1)).transpose(1, 2) for x in (q, k, v))  # [B, heads, N or P, d]
    scores = q @ k.mT / q.shape[-1] ** 0.5  # [B, heads, N, P]
    read = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)  # [B, heads, N, d] to [B, N, C]
    return F.linear(read, weights["out_proj.weight"], weights["out_proj.bias"])


attention_exercise = Exercise(
    id="06.1", title="attention with padding", name="attention", reference=attention, fixtures=ATTENTION_FIXTURES,
    mistakes=ATTENTION_MISTAKES,
    hints=("Which axis of the scores [B, N, P] must add up to 1 after the softmax, and what score gives weight 0?",
           "Scores, divided; padded ones *replaced* before the softmax, not multiplied (0 times infinity is not a "
           "number); softmax over the cells; times the values.",
           "(q @ k.mT / D ** 0.5).masked_fill(padding[:, None, :], -inf).softmax(-1) @ v"),
    why="Setting weights to 0 after the softmax would leave the rest adding up to less than 1, by an amount that "
        "depends on how much padding another picture of the batch has caused.",
    remarks=(Remark((torch.full((1, 1, 4), 30.0), torch.full((1, 2, 4), 30.0), torch.ones(1, 2, 3),
                     torch.zeros(1, 2, dtype=torch.bool)),
                    "with scores of 1800 yours is not finite. softmax subtracts the largest score before the exp."),))

heads_exercise = Exercise(
    id="06.3", title="several heads", name="multi_head_attention", reference=multi_head_attention,
    learns=("q", "k", "v", "weights"), growing=HEADS_GROWING,
    slow="with the model's 256 cells it takes seconds, for each picture and each layer. Matrix products of all queries "
         "and cells at once do not",
    fixtures=HEADS_FIXTURES, mistakes=HEADS_MISTAKES,
    hints=("Which channels belong to head 0? Which axis must the heads be so that one matrix product serves them all?",
           "Project, split the channels into heads, move the heads in front of the queries; attend as in 06.1, without "
           "padding; move the heads back, flatten, project.",
           "x.unflatten(-1, (heads, d)).transpose(1, 2) goes to [B, heads, N, d]; .transpose(1, 2).flatten(2) comes "
           "back; the root of d, not of C; F.linear(x, weight, bias) with the thirds of in_proj"),
    why="It equals torch.nn.MultiheadAttention, which the library uses. unflatten and transpose keep a query's "
        "channels together; a plain view to [B, heads, N, d] has the same shape and mixes queries.")


# --- 06.2 sine positions --------------------------------------------------------------------------------------------

def sine_positions(height, width, dim, temperature=10_000.0):
    i = torch.arange(dim // 4)  # each axis has dim/2 channels: dim/4 pairs
    wavelength = temperature ** (2 * i / (dim // 2))  # [dim/4]

    def axis(n):
        angle = 2 * torch.pi * torch.arange(1, n + 1)[:, None] / n / wavelength  # [n, dim/4]
        return torch.stack([angle.sin(), angle.cos()], -1).flatten(1).T  # [dim/2, n]: sin, cos, sin, cos ...

    y = axis(height)[:, :, None].expand(-1, -1, width)  # [dim/2, H, W]
    x = axis(width)[:, None, :].expand(-1, height, -1)
    return torch.cat([y, x])  # [dim, H, W]


positions_exercise = Exercise(
    id="06.2", title="sine positions", name="sine_positions", reference=sine_positions, fixtures=POSITION_FIXTURES,
    mistakes=POSITION_MISTAKES,
    hints=("How many different wavelengths are there, if sin and cos share one and each axis has half of the channels?",
           "Make one axis first: a table [n, dim/4] of angles, then its sines and cosines in alternation. The other "
           "axis is the same function. Then spread both over the picture and put y before x.",
           "angle = 2 pi t / n / temperature ** (2 i / (dim / 2)) for t = 1 ... n and i = 0 ... dim/4 - 1; "
           "torch.stack([sin, cos], -1).flatten(1) alternates; .expand spreads; torch.cat([y, x])"),
    why="The library's function is this one for a batch in which every picture may have padding: it counts the true "
        "rows and columns with cumsum, so that the last true row has 2 pi whatever follows.")


# --- 06.4, 06.5 the decoder -----------------------------------------------------------------------------------------

def decoder_layer(layer, x, query_positions, memory, memory_positions):
    q = k = x + query_positions  # [B, N, C]
    x = layer.norm1(x + layer.self_attn(q, k, x)[0])
    read = layer.cross_attn(x + query_positions, memory + memory_positions, memory)[0]  # [B, N, C]
    x = layer.norm2(x + read)
    return layer.norm3(x + layer.mlp(x))


def decoder_states(layers, norm, query_positions, memory, memory_positions):
    query_positions = query_positions.expand(len(memory), -1, -1)  # [B, N, C]: the same for every picture
    x = torch.zeros_like(query_positions)
    states = []
    for layer in layers:
        x, _ = layer(x, query_positions, memory, memory_positions)
        states.append(norm(x))
    return torch.stack(states)  # [L, B, N, C]


layer_exercise = Exercise(
    id="06.4", title="one decoder layer", name="decoder_layer", reference=decoder_layer, fixtures=LAYER_FIXTURES,
    in_model=LAYER_IN_MODEL, learns=("x", "query_positions", "memory"),
    mistakes=LAYER_MISTAKES,
    hints=("What is compared in each attention, and what is read?",
           "Three steps, each of the form x = norm(x + step). Positions go to queries and keys, never to values.",
           "norm1(x + self_attn(x + pq, x + pq, x)[0]), norm2(x + cross_attn(x + pq, memory + pm, memory)[0]), "
           "norm3(x + mlp(x))"),
    why="In training, the library also drops some of what each step adds (layer.dropout); in eval mode that does "
        "nothing. Order and place of the norms are part of the weights: any other wiring needs new training.")

decoder_exercise = Exercise(
    id="06.5", title="the decoder", name="decoder_states", reference=decoder_states, fixtures=DECODER_FIXTURES,
    in_model=DECODER_IN_MODEL, learns=("query_positions", "memory"),
    mistakes=DECODER_MISTAKES,
    hints=("Where does x start, and which x does the second layer get?",
           "A loop over the layers. The shared norm is applied to what is handed out, not to what is handed on.",
           "x = zeros [B, N, C]; for each layer: x, _ = layer(x, query_positions, memory, memory_positions) and "
           "states.append(norm(x)); then torch.stack(states)"),
    why="All states are read by the same class and mask head, so all go through the same norm; the next layer "
        "continues from the state before that norm.")


# --- 06.6, 06.7 order and specialisation ----------------------------------------------------------------------------

def back_in_place(states, order):
    return states[:, order.argsort()]


def class_histogram(class_logits):
    answers = class_logits.argmax(-1)  # [S, N]
    return F.one_hot(answers, class_logits.shape[-1]).sum(0)  # [N, K+1]


order_exercise = Exercise(
    id="06.6", title="back in place", name="back_in_place", reference=back_in_place, fixtures=ORDER_FIXTURES,
    mistakes=ORDER_MISTAKES,
    hints=("At which place of the new order does query 0 sit?",
           "You need the inverse of the permutation, along the axis of the queries.",
           "states[:, order.argsort()], or: out[:, order] = states"),
    why="order.argsort()[j] is the i with order[i] = j. Writing out[:, order] = states says the same as an assignment.")

histogram_exercise = Exercise(
    id="06.7", title="what does a query specialise in?", name="class_histogram", reference=class_histogram,
    fixtures=HISTOGRAM_FIXTURES, mistakes=HISTOGRAM_MISTAKES,
    hints=("What does one query answer in one scene, and how many answers are there in all?",
           "The largest logit per scene and query, no object included. Then count over the scenes.",
           "F.one_hot(class_logits.argmax(-1), K + 1).sum(0)"),
    why="Each of the S x N answers is one count, so every row adds up to S.")


EXERCISES = [attention_exercise, positions_exercise, heads_exercise, layer_exercise, decoder_exercise, order_exercise,
             histogram_exercise]
