"""Training: one visible loop (lesson 10).

AdamW with the paper's parameter groups (backbone slower, no weight decay on norms and queries), linear warm-up, poly
decay, full-model gradient clip; on one GPU or CPU, or under torchrun on many. What a run leaves in its folder:

    model.safetensors   weights and configuration, every `save_every` steps and at the end
    best.safetensors    the same where the periodic evaluations were best (by PQ; by mIoU where no class is a thing)
    checkpoints/        while it runs: the last two training checkpoints, from which `resume` goes on
    log.jsonl           one line per logged step, one per evaluation;   tensorboard/   the same, on request
    config.json         model and training options;   previous/   all this of the run before in this folder
    metrics.md, .json   the final evaluation;   curves.png, scenes.png   pictures (both by the command line)
"""
import json
import time
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from .data.transforms import TrainingViews, collate
from .evaluation import evaluate, score, summary
from .losses import SetCriterion
from .system.distributed import any_process, mean_over_processes, rank, world_size
from .training.batches import Order, Pieces
from .training.log import RunLog, Speed, writer_class
from .training.not_finite import bad_parameters, blame_gradient, finite_losses, gradient_message
from .training.optim import parameter_groups, set_learning_rate
from .training.recipes import TrainConfig  # noqa: F401  found here too
from .training.resume import (
    Progress,
    load_state,
    remove_states,
    run_facts,
    save_state,
    seed_everything,
    set_aside,
    state_files,
)
from .training.stopping import StopSignals, ending_workers, leave_signals_to_the_loop
from .weights.checkpoint import save_checkpoint

SMALLEST_SCALE = 1.0  # an fp16 gradient that overflows even at this loss scale is no overflow but a fault


def train(model, dataset, validation, config, folder, progress=True, resume=False):
    """Train a model on a data set, leave everything in `folder`, and return the final evaluation (or None).

    resume: go on from the folder's newest training checkpoint. Seeds Python's, NumPy's and PyTorch's generators.
    Ctrl-C and SIGTERM stop after the current step with a checkpoint and raise KeyboardInterrupt. Raises
    FloatingPointError at the first step whose loss or gradient is not finite, naming term and picture, and keeps the
    checkpoint before it; ValueError for data that cannot be trained on and for a resume with other settings; OSError if
    the disk is full. Under torchrun every process calls it; process 0 writes and gets the evaluation.
    """
    check_data(model, dataset, validation)
    check_folder(folder := Path(folder), resume)
    if config.tensorboard:
        writer_class()  # before anything is written
    device, main, pieces = next(model.parameters()).device, rank() == 0, config.accumulate
    if config.batch_size % (pieces * world_size()):
        raise ValueError(f"a batch of {config.batch_size} can not be shared by {world_size()} processes in {pieces} "
                         f"equal pieces each: choose a multiple of {pieces * world_size()}")
    criterion = SetCriterion(model.config.num_classes, no_object_weight=config.no_object_weight,
                             mask_stride=config.mask_stride)
    optimizer = torch.optim.AdamW(parameter_groups(model, config), betas=(0.9, config.beta2), fused=True)
    precision = torch.autocast(device.type, torch.float16 if config.amp == "fp16" else torch.bfloat16,
                               enabled=config.amp != "off")
    scaler = torch.amp.GradScaler(device.type, enabled=config.amp == "fp16")
    parts = {"model": model, "optimizer": optimizer, "scaler": scaler}
    seed_everything(config.seed)
    run, facts = Progress(), run_facts(model, dataset, config)
    seed_everything(config.seed)  # looking at the data may have drawn numbers
    if not (resume and load_state(folder, parts, run, facts)):
        if resume and main:
            tqdm.write(f"note: there is nothing to resume in {folder}: a new run starts")
        remove_states(folder)
        if main:
            set_aside(folder)  # what another run left
        save_state(folder, parts, run, facts)  # of step 0, so that a run can always be resumed
    if main:
        (folder / "config.json").write_text(json.dumps({"model": facts["model"], "train": asdict(config)}, indent=1))
    runner = wrap(model, device, config)

    order = Order(len(dataset), config.batch_size, config.seed)
    views = TrainingViews(dataset, config.size, config.scale, config.seed, color=config.color,
                          category_limit=config.category_limit)
    shares = Pieces(order, run.step + 1, config.steps, pieces, rank(), world_size())
    loader = DataLoader(views, batch_sampler=shares, collate_fn=collate, num_workers=config.workers,
                        worker_init_fn=leave_signals_to_the_loop, pin_memory=device.type == "cuda",
                        generator=torch.Generator().manual_seed(config.seed))
    started, speed = time.time() - run.seconds, Speed(device)
    model.train()
    with (RunLog(folder if main else None, run.rows, config.tensorboard, run.step) as log, StopSignals() as stop,
          ending_workers(iter(loader)) as batches,
          tqdm(total=config.steps, initial=run.step, disable=not progress or not main) as bar):

        def record(row):
            run.seconds = time.time() - started
            log.write({"step": run.step, "seconds": run.seconds} | row)
            run.rows += 1

        def save():
            run.seconds = time.time() - started
            save_state(folder, parts, run, facts)
            if main:
                save_checkpoint(model, folder / "model.safetensors")

        for step in range(run.step + 1, config.steps + 1):
            batch = speed.fetch(batches, pieces)  # usually one piece; each: images uint8 [b, 3, H, W], sizes, b targets
            names = [[views.name(index) for _, index in keys] for keys in
                     (order.piece(step, piece, pieces, rank(), world_size()) for piece in range(pieces))]
            normalizers = criterion.normalizers([target for _, _, targets in batch for target in targets],
                                                model.config.num_queries, device)
            set_learning_rate(optimizer, config, step)
            optimizer.zero_grad(set_to_none=True)
            for piece, (images, _, targets) in enumerate(batch):
                alone = world_size() == 1 or piece == pieces - 1
                with nullcontext() if alone else runner.no_sync():  # gradients are averaged once, after the last piece
                    with precision:
                        output = runner(to_input(model, images))
                    losses = finite_losses(criterion, output, targets, normalizers, names[piece], step)
                    scaler.scale(losses["loss"]).backward()
                collect(run.averages, losses, config.log_every)
            scaler.unscale_(optimizer)
            norm = nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
            overflow = not norm.isfinite()
            if overflow and scaler.get_scale() <= SMALLEST_SCALE:  # which is 1 without fp16
                raise FloatingPointError(explain(model, criterion, batch, normalizers, names, precision, step))
            sums = {"gradient_norm": torch.zeros_like(norm) if overflow else norm}
            sums |= {"skipped": torch.tensor(float(overflow), device=device)} if scaler.is_enabled() else {}
            collect(run.averages, sums, config.log_every)
            nn.utils.clip_grads_with_norm_(model.parameters(), config.clip, norm)
            scaler.step(optimizer)  # skipped if an fp16 gradient overflowed: the scale is halved and the run goes on
            scaler.update()
            speed.step_done(config.batch_size)
            run.step = step

            if step % config.log_every == 0:
                row = {name: value.item() for name, value in mean_over_processes(run.averages).items()}
                rate = max(group["lr"] for group in optimizer.param_groups)  # the backbone's may be smaller
                record({"lr": rate} | row | speed.row())
                bar.set_postfix(loss=f"{row['loss']:.2f}", refresh=False)
                run.averages = {}
            bar.update()
            due = config.evaluate_every and step % config.evaluate_every == 0 and step < config.steps
            if due and validation is not None:
                results = evaluate(model, validation, config.evaluate_images, progress=False)
                record(summary(results) if main else {})
                keep_best(model, results, validation, run, folder)
            stopped = any_process(stop.asked, device)
            if stopped or (step % config.save_every == 0 and step < config.steps):
                save()
            if stopped:
                tqdm.write(f"stopped after step {step} of {config.steps}; {folder} holds a checkpoint to resume from")
                raise KeyboardInterrupt
        save()
        stop.at_once = True  # all is saved
        model.eval()
        results = None
        if validation is not None:
            results = evaluate(model, validation, config.evaluate_images, progress=progress)
            record(summary(results) if main else {})
            if config.evaluate_every:
                keep_best(model, results, validation, run, folder)
    remove_states(folder)
    return results


def wrap(model, device, config):
    """What runs the model in the loop: itself, or DistributedDataParallel around it, compiled on request."""
    runner = model
    if world_size() > 1:
        if device.type == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(model)  # a trained BatchNorm sees the whole batch; not on a CPU
        runner = DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None)
    return torch.compile(runner) if config.compile else runner


def to_input(model, images):
    """A piece's images as the model takes them: normalised float32 [b, 3, H, W] on its device, channels last."""
    images = model.normalize(images.to(next(model.parameters()).device, non_blocking=True))
    return images.contiguous(memory_format=torch.channels_last)


def collect(averages, values, count):
    """Add each value / count to the average of its name."""
    for name, value in values.items():
        averages[name] = averages.get(name, 0) + value.detach() / count


def keep_best(model, results, validation, run, folder):
    """Write best.safetensors if this evaluation is the best so far (process 0 decides)."""
    if results is None:
        return
    value = score(results, validation.classes)
    if run.best is None or value > run.best:
        run.best = value
        save_checkpoint(model, folder / "best.safetensors", extra={"step": str(run.step), "score": f"{value:.6f}"})


def explain(model, criterion, batch, normalizers, names, precision, step):
    """What to say about this step's gradient, which is not finite: in which parameters, from which pictures."""
    parameters, bad = bad_parameters(model), []
    for (images, _, targets), own in zip(batch, names):
        bad += blame_gradient(model, criterion, to_input(model, images), targets, normalizers, own, precision)
    return gradient_message(step, parameters, bad, sum(names, []))


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
        pairs = list(enumerate(zip(dataset.classes.names, validation.classes.names)))
        differ = [f"class {k} is {a!r} in training, {b!r} in validation" for k, (a, b) in pairs if a != b]
        raise ValueError(f"training and validation data have different class tables: {'; '.join(differ[:5])}")


def check_folder(folder, resume):
    """Do not overwrite a run that can go on, and do not resume one that is done. A run that ended before its first save
    has nothing to lose: starting it again needs no word."""
    waiting = state_files(folder)
    if not resume and any(not path.match("step_00000000.pt") for path in waiting):
        raise ValueError(f"{folder} holds a run that was interrupted: go on with --resume, or choose another folder, "
                         f"or delete this one")
    if resume and not waiting and (folder / "model.safetensors").exists():
        raise ValueError(f"the run in {folder} is finished, there is nothing to resume")
