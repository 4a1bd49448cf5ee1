"""
What Linux can do with a file, and Python's own ``os`` cannot ask of it. Each is None where the C library or the kernel
does not have it.
"""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Callable

__all__ = ["SystemCall", "fallocate", "sync_file_range"]

SystemCall = Callable[[int, int, int, int], None]
"""Takes four numbers, of which the first is a descriptor; raises OSError."""


@functools.cache
def sync_file_range() -> SystemCall | None:
    """``sync_file_range(2)``: descriptor, offset, length, flags."""
    import ctypes

    return _from_c_library("sync_file_range", ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)


@functools.cache
def fallocate() -> SystemCall | None:
    """``fallocate(2)``: descriptor, mode, offset, length. Other than ``posix_fallocate``, it writes no zeros itself."""
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
