"""Training: one visible loop (lesson 10).

AdamW with the paper's parameter groups (backbone slower, no weight decay on norms and queries), linear warm-up, poly
decay with power 0.9, full-model gradient clip. What a run leaves in its folder:

    model.safetensors   weights and configuration, written atomically every `save_every` steps and at the end
    log.jsonl           one line per logged step, one per evaluation
    metrics.md, .json   the final evaluation;   curves.png, scenes.png   pictures
"""
import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from .checkpoint import save_checkpoint
from .data.transforms import TrainingViews, collate
from .evaluate import evaluate, summary
from .losses import SetCriterion
from .swin import WindowAttention


def option(default, help):
    """A field with a help text, which the command line shows too."""
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class TrainConfig:
    """How to train. Defaults are the mini model's; the paper's values for R50 on ADE20K are in brackets."""
    steps: int = option(1000, "optimizer steps [160000]")
    batch_size: int = option(16, "images per step [16]")
    learning_rate: float = option(4e-4, "peak learning rate [1e-4, from a pretrained backbone]")
    backbone_multiplier: float = option(1.0, "learning rate of the backbone relative to the rest [0.1: pretrained]")
    beta2: float = option(0.98, "how slowly AdamW forgets squared gradients [0.999]")
    weight_decay: float = option(0.05, "of all but norms and queries [1e-4]")
    warmup: int = option(200, "steps of linear warm-up [1500 with Swin]")
    clip: float = option(1.0, "largest gradient norm of the whole model [0.01]")
    no_object_weight: float = option(0.1, "weight of unmatched queries in the class loss [0.1]")
    mask_stride: int = option(2, "mask losses on every s-th row and column, 1 is all [1]")
    size: int = option(128, "images are cropped to size x size [512]")
    scale: tuple[float, float] = option((1.0, 1.0), "short side of an image before the crop, in sizes [0.5 2]")
    workers: int = option(0, "processes that prepare data [4 per GPU]")
    seed: int = option(0, "decides the first weights, the order and the views")
    amp: bool = option(False, "bfloat16 where it is safe: faster on GPUs and on CPUs that have it in hardware")
    log_every: int = option(20, "steps between lines of log.jsonl")
    save_every: int = option(250, "steps between checkpoints")
    evaluate_every: int = option(0, "steps between evaluations, 0: only at the end")
    evaluate_images: int = option(200, "images per evaluation")


def train(model, dataset, validation, config, folder, progress=True):
    """Train a model on a data set, leave everything in `folder`, and return the final evaluation (or None).

    Ctrl-C stops after the current step and leaves model.safetensors usable. Raises FloatingPointError at the first step
    whose loss is not finite, keeping the checkpoint before it; ValueError for data that cannot be trained on.
    """
    check_data(model, dataset, validation)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model": asdict(model.config), "train": asdict(config)}, indent=1))
    device = next(model.parameters()).device
    criterion = SetCriterion(model.config.num_classes, no_object_weight=config.no_object_weight,
                             mask_stride=config.mask_stride)
    optimizer = torch.optim.AdamW(parameter_groups(model, config), betas=(0.9, config.beta2), fused=True)
    views = TrainingViews(dataset, config.size, config.scale, config.seed)
    batches = DataLoader(views, config.batch_size, sampler=EndlessSampler(len(views), config), collate_fn=collate,
                         num_workers=config.workers, persistent_workers=config.workers > 0, drop_last=True,
                         pin_memory=device.type == "cuda")
    started, averages, step = time.time(), {}, 0
    model.train()
    with open(folder / "log.jsonl", "w") as log, tqdm(total=config.steps, disable=not progress) as bar:
        try:
            for step, (images, _, targets) in enumerate(batches, start=1):
                set_learning_rate(optimizer, config, step)
                images = model.normalize(images.to(device, non_blocking=True))  # [B, 3, H, W]
                images = images.contiguous(memory_format=torch.channels_last)
                with torch.autocast(device.type, torch.bfloat16, enabled=config.amp):
                    output = model(images)
                losses = criterion(output, targets)
                check_finite(losses, step)
                optimizer.zero_grad(set_to_none=True)
                losses["loss"].backward()
                norm = nn.utils.clip_grad_norm_(model.parameters(), config.clip)
                optimizer.step()

                for name, value in {**losses, "gradient_norm": norm}.items():
                    averages[name] = averages.get(name, 0) + value.detach() / config.log_every
                if step % config.log_every == 0:
                    row = {"step": step, "lr": optimizer.param_groups[0]["lr"], "seconds": time.time() - started}
                    row |= {name: value.item() for name, value in averages.items()}
                    row["images_per_second"] = step * config.batch_size / row["seconds"]
                    write_row(log, row)
                    bar.set_postfix(loss=f"{row['loss']:.2f}", refresh=False)
                    averages = {}
                bar.update()
                if step % config.save_every == 0:
                    save_checkpoint(model, folder / "model.safetensors")
                if config.evaluate_every and step % config.evaluate_every == 0 and step < config.steps:
                    results = evaluate(model, validation, config.evaluate_images, progress=False)
                    write_row(log, {"step": step, "seconds": time.time() - started} | summary(results))
                if step == config.steps:
                    break
        except KeyboardInterrupt:
            save_checkpoint(model, folder / "model.safetensors")
            tqdm.write(f"stopped at step {step} of {config.steps}; the weights so far are in "
                       f"{folder / 'model.safetensors'}")
            raise
        save_checkpoint(model, folder / "model.safetensors")
        model.eval()
        if validation is None:
            return None
        results = evaluate(model, validation, config.evaluate_images, progress=progress)
        write_row(log, {"step": step, "seconds": time.time() - started} | summary(results))
    return results


def parameter_groups(model, config):
    """AdamW groups of the reference: the backbone at its own learning rate, no weight decay on norms and queries."""
    no_decay = (nn.GroupNorm, nn.LayerNorm, nn.BatchNorm2d, nn.Embedding,
                WindowAttention)  # its table of relative positions; its linear layers are modules of their own
    groups = {}
    for module_name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            multiplier = config.backbone_multiplier if "backbone" in module_name.split(".") else 1.0
            decay = 0.0 if isinstance(module, no_decay) else config.weight_decay
            groups.setdefault((multiplier, decay), []).append(parameter)
    return [{"params": parameters, "lr": config.learning_rate * multiplier, "multiplier": multiplier,
             "weight_decay": decay} for (multiplier, decay), parameters in groups.items()]


def set_learning_rate(optimizer, config, step):
    """Linear warm-up, then poly decay: lr * (1 - step / steps) ** 0.9, times each group's multiplier."""
    factor = min(1, step / max(1, config.warmup)) * (1 - (step - 1) / config.steps) ** 0.9
    for group in optimizer.param_groups:
        group["lr"] = config.learning_rate * factor * group["multiplier"]


class EndlessSampler(torch.utils.data.Sampler):
    """(epoch, index) pairs for ever: a new permutation each epoch, decided by the seed."""

    def __init__(self, length, config):
        self.length, self.seed = length, config.seed

    def __iter__(self):
        epoch = 0
        while True:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            for index in torch.randperm(self.length, generator=generator).tolist():
                yield epoch, index
            epoch += 1


def check_data(model, dataset, validation):
    """Stop before the first step if data and model cannot belong together."""
    for name, data in (("training", dataset), ("validation", validation)):
        if data is None:
            continue
        if len(data) == 0:
            raise ValueError(f"the {name} data set is empty")
        if len(data.classes) != model.config.num_classes:
            raise ValueError(f"the {name} data set has {len(data.classes)} classes, the model "
                             f"{model.config.num_classes}")
    if validation is not None and validation.classes.names != dataset.classes.names:
        raise ValueError("training and validation data have different class tables")


def check_finite(losses, step):
    """Raise FloatingPointError naming the first loss term that is not a number."""
    if not losses["loss"].isfinite():
        bad = [name for name, value in losses.items() if not value.isfinite() and name != "loss"]
        raise FloatingPointError(f"step {step}: the loss is not finite (terms: {', '.join(bad)}); the last good "
                                 f"checkpoint is kept. Try a smaller learning rate, or train without amp")


def write_row(log, row):
    """One line of JSON, on disk at once."""
    log.write(json.dumps({k: round(v, 6) if isinstance(v, float) else v for k, v in row.items()}) + "\n")
    log.flush()
