"""
The SHA-256 of a file that is still being written: of its first bytes, in order, as far as they are there.

A file that arrives in pieces has no order of its own, and SHA-256 has: so the file is read back in a thread, soon after
it was written, while the system still has its pages in memory.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure

from dragonfly_vortex.interfaces import InThread
from dragonfly_vortex.storage.digest import Hasher, new_hash

__all__ = ["GrowingHash", "InThread", "hash_range"]

_WINDOW = 1024 * 1024
"""Bytes that are read at a time."""

_STRETCH = 8 * 1024 * 1024
"""Bytes that are hashed before the reactor's thread hears of it."""

_THREADS = 2
"""One that hashes, and one that waits for it. A thread that is asked only when the other has ended is idle for a turn
of the reactor each time, which with the dearest part of a download is seen."""


class GrowingHash:
    """
    Hashes a file as it grows. It belongs to the reactor's thread. One thread hashes at a time; a second one waits for
    it, to go on where it ends without asking the reactor, which is busy.

    :param descriptor: the file, open for reading; it stays open at least until :meth:`stop` has fired.
    :param in_thread: how to call a function in a thread: in the order in which it is asked, or several at once.
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
        self._last: _Stretch | None = None  # that a thread has been asked to hash
        self._at_work = 0
        self._stopped: list[Deferred[None]] = []  # who waits for the end
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
        self._last = None

    def text(self) -> str:
        """The digest of what has been hashed, ``sha256:<hex>``."""
        return self._hasher.text()

    def stop(self) -> Deferred[None]:
        """Hash no more. Fires when no thread is at work."""
        self._is_stopped = True
        stopped: Deferred[None] = Deferred()
        self._stopped.append(stopped)
        self._mind_the_end()
        return stopped

    def _run(self) -> None:
        """Have the next stretches hashed, unless enough threads are at work already."""
        while self._at_work < _THREADS and not self._is_stopped and self.error is None:
            start = 0 if self._last is None else self._last.end
            if start >= self.length:
                return
            end = min(self.length, start + _STRETCH)
            stretch = self._last = _Stretch(self._hasher, self._descriptor, start, end, self._last)
            self._at_work += 1
            maybeDeferred(self._in_thread, stretch.hash).addBoth(self._ran, stretch)  # there may be no thread to be had

    def _ran(self, result: Failure | None, stretch: _Stretch) -> None:
        """A stretch has been hashed; it counts unless all has been forgotten meanwhile."""
        self._at_work -= 1
        if stretch.hasher is self._hasher:
            if isinstance(result, Failure):
                self.error = self.error or result.value
            else:  # the second of two may be heard of first: it is right only if the one before was
                self.hashed = max(self.hashed, stretch.end)
        self._run()
        self._mind_the_end()
        self._on_progress()

    def _mind_the_end(self) -> None:
        if self._is_stopped and not self._at_work:
            stopped, self._stopped = self._stopped, []
            for waiting in stopped:
                waiting.callback(None)


class _Stretch:
    """
    A part of a file, behind the one that is hashed before it.

    :param before: None where it is the first.
    """

    def __init__(self, hasher: Hasher, descriptor: int, start: int, end: int, before: _Stretch | None) -> None:
        self.hasher = hasher
        self.end = end
        self._descriptor = descriptor
        self._start = start
        self._before = before
        self._is_over = threading.Event()
        self._is_right = False

    def hash(self) -> None:
        """
        In a thread: wait for the stretch before, and hash this one.

        :raises OSError: it cannot be read, or the one before could not be.
        """
        try:
            before, self._before = self._before, None  # or all of them would be kept
            if before is not None and not before.wait():
                raise OSError(f"the bytes before {self._start} cannot be read")
            hash_range(self.hasher, self._descriptor, self._start, self.end)
            self._is_right = True
        finally:
            self._is_over.set()

    def wait(self) -> bool:
        """In a thread: wait until it has been hashed; whether it could be."""
        self._is_over.wait()
        return self._is_right


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
