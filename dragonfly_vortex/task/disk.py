"""
Room on the disk for a growing file, a little ahead of what comes.

A write into room that is there costs the reactor's thread less than one for which the file system has to find it, and
the file lies in fewer parts. How long a task is may be known only in the end: so room is made as the file grows.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger
from twisted.python.failure import Failure

from dragonfly_vortex.interfaces import InThread
from dragonfly_vortex.storage.disk import allocate
from dragonfly_vortex.task.writeback import WORTH_A_THREAD

__all__ = ["Allocation"]

_AHEAD = 64 * 1024 * 1024
"""Bytes of room ahead of what has come: tens of milliseconds of the fastest network, and soon given back."""


class Allocation:
    """
    Makes room for a file as it grows. It belongs to the reactor's thread. Where no room is to be had it does nothing
    more: whoever writes will be told.

    :param descriptor: the file, open for writing; it stays open at least until :meth:`stop` has fired.
    :param in_thread: how to call a function in a thread.
    """

    _log = Logger()

    def __init__(self, descriptor: int, in_thread: InThread) -> None:
        self._descriptor = descriptor
        self._in_thread = in_thread
        self._reached = 0
        self._allocated = 0
        self._limit: int | None = None
        self._at_work = DeferredLock()
        self._is_over = False

    def reach(self, end: int, content_length: int | None) -> None:
        """
        Something has been written: have room for as much again behind it, and at most 64 MiB. A few bytes need none.

        :param end: of what has been written, in bytes from the file's start.
        :param content_length: bytes that the whole file will have; None where nobody knows.
        """
        self._reached = max(self._reached, end)
        self._limit = content_length
        self._run()

    def stop(self) -> Deferred[None]:
        """Make no more room. Fires when no thread is at work, which is soon."""
        self._is_over = True
        stopped: Deferred[None] = self._at_work.run(lambda: None)
        return stopped

    def _run(self) -> None:
        """Have more room made when half of it is used, unless a thread is at work already."""
        if self._is_over or self._at_work.locked:
            return
        ahead = min(self._reached, _AHEAD)
        end = self._reached + ahead if self._limit is None else min(self._reached + ahead, self._limit)
        missing = end - self._allocated
        if missing >= max(ahead // 2, WORTH_A_THREAD):
            # Not from the beginning of a long file whose end came first: the one who writes would wait for that.
            start = max(self._allocated, end - 2 * _AHEAD)
            made = self._at_work.run(self._in_thread, lambda: allocate(self._descriptor, start, end))
            made.addBoth(self._made, end)

    def _made(self, result: Failure | None, end: int) -> None:
        """There is room up to there, or none to be had."""
        if isinstance(result, Failure):
            self._is_over = True
            if result.check(OSError) is None:
                self._log.failure("No room can be made", result)
            return
        self._allocated = end
        self._run()
