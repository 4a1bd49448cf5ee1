"""Room on the disk for what will be written to a file."""

from __future__ import annotations

import errno
import os

from dragonfly_vortex.system_calls import fallocate

__all__ = ["allocate"]

_KEEP_SIZE = 1
"""The flag of fallocate(2), from ``include/uapi/linux/falloc.h``: the file does not become longer."""


def allocate(descriptor: int, start: int, end: int) -> None:
    """
    Have the file system set room aside for a range of a file. The file is as long as before, what it holds does not
    change, and room that is behind its end goes when it is truncated. Blocks.

    :param descriptor: the file, open for writing.
    :param start: of the range, in bytes.
    :param end: behind it.
    :raises OSError: there is none, or not as much again for others, or the system does not do it.
    """
    call = fallocate()
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    disk = os.fstatvfs(descriptor)
    # Where there is too little, ext4 gives the file all that there is before it says so: others could write nothing.
    if disk.f_bavail * disk.f_frsize < 2 * (end - start):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    call(descriptor, _KEEP_SIZE, start, end - start)
