"""
What is said about the pieces of complete tasks, kept for the next child. All in the reactor's thread.

A child that asks several parents leaves out those that answer later than the others. So a task that was looked at is
answered at once, without a look at the storage and without another thread.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping

from dragonfly_vortex.interfaces import ITaskStore
from dragonfly_vortex.wire import PieceKind

__all__ = ["Announcements"]

_MOST_KEPT = 65_536
"""Pieces that are kept, at some 200 bytes each."""


class Announcements:
    """
    Messages of complete tasks, until the storage changes. :meth:`start` and :meth:`stop` are called once.

    :param store: whose changes make all of them old.
    :ivar changes: how often it has changed. A task is kept only if it has not changed since before it was looked at.
    """

    def __init__(self, store: ITaskStore) -> None:
        self.changes = 0
        self._store = store
        self._tasks: OrderedDict[tuple[PieceKind, str], Mapping[int, bytes]] = OrderedDict()
        self._pieces = 0
        self._unsubscribe: Callable[[], None] | None = None

    def start(self) -> None:
        """Listen to changes of the storage."""
        self._unsubscribe = self._store.subscribe(self._changed)

    def stop(self) -> None:
        """Keep nothing any more."""
        self._forget_all()
        unsubscribe, self._unsubscribe = self._unsubscribe, None
        if unsubscribe is not None:
            unsubscribe()

    def keep(self, kind: PieceKind, task_id: str, messages: Mapping[int, bytes], changes: int) -> None:
        """
        Keep a complete task, and drop those that were kept for longest where there are too many pieces.

        :param messages: what is said about each piece that can be had, by its number.
        :param changes: :attr:`changes` before the task was looked at.
        """
        if changes != self.changes or self._unsubscribe is None or len(messages) > _MOST_KEPT:
            return
        self._pieces += len(messages) - len(self._tasks.pop((kind, task_id), ()))
        self._tasks[kind, task_id] = messages
        while self._pieces > _MOST_KEPT:
            self._pieces -= len(self._tasks.popitem(last=False)[1])

    def get(self, kind: PieceKind, task_id: str) -> Mapping[int, bytes] | None:
        """The messages of a task; None where they are not kept."""
        return self._tasks.get((kind, task_id))

    def _changed(self) -> None:
        self.changes += 1
        self._forget_all()

    def _forget_all(self) -> None:
        self._tasks.clear()
        self._pieces = 0
