"""Reads and writes a whole range of a file; one system call may do a part only."""

from __future__ import annotations

import errno
import os

from dragonfly_vortex.system_calls import read_at

__all__ = ["read_exactly", "write_all"]


def read_exactly(descriptor: int, buffer: memoryview, offset: int) -> None:
    """
    Fill a buffer from a place in a file. Blocks.

    :param buffer: as long as the range.
    :param offset: of the range in the file, in bytes.
    :raises OSError: the file cannot be read, or ends before the range does.
    """
    done = 0
    while done < len(buffer):
        length = read_at(descriptor, buffer[done:], offset + done)
        if not length:
            raise OSError(errno.EIO, f"expected {len(buffer)} bytes at {offset}, got {done}")
        done += length


def write_all(descriptor: int, data: bytes | memoryview, offset: int | None = None) -> None:
    """
    Write all of the data to a file. Blocks.

    :param offset: in the file, in bytes; None: where the descriptor is.
    :raises OSError: it cannot be written; some of it may have been.
    """
    left = memoryview(data)
    while left:
        written = os.write(descriptor, left) if offset is None else os.pwrite(descriptor, left, offset)
        if not written:  # no file should do so; going on would never end
            raise OSError(errno.EIO, f"expected to write {len(left)} bytes, none were taken")
        left = left[written:]
        if offset is not None:
            offset += written
