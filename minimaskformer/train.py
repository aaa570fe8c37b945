"""Training: one visible loop, and the step it repeats (lesson 10).

AdamW with the paper's parameter groups (backbone slower, no weight decay on norms and queries), linear warm-up, poly
decay, full-model gradient clipping; on one GPU or CPU, or under torchrun on many. What a run leaves in its folder:

    model.safetensors   weights and configuration, every `save_every` steps and at the end
    best.safetensors    the same where the periodic evaluations were best (by PQ; by mIoU where no class is a thing)
    checkpoints/        while it runs: the last two training checkpoints, from which `resume` goes on
    log.jsonl           one line per logged step, one per evaluation;   tensorboard/   the same, on request
    config.json         model and training options;   previous/   all of this from the previous run in this folder
    metrics.md, .json   the final evaluation;   curves.png, scenes.png   pictures (both by the command line)
"""
from pathlib import Path

import torch
from torch import nn
from tqdm.auto import tqdm

from .system.distributed import any_process, rank
from .system.lock import alone_in_its_folder
from .training.checked_data import check_data
from .training.optim import set_learning_rate
from .training.resume import remove_states
from .training.run import Run, check_folder
from .training.stopping import StopSignals, ending_workers


@alone_in_its_folder
def train(model, dataset, validation, config, folder, progress=True, resume=False, scan=None):
    """Train a model on a data set, leave everything in `folder`, and return the final evaluation (or None).

    resume: go on from the folder's newest training checkpoint. scan: the labels of so many images of each split are
    checked and counted before the first step (None: all, 0: none), but not where a run goes on. Seeds Python's, NumPy's
    and PyTorch's generators. Ctrl-C and SIGTERM stop after the current step with a checkpoint and raise
    KeyboardInterrupt. Raises FloatingPointError at the first step whose loss or gradient is not finite, naming term and
    picture, and keeps the checkpoint before it; ValueError for data that cannot be trained on, for a resume with other
    settings and for a folder in which another process trains; OSError if the disk is full or a process that loads data
    was killed. Under torchrun every process calls it; process 0 writes and gets the evaluation.
    """
    check_data(model, dataset, validation, 0 if resume else scan)
    check_folder(folder := Path(folder), resume)
    run = Run(model, dataset, config, folder, resume)
    model.train()
    with (run.open_log() as log, StopSignals() as stop, ending_workers(iter(run.loader())) as batches,
          tqdm(total=config.steps, initial=run.step, disable=not progress or rank() != 0) as bar):
        for step in range(run.step + 1, config.steps + 1):
            batch = run.speed.fetch(batches, config.accumulate)
            train_step(run, batch, step)
            run.step_done(step)
            if step % config.log_every == 0:
                log.write(row := run.log_row())
                bar.set_postfix(loss=f"{row['loss']:.2f}", refresh=False)
            bar.update()
            last = step == config.steps
            if validation is not None and config.evaluate_every and step % config.evaluate_every == 0 and not last:
                run.evaluate(validation, log, progress=False)
            stopped = any_process(stop.asked, run.device)
            if stopped or (step % config.save_every == 0 and not last):
                run.save()
            if stopped:
                tqdm.write(f"stopped after step {step} of {config.steps}; {folder} holds a checkpoint to resume from")
                raise KeyboardInterrupt
        run.save()
        stop.at_once = True  # everything is saved
        model.eval()
        results = None if validation is None else run.evaluate(validation, log, progress)
    remove_states(folder)
    return results


def train_step(run, batch, step):
    """Forward, match and loss, backward, clip, step of AdamW (paper, section 4.1): lesson 10 has the same lines.

    batch: micro-batches, usually one, each (images uint8 [b, 3, H, W], sizes, b targets). Steps count from 1.
    """
    model, criterion, optimizer, scaler = run.model, run.criterion, run.optimizer, run.scaler
    set_learning_rate(optimizer, run.config, step)
    optimizer.zero_grad()
    normalizers = run.normalizers(batch)  # number of targets and sum of class weights, of the whole batch
    for i, (images, _, targets) in enumerate(batch):
        with run.averaging_gradients(last=i == len(batch) - 1):  # over processes, once a step
            with run.precision:  # the network in bfloat16 or float16, matching and losses in float32
                output = run.runner(to_input(model, images))
            with run.naming_pictures(step, i, output):  # should a matching cost not be finite
                losses = criterion(output, targets, normalizers)  # matches every layer, then class + 20 focal + dice
            scaler.scale(losses["loss"]).backward()
        run.add(losses)  # to the averages of the log
    scaler.unscale_(optimizer)
    norm = nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    run.check_finite(norm, losses, batch, normalizers, step)
    nn.utils.clip_grads_with_norm_(model.parameters(), run.config.clip, norm)
    scaler.step(optimizer)  # skipped if an fp16 gradient overflowed: the scale is halved and the run goes on
    scaler.update()


def to_input(model, images):
    """A micro-batch's images as the model takes them: normalised float32 [b, 3, H, W] on its device, channels last."""
    images = model.normalize(images.to(next(model.parameters()).device, non_blocking=True))
    return images.contiguous(memory_format=torch.channels_last)
