"""No test leaves a process behind: Python would wait for it at its exit."""
import multiprocessing

import pytest


@pytest.fixture(autouse=True)
def no_process_left():
    yield
    left = multiprocessing.active_children()
    for process in left:
        process.kill()
    assert not left, f"left behind: {', '.join(process.name for process in left)}"
