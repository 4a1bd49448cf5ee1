"""
Collects the garbage of a storage now and then, in a thread, while a peer serves it. The thread has a connection of its
own to the catalog, so that questions to the storage do not wait for it. In any process it removes first what has not
been used for the longest time: :class:`TaskUses` remembers which tasks are used.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import ClassVar, TypeVar

from twisted.internet.defer import Deferred, TimeoutError, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorFromThreads, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from dragonfly_vortex.deferreds import Ending
from dragonfly_vortex.errors import PoolClosed
from dragonfly_vortex.storage.collector import Collected, Collector
from dragonfly_vortex.storage.policy import Policy
from dragonfly_vortex.storage.room import Room
from dragonfly_vortex.threads import STOP_TIMEOUT, DaemonThreadPool, run_in_pool
from dragonfly_vortex.wire import PieceKind

__all__ = ["RECORD_INTERVAL", "GarbageCollection", "TaskUses", "room_for"]

_T = TypeVar("_T")

RECORD_INTERVAL = 60.0
"""Seconds after the first use of any task until all uses since then are written, in one commit. A ``kill -9`` loses
them."""

_Task = tuple[PieceKind, str]

_MOST_LINES = 100
"""Removed tasks that a collection names in the log; a last line has the sum of all."""


class GarbageCollection:
    """
    The collections of one peer. All of it belongs to the reactor's thread.

    :param directory: the storage's directory.
    :param reactor: the clock, and where the Deferreds fire.
    :param interval: seconds from the start, or the beginning of a collection, to the next one.
    :param policy: the rules.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(self, directory: Path, reactor: IReactorFromThreads, interval: float, policy: Policy) -> None:
        self._directory = directory
        self._reactor = reactor
        self._interval = interval
        self._policy = policy
        self._looping = self._new_looping()
        self._pool: DaemonThreadPool | None = None
        self._at_work = 0
        self._ending = Ending(lambda: not self._at_work)
        self._is_stopped = False
        self._missing = 0

    def start(self) -> None:
        """Collect from now on, for the first time after the interval."""
        self._looping.start(self._interval, now=False)

    def change(self, interval: float, policy: Policy) -> None:
        """Go on with other rules, from the next collection on."""
        self._policy = policy
        if interval != self._interval:
            self._interval = interval
            if self._looping.running:
                self._looping.stop()
                # One that is started again during a collection would be scheduled by the start and by the end of that.
                self._looping = self._new_looping()
                self.start()

    def stop(self, timeout: float = STOP_TIMEOUT) -> Deferred[None]:
        """
        Collect no more. A collection that is under way ends at its next step.

        :param timeout: seconds after which a thread that the disk does not answer is left behind.
        :returns: fires when the thread is at work no more, or the time is over.
        """
        self._is_stopped = True
        if self._looping.running:
            self._looping.stop()
        pool, self._pool = self._pool, None
        if pool is None:
            return succeed(None)

        def end(result: Failure | None) -> None:
            if isinstance(result, Failure):
                result.trap(TimeoutError)
            pool.abandon()

        return self._ending.wait().addTimeout(timeout, IReactorTime(self._reactor)).addBoth(end)

    def in_thread(self, work: Callable[[], _T]) -> Deferred[_T]:
        """
        Do something that must not be done during a collection.

        :param work: called in the thread.
        :returns: fires with what it returns; fails with :class:`~dragonfly_vortex.errors.PoolClosed` after the end.
        """
        if self._is_stopped:
            return fail(PoolClosed("expected a running garbage collection, got one that is stopped"))
        if self._pool is None:
            self._pool = DaemonThreadPool(minthreads=0, maxthreads=1, name="storage-gc")
            self._pool.start()

        def ended(result: _T | Failure) -> _T | Failure:
            self._at_work -= 1
            self._ending.look()
            return result

        self._at_work += 1
        working: Deferred[_T] = run_in_pool(self._reactor, self._pool, work)
        return working.addBoth(ended)

    def _new_looping(self) -> LoopingCall:
        """What collects after each interval."""
        looping = LoopingCall(self._collect)
        looping.clock = IReactorTime(self._reactor)
        return looping

    def _collect(self) -> Deferred[None]:
        """Collect once. A failure is logged, and the next collection may succeed."""
        collector = Collector(self._directory, self._policy, is_wanted=lambda: not self._is_stopped)
        return self.in_thread(collector.run).addCallbacks(self._collected, self._failed)

    def _collected(self, collected: Collected) -> None:
        """Log what a collection has done, if it has done anything."""
        missing = collected.missing
        _log_removed(collected)
        if missing and not self._missing:
            text = "garbage collection: {missing} bytes more are used than the limit; no further task can be removed"
            self.log.warn(text, missing=missing)
        self._missing = missing

    def _failed(self, failure: Failure) -> None:
        """Log why a collection failed."""
        if not self._is_stopped:
            self.log.error("garbage collection: {reason}", reason=failure.getErrorMessage())


def _log_removed(collected: Collected) -> None:
    """Log what a collection has removed, a line for each of the first tasks."""
    log, removed = GarbageCollection.log, collected.removed
    for task in removed[:_MOST_LINES]:
        text = "garbage collection: {kind} task {task_id} removed, {freed} bytes freed: {reason} ({rule})"
        log.info(
            text,
            kind=task.kind.label,
            task_id=task.task_id,
            freed=task.freed,
            reason=task.reason.value,
            rule=task.rule,
        )
    if removed:
        text = "garbage collection: {count} tasks removed, {freed} bytes freed, {in_use} in use"
        log.info(text, count=len(removed), freed=collected.freed, in_use=collected.in_use)


def room_for(directory: Path, reactor: IReactorFromThreads, policy: Policy, *, is_made: bool) -> Room:
    """
    Make the room of a storage, which logs what it removes. The parameters are those of
    :class:`~dragonfly_vortex.storage.room.Room`.

    :param reactor: in whose thread it logs.
    """
    collected = partial(reactor.callFromThread, _log_removed)
    return Room(directory, policy, is_made=is_made, collected=collected)


class TaskUses:
    """
    The tasks that were used since their last use was written. All of it belongs to the reactor's thread, and nothing is
    scheduled while no task is used. To write a use for each piece would cost a commit a piece.

    :param clock: the time.
    :param record: begins to write that tasks are used at this moment.
    """

    def __init__(self, clock: IReactorTime, record: Callable[[Collection[_Task]], object]) -> None:
        self._clock = clock
        self._record = record
        self.used: set[_Task] = set()
        """These tasks; to look here first costs less than :meth:`add`."""
        self._recording: IDelayedCall | None = None

    def add(self, kind: PieceKind, task_id: str) -> None:
        """Record that a task is used."""
        self.used.add((kind, task_id))
        if self._recording is None:
            self._recording = self._clock.callLater(RECORD_INTERVAL, self._tell)

    def take(self) -> Collection[_Task]:
        """
        Schedule nothing more, for the end of the storage.

        :returns: the tasks whose uses have still to be written.
        """
        if self._recording is not None:
            self._recording.cancel()
            self._recording = None
        used, self.used = self.used, set()
        return used

    def _tell(self) -> None:
        self._recording = None
        self._record(self.take())
