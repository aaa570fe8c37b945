"""The tests run many small models: one thread is enough, and on a busy machine several cost five times the time."""
import multiprocessing
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported


def pytest_sessionfinish(session):
    """A process that a test leaves behind fails the run, here and now: Python would wait for it at its exit."""
    left = multiprocessing.active_children()
    for process in left:
        process.kill()
    if left:
        print(f"\nprocesses left behind by a test: {', '.join(process.name for process in left)}")
        session.exitstatus = session.exitstatus or 1
