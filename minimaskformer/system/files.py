"""Files written whole or not at all, and folders that can be written to."""
import contextlib
import errno
import os
import shutil
import tempfile
from pathlib import Path

from safetensors import SafetensorError

os.umask(UMASK := os.umask(0o077))  # the only way to read it


@contextlib.contextmanager
def replacing(path):
    """Write a file by way of a temporary one that takes its place once it is complete and on the disk.

    So a kill, a power cut or a full disk leaves the old file. Raises OSError naming the path if writing fails.
    """
    path = Path(path)
    temporary = path.with_name(path.name + ".tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~UMASK)  # safetensors makes files readable only by their owner
        os.replace(temporary, path)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors raise their own for a full disk
        if "DataLoader worker" in str(error):  # raised by a signal handler, wherever we are
            raise
        kept = "; the earlier file of that name is intact" if path.exists() else ""
        full = "the disk is full, " * disk_is_full(path.parent, error)
        raise OSError(f"could not write {path}: {full}{error}{kept}") from error
    finally:
        temporary.unlink(missing_ok=True)
    if hasattr(os, "O_DIRECTORY"):  # the name itself must be on the disk too; Windows does that by itself
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def copy_file(source, target):
    """shutil.copyfile, but where the disk is full the OSError names the file that could not be written, not the source.
    """
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        if says_full(error):
            raise OSError(error.errno, error.strerror, str(target)) from error
        raise


def disk_is_full(folder, error):
    """Whether an error while writing to a folder comes from a full disk (or quota), which torch does not say."""
    return says_full(error) or isinstance(error, RuntimeError) and shutil.disk_usage(folder).free < 2**20


def says_full(error):
    """Whether an error says itself that a disk (or quota) is full."""
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)


def without_nan(results):
    """The same nested dicts and lists with None for nan, which JSON does not have."""
    if isinstance(results, dict):
        return {name: without_nan(value) for name, value in results.items()}
    if isinstance(results, list):
        return [without_nan(value) for value in results]
    return None if results != results else results


def write_text(path, text):
    """Write a text file so that an interruption leaves the old one or the new one, never half of one."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def save_png(picture, path):
    """Write a Pillow image as PNG so that an interruption leaves the old file or the new one, never half of one."""
    with replacing(path) as temporary:
        picture.save(temporary, "png")


def check_writable(folder):
    """Make a folder for results before the work begins; OSError with a remedy if that fails."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = "the disk is full" if disk_is_full(folder, error) else error.strerror
        raise OSError(f"cannot write to the folder {folder} ({reason}): choose another with --out") from error
