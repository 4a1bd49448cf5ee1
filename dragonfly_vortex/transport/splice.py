"""
Moves content from a socket to a file inside the kernel (splice(2)), without a copy into this process. The bytes to be
hashed are read back from the file through a small window, which stays in the processor's cache.

The kernel needs a pipe between socket and file. One is enough for all connections, because each call leaves it empty.
So if nothing was moved the socket was empty, not the pipe full.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from typing import NamedTuple

from twisted.internet.error import ConnectionLost

from dragonfly_vortex.files import read_exactly, write_all
from dragonfly_vortex.model import FilePlace
from dragonfly_vortex.system_calls import is_refused

__all__ = ["Splicer"]

_PIPE_LENGTH = 1024 * 1024
"""Bytes that the pipe is to hold: as many as every user of Linux may ask for. With its own 64 KiB nothing is gained."""

_WINDOW = 64 * 1024
"""Bytes that are read back at a time. More of them fall out of the processor's cache."""


class Splicer:
    """
    Moves bytes from sockets to files. The pipe is made when it is first needed, and kept until :meth:`close`.

    Where it cannot be done, a socket always seems to hold nothing: then it is read in the ordinary way.
    """

    def __init__(self) -> None:
        self._pipe: _Pipe | None = None
        self._window = bytearray()

    def move(self, socket: int, place: FilePlace, length: int) -> int:
        """
        Put the next bytes that a socket holds into a file.

        :param socket: the descriptor of a socket that does not block.
        :param length: bytes to move at the most.
        :returns: how many were moved; 0 where the socket holds none now, or is at its end.
        :raises ConnectionLost: the connection has failed. A socket reports that only once.
        :raises OSError: the file does not take them. They are lost then.
        """
        if self._pipe is None:
            self._pipe = _open_pipe()
        if self._pipe is None:
            return 0
        taken = _take(socket, self._pipe, length)
        try:
            _put(self._pipe, place, taken)
        except BaseException:
            self.close()  # with the bytes that it still holds
            raise
        return taken

    def read_back(self, place: FilePlace, length: int) -> Iterator[memoryview]:
        """
        Read back the bytes that have been moved to the file.

        :param place: of the first byte.
        :param length: how many bytes.
        :returns: the bytes in parts; each is good until the next.
        :raises OSError: they cannot be read, or are not there any more.
        """
        if not self._window:
            self._window = bytearray(_WINDOW)
        window = memoryview(self._window)
        for start in range(0, length, _WINDOW):
            part = window[: length - start]
            read_exactly(place.descriptor, part, place.offset + start)
            yield part

    def close(self) -> None:
        """Close the pipe, if there is one. The next bytes to be moved open another."""
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            os.close(pipe.entrance)
            os.close(pipe.exit)


class _Pipe(NamedTuple):
    """The descriptors of a pipe's two ends."""

    exit: int
    entrance: int


def _open_pipe() -> _Pipe | None:
    """A pipe that does not block; None where there is no splice, or no descriptor left."""
    if not hasattr(os, "splice"):
        return None
    try:
        pipe = _Pipe(*os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError:
        return None
    with contextlib.suppress(OSError):  # more than this user may have: it stays as it is
        fcntl.fcntl(pipe.entrance, fcntl.F_SETPIPE_SZ, _PIPE_LENGTH)
    return pipe


def _take(socket: int, pipe: _Pipe, length: int) -> int:
    """Take up to so many bytes from a socket into a pipe that is empty; how many."""
    try:
        return os.splice(socket, pipe.entrance, length, flags=os.SPLICE_F_NONBLOCK)
    except BlockingIOError:
        return 0
    except OSError as error:
        if _cannot_splice(error):
            return 0
        raise ConnectionLost(error.strerror) from error


def _put(pipe: _Pipe, place: FilePlace, length: int) -> None:
    """Put all that is in a pipe into a file; copied, where the file system cannot do without."""
    descriptor, offset = place
    end = offset + length
    try:
        while offset < end:
            put = os.splice(pipe.exit, descriptor, end - offset, offset_dst=offset)
            if not put:  # no file should do so; going on would never end
                raise OSError(errno.EIO, f"expected to write {end - offset} bytes, none were taken")
            offset += put
    except OSError as error:
        if not _cannot_splice(error):
            raise
        while offset < end:
            data = os.read(pipe.exit, end - offset)
            write_all(descriptor, data, offset)
            offset += len(data)


def _cannot_splice(error: OSError) -> bool:
    """Whether a kernel, a socket or a file system does not do it, or not now."""
    return is_refused(error, errno.EINVAL, errno.ENOMEM)
