"""
A cache of the messages that announce the pieces of complete tasks. All calls are made in the reactor's thread.

A child that asks several parents takes the pieces of those that answer first (``dragonfly-client`` 1.5.10,
``piece_collector.rs``). So a complete task that is kept is answered at once, without a look at the storage and without
another thread.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from dragonfly_vortex.errors import RemoteProtocolError, StorageError
from dragonfly_vortex.geometry import piece_count
from dragonfly_vortex.interfaces import ITaskStore
from dragonfly_vortex.rpc.codec import parse
from dragonfly_vortex.rpc.methods import METHODS, path
from dragonfly_vortex.rpc.server_call import Answer, Metadata, is_tonic
from dragonfly_vortex.wire import PieceKind, PieceMetadata

__all__ = ["Announcements"]

_MOST_KEPT = 65_536
"""Pieces that are kept, at some 200 bytes each."""

_MOST_AT_ONCE = 1024
"""Piece numbers of a question that is answered at once: the answer, of some 40 KB, may have to wait for its child."""

_LINGER = 0.02
"""
Seconds for which the stream of a real child stays open behind an answer that was given at once. A child shares each
piece between the parents that have said that they have it, once as many have said so as have their streams open, and
within 0.1 s in any case (``piece_collector.rs``). So a parent that ends its stream has the child do without the parents
that answer later; and all load comes to those that answer first.
"""

_MANY = 8
"""Pieces from which on that is worth while: so many, of 4 MiB, take longer to transfer than the stream stays open."""

_KIND_OF_SYNC = {path(row.sync): kind for kind, row in METHODS.items()}
"""The kind of piece that a method asks for, by the method's path."""

_Key = tuple[PieceKind, str]


class Announcements:
    """
    Messages of complete tasks. They hold while the storage takes no piece back; after that each kept task is looked at
    again. :meth:`start` and :meth:`stop` are called once.

    :param store: where the tasks are.
    :param message_of: makes what is said about a piece.
    """

    _log = Logger()

    def __init__(self, store: ITaskStore, message_of: Callable[[PieceKind, PieceMetadata], bytes]) -> None:
        self._store = store
        self._message_of = message_of
        self._tasks: OrderedDict[_Key, Mapping[int, bytes]] = OrderedDict()
        self._pieces = 0
        self._mark: object = None
        self._stale: OrderedDict[_Key, None] = OrderedDict()  # to be looked at
        self._is_looking = False
        self._unsubscribe: Callable[[], None] | None = None

    def start(self) -> None:
        """Listen to changes of the storage."""
        self._unsubscribe = self._store.subscribe(self._changed)

    def stop(self) -> None:
        """Drop all messages, and keep no others."""
        self._forget_all()
        self._stale.clear()
        unsubscribe, self._unsubscribe = self._unsubscribe, None
        if unsubscribe is not None:
            unsubscribe()

    def mark(self) -> object:
        """See :meth:`ITaskStore.offer_mark`. Take it before a task is looked at, for :meth:`keep`."""
        now = self._store.offer_mark()
        if now is not self._mark:
            self._mark = now
            self._stale.update(dict.fromkeys(self._tasks))
            self._forget_all()
        return now

    def keep(self, kind: PieceKind, task_id: str, messages: Mapping[int, bytes], mark: object) -> None:
        """
        Keep a complete task, and drop those that were kept for longest where there are too many pieces.

        :param messages: what is said about each piece that can be had, by its number.
        :param mark: :meth:`mark` before the task was looked at.
        """
        if mark is not self.mark() or self._unsubscribe is None or len(messages) > _MOST_KEPT:
            return
        self._pieces += len(messages) - len(self._tasks.pop((kind, task_id), ()))
        self._tasks[kind, task_id] = messages
        while self._pieces > _MOST_KEPT:
            self._pieces -= len(self._tasks.popitem(last=False)[1])

    def get(self, kind: PieceKind, task_id: str) -> Mapping[int, bytes] | None:
        """The messages of a task; None where they are not kept."""
        self.mark()
        return self._tasks.get((kind, task_id))

    def answer(self, method: str, metadata: Metadata, data: bytes) -> Answer | None:
        """
        Answer a question about the pieces of a task that is kept. Called in the reactor's thread.

        :param method: the method's path.
        :param metadata: the headers of the call.
        :param data: the message of the call.
        :returns: the answer; None where a handler has to give it.
        """
        kind = _KIND_OF_SYNC.get(method)
        if kind is None:
            return None
        try:
            request = parse(METHODS[kind].sync_request, data)
        except RemoteProtocolError:
            return None
        numbers = getattr(request, METHODS[kind].interested)
        known = self.get(kind, str(getattr(request, "task_id")))  # noqa: B009  # its class is in the row
        if known is None or len(numbers) > _MOST_AT_ONCE:
            return None
        messages = [known[number] for number in numbers if number in known]
        return Answer(messages, _LINGER if len(messages) >= _MANY and is_tonic(metadata) else 0.0)

    def prepare(self, kind: PieceKind, task_id: str) -> None:
        """Read a complete task, so that its first child is answered at once, too."""
        if self._unsubscribe is not None:
            self._stale[kind, task_id] = None
            self._look()

    def _changed(self) -> None:
        """Look at the storage, in which something has changed."""
        self.mark()
        self._look()

    def _look(self) -> None:
        """Look at the tasks that are to be looked at, one after the other."""
        if self._stale and not self._is_looking:
            self._is_looking = True
            Deferred.fromCoroutine(self._look_at_all()).addErrback(self._failed)

    async def _look_at_all(self) -> None:
        try:
            while self._stale:
                (kind, task_id), _ = self._stale.popitem()
                await self._look_at(kind, task_id)
        finally:
            self._is_looking = False

    async def _look_at(self, kind: PieceKind, task_id: str) -> None:
        mark = self.mark()
        try:
            task = await self._store.get_task(kind, task_id)
            pieces = await self._store.get_pieces(kind, task_id)
        except StorageError:  # it is not there any more, or cannot be read: a child that asks gets to know why
            return
        if task.content_length is None or len(pieces) < piece_count(task.content_length, task.piece_length):
            return
        sound = [piece.metadata for piece in pieces if not piece.damage]
        self.keep(kind, task_id, {each.number: self._message_of(kind, each) for each in sound}, mark)

    def _failed(self, failure: Failure) -> None:
        self._log.failure("announcements of tasks cannot be prepared", failure)

    def _forget_all(self) -> None:
        self._tasks.clear()
        self._pieces = 0
