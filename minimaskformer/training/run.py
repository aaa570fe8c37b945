"""What a training run works with, and how far it is: everything around the loop of train.py (lesson 10)."""
import json
import time
from contextlib import nullcontext
from dataclasses import asdict

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from ..data.combine import match_classes
from ..data.transforms import TrainingViews, collate
from ..evaluation import deciding_figure, evaluate, summary
from ..losses import SetCriterion
from ..system.distributed import mean_over_processes, rank, world_size
from ..system.files import write_text
from ..weights.checkpoint import save_checkpoint
from .batches import BatchOrder, MicroBatches
from .checked_data import BOTH
from .log import RunLog, Speed, writer_class
from .not_finite import explanation, naming_pictures
from .optim import parameter_groups
from .per_pixel_loss import PixelCriterion
from .resume import (
    Progress,
    load_state,
    remove_states,
    run_facts,
    save_state,
    seed_everything,
    set_aside,
    state_files,
)
from .stopping import leave_signals_to_the_loop

COARSEST = 32  # pixels per cell of the coarsest map, res5
SMALLEST_SCALE = 1.0  # an fp16 gradient that overflows even at this loss scale is a fault, not an overflow


class Run:
    """A training run: model, criterion, optimizer, precision, pictures in order, log, checkpoints, and how far it is.

    Raises ValueError for a batch that the processes cannot share, and for a resume with other settings.
    """

    def __init__(self, model, dataset, config, folder, resume=False):
        self.model, self.config, self.folder, self.device = model, config, folder, next(model.parameters()).device
        if config.tensorboard:
            writer_class()  # before anything is written
        if config.batch_size % (config.accumulate * world_size()):
            raise ValueError(f"a batch of {config.batch_size} cannot be shared by {world_size()} processes in "
                             f"{config.accumulate} equal micro-batches each: choose a multiple of "
                             f"{config.accumulate * world_size()}")
        self.criterion = SetCriterion(model.config.num_classes, no_object_weight=config.no_object_weight,
                                      mask_stride=config.mask_stride, mask_points=config.mask_points)
        if model.config.per_pixel:
            self.criterion = PixelCriterion(model.config.num_classes)
        self.optimizer = torch.optim.AdamW(parameter_groups(model, config), betas=(0.9, config.beta2), fused=True)
        self.precision = torch.autocast(self.device.type, torch.float16 if config.amp == "fp16" else torch.bfloat16,
                                        enabled=config.amp != "off")
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.amp == "fp16")
        self.parts = {"model": model, "optimizer": self.optimizer, "scaler": self.scaler}
        self.order = BatchOrder(len(dataset), config.batch_size, config.seed)
        self.views = TrainingViews(dataset, config.size, config.scale, config.seed, color=config.color,
                                   category_limit=config.category_limit)
        check_batch_size(model, config)
        seed_everything(config.seed)
        self.progress, self.facts = Progress(), run_facts(model, dataset, config)
        seed_everything(config.seed)  # looking at the data may have drawn numbers
        self.start_or_resume(resume)
        self.runner, self.speed = wrap_model(model, self.device, config), Speed(self.device)
        self.started = time.time() - self.progress.seconds

    def start_or_resume(self, resume):
        """Go on from the folder's newest checkpoint, or begin, with a checkpoint of step 0."""
        if not (resume and load_state(self.folder, self.parts, self.progress, self.facts)):
            remove_states(self.folder)
            if rank() == 0:
                set_aside(self.folder)  # what another run left
            save_state(self.folder, self.parts, self.progress, self.facts)  # so that a run can always be resumed
        if rank() == 0:
            settings = {"model": self.facts["model"], "train": asdict(self.config)}
            write_text(self.folder / "config.json", json.dumps(settings, indent=1))

    @property
    def step(self):
        """The last step that is done; 0 at the beginning."""
        return self.progress.step

    def loader(self):
        """This process's micro-batches, from the step the run is at to the last."""
        c = self.config
        shares = MicroBatches(self.order, self.step + 1, c.steps, c.accumulate, rank(), world_size())
        return DataLoader(self.views, batch_sampler=shares, collate_fn=collate, num_workers=c.workers,
                          worker_init_fn=leave_signals_to_the_loop, pin_memory=self.device.type == "cuda",
                          generator=torch.Generator().manual_seed(c.seed))

    def names(self, step, i):
        """The names of the pictures in this process's micro-batch i of a step."""
        keys = self.order.micro_batch(step, i, self.config.accumulate, rank(), world_size())
        return [self.views.name(index) for _, index in keys]

    def normalizers(self, batch):
        """What the losses of this step are divided by: for the whole batch, over all processes."""
        targets = [target for _, _, targets in batch for target in targets]
        return self.criterion.normalizers(targets, self.model.config.num_queries, self.device)

    def averaging_gradients(self, last):
        """Make several processes average their gradients once a step, after the last micro-batch."""
        return nullcontext() if world_size() == 1 or last else self.runner.no_sync()

    def naming_pictures(self, step, i, output):
        """Name the pictures whose prediction is not finite, if the matching refuses its costs."""
        return naming_pictures(step, self.names(step, i), output)

    def check_finite(self, norm, losses, batch, normalizers, step):
        """Raise FloatingPointError unless loss and gradient norm are finite; an fp16 overflow only counts as skipped.

        This is the one place where a step waits for the GPU besides the matching.
        """
        good_norm, good_loss = torch.stack([norm.isfinite(), losses["loss"].isfinite()]).tolist()
        overflow = good_loss and not good_norm and self.scaler.get_scale() > SMALLEST_SCALE  # which is 1 without fp16
        if not (good_norm and good_loss or overflow):
            names = [self.names(step, i) for i in range(len(batch))]
            raise FloatingPointError(explanation(self, losses, batch, normalizers, names, step))
        self.add({"gradient_norm": torch.zeros_like(norm) if overflow else norm})
        if self.scaler.is_enabled():
            self.add({"skipped": torch.tensor(float(overflow), device=self.device)})

    def add(self, values):
        """Add values to the averages of the log row that is being collected."""
        averages = self.progress.averages
        for name, value in values.items():
            averages[name] = averages.get(name, 0) + value.detach() / self.config.log_every

    def step_done(self, step):
        """Count a step."""
        self.speed.step_done(self.config.batch_size)
        self.progress.step = step

    def open_log(self):
        """log.jsonl, cut where the run goes on; process 0 writes."""
        log = RunLog(self.folder if rank() == 0 else None, self.progress.rows, self.config.tensorboard, self.step)
        self.progress.rows = log.kept
        return log

    def stamped(self, row):
        """A row of the log with step and seconds in front, counted."""
        self.progress.seconds = time.time() - self.started
        self.progress.rows += 1
        return {"step": self.step, "seconds": self.progress.seconds} | row

    def log_row(self):
        """The averages since the last row, with learning rate and speed; a new row begins."""
        row = {name: value.item() for name, value in mean_over_processes(self.progress.averages).items()}
        self.progress.averages = {}
        rate = max(group["lr"] for group in self.optimizer.param_groups)  # the backbone's may be smaller
        return self.stamped({"lr": rate} | row | self.speed.row())

    def evaluate(self, validation, log, progress):
        """Evaluate, log the figures, and keep the weights if they are the best so far (process 0 decides)."""
        validation = match_classes(validation, self.views.classes, *BOTH)  # by name, as check_data has checked
        results = evaluate(self.model, validation, self.config.evaluate_images, progress=progress)
        log.write(self.stamped(summary(results) if results else {}))
        if results and self.config.evaluate_every:
            value = deciding_figure(results, validation.classes)
            if self.progress.best is None or value > self.progress.best:
                self.progress.best = value
                save_checkpoint(self.model, self.folder / "best.safetensors",
                                extra={"step": str(self.step), "score": f"{value:.6f}"})
        return results

    def save(self):
        """Save a training checkpoint, and the model beside it."""
        self.progress.seconds = time.time() - self.started
        save_state(self.folder, self.parts, self.progress, self.facts)
        if rank() == 0:
            save_checkpoint(self.model, self.folder / "model.safetensors")


def wrap_model(model, device, config):
    """What runs the model in the loop: itself, or DistributedDataParallel around it, compiled on request."""
    runner = model
    if world_size() > 1:
        if device.type == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(model)  # a trained BatchNorm sees the whole batch; not on a CPU
        runner = DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None)
    return torch.compile(runner) if config.compile else runner


def check_batch_size(model, config):
    """ValueError for micro-batches that a trained BatchNorm cannot work on: one picture whose last map is one cell.
    """
    if any(isinstance(module, _BatchNorm) for module in model.modules()) and config.size <= COARSEST and \
            config.batch_size == config.accumulate * world_size():
        raise ValueError(f"BatchNorm takes the mean over a batch, and one picture of {config.size} x {config.size} has "
                         f"a single cell in the coarsest map: choose a size above {COARSEST}, or more than one picture "
                         f"for each process and micro-batch")


def check_folder(folder, resume):
    """Do not overwrite a run that can go on, and do not resume one that is done. A run that ended before its first save
    has nothing to lose: it may be started again."""
    waiting = state_files(folder)
    if not resume and any(not path.match("step_00000000.pt") for path in waiting):
        raise ValueError(f"{folder} holds a run that was interrupted: go on with --resume, or choose another folder, "
                         f"or delete this one")
    if resume and not waiting:
        if (folder / "model.safetensors").exists():
            raise ValueError(f"the run in {folder} is finished: there is nothing to resume")
        raise ValueError(f"there is nothing to resume in {folder}, which holds no training checkpoint: check its name, "
                         f"or leave out --resume to start a run")
