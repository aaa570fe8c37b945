"""How to train: every option of a run with its help text, and the paper's recipes by preset (lessons 10 and 12)."""
import time
from dataclasses import dataclass, field, fields, replace

PRECISIONS = ("off", "bf16", "fp16")
SCHEDULES = ("poly", "step", "constant")
MOST_WORKERS = 256
# by the type of a default: what is taken, in words
KINDS = {int: (int, "a whole number"), float: ((int, float), "a number"), bool: (bool, "True or False"),
         str: (str, "a name"), tuple: ((tuple, list), "two numbers")}


def option(default, help, free=False):
    """A field with a help text, which the command line shows too; free: may be changed when a run is resumed."""
    return field(default=default, metadata={"help": help, "free": free})


@dataclass(frozen=True)
class TrainConfig:
    """How to train. Defaults are the mini model's; the paper's values for R50 on ADE20K are in brackets.

    Raises ValueError for impossible values.
    """
    steps: int = option(1000, "optimizer steps [160000; in brackets: the paper's values, for R50 on ADE20K]")
    batch_size: int = option(16, "images per step, of all processes together [16]")
    accumulate: int = option(1, "work through the batch in this many micro-batches: the same step in less memory [1]")
    learning_rate: float = option(4e-4, "peak learning rate [1e-4, from a pretrained backbone]")
    backbone_multiplier: float = option(1.0, "learning rate of the backbone relative to the rest [0.1: pretrained]")
    beta2: float = option(0.98, "how slowly AdamW forgets squared gradients [0.999]")
    weight_decay: float = option(0.05, "for everything except norms and queries [1e-4]")
    warmup: int = option(200, "steps of linear warm-up [0; 1500 with Swin]")
    schedule: str = option("poly", "after the warm-up: poly (power 0.9), step (a tenth after two thirds of the steps) "
                           "or constant [poly; COCO: step]")
    clip: float = option(1.0, "clip the gradient norm of the whole model to this [0.01]")
    no_object_weight: float = option(0.1, "weight of unmatched queries in the class loss [0.1]")
    mask_stride: int = option(2, "mask losses on every s-th row and column; 1: on all [1]")
    mask_points: int = option(0, "mask losses and matching at this many points of each mask, most of them uncertain "
                              "(Mask2Former); needs mask_stride 1; 0: off [0]")
    size: int = option(128, "images are cropped to size x size [512]")
    scale: tuple[float, float] = option((1.0, 1.0), "short side of an image before the crop, in units of size [0.5 2]")
    color: bool = option(False, "vary brightness, contrast, saturation and hue [yes]")
    category_limit: float = option(1.0, "redraw a crop if one category fills this share of it; 1: never [1]")
    seed: int = option(0, "decides the initial weights, the order and the views")
    amp: str = option("off", "mixed precision: bf16 (if no value is given), fp16 with a gradient scaler, or off "
                      "[off]")
    compile: bool = option(False, "torch.compile: minutes to start, then faster; worth it on GPUs, for long runs")
    workers: int = option(0, "processes that prepare data, for each training process [4]", free=True)
    log_every: int = option(20, "steps between lines of log.jsonl")
    save_every: int = option(250, "steps between checkpoints", free=True)
    evaluate_every: int = option(0, "steps between evaluations; 0: only at the end [5000]")
    evaluate_images: int = option(200, "images per evaluation, spread evenly [2000: all]")
    tensorboard: bool = option(False, "also write the log for TensorBoard", free=True)

    def __post_init__(self):
        for name, default in ((entry.name, entry.default) for entry in fields(self)):
            value = getattr(self, name)
            kind, words = KINDS[type(default)]
            if not isinstance(value, kind) or isinstance(value, bool) is not isinstance(default, bool):
                raise ValueError(f"{name} is {words}, got {value!r}")
        for name in ("steps", "batch_size", "accumulate", "mask_stride", "size", "log_every", "save_every",
                     "evaluate_images"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is a whole number from 1 on, got {getattr(self, name)}")
        for name in ("learning_rate", "backbone_multiplier", "weight_decay", "warmup", "clip", "no_object_weight",
                     "mask_points", "workers", "evaluate_every"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is a number from 0 on, got {getattr(self, name)}")
        if self.workers > MOST_WORKERS:  # each is a process: more would fill the memory before the first step
            raise ValueError(f"workers is a whole number from 0 to {MOST_WORKERS}, got {self.workers}")
        if not abs(self.seed) <= 2**40:
            raise ValueError(f"seed is a whole number from -2**40 to 2**40, got {self.seed}")
        if not 0 <= self.beta2 < 1:
            raise ValueError(f"beta2 is at least 0 and below 1, got {self.beta2}")
        if len(self.scale) != 2 or not all(isinstance(side, (int, float)) for side in self.scale):
            raise ValueError(f"scale is two numbers above 0, the smaller first, got {self.scale}")
        if not 0 < self.scale[0] <= self.scale[1] < float("inf"):
            raise ValueError(f"scale is two numbers above 0, the smaller first, got {self.scale}")
        if not 0 < self.category_limit <= 1:
            raise ValueError(f"category_limit is a share of the pixels, above 0 and at most 1, got "
                             f"{self.category_limit}")
        if self.scale[0] * self.size < 8:
            raise ValueError(f"scale {self.scale[0]:g} of size {self.size} makes a short side of "
                             f"{self.scale[0] * self.size:g} pixels: at least 8")
        if self.mask_stride > self.size // 4:
            raise ValueError(f"mask_stride {self.mask_stride} leaves nothing of masks of {self.size // 4} x "
                             f"{self.size // 4}, which views of {self.size} have")
        if self.mask_points and self.mask_stride > 1:
            raise ValueError(f"mask_points {self.mask_points} and mask_stride {self.mask_stride} are two ways to look "
                             f"at fewer pixels: set mask_stride to 1, or mask_points to 0")
        for name, known in (("amp", PRECISIONS), ("schedule", SCHEDULES)):
            if getattr(self, name) not in known:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}; known: {', '.join(known)}")
        if self.batch_size % self.accumulate:
            raise ValueError(f"a batch of {self.batch_size} cannot be cut into {self.accumulate} equal micro-batches")


# The paper's runs (section 4.1), and where it is silent the reference code's configuration files: no warm-up for
# ResNets, colour variation on ADE20K only, a factor of 1 for Swin's backbone, no weight decay on norms and embeddings.
# Our own: the intervals of logging, saving and evaluating, the number of workers, and a continuous scale (not tenths).
ADE20K_RECIPE = dict(steps=160_000, batch_size=16, learning_rate=1e-4, backbone_multiplier=0.1, beta2=0.999,
                     weight_decay=1e-4, warmup=0, schedule="poly", clip=0.01, mask_stride=1, size=512, scale=(0.5, 2.0),
                     color=True, workers=4, log_every=50, save_every=1000, evaluate_every=5000, evaluate_images=2000)
# COCO: 300 epochs of 118,287 images in batches of 64; a tenth of the learning rate for the last third. Short sides of
# 480 to 800 are the reference's; the square crop of 640 is ours (the reference: the whole picture, or any rectangle).
COCO_RECIPE = ADE20K_RECIPE | dict(steps=554_400, batch_size=64, schedule="step", size=640, scale=(0.75, 1.25),
                                   color=False, evaluate_every=20_000, evaluate_images=5000)
SWIN_RECIPE = dict(learning_rate=6e-5, weight_decay=0.01, warmup=1500, backbone_multiplier=1.0)
# Our own, for a pretrained backbone and few pictures: with the full learning rate for the backbone, 500 steps on 100
# pictures of COCO ended at PQ 2.8 and mIoU 28.6; with 0.3 of it, at 11.8 and 33.6.
LAPTOP_RECIPE = dict(size=256, backbone_multiplier=0.3)
# Ours, for a whole trained model that goes on with other pictures: the paper's learning rates, and few steps.
FINE_TUNE_RECIPE = ADE20K_RECIPE | dict(steps=1000, batch_size=8, workers=0, log_every=20, save_every=250,
                                        evaluate_every=0, evaluate_images=200)
FINE_TUNE = "--start-from"  # in place of a preset
RECIPES = {"r50": ADE20K_RECIPE, "r101": ADE20K_RECIPE, "r50_panoptic": COCO_RECIPE, "r101_panoptic": COCO_RECIPE}
RECIPES |= {name: ADE20K_RECIPE | SWIN_RECIPE for name in ("swin_t", "swin_s")}
RECIPES |= {name: ADE20K_RECIPE | SWIN_RECIPE | {"size": 640} for name in ("swin_b", "swin_l")}
RECIPES |= {f"swin_{size}_panoptic": COCO_RECIPE | SWIN_RECIPE for size in "tsbl"}
RECIPES |= {name: LAPTOP_RECIPE for name in ("r18", "mobilenet_v2", "r18_fine", "mobilenet_v2_fine", "per_pixel_r18")}
RECIPES |= {"per_pixel_r50": ADE20K_RECIPE}


def train_config(preset, **changes):
    """The TrainConfig that belongs to a preset (the mini model's if it has none), with fields changed.

    In place of a preset, FINE_TUNE stands for a trained model that goes on.
    """
    return replace(TrainConfig(**FINE_TUNE_RECIPE if preset == FINE_TUNE else RECIPES.get(preset, {})), **changes)


def learning_rate_note(preset, config):
    """A rule of thumb, as text, if the batch is not the recipe's but the learning rate still is; else None."""
    recipe = train_config(preset)
    if config.batch_size == recipe.batch_size or config.learning_rate != recipe.learning_rate:
        return None
    ratio = config.batch_size / recipe.batch_size
    return (f"note: the learning rate {recipe.learning_rate:g} is that of batches of {recipe.batch_size}. Rule of "
            f"thumb for {config.batch_size}: in proportion, so --learning-rate {ratio * recipe.learning_rate:.2g}, and "
            f"--steps {round(recipe.steps / ratio)} for as many images")


def amp_note(config, device):
    """A note, as text, if mixed precision would slow a run on this CPU, for lack of hardware support; else None.

    Measured, not looked up: PyTorch detects such hardware only on some processors, and under names that change.
    """
    if device.type != "cpu" or config.amp == "off":
        return None
    names = {"bf16": "bfloat16", "fp16": "float16"}
    plain, mixed = convolution_seconds("float32"), convolution_seconds(names[config.amp])
    if mixed <= 1.2 * plain:
        return None
    return (f"note: a convolution in {config.amp} takes this CPU {mixed / plain:.1f} times as long as in float32, for "
            f"lack of hardware support: without --amp the run is faster")


def convolution_seconds(dtype, tries=7):
    """Seconds of a convolution like those of mini's pixel decoder, with its gradient: the best of some tries."""
    import torch
    convolution = torch.nn.Conv2d(96, 96, 3, padding=1).to(memory_format=torch.channels_last)
    image, seconds = torch.randn(2, 96, 32, 32).contiguous(memory_format=torch.channels_last), []
    for _ in range(tries):
        start = time.perf_counter()
        with torch.autocast("cpu", getattr(torch, dtype), enabled=dtype != "float32"):
            output = convolution(image)
        output.float().sum().backward()
        seconds.append(time.perf_counter() - start)
        if seconds[-1] > 0.5:  # some CPUs take seconds in float16: one try is enough
            break
    return min(seconds)


def free_fields():
    """Names of the options that do not affect the weights and may differ when a run is resumed."""
    return {f.name for f in fields(TrainConfig) if f.metadata["free"]}
