"""Locks that the operating system frees when their process ends, however it ends.

On Linux and macOS a record lock (fcntl), which belongs to one process: the data-loading processes it starts do not keep
it alive. Network file systems that can lock at all (NFS from version 4 on) share such locks between machines; if a file
system cannot lock, work goes on without a lock, and one line says so.
"""
import contextlib
import errno
import functools
import os
import socket
import threading
import time
from pathlib import Path

from .text import printable

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
    import msvcrt
BYTE = 2**30  # the byte that is locked: far beyond the text, which others may read
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}  # what such a file system says
HELD = set()  # folders that this process holds
TURN = threading.Lock()  # the lock of a file keeps other processes out, not the threads of one


def lock_file(file):
    """Lock an open file; BlockingIOError if another process holds it, another OSError where there are no locks."""
    try:
        if fcntl:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, BYTE)
        else:
            file.seek(BYTE)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    except PermissionError as error:  # some systems raise this instead
        raise BlockingIOError(error.errno, error.strerror) from error


def open_locked(path):
    """The file of that name, locked, saying who we are; BlockingIOError if another process holds it."""
    while True:
        file = open(path, "a+", encoding="utf-8")
        try:
            lock_file(file)
            if is_file_of(file, path):
                file.truncate(0)
                file.write(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%F %T')}")
                file.flush()
                return file
        except BaseException:
            file.close()
            raise
        file.close()  # its owner removed it just now: it is no longer the file of that name


def is_file_of(file, path):
    """Whether an open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def unlock(file, path):
    """Free a lock and remove its file."""
    if fcntl:
        path.unlink(missing_ok=True)  # while we hold it, so that it is certainly ours
        file.close()
    else:
        file.close()
        with contextlib.suppress(OSError):  # another process has it open
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def only_run_in(folder):
    """Keep others from training in this folder meanwhile; ValueError naming process and host if one already does.

    Entered again from the same thread it does nothing. Of several processes of one run the first takes the lock.
    """
    from .distributed import rank, say_once  # not above: the exercises' record needs no torch
    folder = Path(folder).resolve()
    key, path = (folder, threading.get_ident()), folder / "run.lock"
    if rank() != 0 or key in HELD:
        yield
        return
    if any(held == folder for held, _ in HELD):
        raise ValueError(f"another thread of this process trains in {folder}: choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        file = open_locked(path)
    except BlockingIOError as error:
        owner = printable(path.read_text(encoding="utf-8")) if path.exists() else ""
        raise ValueError(f"{folder} is in use, by {owner or 'another process'} ({error.strerror}): choose another "
                         f"folder, or end that process first") from None
    except OSError as error:
        say_once(f"note: {folder} cannot be locked ({error.strerror}): nothing keeps a second process out of it")
        file = None
    HELD.add(key)
    try:
        yield
    finally:
        HELD.discard(key)
        if file is not None:
            unlock(file, path)


def alone_in_its_folder(train):
    """A function (model, dataset, validation, config, folder, ...) that holds the folder's lock while it runs."""
    @functools.wraps(train)
    def locked(model, dataset, validation, config, folder, *arguments, **options):
        with only_run_in(folder):
            return train(model, dataset, validation, config, folder, *arguments, **options)
    return locked


@contextlib.contextmanager
def taking_turns(path, seconds=60):
    """Let processes and threads change a file one at a time; TimeoutError if no turn comes in time.

    path: of the lock, beside the file. Gives False if the file system has no locks: then nothing keeps others out.
    A process that has ended holds no turn; one that is suspended does, and going on would lose what it writes.
    """
    with TURN:
        file, end = None, time.monotonic() + seconds
        while file is None:
            try:
                file = open_locked(path)
            except BlockingIOError:
                if time.monotonic() > end:
                    owner = printable(path.read_text(encoding="utf-8")) if path.exists() else ""
                    raise TimeoutError(f"{owner or 'another process'} has held {path} for {seconds:g} s: end or "
                                       f"continue that process, then try again") from None
                time.sleep(0.01)
            except OSError as error:
                if error.errno not in NO_LOCKS:  # such as a folder that cannot be written: the caller will say so
                    raise
                break
        try:
            yield file is not None
        finally:
            if file is not None:
                unlock(file, path)
