"""
The ballast: a file that reserves a little room in a storage, and is deleted when the disk is full.

To delete a task's rows SQLite writes to its log first, and without a peer it makes that log and an index. A disk
without any room would therefore never get some by ``remove``. Everything here blocks.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from dragonfly_vortex.storage.directories import open_file

__all__ = ["BALLAST_LENGTH", "drop_ballast", "keep_ballast"]

BALLAST_LENGTH = 256 * 1024
"""Bytes: SQLite's index has 32 KiB, and a page of 4 KiB in the log holds some 30 rows of pieces."""

_LEAST = 64 * 1024
"""Bytes that are enough for a task of few pieces."""


def keep_ballast(directory: Path) -> None:
    """
    Have a storage's ballast on the disk, or as much of it as there is room for.

    :param directory: the storage's directory, which is there.
    """
    path = _path(directory)
    with suppress(OSError):
        if path.exists() and path.stat().st_size == BALLAST_LENGTH:
            return
        descriptor = open_file(path)
        try:
            if not _allocate(descriptor):
                os.unlink(path)
        finally:
            os.close(descriptor)


def drop_ballast(directory: Path) -> None:
    """
    Give up a storage's ballast, if there is any.

    :param directory: the storage's directory.
    """
    with suppress(OSError):
        os.unlink(_path(directory))


def _allocate(descriptor: int) -> bool:
    """Make room for the ballast; False where there is not even a little."""
    length = BALLAST_LENGTH
    while length >= _LEAST:
        try:
            os.posix_fallocate(descriptor, 0, length)
        except OSError:
            length //= 2
        else:
            return True
    return False


def _path(directory: Path) -> Path:
    """Where the ballast is."""
    return directory / "ballast"
