"""
Locks between processes, and between two owners in one process. They belong to an open file, and the kernel frees them
when it is closed or the process ends, by ``kill -9`` too. Everything here blocks at most as long as another owner has
the lock.

Linux has two kinds of them, ``flock`` and ``F_OFD_SETLK``, and a sandbox or a file system may refuse either. One is
enough. A lock is taken in both ways where that is possible: so processes exclude each other although the sandbox of one
of them refuses what the other one uses. POSIX's own locks (``F_SETLK``) would not do: they belong to the process and
not to the open file, and are lost when the process closes any descriptor of that file.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import sys

from dragonfly_vortex.system_calls import is_refused

__all__ = [
    "HAS_RANGES",
    "is_byte_locked",
    "is_lock_refused",
    "lock_byte",
    "lock_shared_or_alone",
    "no_locks",
    "try_lock",
]

HAS_RANGES = sys.platform == "linux" and hasattr(fcntl, "F_OFD_SETLK")
"""Whether the platform has locks of an open file's bytes."""

_LOCK = struct.Struct("hhqqi4x")
"""Linux's ``struct flock``: type, whence, start, length, and no process."""

_WHOLE = 1 << 40
"""The byte that stands for a whole file."""


def try_lock(descriptor: int, *, shared: bool = False, in_all_ways: bool = False) -> bool:
    """
    Lock an open file, unless another owner has locked it.

    :param descriptor: open for writing too, unless the lock is shared.
    :param shared: whether others may lock it in the same way.
    :param in_all_ways: be sure that no owner has it locked, in whichever way.
    :returns: whether it is locked. If not, some part of the lock may be held until the file is closed.
    :raises OSError: there are no locks; for ``in_all_ways``, one kind is refused.
    """
    has_flock = has_bytes = False
    try:
        if not lock_shared_or_alone(descriptor, shared=shared):
            return False
        has_flock = True
    except OSError as error:
        if in_all_ways or not is_lock_refused(error):
            raise
    if HAS_RANGES:
        try:
            if not lock_byte(descriptor, fcntl.F_RDLCK if shared else fcntl.F_WRLCK, _WHOLE):
                return False
            has_bytes = True
        except OSError as error:
            if in_all_ways or not is_lock_refused(error):
                raise
    if not (has_flock or has_bytes):
        raise no_locks()
    return True


def lock_shared_or_alone(descriptor: int, *, shared: bool) -> bool:
    """
    Lock an open file by ``flock``; False if another owner has locked it.

    :param shared: whether others may lock it in the same way. An owner can change that of its own lock.
    :raises OSError: it is refused.
    """
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock_byte(descriptor: int, kind: int, start: int) -> bool:
    """
    Lock or unlock one byte of an open file by ``F_OFD_SETLK``; False if another owner has it locked.

    :param kind: ``F_RDLCK`` to share it, ``F_WRLCK`` to have it alone, ``F_UNLCK`` to give it up.
    :param start: which byte; the file need not be as long.
    :raises OSError: it is refused.
    """
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _LOCK.pack(kind, os.SEEK_SET, start, 1, 0))
    except BlockingIOError:
        return False
    return True


def is_byte_locked(descriptor: int, start: int) -> bool:
    """
    Return whether another owner has locked one byte of an open file, alone or with others.

    :param start: which byte.
    :raises OSError: it is refused.
    """
    answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, 1, 0))
    kind, *_ = _LOCK.unpack(answer)
    return bool(kind != fcntl.F_UNLCK)


def is_lock_refused(error: OSError) -> bool:
    """
    Whether a kind of lock cannot be had here: of an old kernel it is EINVAL, of a file system ENOLCK, and of a file
    that is not open for writing EBADF.
    """
    return is_refused(error, errno.EINVAL, errno.ENOLCK, errno.EBADF)


def no_locks() -> OSError:
    """The error for a place where both kinds of locks are refused."""
    return OSError(errno.ENOLCK, "expected flock or F_OFD_SETLK, both are refused here")
