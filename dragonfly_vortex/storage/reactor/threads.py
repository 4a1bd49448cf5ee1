"""
The threads of a storage: one for all questions and changes, one after the other, and one that waits for the disk while
a task is downloaded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from twisted.internet.defer import Deferred, TimeoutError, fail, succeed
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.logger import Logger

from dragonfly_vortex.errors import StorageFailure
from dragonfly_vortex.threads import STOP_TIMEOUT, DaemonThreadPool, run_in_pool

__all__ = ["StorageThreads"]

_T = TypeVar("_T")


class StorageThreads:
    """
    The two threads, the second of which is started when there is work for it.

    :param directory: the storage's directory, which messages name.
    :param reactor: where the Deferreds fire.
    """

    _log = Logger()

    def __init__(self, directory: Path, reactor: IReactorFromThreads) -> None:
        self._directory = directory
        self._reactor = reactor
        self.are_started = False
        """Whether there is a thread, and work is taken."""
        self._thread: DaemonThreadPool | None = None
        self._disk_thread: DaemonThreadPool | None = None

    def start(self) -> None:
        """Start the first thread, and take work from now on."""
        self._thread = DaemonThreadPool(minthreads=0, maxthreads=1, name="storage")
        self._thread.start()
        self.are_started = True

    def ask(self, work: Callable[[], _T]) -> Deferred[_T]:
        """Have work done in the storage's thread. Fails with StorageFailure where that is not started."""
        if self._thread is None:
            return fail(self._closed())
        deferred: Deferred[_T] = run_in_pool(self._reactor, self._thread, work)
        return deferred

    def call(self, work: Callable[[], object]) -> None:
        """Have work done in the storage's thread, which is started; its result is not waited for."""
        if self._thread is not None:
            self._thread.callInThread(work)

    def at_disk(self, work: Callable[[], _T]) -> Deferred[_T]:
        """
        Have work done that waits for the disk, while the storage answers questions: unless the system starts no thread
        for it. Fails as :meth:`ask` does.
        """
        if self._thread is None:
            return fail(self._closed())
        if self._disk_thread is None:
            disk_thread = DaemonThreadPool(minthreads=1, maxthreads=1, name="storage-disk")
            try:
                disk_thread.start()
            except RuntimeError:  # from Python 3.12 on no thread starts while the interpreter ends
                return self.ask(work)
            self._disk_thread = disk_thread
        deferred: Deferred[_T] = run_in_pool(self._reactor, self._disk_thread, work)
        return deferred

    def stop(self, close: Callable[[], None], timeout: float) -> Deferred[None]:
        """
        Finish the work that was taken, and end the threads.

        :param close: called last in the storage's thread.
        :param timeout: seconds after which a thread that is still busy is left behind.
        """
        thread, disk_thread = self._thread, self._disk_thread
        if thread is None:
            return succeed(None)
        closed: Deferred[None] = run_in_pool(self._reactor, thread, close)
        synced = succeed(None) if disk_thread is None else self.at_disk(_do_nothing)
        self._thread = self._disk_thread = None
        self.are_started = False
        finished: Deferred[None] = Deferred.fromCoroutine(_all_of(synced, closed))
        pools = [pool for pool in (disk_thread, thread) if pool is not None]
        return Deferred.fromCoroutine(self._end(finished.addTimeout(timeout, IReactorTime(self._reactor)), pools))

    def finish(self, close: Callable[[], None]) -> None:
        """Do what :meth:`stop` does, and block for at most :data:`~dragonfly_vortex.threads.STOP_TIMEOUT`."""
        self.are_started = False
        thread, self._thread = self._thread, None
        disk_thread, self._disk_thread = self._disk_thread, None
        until = time.monotonic() + STOP_TIMEOUT
        if disk_thread is not None:
            disk_thread.finish(_do_nothing, STOP_TIMEOUT)
        if thread is not None and not thread.finish(close, until - time.monotonic()):
            self._tell_busy()

    async def _end(self, finished: Deferred[None], pools: Sequence[DaemonThreadPool]) -> None:
        """End the threads when they have nothing left to do, so that this does not wait, or when the time is over."""
        is_busy = False
        try:
            await finished
        except TimeoutError:
            is_busy = True
            self._tell_busy()
        finally:
            for pool in pools:
                pool.abandon() if is_busy else pool.stop()

    def _tell_busy(self) -> None:
        """Log that a busy thread is left behind."""
        self._log.warn("the storage {directory} is still busy and is not closed", directory=self._directory)

    def _closed(self) -> StorageFailure:
        """The failure of work that is not taken."""
        return StorageFailure(f"expected the storage {self._directory} to be open, it is closed")


def _do_nothing() -> None:
    """Do nothing: work that shows that all before it has been done."""


async def _all_of(*deferreds: Deferred[None]) -> None:
    """Wait for one after the other."""
    for deferred in deferreds:
        await deferred
