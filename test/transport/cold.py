"""Files that are on the disk and not in memory, for tests of what waits for a disk."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SkipTest

__all__ = ["cold_file", "drop", "is_resident", "make_cold", "make_hole"]


def drop(descriptor: int, offset: int = 0, length: int = 0) -> None:
    """Have the kernel forget what it has in memory of a file; 0 for up to its end."""
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, offset, length, os.POSIX_FADV_DONTNEED)


def is_resident(descriptor: int, offset: int) -> bool:
    """Whether a byte can be read without waiting."""
    try:
        os.preadv(descriptor, [bytearray(1)], offset, os.RWF_NOWAIT)
    except BlockingIOError:
        return False
    return True


def _was_resident(descriptor: int, offset: int) -> bool:
    """
    As :func:`is_resident`. The question itself has the kernel begin to read, and what is being read cannot be dropped:
    so no page behind it is wanted, and the page is waited for.
    """
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
    resident = is_resident(descriptor, offset)
    os.pread(descriptor, 1, offset)
    return resident


def make_hole(path: Path, offset: int, length: int) -> None:
    """
    Have all of a file in memory but a part.

    :raises SkipTest: the kernel keeps it.
    """
    with path.open("rb") as file:
        file.read()
        drop(file.fileno(), offset, length)
        if _was_resident(file.fileno(), offset + length // 2):
            raise SkipTest(f"this kernel does not forget {length} bytes at {offset} alone")
        drop(file.fileno(), offset, length)  # the question has had a page read


def cold_file(path: Path, length: int) -> bytes:
    """
    Write a file that is on the disk and not in memory.

    :raises SkipTest: the file system has none such.
    """
    content = os.urandom(length)
    path.write_bytes(content)
    make_cold(path)
    return content


def make_cold(path: Path) -> None:
    """
    Have nothing of a file in memory.

    :raises SkipTest: the file system cannot, or does not say.
    """
    middle = path.stat().st_size // 2
    descriptor = os.open(path, os.O_RDONLY)
    try:
        drop(descriptor)
        try:
            resident = _was_resident(descriptor, middle)
        except (OSError, AttributeError) as error:
            raise SkipTest(f"this file system does not tell what is in memory: {error}") from error
        if resident:
            raise SkipTest("this file system does not forget what is in memory")
        drop(descriptor)  # the question has had a page read
    finally:
        os.close(descriptor)
