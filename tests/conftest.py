"""For all tests: none leaves a process behind, for which Python would wait at its exit."""
import multiprocessing
import os
import tempfile
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def no_process_left():
    yield
    left = multiprocessing.active_children()
    for process in left:
        process.kill()
    assert not left, f"left behind: {', '.join(process.name for process in left)}"


@pytest.fixture
def quick_folder():
    """A folder in memory where there is one: a disk may take 50 ms to replace a file, which many writers do often."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        yield Path(folder)
