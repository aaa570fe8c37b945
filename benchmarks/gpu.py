"""All that this library can tell of a GPU, in one call of under nine minutes: is it right, how fast, does it train.

    python benchmarks/gpu.py --out runs/gpu [--seconds 520] [--only agreement step ...] [--tiny]

Each part is caught and has a time of its own, so that one that fails or hangs costs nothing else; gpu.json in --out is
written anew after each. `--tiny` runs the same lines on a CPU in a few seconds, for the tests. The training step is the
library's own (training.run.Run, train.train_step), data on the CPU as the loader leaves them; transformers' MaskFormer
gets the same pictures and masks. Host synchronisations are counted by torch.cuda.set_sync_debug_mode.
"""
import argparse
import json
import shutil
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import torch
from gpu_parts import Bench, measure, run
from timing import machine

from minimaskformer import SetCriterion, build_model, inference, load_checkpoint
from minimaskformer.data.lakeland import Lakeland
from minimaskformer.draw.runs import draw_run
from minimaskformer.evaluation import write_table
from minimaskformer.train import train, train_step
from minimaskformer.training.recipes import train_config
from minimaskformer.training.run import Run

TESTS = ["tests/test_devices.py", "tests/test_inference.py", "tests/fast"]
LENGTHS = {"train": 10_000, "val": 1000}


def agreement(b):
    """Largest difference between CPU and device in float32, of logits, losses and answers of mini on two scenes."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    scenes = [Lakeland("val", 128)[i] for i in range(2)]
    images, targets = torch.stack([image for image, _ in scenes]), [target for _, target in scenes]
    model, found = load_checkpoint("mini"), {}
    for device in ("cpu", b.device):
        model.to(device)
        with torch.no_grad():
            output = model(model.normalize(images))
            losses = SetCriterion(11)(output, targets)
        c, m = output.class_logits[0].cpu(), torch.nn.functional.interpolate(output.mask_logits[:1], size=128)[0].cpu()
        if device == "cpu":
            logits = c, m  # the answers of both devices are to the same logits
        c, m = (x.to(device) for x in logits)
        answers = [inference.semantic_inference(c, m), *inference.general_inference(c, m),
                   inference.panoptic_inference(c, m, model.config.things)[0],
                   inference.instance_inference(c, m, model.config.things)["masks"]]
        found[str(device)] = output.mask_logits.cpu(), losses["loss"].item(), [x.cpu() for x in answers]
    a, z = found["cpu"], found[str(b.device)]
    return {"mask_logits": (a[0] - z[0]).abs().max().item(), "loss": abs(a[1] - z[1]),
            "answers_differ_at": [((x != y).float().mean().item() if x.shape == y.shape else "another shape")
                                  for x, y in zip(a[2], z[2])]}


def tests(b):
    """The tests that say more on a GPU."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS] + ["--collect-only"] * b.tiny
    result = run(command, 150)
    return {"exit": result.returncode, "tail": result.stdout[-800:]}


def model_for_lakeland(preset, device):
    """A new model for Lakeland's classes; BatchNorm is trained, as its first weights are random."""
    torch.manual_seed(0)
    model = build_model(preset, 11, class_names=Lakeland.classes.names, things=Lakeland.classes.things,
                        frozen_norm=False)
    return model.to(device).to(memory_format=torch.channels_last)


@contextmanager
def run_of(b, preset, **changes):
    """A run of the library on Lakeland that has not begun, and its batches as the loader leaves them."""
    config = train_config(preset, **changes)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(model_for_lakeland(preset, b.device).train(), Lakeland("train", config.size), config, Path(folder))
        yield run, iter(run.loader())


def measured_run(b, side, **changes):
    """The run whose step is measured: the paper's batch and losses, in bf16."""
    return run_of(b, b.preset, size=side, batch_size=b.batch, scale=(1.0, 1.0), color=False, steps=100_000,
                  workers=b.workers, **{"mask_stride": 1, "amp": "bf16"} | changes)


def step(b, **changes):
    """A training step, ours: bf16, AdamW, auxiliary losses at all pixels."""
    with measured_run(b, b.side, **changes) as (r, batches):
        batch, number = [next(batches)], iter(range(1, 10**6))

        def one():
            train_step(r, batch, next(number))
        row = b.timed(one)
        row |= {"images_per_second": b.batch / row["seconds"]} | b.waits(one)
        images = batch[0][0]

        def forward():
            with r.precision:
                return r.runner(r.model.normalize(images).contiguous(memory_format=torch.channels_last))
        row["forward_seconds"] = b.timed(forward, 5)["seconds"]
        row["with_losses_seconds"] = b.timed(lambda: r.criterion(forward(), batch[0][2]), 5)["seconds"]
    return row


def compiled(b):
    """The same with the network compiled."""
    return {"skipped": "in tiny"} if b.tiny else step(b, compile=True)


def points(b):
    """The same with losses at 12,544 points, as in Mask2Former."""
    return step(b, mask_points=64 if b.tiny else 12_544)


def theirs(b):
    """The same pictures and masks through transformers' MaskFormer, with its auxiliary losses."""
    import transformers
    from torch import nn
    with measured_run(b, b.side) as (r, batches):
        images, _, targets = next(batches)
        mean, std, precision = r.model.pixel_mean, r.model.pixel_std, r.precision
        del r
    backbone = transformers.ResNetConfig(out_features=["stage1", "stage2", "stage3", "stage4"])
    config = transformers.MaskFormerConfig(backbone_config=backbone, decoder_config=transformers.DetrConfig(),
                                           num_labels=11, use_auxiliary_loss=True)
    model = transformers.MaskFormerForInstanceSegmentation(config).to(b.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, fused=True)

    def one():
        optimizer.zero_grad(set_to_none=True)
        pixels = (images.to(b.device, non_blocking=True).float() - mean) / std
        masks = [t["masks"].to(b.device, non_blocking=True).float() for t in targets]
        labels = [t["labels"].to(b.device, non_blocking=True) for t in targets]
        with precision:
            loss = model(pixels, mask_labels=masks, class_labels=labels, output_hidden_states=True).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.01)
        optimizer.step()
    row = b.timed(one)
    return row | {"images_per_second": b.batch / row["seconds"]} | b.waits(one)


def loader(b):
    """What the loader can deliver, to compare with what a step takes."""
    rows = {}
    for side in sorted({max(64, b.side // 2), b.side}):
        with measured_run(b, side) as (_, batches):
            next(batches)  # processes start, sprites are drawn
            start, count = time.perf_counter(), 2 if b.tiny else 15
            for _ in range(count):
                next(batches)
            rows[f"images_per_second_{side}"] = count * b.batch / (time.perf_counter() - start)
    return rows | {"workers": b.workers}


def answers(b):
    """A picture from bytes to answer by each task (mini's weights, scenes of the full side); R50's network alone."""
    model = load_checkpoint("mini").to(b.device)
    pictures = [Lakeland("val", b.side)[i][0] for i in range(2 if b.tiny else 16)]
    row = {}
    for task in ("general", "semantic", "instance", "panoptic"):
        row[task] = b.timed(lambda task=task: model.predict(pictures, task), 3)["seconds"] / len(pictures)
        row[f"{task}_waits"] = b.waits(lambda task=task: model.predict(pictures[0], task)).get("host_synchronisations")
    model = build_model(b.preset).to(b.device).to(memory_format=torch.channels_last).eval()
    images = torch.randn(b.batch, 3, b.side, b.side, device=b.device).contiguous(memory_format=torch.channels_last)
    with torch.no_grad(), torch.autocast(b.device.type, torch.bfloat16):
        row["network_images_per_second"] = b.batch / b.timed(lambda: model(images))["seconds"]
    return row


def training(b, preset, share, side=256, batch=16, **changes):
    """A whole run of as many steps as fit into a share of the time that is left; its log and pictures are kept."""
    if b.tiny:
        preset, side, batch = "mini", 64, 2
    changes |= dict(amp="bf16", workers=b.workers, save_every=10**6, log_every=1 if b.tiny else 50,
                    evaluate_images=2 if b.tiny else 200, size=side, batch_size=batch, scale=(1.0, 1.0), color=False)
    seconds = share * (b.end - time.time()) - 40  # evaluation and pictures come after
    with run_of(b, preset, steps=100_000, **changes) as (r, batches):
        each = b.timed(lambda: train_step(r, [next(batches)], r.step + 1), 2 if b.tiny else 10)["seconds"]
    steps = 2 if b.tiny else int(0.85 * seconds / each)
    if steps < 1:
        return {"skipped": f"{seconds:.0f} s are too few"}
    kept, data = b.out / preset, [Lakeland(split, side, length=length) for split, length in LENGTHS.items()]
    with tempfile.TemporaryDirectory() as folder:
        model = model_for_lakeland(preset, b.device)
        try:
            results = train(model, *data, train_config(preset, steps=steps, **changes), folder, progress=False)
            write_table(results, Lakeland.classes, Path(folder))
            draw_run(model, data[1], Path(folder))
        finally:
            kept.mkdir(exist_ok=True)
            for path in Path(folder).glob("*.*"):
                if path.suffix != ".safetensors" or preset == "mini":
                    shutil.copy(path, kept)
    last = json.loads([line for line in (kept / "log.jsonl").read_text().splitlines() if '"loss"' in line][-1])
    return {"steps": steps, "seconds_a_step_before": each, "last_row": last,
            "pq": results["pq"], "miou": results["miou"]}


def train_r50(b):
    """The full model, from random weights: so its BatchNorm is trained, and as fast as the rest."""
    return training(b, "r50", 0.55, learning_rate=2e-4, backbone_multiplier=1.0, clip=1.0, warmup=100)


def train_mini(b):
    """The laptop's model, by its own recipe."""
    return training(b, "mini", 0.9, side=128)


PARTS = {agreement: 60, step: 90, theirs: 90, compiled: 150, points: 60, answers: 60, loader: 60, tests: 150,
         train_r50: 300, train_mini: 300}  # seconds that a part may take


def verdict(b):
    """Our step against theirs and against the goals, as far as both were measured."""
    if b.tiny:
        return {"skipped": "in tiny, another model"}
    rows = b.rows
    ours, other = rows.get("step", {}), rows.get("theirs", {})
    best = max((rows.get(name, {}).get("images_per_second", 0) for name in ("step", "compiled")), default=0)
    row = {"host_synchronisations (goal: at most 2)": ours.get("host_synchronisations")}
    if best and other.get("images_per_second"):
        row["images per second, ours / theirs (goal: at least 2)"] = best / other["images_per_second"]
    if ours.get("peak_MiB") and other.get("peak_MiB"):
        row["memory, ours / theirs (goal: at most 0.7)"] = ours["peak_MiB"] / other["peak_MiB"]
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="runs/gpu", type=Path, help="folder of gpu.json and of the training logs")
    parser.add_argument("--seconds", type=float, default=520, help="all parts together")
    parser.add_argument("--only", nargs="+", metavar="PART", choices=[part.__name__ for part in PARTS])
    parser.add_argument("--tiny", action="store_true", help="tiny sizes on a CPU: does it run?")
    args = parser.parse_args()
    if not args.tiny and not torch.cuda.is_available():
        sys.exit("there is no CUDA GPU here; --tiny tries this script on a CPU")
    args.out.mkdir(parents=True, exist_ok=True)
    b = Bench(args.tiny, args.out, args.seconds)
    card = "a CPU" if args.tiny else torch.cuda.get_device_name()
    measure(b, "machine", lambda b: {"card": card, "cuda": torch.version.cuda, "host": machine()}, 30)
    for part, cap in PARTS.items():
        if args.only is None or part.__name__ in args.only:
            measure(b, part.__name__, part, cap)
    measure(b, "verdict", verdict, 30)


if __name__ == "__main__":
    main()
