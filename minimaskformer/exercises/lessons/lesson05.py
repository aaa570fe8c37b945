"""Exercises of lesson 05, the pixel decoder: sizes, GroupNorm, one step down, masks, cost, and the whole of it."""
import torch
import torch.nn.functional as F

from ..core import Exercise, Fixture
from .lesson05_counts import COST_MISTAKES, SIZE_MISTAKES
from .lesson05_decoder import DECODER_FIXTURES, DECODER_MISTAKES
from .lesson05_maps import MASK_FIXTURES, MASK_MISTAKES, TOP_DOWN_FIXTURES, TOP_DOWN_MISTAKES
from .lesson05_norm import GROUP_NORM_FIXTURES, GROUP_NORM_MISTAKES

TITLE = "The pixel decoder"


# --- 05.1 sizes -----------------------------------------------------------------------------------------------------

def map_sizes(height, width, divisibility):
    sizes = []
    for stride in (4, 8, 16, 32):
        padded = (side + -side % divisibility for side in (height, width))
        sizes.append([-(-side // stride) for side in padded])  # halving n gives ceil(n / 2)
    return sizes


sizes_exercise = Exercise(
    id="05.1", title="the sizes of the four maps", name="map_sizes", reference=map_sizes,
    fixtures=(Fixture("512 x 683, padded to multiples of 32", (512, 683, 32)),
              Fixture("75 x 101, not padded", (75, 101, 1)),
              Fixture("40 x 182, padded to multiples of 16", (40, 182, 16)),
              Fixture("130 x 62, not padded: half a cell is left over", (130, 62, 1))),
    mistakes=SIZE_MISTAKES,
    hints=("What does padding do to a side that is a multiple already, and what does a halving do to an odd side?",
           "First the padded sides; then two halvings to res2 and one for each map after it.",
           "padded = side + (-side) % divisibility, then ceil(padded / 4), / 8, / 16, / 32: in integers -(-n // s)"),
    why="Halving with a rounding up, five times, is one division with a rounding up. With multiples of 32 nothing is "
        "ever rounded and every map is exactly twice its coarser neighbour; without padding it may be one less.")


# --- 05.2 GroupNorm -------------------------------------------------------------------------------------------------

def group_norm(x, groups, weight, bias, eps=1e-5):
    grouped = x.reshape(len(x), groups, -1)  # [B, G, C/G * H * W]: neighbouring channels make a group
    mean = grouped.mean(2, keepdim=True)  # [B, G, 1]
    var = ((grouped - mean) ** 2).mean(2, keepdim=True)
    normed = ((grouped - mean) / (var + eps).sqrt()).reshape(x.shape)  # [B, C, H, W]
    return normed * weight[:, None, None] + bias[:, None, None]


norm_exercise = Exercise(
    id="05.2", title="GroupNorm", name="group_norm", reference=group_norm, fixtures=GROUP_NORM_FIXTURES,
    mistakes=GROUP_NORM_MISTAKES,
    hints=("How many means are there for a batch of 2 images, 6 channels and 2 groups?",
           "One mean and one variance per image and group, over its channels and all pixels: reshape to "
           "[B, groups, everything else]. Then back to [B, C, H, W] for weight and bias, one per channel.",
           "(x - mean) / sqrt(var + eps) * weight[c] + bias[c], var the mean of (x - mean) ** 2"),
    why="No statistic mixes two images, so a picture's embeddings do not depend on the others. It equals "
        "F.group_norm, which the library's nn.GroupNorm calls.",
    atol=1e-4)


# --- 05.3 one step down ---------------------------------------------------------------------------------------------

def top_down(coarse, feature, weight):
    lateral = torch.einsum("dc,bchw->bdhw", weight, feature)  # [B, D, H, W]: a 1 x 1 convolution, nothing else
    return lateral + F.interpolate(coarse, size=feature.shape[-2:], mode="nearest")


top_down_exercise = Exercise(
    id="05.3", title="one step down the pyramid", name="top_down", reference=top_down, fixtures=TOP_DOWN_FIXTURES,
    mistakes=TOP_DOWN_MISTAKES,
    hints=("What do the two maps differ in, and what must happen to each before they can be added?",
           "The feature gets D channels from the weight, pixel by pixel; the coarse map gets the feature's height and "
           "width by copying. Nothing else happens before the sum, or after it.",
           "einsum('dc,bchw->bdhw', weight, feature) + F.interpolate(coarse, size=feature.shape[-2:], mode='nearest')"),
    why="The coarse map says what there is, the lateral where exactly. It keeps its sign, so that it can also "
        "subtract. The size comes from the feature: with odd sizes a factor of 2 would not fit.")


# --- 05.4 masks -----------------------------------------------------------------------------------------------------

def mask_logits(mask_embeddings, pixel_embeddings):
    return torch.einsum("bnc,bchw->bnhw", mask_embeddings, pixel_embeddings)  # [B, N, H, W]


masks_exercise = Exercise(
    id="05.4", title="masks from embeddings", name="mask_logits", reference=mask_logits, fixtures=MASK_FIXTURES,
    mistakes=MASK_MISTAKES,
    hints=("Which axis of the two tensors is the one that disappears?",
           "For each image by itself: N vectors of length C against H * W vectors of length C.",
           "einsum('bnc,bchw->bnhw', ...), or mask_embeddings @ pixel_embeddings.flatten(2), back in shape"),
    why="It is the line in MaskFormer.forward. The result is a logit: the sigmoid comes where probabilities are "
        "needed, and the losses of lesson 03 want logits.")


# --- 05.5 cost ------------------------------------------------------------------------------------------------------

def conv_cost(inputs, outputs, kernel, stride, height, width):
    parameters = outputs * inputs * kernel ** 2
    out_height, out_width = -(-height // stride), -(-width // stride)
    return parameters, parameters * out_height * out_width  # every weight is used once per output pixel


cost_exercise = Exercise(
    id="05.5", title="what a convolution costs", name="conv_cost", reference=conv_cost,
    parts=("parameters", "multiply_adds"),
    fixtures=(Fixture("the last convolution of the mini model", (96, 96, 3, 1, 32, 32)),
              Fixture("a stem: 3 to 32 channels, 7 x 7, stride 2, an odd width", (3, 32, 7, 2, 64, 97)),
              Fixture("a lateral, 1 x 1", (48, 96, 1, 1, 32, 40)),
              Fixture("stride 4, and half a pixel is left over", (8, 12, 5, 4, 30, 50))),
    mistakes=COST_MISTAKES,
    hints=("How many numbers are multiplied and added up to make one output value?",
           "inputs * kernel * kernel for one value of one output channel. Count the output channels, then the output "
           "pixels: with a stride there are fewer than input pixels.",
           "parameters = outputs * inputs * kernel ** 2; multiply_adds = parameters * ceil(height / stride) * "
           "ceil(width / stride)"),
    why="Parameters do not know the size of the picture, multiply-adds do. That is why the same convolution costs 64 "
        "times more at stride 4 than at stride 32.")


# --- 05.6 the whole of it -------------------------------------------------------------------------------------------

def pixel_decoder(features, weights, encoder):
    def conv(x, name):
        return F.conv2d(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"), padding="same")

    def norm(x, name):
        return F.group_norm(x, 32, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def smooth(x, i):
        return norm(conv(x, f"outputs.{i}.0.0"), f"outputs.{i}.0.1").relu()

    p = smooth(features[3], 3)  # p5 [B, dim, H/32, W/32]
    for i in (2, 1, 0):
        lateral = norm(conv(features[i], f"laterals.{i}.0"), f"laterals.{i}.1")  # no ReLU
        p = smooth(lateral + F.interpolate(p, size=lateral.shape[-2:], mode="nearest"), i)  # p4, p3, p2
        p = encoder(p) if i == 1 else p
    return conv(p, "mask_features")  # [B, mask_dim, H/4, W/4]


decoder_exercise = Exercise(
    id="05.6", title="the whole pixel decoder", name="pixel_decoder", reference=pixel_decoder,
    learns=("features", "weights"),
    fixtures=DECODER_FIXTURES, mistakes=DECODER_MISTAKES,
    hints=("Which map starts the path down, which of its weights does it use, and where does the loop end?",
           "p5 = smooth(res5). Then three times: lateral of the feature, plus the map so far, upsampled; smooth. p3 "
           "goes through the encoder. At the end mask_features on p2, with nothing after it.",
           "smooth = ReLU(GroupNorm(conv 3 x 3)) and lateral = GroupNorm(conv 1 x 1); p = smooth(lateral + "
           "F.interpolate(p, size=..., mode='nearest')) for i in (2, 1, 0), with laterals.i and outputs.i"),
    why="The same numbers as minimaskformer.pixel_decoder.FPN, with modules for the weights. A test compares the two "
        "on the shipped model.",
    rtol=1e-3, atol=1e-3)

EXERCISES = [sizes_exercise, norm_exercise, top_down_exercise, masks_exercise, cost_exercise, decoder_exercise]
