"""
Watches tasks for the streams of the gRPC servicer: which pieces there are, and which come while the streams are open.

Each task is looked at once for all its streams, when something in the storage has changed; tasks are looked at one
after the other, so that the storage answers others in between. Everything here lives in the event loop's thread.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, fail, gatherResults, succeed
from twisted.python.failure import Failure

from dragonfly_vortex.errors import NotStored
from dragonfly_vortex.geometry import piece_count
from dragonfly_vortex.interfaces import ITaskStore
from dragonfly_vortex.model import StoredPiece, StoredTask
from dragonfly_vortex.rpc.announcements import Announcements
from dragonfly_vortex.rpc.event_loop import EventLoopThread
from dragonfly_vortex.wire import PieceKind, PieceMetadata

__all__ = ["Arrival", "TaskWatch", "Watches"]

_Key = tuple[PieceKind, str]


_AGAIN = 0.5
"""Seconds after which a task without a piece, which has begun to come, is looked at again."""


class Arrival(NamedTuple):
    """
    A piece that is there.

    :param number: its number.
    :param message: what a stream says about it, ready to be sent: it is the same for all.
    """

    number: int
    message: bytes


class TaskWatch:
    """
    A task that at least one stream is interested in.

    :ivar arrived: the pieces that can be had, in the order in which they were seen; it only grows.
    :ivar looked: whether the catalog has been looked at yet.
    :ivar complete: whether all pieces of the task have a row; nothing will be added then.
    :ivar failure: why nothing more can be known.
    :ivar changed: set when one of these has changed. Take it before looking at them, for the next change has another.
    """

    def __init__(self, kind: PieceKind, task_id: str) -> None:
        self.kind = kind
        self.task_id = task_id
        self.arrived: list[Arrival] = []
        self.looked = False
        self.complete = False
        self.failure: Exception | None = None
        self.changed = asyncio.Event()
        self.streams = 0
        self._numbers: set[int] = set()
        self._prefix = 0  # how many pieces from the first one on have arrived without a gap
        self._piece_count: int | None = None

    @property
    def key(self) -> _Key:
        """The key of the task among all that are watched."""
        return self.kind, self.task_id

    @property
    def settled(self) -> bool:
        """Whether nothing more will change."""
        return self.complete or self.failure is not None

    def wake(self) -> None:
        """Wake the streams that wait for a change."""
        self.changed.set()
        self.changed = asyncio.Event()

    async def look(
        self,
        store: ITaskStore,
        thread: EventLoopThread,
        message_of: Callable[[PieceKind, PieceMetadata], bytes],
        is_coming: Callable[[PieceKind, str], Deferred[bool]],
        announcements: Announcements,
    ) -> bool:
        """
        Read the rows of the pieces that are there: of the rows those behind the pieces that have arrived without a gap.

        :param message_of: makes what is said about a piece; called in the reactor's thread.
        :param is_coming: says whether a task is being downloaded; called there, too.
        :param announcements: keeps what is said about the pieces if the task is complete.
        :returns: whether the task has no row yet, because it has only begun to come.
        """
        is_first = self._piece_count is None  # not asked yet, or the length was not known yet

        def news() -> Deferred[tuple[StoredTask | None, int, list[Arrival]]]:
            # Both at once: the storage answers in a thread of its own, and each way there and back takes time.
            task = store.get_task(self.kind, self.task_id) if is_first else succeed(None)
            pieces = store.get_pieces(self.kind, self.task_id, self._prefix).addCallback(select)
            both: list[Deferred[Any]] = [task, pieces]
            mark = announcements.mark()
            return gatherResults(both, consumeErrors=True).addCallbacks(lambda found: there(found, mark), not_there)

        def there(found: list[Any], mark: object) -> tuple[StoredTask | None, int, list[Arrival]]:
            task, (rows, new) = found
            length = task.content_length if task is not None else None
            if length is not None and rows >= piece_count(length, task.piece_length):
                if self.arrived:  # some of these may have been taken back
                    announcements.prepare(self.kind, self.task_id)
                else:
                    announcements.keep(self.kind, self.task_id, dict(new), mark)
            return task, rows, new

        def not_there(failure: Failure) -> Deferred[tuple[StoredTask | None, int, list[Arrival]]]:
            first: Failure = failure.value.subFailure  # type: ignore[union-attr]  # of gatherResults
            if not first.check(NotStored) or self.arrived:
                return fail(first)

            def look_for_it(is_it_coming: bool) -> tuple[StoredTask | None, int, list[Arrival]]:
                if not is_it_coming:
                    first.raiseException()
                return None, -1, []

            return is_coming(self.kind, self.task_id).addCallback(look_for_it)

        def select(pieces: list[StoredPiece]) -> tuple[int, list[Arrival]]:
            sound = [piece.metadata for piece in pieces if not piece.damage]
            new = [metadata for metadata in sound if metadata.number not in self._numbers]
            rows = self._prefix + len(pieces)
            return rows, [Arrival(metadata.number, message_of(self.kind, metadata)) for metadata in new]

        try:
            task, rows, new = await thread.ask(news)
            if task is not None and task.content_length is not None:
                self._piece_count = piece_count(task.content_length, task.piece_length)
        except Exception as error:
            self.failure = error
        else:
            self.arrived.extend(new)
            self._numbers.update(arrival.number for arrival in new)
            while self._prefix in self._numbers:
                self._prefix += 1
            self.complete = self._piece_count is not None and rows >= self._piece_count
            if self.looked and not new and not self.complete:
                return rows < 0
        self.looked = True
        self.wake()
        return self.failure is None and rows < 0


class Watches:
    """
    The tasks that streams are interested in. The storage's changes are listened to while there is one.

    :param store: where the tasks are.
    :param thread: the event loop, and the way to the storage.
    :param message_of: makes what is said about a piece; called in the reactor's thread.
    :param is_coming: says there whether a task is being downloaded. One without a piece yet is not unknown then.
    :param announcements: keeps what is said about complete tasks.
    """

    def __init__(
        self,
        store: ITaskStore,
        thread: EventLoopThread,
        message_of: Callable[[PieceKind, PieceMetadata], bytes],
        is_coming: Callable[[PieceKind, str], Deferred[bool]],
        announcements: Announcements,
    ) -> None:
        self._is_coming = is_coming
        self._announcements = announcements
        self._store = store
        self._thread = thread
        self._message_of = message_of
        self._watches: dict[_Key, TaskWatch] = {}
        self._stale: OrderedDict[_Key, TaskWatch] = OrderedDict()
        self._work = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """How many tasks are watched."""
        return len(self._watches)

    @asynccontextmanager
    async def open(self, kind: PieceKind, task_id: str) -> AsyncIterator[TaskWatch]:
        """Watch a task inside the block. The first look at it is announced as a change, too."""
        watch = self._watches.get((kind, task_id))
        if watch is None:
            watch = self._watches[kind, task_id] = TaskWatch(kind, task_id)
            self._stale[watch.key] = watch
            self._stale.move_to_end(watch.key, last=False)  # a stream waits for the very first answer
            self._work.set()
        watch.streams += 1
        if self._looking is None:
            self._looking = asyncio.create_task(self._look_again_and_again())
        try:
            yield watch
        finally:
            watch.streams -= 1
            if not watch.streams and (watch.looked or watch.failure is not None):
                self._put_away(watch)  # else after the first look: a child may ask others, too, and not wait for it

    def wake_all(self) -> None:
        """Wake all streams, which then look for changes."""
        for watch in self._watches.values():
            watch.wake()

    async def _look_again_and_again(self) -> None:
        def changed() -> None:
            self._thread.post(self._changed)

        subscriptions: list[Callable[[], None]] = []  # in the reactor's thread

        def subscribe() -> None:
            subscriptions.append(self._store.subscribe(changed))

        def unsubscribe() -> None:
            for each in subscriptions:
                each()

        self._thread.tell(subscribe)  # this comes before the first look, which need not wait for it
        try:
            while True:
                self._work.clear()
                while self._stale:
                    _, watch = self._stale.popitem(last=False)
                    if await watch.look(
                        self._store, self._thread, self._message_of, self._is_coming, self._announcements
                    ):
                        # Nothing in the storage changes where that download fails.
                        asyncio.get_running_loop().call_later(_AGAIN, self._look_at, watch)
                    if watch.failure is not None:
                        self._forget(watch)  # the next stream asks anew
                    if not watch.streams:
                        self._put_away(watch)
                await self._work.wait()
        finally:
            self._thread.tell(unsubscribe)

    def _changed(self) -> None:
        """Look again at all watched tasks that may have changed."""
        self._stale.update((key, watch) for key, watch in self._watches.items() if not watch.settled)
        self._work.set()

    def _look_at(self, watch: TaskWatch) -> None:
        """Look at a task again, unless no stream waits for it any more."""
        if self._watches.get(watch.key) is watch:
            self._stale[watch.key] = watch
            self._work.set()

    def _put_away(self, watch: TaskWatch) -> None:
        """Forget a task that no stream watches any more."""
        self._forget(watch)
        if not self._watches:
            self._rest()

    def _forget(self, watch: TaskWatch) -> None:
        if self._watches.get(watch.key) is watch:
            del self._watches[watch.key]
            self._stale.pop(watch.key, None)

    def _rest(self) -> None:
        looking, self._looking = self._looking, None
        if looking is not None:
            looking.cancel()
