"""
Remembers which tasks are used, and has that written down now and then. The garbage collection, in any process, removes
first what has not been used for the longest time. To write it for each piece would cost a commit a piece.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from dragonfly_vortex.wire import PieceKind

__all__ = ["RECORD_INTERVAL", "TaskUses"]

RECORD_INTERVAL = 60.0
"""Seconds after the first use of any task until all uses since then are written, in one commit. A ``kill -9`` loses
them."""

Task = tuple[PieceKind, str]


class TaskUses:
    """
    The tasks that were used since their last use was written. All of it belongs to the reactor's thread, and nothing is
    scheduled while no task is used.

    :param clock: the time.
    :param record: begins to write that tasks are used at this moment.
    """

    def __init__(self, clock: IReactorTime, record: Callable[[Collection[Task]], object]) -> None:
        self._clock = clock
        self._record = record
        self._used: set[Task] = set()
        self._recording: IDelayedCall | None = None

    def add(self, kind: PieceKind, task_id: str) -> None:
        """A task is used. This is called for each piece, and so it costs next to nothing."""
        self._used.add((kind, task_id))
        if self._recording is None:
            self._recording = self._clock.callLater(RECORD_INTERVAL, self._tell)

    def take(self) -> Collection[Task]:
        """
        Schedule nothing more, for the end of the storage.

        :returns: the tasks whose uses have still to be written.
        """
        if self._recording is not None:
            self._recording.cancel()
            self._recording = None
        used, self._used = self._used, set()
        return used

    def _tell(self) -> None:
        self._recording = None
        self._record(self.take())
