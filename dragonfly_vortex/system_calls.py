"""
System calls that not every kernel, file system and sandbox has: which errors say that a call is refused, and the calls
that Python's own ``os`` does not offer, or offers in a form that can be refused. And a setting of the C library.

Callers of such a call pass its error to :func:`is_refused`, and then do without the call.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
from collections.abc import Callable

__all__ = ["SystemCall", "fallocate", "is_refused", "keep_freed_memory", "reason_of", "sync_file_range"]

SystemCall = Callable[[int, int, int, int], None]
"""Takes four numbers, of which the first is a descriptor; raises OSError."""

_REFUSALS = frozenset({errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTTY})
"""
EPERM is what the seccomp filters of containers answer to a call that they do not know, EACCES what AppArmor answers,
ENOSYS a kernel (and newer filters), EOPNOTSUPP and ENOTTY a file system.
"""


def is_refused(error: OSError, *others: int) -> bool:
    """
    Return whether an error means that a call is refused here, and not that it failed.

    :param others: further error numbers that mean so for this call, like EINVAL for sendfile(2).
    """
    return error.errno in _REFUSALS or error.errno in others


@functools.cache
def sync_file_range() -> SystemCall | None:
    """``sync_file_range(2)``: descriptor, offset, length, flags. None where there is none."""
    import ctypes

    return _from_c_library("sync_file_range", ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)


@functools.cache
def fallocate() -> SystemCall | None:
    """
    ``fallocate(2)``: descriptor, mode, offset, length. Unlike ``posix_fallocate``, it writes no zeros itself. None
    where there is none.
    """
    import ctypes

    return _from_c_library("fallocate", ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


def _from_c_library(name: str, *types: object) -> SystemCall | None:
    """A function of the C library, tried."""
    import ctypes  # costs a start-up more than all of this module, and is needed in the middle of a download

    try:
        function = getattr(ctypes.CDLL(None, use_errno=True), name)
    except (OSError, AttributeError):
        return None
    function.argtypes = types

    def call(*numbers: int) -> None:
        if function(*numbers):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    try:
        call(-1, 0, 0, 1)
    except OSError as error:
        if error.errno != errno.EBADF:  # which is right: there is no file -1
            return None
    return call


_KEPT = 16 * 1024 * 1024 - 64 * 1024
"""Bytes of the longest block whose memory is kept; glibc allows up to 32 MiB."""


@functools.cache
def keep_freed_memory() -> None:
    """
    Have the C library, where it is glibc with limits as they were, use the memory of freed blocks of MiB again.

    It would soon give that memory back to the system, which has to clear each page of the next block then. Its limits
    grow with the longest block that was freed (mallopt(3), ``M_MMAP_THRESHOLD``): so one is made, which takes no memory
    as nothing is written to it, and freed. Each thread's memory keeps up to twice as much then.
    """
    with contextlib.suppress(MemoryError):  # a narrow limit of this process: then it stays as it is
        bytes(_KEPT)


def reason_of(error: BaseException) -> str:
    """
    Why something failed, in the system's words and without its number.

    :param error: what failed. An :class:`OSError` gives its ``strerror``, followed by the file that it names; any other
        error its message.
    """
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error)
    return error.strerror if error.filename is None else f"{error.strerror}: {error.filename}"
