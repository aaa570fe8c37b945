"""How tests and lessons are run: on several cores, the longest first, with one thread a process.

`pytest` runs the tests, `pytest --nbval` the lessons too. `-n 0` keeps everything in one process.
"""
import contextlib
import os
import shutil
import tempfile
from pathlib import Path

import filelock
import pytest
from xdist.scheduler import LoadFileScheduling

collect_ignore = ["my_lessons"]  # the learner's own
MOST = 4  # processes; each needs about a gigabyte, and the kernel of a lesson another
LESSONS = "07 11 08 12 10 05 13 09 06 01 03 04 02 00".split()  # from long to short
SOLVED = "test_runs_solved_under_strict_checks"  # runs a lesson with all solutions
FILES = ["training/test_resume.py", "exercises/test_core.py", "test_train.py", "test_swin.py"]  # the long ones

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, here and in kernels: more threads would fight
os.environ.setdefault("MINIMASKFORMER_QUICK", "1")  # lesson 13 trains for four steps instead of for five minutes
FIRST = "PYTEST_XDIST_WORKER" not in os.environ
if FIRST:  # nobody's progress through the exercises, not yours
    os.environ["MINIMASKFORMER_HOME"] = tempfile.mkdtemp(prefix="minimaskformer_")
HOME = Path(os.environ["MINIMASKFORMER_HOME"])
STARTING = filelock.FileLock(HOME / "a_kernel_starts.lock")  # one at a time: two could choose the same ports


def pytest_unconfigure():
    if FIRST:
        shutil.rmtree(HOME, ignore_errors=True)


def pytest_xdist_auto_num_workers(config):
    """As many processes as cores, up to four; a test file by itself starts none."""
    if len(config.args) == 1 and ".py" in config.args[0]:
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MOST) if cores > 1 else 0


class ByFile(LoadFileScheduling):
    """Each lesson and each test file stays in one process, in its own order; solved lessons are spread one by one."""

    def _split_scope(self, nodeid):
        return nodeid if SOLVED in nodeid else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config, log):
    return ByFile(config, log)


def pytest_collection_modifyitems(items):
    items.sort(key=turn)


def turn(item):
    """Where an item stands in the queue: lessons, unsolved and solved, then long test files, then the others."""
    lesson = item.path.stem[:2] if item.path.suffix == ".ipynb" else item.name.partition(SOLVED)[2].strip("[]")
    if lesson in LESSONS:
        return LESSONS.index(lesson)
    name = item.path.as_posix()
    return len(LESSONS) + next((i for i, end in enumerate(FILES) if name.endswith(end)), len(FILES))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    with STARTING if item.path.suffix == ".ipynb" else contextlib.nullcontext():
        return (yield)


@pytest.fixture(scope="session")
def one_kernel_starts():
    """A lock to hold while a kernel starts."""
    return STARTING
