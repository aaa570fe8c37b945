"""Stopping cleanly: signals wait for the end of the step, and no loader process is left behind (lesson 10)."""
import multiprocessing
import os
import signal
import threading
import time
from contextlib import contextmanager

from ..system.distributed import rank, world_size


class StopSignals:
    """Inside this context Ctrl-C and SIGTERM set `asked`, and the loop ends after its step, with a checkpoint.

    If `at_once` is set, and at a second Ctrl-C, they interrupt at once. (Not at a second one under torchrun, which
    repeats the signal that the terminal has already sent.)
    """

    def __init__(self):
        self.asked, self.at_once, self.before = False, False, {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():  # Python allows it only there
            self.before = {s: signal.signal(s, self.handle) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *exception):
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def handle(self, number, frame):
        """What happens on a signal."""
        if self.at_once or (self.asked and number == signal.SIGINT and world_size() == 1):
            raise KeyboardInterrupt
        if not self.asked and rank() == 0:  # os.write, because print may be what was interrupted
            os.write(2, b"\nstopping after this step, with a checkpoint; Ctrl-C again: at once, without\n")
        self.asked = True


def leave_signals_to_the_loop(worker):
    """For processes that load data: Ctrl-C reaches them too, and their death would end the run before its step does.

    If the run is killed nobody tells them to end: they notice within a second that their parent has changed.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=end_with, args=(parent.pid,), daemon=True).start()


def end_with(parent):
    """End this process when its parent has ended (on Windows the parent's id stays; torch's own check works there)."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


@contextmanager
def ending_workers(batches):
    """The iterator of a DataLoader, whose processes end with the block, however it ends.

    An error's traceback keeps the iterator alive. At exit Python would ask its processes to stop with SIGTERM, which
    they ignore (`leave_signals_to_the_loop`), and would wait for them forever.
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
        if hasattr(batches, "_shutdown_workers"):  # not public, but there is no other way; absent without workers
            batches._shutdown_workers()
