"""What the paper found, tested again at small scale: settings that differ in one thing, a loop, a read-out (lesson 11).

Every setting sees the same Lakeland scenes in the same order for the same number of steps, with the same optimiser.
The truth is semantic, one mask per class, because per-pixel models can predict nothing else and because the paper's own
ablations (its Tables 2 and 4) are semantic. `benchmarks/ablations.py` runs all of them with several seeds.
"""
import time
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..config import get_config
from ..data.lakeland import Lakeland
from ..inference import general_inference, semantic_inference
from ..losses import SetCriterion
from ..metrics import MeanIoU, PanopticQuality
from ..model import build_model
from ..predict import bilinear
from ..targets import VOID, panoptic_to_semantic, semantic_to_panoptic, semantic_to_target
from ..training.optim import parameter_groups
from .baselines import PerPixelBaseline, PerPixelBaselinePlus, likelihood_loss, per_pixel_loss, responsibilities


@dataclass(frozen=True)
class Setting:
    """One row of the comparison; the defaults are MaskFormer's."""
    model: str = "mask"  # or "pixel", "pixel+": the per-pixel baselines
    num_queries: int = 32
    matching: str = "bipartite"  # or "fixed"
    loss: str = "set"  # or "likelihood", "likelihood / all": no matching, the semantic score itself
    auxiliary: bool = True  # losses on the earlier decoder layers too


SETTINGS = {
    "per-pixel": Setting("pixel"),
    "per-pixel+": Setting("pixel+", 11),
    "fixed": Setting(num_queries=11, matching="fixed"),
    "11 queries": Setting(num_queries=11),
    "32 queries": Setting(),
    "4 queries": Setting(num_queries=4),
    "100 queries": Setting(num_queries=100),
    "no auxiliary": Setting(auxiliary=False),
    "likelihood": Setting(loss="likelihood"),
    "likelihood / all": Setting(loss="likelihood / all"),
}


@dataclass(frozen=True)
class Budget:
    """What every run gets, whatever its setting."""
    size: int = 64
    difficulty: float = 0.3
    scenes: int = 2400
    validation_scenes: int = 300
    steps: int = 300
    batch_size: int = 16
    learning_rate: float = 4e-4
    warmup: int = 60
    weight_decay: float = 0.05
    backbone_multiplier: ClassVar[float] = 1.0  # not part of the comparison
    clip: float = 1.0
    stride: int = 2  # for the mask and likelihood losses: every second row and column of the truth
    amp: bool = False  # bfloat16
    device: str = "cpu"


def sample_scenes(split, budget):
    """Scenes drawn once, for all runs: images uint8 [n, 3, size, size], label maps int8 [n, size, size] (-1: void)."""
    count = budget.scenes if split == "train" else budget.validation_scenes
    data = Lakeland(split, budget.size, budget.difficulty, count)
    images, maps = [], []
    for image, target in map(data.__getitem__, range(count)):
        images.append(image)
        maps.append(panoptic_to_semantic(target["segment_map"], target["segments_info"], VOID).to(torch.int8))
    return torch.stack(images), torch.stack(maps)


def build(setting, budget):
    """A freshly initialised model of a setting: the mini preset, at the size of the budget."""
    config = get_config("mini", num_queries=setting.num_queries, short_side=budget.size)
    if setting.model == "mask":
        return build_model(config)
    return {"pixel": PerPixelBaseline, "pixel+": PerPixelBaselinePlus}[setting.model](config)


def loss_function(setting, budget, num_classes):
    """(output, targets) -> dict with "loss", as the setting wants it."""
    if setting.model != "mask":
        function = per_pixel_loss
    elif setting.loss == "set":
        function = SetCriterion(num_classes, mask_stride=budget.stride, matching=setting.matching)
    else:
        def function(output, targets):
            return likelihood_loss(output, targets, setting.loss == "likelihood / all", budget.stride)
    return function if setting.auxiliary else lambda output, targets: function(output._replace(aux=()), targets)


def train_setting(setting, seed, budget, scenes):
    """Train a setting from scratch on `sample_scenes`' (images, maps); returns (model, mean loss of every 50 steps).

    The seed decides the initial weights, order and mirroring, so runs of one seed pair up: they see the same batches.
    """
    images, maps = scenes
    num_classes = len(Lakeland.classes)
    torch.manual_seed(seed)
    model, criterion = build(setting, budget).to(budget.device), loss_function(setting, budget, num_classes)
    optimizer = torch.optim.AdamW(parameter_groups(model, budget), betas=(0.9, 0.98), fused=True)
    generator, order, curve = torch.Generator().manual_seed(seed), torch.zeros(0, dtype=torch.int64), []
    model.train()
    for step in range(budget.steps):
        factor = min(1, (step + 1) / budget.warmup) * (1 - step / budget.steps) ** 0.9
        for group in optimizer.param_groups:
            group["lr"] = budget.learning_rate * factor
        if len(order) < budget.batch_size:
            order = torch.randperm(len(images), generator=generator)
        batch, order = order[:budget.batch_size], order[budget.batch_size:]
        flip = torch.rand(len(batch), generator=generator) < 0.5
        x, y = ([v.flip(-1) if f else v for v, f in zip(values[batch], flip)] for values in (images, maps))
        targets = [semantic_to_target(label_map, num_classes, ignore=VOID) for label_map in y]
        with sdpa_kernel(SDPBackend.MATH):  # plain attention: with 64 keys it is faster on a CPU than the fused one
            with torch.autocast(budget.device, torch.bfloat16, enabled=budget.amp):
                output = model(model.normalize(torch.stack(x)).contiguous(memory_format=torch.channels_last))
            loss = criterion(output, targets)["loss"]
            optimizer.zero_grad()
            loss.backward()
        if not loss.isfinite():
            raise FloatingPointError(f"step {step + 1}: the loss is {loss.item()}")
        nn.utils.clip_grad_norm_(model.parameters(), budget.clip)
        optimizer.step()
        curve.append(loss.item())
    return model.eval().cpu(), [sum(part) / len(part) for part in (curve[i:i + 50] for i in range(0, len(curve), 50))]


@torch.no_grad()
def predict_images(model, images):
    """What a model says about uint8 images [n, 3, H, W], at their size: n pairs (class logits [N, K+1], mask logits).

    Mask logits are [N, H, W]. For a per-pixel model a pair is (None, logits of the K classes [K, H, W]).
    """
    out = []
    for chunk in images.split(50):
        output = model(model.normalize(chunk))
        if hasattr(output, "pixel_logits"):
            out += [(None, bilinear(logits, chunk.shape[-2:])) for logits in output.pixel_logits]
        else:
            out += [(c, bilinear(m, chunk.shape[-2:])) for c, m in zip(output.class_logits, output.mask_logits)]
    return out


def class_map(class_logits, mask_logits, rule="semantic", score_threshold=0.0):
    """The class of each pixel of one image, int64 [H, W], from a pair of `predict_images`; VOID if there is no answer.

    rule: "semantic" or "general", which leaves out queries with a score below the threshold. Per-pixel models have one.
    """
    if class_logits is None:
        return mask_logits.argmax(0)
    if rule == "semantic":
        return semantic_inference(class_logits, mask_logits)
    sure = class_logits.softmax(-1).amax(-1) >= score_threshold  # [N]
    return general_inference(class_logits[sure], mask_logits[sure])[1]


def score_maps(predictions, truths, classes=Lakeland.classes):
    """mIoU, PQ_St (all classes as stuff), its SQ and RQ, in percent, of class maps against label maps."""
    stuff = all_stuff(classes)
    miou, quality = MeanIoU(len(classes), ignore=VOID), PanopticQuality(stuff)
    for prediction, truth in zip(predictions, truths):
        miou.update(prediction, truth)
        quality.update(*(semantic_to_panoptic(label_map, len(classes)) for label_map in (prediction, truth)))
    pq = quality.compute()
    return {"miou": 100 * miou.compute()["miou"]} | {name: 100 * pq[name] for name in ("pq", "sq", "rq")}


def all_stuff(classes):
    """The class table with every class as stuff, for PQ_St."""
    return replace(classes, isthing=(False,) * len(classes))


@torch.no_grad()
def habits(predictions, maps):
    """How a mask model's queries share the work: means over the known pixels of all images.

    openness: m_i over all queries; score: sum over classes of the semantic scores (1 if the masks tile the image);
    queries: the effective number that answer for a pixel, 1 / sum_i r_i^2 with the shares r in its true class's score.
    """
    sums, count = {"openness": 0.0, "score": 0.0, "queries": 0.0}, 0
    for (class_logits, mask_logits), label_map in zip(predictions, maps):
        known = label_map != VOID
        truth = torch.where(known, label_map, 0).long()  # [H, W]
        masks = mask_logits.sigmoid()  # [N, H, W]
        found = 1 - class_logits.softmax(-1)[:, -1]  # [N]
        shares = responsibilities(class_logits, mask_logits, truth)  # [N, H, W]
        values = masks.mean(0), (found[:, None, None] * masks).sum(0), 1 / shares.square().sum(0)  # each [H, W]
        for name, value in zip(sums, values):
            sums[name] += value[known].sum().item()
        count += int(known.sum())
    return {name: value / count for name, value in sums.items()}


def run_setting(name, seed, budget, scenes, validation, keep=None):
    """Train a setting by name and read it out in every way: one row of results. `keep`: a file for the weights."""
    start = time.process_time()
    model, curve = train_setting(SETTINGS[name], seed, budget, scenes)
    if keep is not None:
        torch.save(model.state_dict(), keep)
    row = {"setting": name, "seed": seed, "cpu_seconds": round(time.process_time() - start, 1),
           "parameters": sum(p.numel() for p in model.parameters()), "curve": [round(v, 4) for v in curve]}
    images, maps = validation
    predictions = predict_images(model, images)
    rules = {"semantic": ("semantic",)}
    if SETTINGS[name].model == "mask":
        rules |= {"general": ("general",), "general 0.3": ("general", 0.3)}
    for rule, options in rules.items():
        scores = score_maps([class_map(*prediction, *options) for prediction in predictions], maps)
        row[rule] = {key: round(value, 3) for key, value in scores.items()}
    return row
