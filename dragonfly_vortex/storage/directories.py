"""Directories: made, locked against other processes, and written to the disk. Everything here blocks."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["locked", "make_directory", "sync_directory"]


def make_directory(directory: Path) -> None:
    """
    Make a directory and those above it, where they are not there, and write their names to the disk.

    :raises OSError: one cannot be made.
    """
    if not directory.is_dir():
        make_directory(directory.parent)
        directory.mkdir(exist_ok=True)
        sync_directory(directory.parent)


def sync_directory(directory: Path) -> None:
    """
    Write the names in a directory to the disk, where the file system can.

    :raises OSError: they could not be written.
    """
    descriptor = _open(directory)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # the answer of a file system that has no such thing
            raise
    finally:
        os.close(descriptor)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """
    Keep other processes and threads, those that ask in the same way, out of a directory.

    Waits for the one that has it; one that is killed lets go.

    :raises OSError: the directory is not there, or the file system has no locks.
    """
    descriptor = _open(directory)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _open(directory: Path) -> int:
    """A descriptor of the directory itself."""
    return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
