"""The frame of gpu.py: parts that are timed, capped and caught, and one file with what all of them found."""
import json
import os
import signal
import statistics
import subprocess
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

import torch

ROOT = Path(__file__).parent.parent


class OutOfTime(Exception):
    """A part took longer than it may. No OSError, as TimeoutError is: the library explains those."""


class Bench:
    """Where and how large: a CUDA GPU in earnest, a CPU in tiny."""

    def __init__(self, tiny, out, seconds):
        self.tiny, self.out, self.end = tiny, out, time.time() + seconds * (100 if tiny else 1)
        self.device = torch.device("cpu" if tiny else "cuda")
        self.preset, self.side, self.batch, self.steps = ("mini", 64, 2, 2) if tiny else ("r50", 512, 16, 20)
        self.workers = 0 if tiny else min(12, os.cpu_count() - 2)
        self.rows = {}

    def wait(self):
        """Until the GPU has done all it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def timed(self, step, count=None):
        """Median seconds of a step that is waited for, and the most memory it held."""
        for _ in range(1 if self.tiny else 3):
            step()
        self.wait()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        seconds = []
        for _ in range(count or self.steps):
            start = time.perf_counter()
            step()
            self.wait()
            seconds.append(time.perf_counter() - start)
        row = {"seconds": statistics.median(seconds)}
        if self.device.type == "cuda":
            row["peak_MiB"] = torch.cuda.max_memory_allocated() // 2**20
        return row

    def waits(self, step):
        """How often the host waits for the GPU in a step, and at which lines."""
        if self.device.type != "cuda":
            return {}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                step()
            finally:
                torch.cuda.set_sync_debug_mode("default")
        lines = [(Path(w.filename), w.lineno) for w in caught if "synchroniz" in str(w.message)]
        places = [f"{path.parent.name}/{path.name}:{number}" for path, number in lines]
        return {"host_synchronisations": len(places), "where": sorted(set(places))}


def run(command, seconds):
    """A command in the repository, stopped as Ctrl-C would when its time is over."""
    def listen():  # what runs in the background of a shell is started deaf to Ctrl-C, and so are its children
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, preexec_fn=listen if os.name == "posix" else None) as process:
        try:
            out, error = process.communicate(timeout=max(1, seconds))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            try:
                out, error = process.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                out, error = process.communicate()
    return subprocess.CompletedProcess(command, process.returncode, out, error)


@contextmanager
def at_most(seconds):
    """Raise OutOfTime in here after so many seconds (where the system has alarms)."""
    def ring(*_):
        raise OutOfTime(f"took more than {seconds:.0f} s")
    if hasattr(signal, "SIGALRM"):
        before = signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, max(1, seconds))
    try:
        yield
    finally:
        if hasattr(signal, "SIGALRM"):
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def measure(b, name, part, cap):
    """Run one part and keep what it found, or why it did not."""
    start, left = time.time(), b.end - time.time()
    try:
        if left < 15:
            raise OutOfTime("no time was left")
        with at_most(left if b.tiny else min(cap, left)):
            row = part(b)
    except Exception as error:  # any: the other parts are worth having
        row = {"error": f"{type(error).__name__}: {error}"[:1500]}
    if b.device.type == "cuda":
        torch.cuda.empty_cache()
    b.rows[name] = row | {"took": round(time.time() - start, 1)}
    print(json.dumps({name: b.rows[name]}), flush=True)
    (b.out / "gpu.json").write_text(json.dumps(b.rows, indent=1))
