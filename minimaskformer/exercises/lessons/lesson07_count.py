"""Exercise 07.4 of lesson 07: the parameters of the transformer decoder, from nothing but its widths."""
from ..core import Exercise, Fixture, Mistake


def decoder_parameters(num_layers, num_queries, dim, feedforward, memory_channels):
    def linear(inputs, outputs):
        return inputs * outputs + outputs  # weights and biases; a 1 x 1 convolution has as many

    attention = 4 * linear(dim, dim)  # queries, keys, values, and the output projection; heads only cut them up
    norm = 2 * dim  # scale and shift
    layer = 2 * attention + linear(dim, feedforward) + linear(feedforward, dim) + 3 * norm
    return linear(memory_channels, dim) + num_layers * layer + norm + num_queries * dim


def _count(L, N, D, H, C, bias=1, attention_bias=1, attentions=2, projections=4, mlp=2, norms=3, norm=2, final=1,
           queries=1, conv=1, conv_bias=1, mlp_bias=1):
    """The count with knobs to get wrong."""
    layer = attentions * projections * (D * D + bias * attention_bias * D) + norms * norm * D
    layer += (mlp > 0) * (D * H + bias * mlp_bias * H) + (mlp == 2) * (H * D + bias * mlp_bias * D)
    return (conv > 0) * (conv * C * D + bias * conv_bias * D) + L * layer + final * norm * D + queries * N * D


def count_with(**knobs):
    return lambda *args: _count(*args, **knobs)


parameters_exercise = Exercise(
    id="07.4", title="count the parameters", name="decoder_parameters", reference=decoder_parameters, rtol=0, atol=0.2,
    fixtures=(Fixture("3 layers, 7 queries, D = 8", (3, 7, 8, 20, 13)),
              Fixture("the r50 preset", (6, 100, 256, 2048, 2048)),
              Fixture("one layer, D = 12", (1, 5, 12, 12, 30))),
    mistakes=(
        Mistake("no biases", count_with(bias=0), "Each linear layer and the convolution add one number per output."),
        Mistake("no biases in the attention", count_with(attention_bias=0),
                "The four projections of an attention are linear layers with biases."),
        Mistake("one attention per layer", count_with(attentions=1),
                "A decoder layer has two: among the queries, and from the queries to the image."),
        Mistake("the output projection of the attention forgotten", count_with(projections=3),
                "After the heads are put side by side again, one more D x D layer mixes them: four in all."),
        Mistake("one layer in the MLP", count_with(mlp=1), "D to feedforward, and back."),
        Mistake("no MLP", count_with(mlp=0), "Each layer has an MLP too: D to feedforward, and back."),
        Mistake("no LayerNorms", count_with(norms=0, final=0), "A scale and a shift per channel, 2 D each."),
        Mistake("6 D too few in each layer", count_with(norms=0),
                "Its three LayerNorms have 2 D each. (As many are the biases of queries, keys and values, in two "
                "attentions.)"),
        Mistake("2 D too few in each layer", count_with(norms=2),
                "There are three LayerNorms, 2 D each: after self-attention, after cross-attention, after the MLP. (As "
                "many are the biases of the two output projections.)"),
        Mistake("no biases in the MLP", count_with(mlp_bias=0), "Both of its linear layers have one."),
        Mistake("input_proj from D to D", lambda L, N, D, H, C: _count(L, N, D, H, D),
                "It comes from the backbone's channels, memory_channels."),
        Mistake("a LayerNorm with a scale only", count_with(norm=1), "Scale and shift: 2 D."),
        Mistake("4 D too few in each layer", lambda L, N, D, H, C: _count(L, N, D, H, C) - 4 * L * D,
                "Its three LayerNorms have 2 D each, the four projections of each attention D biases."),
        Mistake("a fourth LayerNorm in each layer", count_with(norms=4),
                "Three: after self-attention, after cross-attention, after the MLP."),
        Mistake("the first bias of the MLP forgotten", lambda L, N, D, H, C: _count(L, N, D, H, C) - L * H,
                "Both of its linear layers have one."),
        Mistake("D too few in each layer", lambda L, N, D, H, C: _count(L, N, D, H, C) - L * D,
                "The MLP's way back has D biases; so has each of the four projections of an attention."),
        Mistake("the cross-attention reads memory_channels", lambda L, N, D, H, C: (
            _count(L, N, D, H, C) + 2 * L * (C - D) * D),
                "input_proj has brought the memory to D channels: all projections go from D to D."),
        Mistake("the final norm forgotten", count_with(final=0), "One more norm follows the last layer."),
        Mistake("a final norm for each layer", lambda L, *args: _count(L, *args, final=L),
                "The final norm is shared: all layers answer through the same one."),
        Mistake("the queries forgotten", count_with(queries=0), "N learned vectors of D numbers."),
        Mistake("queries of their own for each layer", lambda L, *args: _count(L, *args, queries=L),
                "The same query positions are added in every layer."),
        Mistake("start states counted too", count_with(queries=2),
                "The queries start at zero. What is learned are their positions, N x D, once."),
        Mistake("input_proj forgotten", count_with(conv=0),
                "The 1 x 1 convolution from memory_channels to D is part of this count."),
        Mistake("D too few", count_with(conv_bias=0),
                "input_proj has D biases: no norm follows it that would make them useless. (As many are the shifts, or "
                "the scales, of the final norm.)"),
        Mistake("a 3 x 3 input_proj", count_with(conv=9), "It is 1 x 1: each cell by itself."),
        Mistake("one layer only", lambda L, *args: _count(1, *args),
                "The layers share the final norm and the heads, but each has weights of its own."),
        Mistake("every layer with its own queries, norm and input_proj", lambda L, *args: L * _count(1, *args),
                "Only what is inside the layers is repeated.")),
    hints=("Which arrays does one decoder layer own? Two attentions, an MLP, and what else?",
           "A linear layer from a to b has a * b + b numbers, an attention is four of them, D to D; a LayerNorm has "
           "2 D. Per layer two attentions, D to feedforward and back, three norms. Once: input_proj, final norm, "
           "queries.",
           "C*D + D  +  L * (2 * 4 * (D*D + D) + (D*F + F) + (F*D + D) + 3 * 2*D)  +  2*D  +  N*D"),
    why="Heads do not appear: eight heads of 32 channels are one 256 x 256 matrix read in eight strips. For r50 this "
        "gives 10,023,168, the line of the table above. Most of it, 6.3 million, is the MLPs.")
