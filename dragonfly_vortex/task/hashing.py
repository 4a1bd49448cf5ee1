"""
The SHA-256 of a file that is still being written: of its first bytes, in order, as far as they are there.

A file that arrives in pieces has no order of its own, and SHA-256 has: so the file is read back in a thread, soon after
it was written, while the system still has its pages in memory.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol, TypeVar

from twisted.internet.defer import Deferred, DeferredLock
from twisted.python.failure import Failure

from dragonfly_vortex.storage.digest import Hasher, new_hash

__all__ = ["GrowingHash", "InThread", "hash_range"]

_T = TypeVar("_T")

_WINDOW = 1024 * 1024
"""Bytes that are read at a time."""

_STRETCH = 16 * 1024 * 1024
"""Bytes that are hashed before the reactor's thread hears of it."""


class InThread(Protocol):
    """A way to call a function in a thread: ``partial(deferToThreadPool, reactor, reactor.getThreadPool())``."""

    def __call__(self, function: Callable[[], _T], /) -> Deferred[_T]:
        """Call it. Fires, in the reactor's thread, with what it returns."""


class GrowingHash:
    """
    Hashes a file as it grows. It belongs to the reactor's thread, and never has more than one thread at work.

    :param descriptor: the file, open for reading; it stays open at least until :meth:`stop` has fired.
    :param in_thread: how to call a function in a thread.
    :param on_progress: called in the reactor's thread when some more has been hashed, or could not be.
    """

    def __init__(self, descriptor: int, in_thread: InThread, on_progress: Callable[[], None]) -> None:
        self.hashed = 0
        """Bytes that have been hashed."""
        self.length = 0
        """Bytes that are there to be hashed, from the first one on."""
        self.error: BaseException | None = None
        """Why there will be no digest: the file could not be read."""
        self._descriptor = descriptor
        self._in_thread = in_thread
        self._on_progress = on_progress
        self._hasher = new_hash("sha256")
        self._at_work = DeferredLock()
        self._is_stopped = False

    @property
    def waiting(self) -> int:
        """Bytes that are there and have not been hashed."""
        return self.length - self.hashed

    def grow(self, length: int) -> None:
        """
        Hash the file up to there.

        :param length: bytes from the first one on that will not change any more.
        """
        self.length = max(self.length, length)
        self._run()

    def start_anew(self) -> None:
        """Forget what has been hashed: it has changed, or will."""
        self.hashed = self.length = 0
        self._hasher = new_hash("sha256")

    def text(self) -> str:
        """The digest of what has been hashed, ``sha256:<hex>``."""
        return self._hasher.text()

    def stop(self) -> Deferred[None]:
        """Hash no more. Fires when no thread is at work."""
        self._is_stopped = True
        stopped: Deferred[None] = self._at_work.run(lambda: None)
        return stopped

    def _run(self) -> None:
        """Have the next stretch hashed, unless a thread is at work already."""
        if self._at_work.locked or self._is_stopped or self.error is not None or not self.waiting:
            return
        hasher, start, end = self._hasher, self.hashed, min(self.length, self.hashed + _STRETCH)
        done = self._at_work.run(self._in_thread, lambda: hash_range(hasher, self._descriptor, start, end))
        done.addBoth(self._ran, hasher, end)

    def _ran(self, result: Failure | None, hasher: Hasher, end: int) -> None:
        """A stretch has been hashed; it counts unless all has been forgotten meanwhile."""
        if isinstance(result, Failure):
            self.error = result.value
        elif hasher is self._hasher:
            self.hashed = end
        self._run()
        self._on_progress()


def hash_range(hasher: Hasher, descriptor: int, start: int, end: int) -> None:
    """
    Hash the bytes of a file from ``start`` up to ``end``, in this thread.

    :raises OSError: they cannot be read, or are not there.
    """
    window = memoryview(bytearray(min(_WINDOW, end - start)))
    at = start
    while at < end:
        got = os.preadv(descriptor, [window[: end - at]], at)
        if not got:
            raise OSError(f"expected {end} bytes in the file, got {at}")
        hasher.update(window[:got])
        at += got
