"""What a run leaves to be read: log.jsonl, TensorBoard's files on request, and how fast it went."""
import json
import sys
import time
import warnings

import torch

from ..system.files import disk_is_full, replacing, without_nan
from ..system.text import parse_json, printable


def read_log(path, warn=True):
    """The intact rows of a log.jsonl, a list of dicts of numbers, in order; a warning says which lines are damaged.

    A row is intact if it has a step and everything else in it is a number or None (Infinity and NaN included: they tell
    something). A missing file counts as empty.
    """
    rows, broken = [], []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    for number, line in enumerate(lines, start=1):
        try:
            row = parse_json(line, path, finite=False)
            whole = isinstance(row, dict) and isinstance(row.get("step"), int) and all(
                value is None or isinstance(value, (int, float)) for value in row.values())
        except ValueError:
            whole = False
        if whole:
            rows.append(row)
        else:
            broken.append(f"line {number} ({printable(line)[:30]} ...)")
    if broken and warn:
        warnings.warn(f"{path}: {len(broken)} of {len(lines)} lines are damaged and left out: "
                      f"{', '.join(broken[:5])}{' ...' * (len(broken) > 5)}", stacklevel=2)
    return rows


class RunLog:
    """log.jsonl of a folder, one dict per line; `rows` lines of an earlier part of the run are kept, later ones cut.

    Damaged ones among them are left out with a warning; `kept` says how many remain. folder None: a log that writes
    nothing, for all processes but the first. Raises ValueError if TensorBoard is asked for but not installed.
    """

    def __init__(self, folder, rows=0, tensorboard=False, step=0):
        self.file, self.board, self.kept = None, None, rows
        if folder is None:
            return
        self.path = folder / "log.jsonl"
        # if rows were lost, the count alone would keep rows that the run will write again
        kept = [row for row in read_log(self.path, warn=False) if row["step"] <= step][:rows] if rows else []
        if len(kept) < rows:
            warnings.warn(f"{self.path} has lost {rows - len(kept)} of the {rows} rows that were written before the "
                          f"checkpoint: they will be missing in the curves; the run itself goes on", stacklevel=3)
        self.kept = len(kept)
        with replacing(self.path) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
        if tensorboard:
            # what an interrupted run wrote after `step` is hidden
            self.board = writer_class()(folder / "tensorboard", purge_step=step + 1)
        self.file = open(self.path, "a", encoding="utf-8")

    def write(self, row):
        """Write one line of JSON, flushed at once (a kill loses nothing, a power cut may)."""
        if self.file is None:
            return
        row = {name: float(f"{value:.7g}") if isinstance(value, float) else value for name, value in row.items()}
        try:
            self.file.write(json.dumps(without_nan(row)) + "\n")
            self.file.flush()
        except OSError as error:
            full = "the disk is full, " * disk_is_full(self.path.parent, error)
            raise OSError(f"could not write {self.path}: {full}{error}") from error
        if self.board is not None:
            for name, value in row.items():
                if name != "step" and value is not None:
                    self.board.add_scalar(name, value, row["step"])

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for file in (self.file, self.board):
            if file is not None:
                file.close()


def writer_class():
    """TensorBoard's writer; ValueError if it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError("TensorBoard logging needs the package tensorboard (pip install tensorboard); log.jsonl is "
                         "written without it") from error
    return SummaryWriter


class Speed:
    """Images per second, the share of the time spent waiting for the loader, and memory, between two log rows.

    Only steps count, not evaluations and checkpoints.
    """

    def __init__(self, device):
        self.device = device
        self.reset()

    def reset(self):
        """Start the next row."""
        self.images, self.waited, self.spent = 0, 0.0, 0.0

    def fetch(self, batches, count):
        """The next `count` items of an iterator; a step begins here."""
        self.begun = time.perf_counter()
        try:
            items = [next(batches) for _ in range(count)]
        except (ValueError, OSError) as error:
            raise as_raised(error) from error
        self.waited += time.perf_counter() - self.begun
        return items

    def step_done(self, images):
        """A step of `count` images ends here."""
        self.spent += time.perf_counter() - self.begun
        self.images += images

    def row(self):
        """The figures since the last row; then start anew."""
        figures = {"images_per_second": self.images / self.spent, "data_wait": self.waited / self.spent,
                   "memory_gb": peak_memory(self.device) / 1e9}
        self.reset()
        return figures


def as_raised(error):
    """The error as a loader's process raised it: PyTorch puts that process's traceback into the text, before it."""
    before, mark, message = str(error).rpartition(f"\n{type(error).__name__}: ")
    return type(error)(message.rstrip()) if mark and "Original Traceback" in before else error


def peak_memory(device):
    """Peak memory in bytes: of the GPU, by PyTorch, or of the main memory, by this process (0 if unknown)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
