"""The tasks of the storage, as the status page shows them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from msgspec import Struct
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from dragonfly_vortex.errors import StorageError
from dragonfly_vortex.geometry import piece_count
from dragonfly_vortex.identity import shown_url
from dragonfly_vortex.model import StoredTask
from dragonfly_vortex.storage.disk import space_at
from dragonfly_vortex.storage.queries import CatalogQueries
from dragonfly_vortex.storage.reactor.store import PieceStore
from dragonfly_vortex.wire import PieceKind
from dragonfly_vortex.wire.messages import printable

__all__ = ["StoredTaskView", "StoredTasks", "StoredView"]

_MOST_STORED = 40
"""Tasks of the storage that are shown, the newest ones."""

_LOOK_INTERVAL = 2.0
"""Seconds between two looks at the storage at the least."""


class StoredTaskView(Struct, frozen=True, kw_only=True):
    """
    A task in the storage.

    :param name: where it comes from, without secrets; empty where that is not known.
    :param pieces: how many of its pieces are there; None while they have not been counted.
    :param created: in Unix seconds.
    """

    kind: str
    id: str
    name: str
    content_length: int | None
    pieces: int | None
    piece_count: int | None
    created: int


class StoredView(Struct, frozen=True, kw_only=True):
    """
    The storage.

    :param count: how many tasks there are.
    :param bytes: of all of them.
    :param disk_total: bytes of its file system; 0 where that is not known.
    :param disk_free: of these, those that the peer can use.
    :param tasks: the newest ones.
    """

    count: int
    bytes: int
    disk_total: int
    disk_free: int
    tasks: tuple[StoredTaskView, ...]


class StoredTasks:
    """
    The tasks of the storage. They are looked at anew when the storage has changed, and each task with all its pieces is
    counted once.

    :param clock: for the time between two looks.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, store: PieceStore) -> None:
        self._clock = clock
        self._store = store
        self._view: StoredView | None = None
        self._whole: dict[tuple[PieceKind, str, int], int] = {}  # the pieces of tasks that have all
        self._has_changed = False
        self._looked_at = float("-inf")
        self._looking: Deferred[None] | None = None
        self._unsubscribe: Callable[[], None] = _do_nothing

    def begin(self) -> None:
        """Read the storage from now on."""
        self._whole.clear()
        self._looked_at = float("-inf")
        self._changed()
        self._unsubscribe = self._store.subscribe(self._changed)

    def end(self) -> None:
        """Stop reading the storage."""
        self._unsubscribe()
        if self._looking is not None:
            self._looking.cancel()

    def view(self) -> StoredView | None:
        """The result of the last reading; None before the first. Begins another reading, if it is time for one."""
        if self._has_changed and self._looking is None and self._clock.seconds() - self._looked_at >= _LOOK_INTERVAL:
            self._has_changed, self._looked_at = False, self._clock.seconds()
            self._looking = Deferred.fromCoroutine(self._look())
            self._looking.addBoth(self._seen)
        return self._view

    def _changed(self) -> None:
        self._has_changed = True

    def _seen(self, result: Failure | None) -> None:
        self._looking = None
        if isinstance(result, Failure) and result.check(CancelledError, StorageError) is None:
            self._log.failure("the storage could not be shown", result)

    async def _look(self) -> None:
        tasks, count, length = await self._store.query(lambda catalog: catalog.newest_tasks(_MOST_STORED))
        views = []
        for task in tasks:
            views.append(await self._count(task))  # one question each: a child's does not wait for all of them
        shown = {_key(task) for task in tasks}
        self._whole = {key: count for key, count in self._whole.items() if key in shown}
        total, free = await self._store.query(lambda _: space_at(self._store.directory))
        self._view = StoredView(count=count, bytes=length, disk_total=total, disk_free=free, tasks=tuple(views))

    async def _count(self, task: StoredTask) -> StoredTaskView:
        key = _key(task)
        expected = None if task.content_length is None else piece_count(task.content_length, task.piece_length)
        count = self._whole.get(key)
        if count is None:
            count = await self._store.query(partial(CatalogQueries.count_pieces, kind=task.kind, task_id=task.task_id))
            if count == expected:
                self._whole[key] = count
        return StoredTaskView(
            kind=task.kind.label,
            id=task.task_id,
            name=printable(shown_url(task.origin.url)) if task.origin is not None else "",
            content_length=task.content_length,
            pieces=count,
            piece_count=expected,
            created=task.created_at,
        )


def _key(task: StoredTask) -> tuple[PieceKind, str, int]:
    """Distinguishes a task from one of the same ID that is made after its removal."""
    return task.kind, task.task_id, task.created_at


def _do_nothing() -> None:
    """There is no subscription to end."""
