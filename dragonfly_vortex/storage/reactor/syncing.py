"""
Syncs pieces that are offered already to the disk, soon after they have arrived, and records that in the catalog. A
download need not wait for it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from dragonfly_vortex.interfaces import InThread
from dragonfly_vortex.storage.task_file import TaskFile
from dragonfly_vortex.system_calls import reason_of
from dragonfly_vortex.wire import PieceMetadata

__all__ = ["Syncing"]


_ENOUGH = 64 * 1024 * 1024
"""Bytes that are brought to the disk at once."""

_PAUSE = 1.0
"""Seconds after which fewer bytes are brought there, too."""

_DURABLE_AFTER = 10.0
"""Seconds after which rows are brought to the disk, too, before the end. Others wait for the storage meanwhile."""


class Syncing:
    """
    The pieces of one task that may not be on the disk. It belongs to the reactor's thread, and has one thread at work
    at the most.

    :param file: the task, which is open; it may be closed before :meth:`finish` has fired.
    :param at_disk: calls a function in a thread that may wait for the disk.
    :param in_order: calls a function in the storage's thread, behind all changes of the task before.
    :param clock: calls later.
    """

    _log = Logger()

    def __init__(
        self,
        file: TaskFile,
        at_disk: InThread,
        in_order: Callable[[Callable[[], None]], Deferred[None]],
        clock: IReactorTime,
    ) -> None:
        self.waiting = 0
        """Bytes of pieces that were added and are not known to be on the disk."""
        self._file = file
        self._descriptor = os.dup(file.descriptor)  # the task may be closed, and begun again by another download
        self._at_disk = at_disk
        self._in_order = in_order
        self._clock = clock
        self._pieces: dict[int, PieceMetadata] = {}
        self._taken: dict[int, PieceMetadata] = {}  # those of them that a thread brings to the disk
        self._timer: IDelayedCall | None = None
        self._is_at_work = False
        self._durable_at = clock.seconds()
        self._finished: Deferred[None] | None = None

    def add(self, pieces: Iterable[PieceMetadata]) -> None:
        """Add pieces that have been committed."""
        for piece in pieces:
            self.waiting += piece.length
            self._pieces[piece.number] = piece
        self._look()

    def forget(self, numbers: Iterable[int]) -> None:
        """Forget pieces whose rows are deleted."""
        for number in numbers:
            piece = self._pieces.pop(number, None)
            if piece is not None:
                self.waiting -= piece.length
            self._taken.pop(number, None)

    def finish(self) -> Deferred[None]:
        """Bring all to the disk now; nothing is added after that. Fires when it is there, or cannot be; called once."""
        self._finished = Deferred()
        finished = self._finished
        self._look()
        return finished

    def _look(self) -> None:
        """Set a thread to work, if there is enough to do for it."""
        if self._is_at_work:
            return
        if not self._pieces:
            self._stop_timer()
            if self._finished is not None and not self._finished.called:
                os.close(self._descriptor)
                self._finished.callback(None)
        elif self._finished is not None or self.waiting >= _ENOUGH:
            self._begin()
        elif self._timer is None:
            self._timer = self._clock.callLater(_PAUSE, self._begin)

    def _begin(self) -> None:
        """Bring all to the disk that has been added by now."""
        self._stop_timer()
        self._is_at_work = True
        self._taken, self._pieces = self._pieces, {}
        length = sum(piece.length for piece in self._taken.values())
        synced = self._at_disk(lambda: os.fdatasync(self._descriptor))
        synced.addCallback(self._synced).addErrback(self._failed).addBoth(self._ended, length)

    def _synced(self, _: None) -> Deferred[None]:
        digests = {number: piece.digest for number, piece in self._taken.items()}
        now = self._clock.seconds()
        is_durable = self._finished is not None or now - self._durable_at >= _DURABLE_AFTER
        if is_durable:
            self._durable_at = now
        return self._in_order(lambda: self._file.mark_synced(self._descriptor, digests, is_durable=is_durable))

    def _failed(self, failure: Failure) -> Deferred[None] | None:
        """The disk has failed. What it did not take may be anything."""
        self._log.failure("Pieces cannot be brought to the disk", failure)
        if not failure.check(OSError) or failure.value is None:
            return None
        numbers, reason = list(self._taken), f"cannot be brought to the disk: {reason_of(failure.value)}"
        return self._in_order(lambda: self._file.mark_lost(self._descriptor, numbers, reason))

    def _ended(self, result: Failure | None, length: int) -> None:
        if isinstance(result, Failure):
            self._log.failure("Pieces cannot be marked", result)
        self.waiting -= length
        self._taken = {}
        self._is_at_work = False
        self._look()

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
