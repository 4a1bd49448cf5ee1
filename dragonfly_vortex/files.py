"""
Reads and writes a whole range of a file, since one system call may do a part only; and makes memory that processes
share: a file without a name whose descriptor they inherit.
"""

from __future__ import annotations

import errno
import os
import sys

from dragonfly_vortex.system_calls import is_refused

__all__ = ["read_at", "read_exactly", "shared_memory", "write_all"]


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


def read_at(descriptor: int, buffer: memoryview, offset: int) -> int:
    """
    Read from a place in a file into memory that is there.

    That is ``os.preadv``; but Python calls preadv2(2) for it, which filters that are older than this call refuse. Then
    it is pread(2), and a copy.

    :param buffer: as many bytes are asked for.
    :param offset: in the file, in bytes.
    :returns: how many bytes were read; 0 at the end of the file.
    :raises OSError: the file cannot be read.
    """
    if hasattr(os, "preadv"):
        try:
            return os.preadv(descriptor, [buffer], offset)
        except OSError as error:
            if not is_refused(error):
                raise
    data = os.pread(descriptor, len(buffer), offset)
    buffer[: len(data)] = data
    return len(data)


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


def shared_memory(name: str, content: bytes) -> int:
    """
    Make shared memory. The kernel frees it when no process has its descriptor or a mapping of it any more.

    :param name: shown in ``/proc``.
    :param content: what is in it at first; it stays as long as that.
    :returns: the descriptor.
    """
    descriptor = _memory_file(name)
    if descriptor is None:
        import tempfile  # which takes long to load

        descriptor, path = tempfile.mkstemp(prefix=f"{name}-")
        os.unlink(path)
    write_all(descriptor, content)
    return descriptor


def _memory_file(name: str) -> int | None:
    """A file that is in memory alone; None where there is none."""
    if sys.platform != "linux":
        return None
    try:
        return os.memfd_create(name)
    except OSError as error:
        if not is_refused(error):
            raise
        return None
