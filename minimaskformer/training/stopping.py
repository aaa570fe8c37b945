"""Stopping cleanly: signals wait for the end of the step, and no process of a loader is left behind (lesson 10)."""
import multiprocessing
import os
import signal
import threading
import time
from contextlib import contextmanager

from ..system.distributed import rank, world_size


class StopSignals:
    """While it is entered, Ctrl-C and SIGTERM set `asked`, and the loop ends after its step, with a checkpoint.

    Where `at_once` is set, and at a second Ctrl-C, they interrupt at once. (Not at a second one under torchrun, which
    passes on what the terminal has sent already.)
    """

    def __init__(self):
        self.asked, self.at_once, self.before = False, False, {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():  # only there Python allows it
            self.before = {s: signal.signal(s, self.handle) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *exception):
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def handle(self, number, frame):
        """What happens on a signal."""
        if self.at_once or (self.asked and number == signal.SIGINT and world_size() == 1):
            raise KeyboardInterrupt
        if not self.asked and rank() == 0:  # os.write, because print may be what has been interrupted
            os.write(2, b"\nstopping after this step, with a checkpoint; Ctrl-C again: at once, without\n")
        self.asked = True


def leave_signals_to_the_loop(worker):
    """For processes that load data: a Ctrl-C reaches them too, and their death would end the run before its step.

    Nobody tells them to end if the run is killed: they see it themselves, by a parent that is another, in a second.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=end_with, args=(parent.pid,), daemon=True).start()


def end_with(parent):
    """End this process when its parent has ended (on Windows the number stays: there torch's own check ends it)."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


@contextmanager
def ending_workers(batches):
    """The iterator of a DataLoader, whose processes end with the block, however it ends.

    An error's traceback keeps the iterator alive. At Python's exit its processes would be asked to stop with SIGTERM,
    which they ignore (`leave_signals_to_the_loop`), and Python would wait for them for ever.
    """
    try:
        yield batches
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise ChildProcessError(f"a process that loads data has ended ({str(error).splitlines()[0]}). Most often the "
                                f"memory was full: use fewer --workers or a smaller --batch-size; --resume goes on "
                                f"from the last checkpoint") from error
    finally:
        if hasattr(batches, "_shutdown_workers"):  # not public, but there is no other way; without workers not there
            batches._shutdown_workers()
