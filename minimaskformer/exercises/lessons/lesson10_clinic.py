"""The clinic of lesson 10: the shipped mini as a patient whose parts can be exchanged, its figures, and its pictures.

Every part of a `Patient` is a function; everything else of the model is whole. The figures come from two scenes.
"""
import functools
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import numpy as np
import torch

from ... import draw
from ...data.lakeland import Lakeland
from ...inference import panoptic_inference
from ...losses import SetCriterion
from ...metrics import PanopticQuality
from ...model import Output
from ...predict import bilinear
from ...transformer import sine_positions
from ...weights.checkpoint import shipped_checkpoint
from ..borrowed import to_batch
from ..frame_model import (
    MINI,
    apply_linear,
    apply_norm,
    backbone_skeleton,
    decoder_layer,
    decoder_states,
    encode_map,
    layer_functions,
    pixel_decoder,
    read_parameters,
    tensor_of,
    under,
)

SIDE, SCENES = 128, (0, 5)  # of Lakeland("val"); neither has void or crowds


@dataclass(frozen=True, repr=False)
class Patient:
    """The shipped mini with six parts that can be exchanged: `dataclasses.replace(patient, flip=my_flip)`."""
    letter: str
    class_probabilities: Callable  # class logits [N, K+1] -> probabilities [N, K+1] that end with "no object"
    mask_probabilities: Callable  # mask logits [N, h, w] -> probabilities [N, h, w]
    positions: Callable  # (h, w, channels) -> [channels, h, w]: y in the first half of the channels, x in the second
    norm_states: Callable  # (states of the 3 layers, each [N, D], the final norm) -> what the heads read, 3 x [N, D]
    target_labels: Callable  # category ids of a picture's segments -> the labels that the loss compares with
    flip: Callable  # (image [3, H, W], masks [T, H, W]) -> both mirrored, left for right
    admitted: tuple = ()  # the parts with which it came

    def __repr__(self):
        return f"patient {self.letter}"


PARTS = tuple(field.name for field in fields(Patient) if field.name not in ("letter", "admitted"))


class Figures(NamedTuple):
    """What is measured of a patient, as means over the two scenes. The losses are the last layer's."""
    PQ: float
    no_object: float  # share of the queries that say so
    lowest_mask: float  # the smallest mask probability of any pixel
    moved_1: float  # how far layer 1's mask logits lie from the healthy ones, as a share of their size
    moved_2: float
    moved_3: float
    class_loss: float
    mask_loss: float  # 20 focal + dice
    flipped_class_loss: float  # the same of the mirrored scene
    flipped_mask_loss: float
    parts_exchanged: int


def healthy_classes(logits):
    return logits.softmax(-1)


def healthy_positions(height, width, channels):
    return sine_positions(torch.ones(1, height, width, dtype=torch.bool), channels)[0]


def healthy_states(states, norm):
    return [norm(state) for state in states]


def healthy_flip(image, masks):
    return image.flip(-1), masks.flip(-1)


HEALTHY = Patient("healthy", healthy_classes, torch.sigmoid, healthy_positions, healthy_states, list, healthy_flip)


FAULTS = {"class_probabilities": "no object is read at index 0", "mask_probabilities": "sigmoid twice",
          "positions": "x and y exchanged in the positions", "norm_states": "final norm skipped in the middle layers",
          "target_labels": "labels shifted by one", "flip": "masks not flipped with the image"}


def fault_of(patient):
    """The name of the part whose exchange for the healthy one makes all figures right."""
    right = figures(HEALTHY)[:-1]
    return next(name for name in PARTS if np.allclose(figures(replace(patient, **{name: getattr(HEALTHY, name)}))[:-1],
                                                      right, atol=1e-4))


def parts_of(patient):
    return tuple(getattr(patient, name) for name in PARTS)


@torch.no_grad()
def figures(patient):
    """The `Figures` of a Patient. Whatever one of its parts raises is raised."""
    quality, rows = PanopticQuality(Lakeland.classes), []
    for image, segment_map, info, masks in scenes():
        labels = tensor_of(patient.target_labels([s["category_id"] for s in info]), torch.int64)
        output = answer_of(patient, image)
        quality.update(readout(output), (segment_map, info))
        silent = (output.class_logits[0].argmax(-1) == MINI.num_classes).float().mean()
        mask_logits, right = logits_of(patient, image)[1], logits_of(HEALTHY, image)[1]  # [3, N, h, w] both
        lowest = tensor_of(patient.mask_probabilities(mask_logits[-1]), torch.float32).min()
        moved = (mask_logits - right).abs().mean((1, 2, 3)) / right.abs().mean((1, 2, 3))
        mirrored, mirrored_masks = map(tensor_of, patient.flip(image, masks), (torch.uint8, torch.bool))
        rows.append([silent, lowest, *moved, *losses_of(output, labels, masks),
                     *losses_of(answer_of(patient, mirrored), labels, mirrored_masks)])
    exchanged = sum(part is not other for part, other in zip(parts_of(patient), patient.admitted))
    return Figures(quality.compute()["pq"], *torch.tensor(rows).mean(0).tolist(), exchanged)


def losses_of(output, labels, masks):
    """The class loss and 20 focal + dice of the last layer, for one picture."""
    terms = SetCriterion(MINI.num_classes, mask_stride=2)(output, [{"labels": labels, "masks": masks}])
    return float(terms["class"]), float(20 * terms["focal"] + terms["dice"])


def answer_of(patient, image):
    """A patient's probabilities for one image, as an `Output` of logits that stand for just these probabilities."""
    class_logits, mask_logits = (logits[-1] for logits in logits_of(patient, image))
    classes, masks = patient.class_probabilities(class_logits), patient.mask_probabilities(mask_logits)
    return Output(tensor_of(classes, torch.float32).clamp(min=1e-12).log()[None],  # [1, N, K+1]
                  tensor_of(masks, torch.float32).logit(1e-7)[None])  # [1, N, h, w]


def readout(output):
    """The panoptic pair of one picture."""
    masks = bilinear(output.mask_logits[0], (SIDE, SIDE))
    return panoptic_inference(output.class_logits[0], masks, MINI.things, MINI.score_threshold, MINI.overlap_threshold)


def logits_of(patient, image):
    """Class logits [3, N, K+1] and mask logits [3, N, h, w] of a patient's three layers for one image."""
    states, pixels = read_queries(patient.positions, image.contiguous().numpy().tobytes())
    parameters, head = shipped(), under(shipped(), "mask_head")
    states = patient.norm_states(list(states[:, 0]), lambda x: apply_norm(x, under(parameters, "decoder"), "norm"))
    states = torch.stack([tensor_of(state, torch.float32) for state in states])  # [3, N, D]
    embeddings = apply_linear(apply_linear(apply_linear(states, head, "0").relu(), head, "2").relu(), head, "4")
    return apply_linear(states, parameters, "class_head"), torch.einsum("lnc,chw->lnhw", embeddings, pixels[0])


@functools.lru_cache(64)
@torch.no_grad()
def read_queries(positions, data):
    """The forward pass up to the states [L, 1, N, D], not normed, and the pixel embeddings [1, C, h, w].

    data: the bytes of an image uint8 [3, SIDE, SIDE]. Kept, because most repairs leave it as it is.
    """
    parameters = shipped()

    def where(x):
        return tensor_of(positions(*x.shape[-2:], x.shape[1]), torch.float32)  # [C, h, w]

    def encoder(p3):
        encoded.append(encode_map(p3, where(p3), under(parameters, "pixel_decoder.encoder"), MINI))
        return encoded[0]

    encoded = []
    pixels = pixel_decoder(features_of(data), under(parameters, "pixel_decoder"), encoder)
    pixels = pixels + where(pixels)  # [1, C, h, w]
    memory = torch.nn.functional.conv2d(encoded[0], parameters["input_proj.weight"], parameters["input_proj.bias"])
    decoder, cells = under(parameters, "decoder"), where(memory).flatten(1).mT[None]  # [1, P, D]
    layers = [layer_functions(under(decoder, f"layers.{i}"), MINI.num_heads) for i in range(MINI.decoder_layers)]
    steps = [lambda *inputs, layer=layer: (decoder_layer(layer, *inputs), None) for layer in layers]
    return decoder_states(steps, lambda x: x, decoder["query_positions.weight"], memory.flatten(2).mT + cells,
                          cells), pixels


@functools.lru_cache(16)
@torch.no_grad()
def features_of(data):
    """The backbone's four maps of an image; no part of a patient acts before them."""
    image = torch.frombuffer(bytearray(data), dtype=torch.uint8).reshape(3, SIDE, SIDE)
    images, _ = to_batch([image], torch.tensor(MINI.pixel_mean), torch.tensor(MINI.pixel_std), MINI.size_divisibility)
    backbone = under(shipped(), "backbone")
    return torch.func.functional_call(backbone_skeleton(MINI, False), backbone, (images,))


@functools.cache
def shipped():
    return read_parameters(shipped_checkpoint("mini"))


@functools.cache
def scenes():
    """The two scenes: image, segment map, segments_info, and the masks bool [T, H, W] of its segments."""
    found = []
    for image, target in (Lakeland("val", SIDE)[i] for i in SCENES):
        segment_map, info = target["segment_map"], target["segments_info"]
        found.append((image, segment_map, info, torch.stack([segment_map == s["id"] for s in info])))
    return found


def draw_ward(figure, patients):
    """For each patient a column: what it says of a scene, its losses, and how far the logits of each layer have moved.

    The black lines are the healthy one's. Returns the figure.
    """
    image, _, _, _ = scenes()[0]
    axes, right = figure.subplots(3, len(patients), height_ratios=(1.3, 1, 1), squeeze=False), figures(HEALTHY)
    for column, patient in zip(axes.T, patients):
        measured = figures(patient)
        draw.draw_panoptic(column[0], image, *readout(answer_of(patient, image)), Lakeland.classes, labels=False,
                           title=patient.letter)
        column[1].bar(range(4), measured[6:10], color=["#3364b8", "#ac331d"] * 2)
        column[1].hlines(right[6:10], [i - 0.4 for i in range(4)], [i + 0.4 for i in range(4)], color="0.1")
        column[2].bar(range(3), [100 * moved for moved in measured[3:6]], color="0.55")
        column[1].set(ylim=(0, 4), xticks=range(4), xticklabels=["c", "m", "c'", "m'"])
        column[2].set(ylim=(0, 20), xticks=range(3), xticklabels=["1", "2", "3"])
        for ax in column[1:]:
            ax.tick_params(labelsize=9)
            if patient is not patients[0]:
                ax.set_yticklabels([])
    axes[1, 0].set_ylabel("loss", fontsize=9)
    axes[2, 0].set_ylabel("moved, %", fontsize=9)
    return figure
