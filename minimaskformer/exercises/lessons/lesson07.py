"""Exercises of lesson 07, the whole model: masks from states, every layer's answer, the wiring, and what is around."""
import torch
import torch.nn.functional as F

from ..core import Exercise
from .lesson07_batch import batch_exercise
from .lesson07_count import parameters_exercise
from .lesson07_heads import MASK_MISTAKES
from .lesson07_layers import LAYERS_MISTAKES, WIRING_MISTAKES
from .lesson07_parts import LAYERS_FIXTURES, MASK_FIXTURES, WIRING_FIXTURES
from .lesson07_pictures import picture_exercise

TITLE = "The whole model"


# --- 07.1 from states to masks ----------------------------------------------------------------------------------------

def query_masks(states, layers, pixel_embeddings):
    (w1, b1), (w2, b2), (w3, b3) = layers
    x = F.relu(F.linear(states, w1, b1))  # [B, N, D]
    x = F.relu(F.linear(x, w2, b2))  # [B, N, D]
    mask_embeddings = F.linear(x, w3, b3)  # [B, N, C]
    return torch.einsum("bnc,bchw->bnhw", mask_embeddings, pixel_embeddings)


masks_exercise = Exercise(
    id="07.1", title="from states to masks", name="query_masks", reference=query_masks,
    learns=("states", "layers", "pixel_embeddings"),
    fixtures=MASK_FIXTURES, mistakes=MASK_MISTAKES,
    hints=("Three linear layers. After which of them may a number be negative?",
           "x @ weight.T + bias, with a ReLU between the layers and none at the end. Then, for each image, the product "
           "of every mask embedding with the embedding of every pixel, summed over the channels.",
           "F.linear, F.relu, F.linear, F.relu, F.linear; torch.einsum(\"bnc,bchw->bnhw\", mask_embeddings, "
           "pixel_embeddings)"),
    why="A mask embedding must be free to point away from a pixel: a ReLU at the end would take half of all directions "
        "from it. And nothing follows the product, no sigmoid and no scale: losses and inference want logits.")


# --- 07.2 every layer's answer ----------------------------------------------------------------------------------------

def layer_answers(states, norm, class_head, mask_head, pixel_embeddings):
    states = norm(torch.stack(list(states)))  # [L, B, N, D]
    class_logits = class_head(states)  # [L, B, N, K+1]
    mask_logits = torch.einsum("lbnc,bchw->lbnhw", mask_head(states), pixel_embeddings)
    return class_logits[-1], mask_logits[-1], class_logits[:-1], mask_logits[:-1]


layers_exercise = Exercise(
    id="07.2", title="every layer's answer", name="layer_answers", reference=layer_answers,
    learns=("states", "pixel_embeddings"),
    fixtures=LAYERS_FIXTURES, mistakes=LAYERS_MISTAKES, parts=("class_logits", "mask_logits", "aux_class", "aux_masks"),
    hints=("The heads were trained on normalised states. Which layers' states may skip the norm?",
           "None. Norm, then both heads, for each layer; the last one is the answer, those before it are auxiliary.",
           "states = norm(torch.stack(states)); class_logits = class_head(states); masks as in 07.1, with an l in "
           "front; return [-1], [-1], [:-1], [:-1]"),
    why="One norm and two heads serve all layers, so an auxiliary answer is exactly what a model that ends there would "
        "say. In one widely used port the middle layers skip the norm, and the zero queries answer before any layer: "
        "tests/test_port.py shows both.")


# --- 07.3 the wiring --------------------------------------------------------------------------------------------------

def forward(images, parts):
    features = parts["backbone"](images)  # res2, res3, res4, res5
    pixel_embeddings = parts["pixel_decoder"](features)  # [B, C, H/4, W/4]
    memory = parts["input_proj"](features[-1])  # [B, D, H/32, W/32]
    states = parts["decoder"](memory)  # L times [B, N, D]
    mask_embeddings = parts["mask_head"](states[-1])  # [B, N, C]
    mask_logits = torch.einsum("bnc,bchw->bnhw", mask_embeddings, pixel_embeddings)
    return parts["class_head"](states[-1]), mask_logits


wiring_exercise = Exercise(
    id="07.3", title="the wiring", name="forward", reference=forward,
    fixtures=WIRING_FIXTURES, mistakes=WIRING_MISTAKES, parts=("class_logits", "mask_logits"),
    hints=("Two paths leave the backbone and meet in one product. Which maps does each of them take?",
           "The pixel decoder takes all four maps, as they are. The queries read the last one, res5, through "
           "input_proj. Both heads read the last state.",
           "features -> pixel_decoder(features); input_proj(features[-1]) -> decoder -> states[-1] -> class_head, "
           "mask_head; then the einsum of 07.1"),
    why="This is Figure 2 of the paper and the body of MaskFormer.forward. The paths share nothing after the backbone: "
        "where things are is decided on the upper one, what there is on the lower one.")


EXERCISES = [masks_exercise, layers_exercise, wiring_exercise, parameters_exercise, batch_exercise, picture_exercise]
