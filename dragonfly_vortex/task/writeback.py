"""
The way of a growing file to the disk: each piece's bytes are sent there soon after they have come, in a thread.

So the end of a download has little to wait for; and so many bytes never wait for the disk that the kernel would stop
the reactor's thread when it writes more.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred, DeferredLock
from twisted.python.failure import Failure

from dragonfly_vortex.interfaces import InThread
from dragonfly_vortex.storage.writeback import write_back

__all__ = ["WORTH_A_THREAD", "WriteBack"]

WORTH_A_THREAD = 1024 * 1024
"""Bytes that are worth the way to a thread and back."""


class WriteBack:
    """
    Brings a file to the disk as it grows. It belongs to the reactor's thread, and never has more than one thread at
    work: what comes while that one waits for the disk is taken together.

    :param descriptor: the file, open for writing; it stays open at least until :meth:`stop` has fired.
    :param in_thread: how to call a function in a thread.
    :param most: bytes that may wait for the disk before it is behind.
    :param least: bytes that must have come before a thread is set to work.
    """

    def __init__(self, descriptor: int, in_thread: InThread, *, most: int, least: int = WORTH_A_THREAD) -> None:
        self.waiting = 0
        """Bytes that have been added and are not on the disk."""
        self.error: BaseException | None = None
        """Why nothing more is written: the disk has failed."""
        self._descriptor = descriptor
        self._in_thread = in_thread
        self._most = most
        self._least = least
        self._untaken: list[tuple[int, int]] = []
        self._untaken_length = 0
        self._held_back: list[Deferred[None]] = []
        self._at_work = DeferredLock()
        self._is_stopped = False

    @property
    def is_behind(self) -> bool:
        """Whether more waits for the disk than may."""
        return self.waiting > self._most

    def add(self, start: int, end: int) -> Deferred[None]:
        """
        Bytes have been written to the file.

        :param start: of the first of them.
        :param end: behind the last of them.
        :returns: fires when it is not behind any more, which may be at once. Fails when the disk has failed.
        """
        self.waiting += end - start
        self._untaken.append((start, end))
        self._untaken_length += end - start
        added: Deferred[None] = Deferred()
        self._held_back.append(added)
        self._run()
        self._let_go()
        return added

    def stop(self) -> Deferred[None]:
        """Write no more, and hold nobody back. Fires when no thread is at work, which is soon."""
        self._is_stopped = True
        self._let_go()
        stopped: Deferred[None] = self._at_work.run(lambda: None)
        return stopped

    def _run(self) -> None:
        """Have what has come taken to the disk, unless a thread is at work already."""
        is_enough = self._untaken_length >= self._least or (self.is_behind and self._untaken)
        if self._at_work.locked or self._is_stopped or self.error is not None or not is_enough:
            return
        taken, self._untaken = self._untaken, []
        length, self._untaken_length = self._untaken_length, 0
        done = self._at_work.run(self._in_thread, lambda: write_back(self._descriptor, taken, self._is_going_on))
        done.addBoth(self._ran, length)

    def _is_going_on(self) -> bool:
        """Whether what a thread does is wanted still. Called in the thread."""
        return not self._is_stopped

    def _ran(self, result: Failure | None, length: int) -> None:
        """Some more is on the disk, or will never be."""
        self.waiting -= length
        if isinstance(result, Failure):
            self.error = result.value
        self._run()
        self._let_go()

    def _let_go(self) -> None:
        """Tell those that were held back, if they need not be."""
        if self.is_behind and self.error is None and not self._is_stopped:
            return
        held_back, self._held_back = self._held_back, []
        for added in held_back:
            if self.error is None:
                added.callback(None)
            else:
                added.errback(self.error)
