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

MOST = 4  # processes; each needs about a gigabyte, and the kernel of a lesson another
LESSONS = "07 11 08 12 10 05 09 06 01 03 04 02 00".split()  # from long to short
FILES = ["training/test_resume.py", "exercises/test_core.py", "test_train.py", "test_swin.py"]  # the long ones

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, here and in kernels: more threads would fight
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


def pytest_collection_modifyitems(items):
    """Each lesson and each test file stays in one process, in its own order; solved lessons are spread one by one."""
    for item in items:
        place = item.nodeid if solved(item) else item.nodeid.partition("::")[0]
        item.add_marker(pytest.mark.xdist_group(place))
    items.sort(key=turn)


def turn(item):
    """Where an item stands in the queue: the lessons, the long test files, the others as they were."""
    lesson = item.path.stem[:2] if item.path.suffix == ".ipynb" else solved(item)
    if lesson in LESSONS:
        return LESSONS.index(lesson)
    name = item.path.as_posix()
    return len(LESSONS) + next((i for i, end in enumerate(FILES) if name.endswith(end)), len(FILES))


def solved(item):
    """The lesson that a test runs with all solutions, such as "07", or None."""
    return item.callspec.id if getattr(item, "originalname", "") == "test_runs_solved_under_strict_checks" else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    with STARTING if item.path.suffix == ".ipynb" else contextlib.nullcontext():
        return (yield)


@pytest.fixture(scope="session")
def one_kernel_starts():
    """A lock to hold while a kernel starts."""
    return STARTING
