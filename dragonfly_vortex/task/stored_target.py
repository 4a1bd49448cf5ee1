"""
A download into the storage: each piece is offered to others as soon as it has come, what is there is not fetched again,
and whatever ends the download, what has come stays for the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from dragonfly_vortex.errors import StorageFailure, VortexError
from dragonfly_vortex.geometry import piece_length_for
from dragonfly_vortex.interfaces import ITaskWriter
from dragonfly_vortex.model import Claim
from dragonfly_vortex.task.target import MOST_UNWRITTEN, Found, IDownloadTarget
from dragonfly_vortex.wire import PieceKind, PieceMetadata

if TYPE_CHECKING:  # it loads SQLite, which a download into a file does without
    from dragonfly_vortex.storage.reactor.store import PieceStore

__all__ = ["StoredTarget"]


@implementer(IDownloadTarget)
class StoredTarget:
    """
    A task's place in a storage.

    :param store: the storage.
    :param kind: the kind of the task's pieces.
    """

    def __init__(self, store: PieceStore, kind: PieceKind, task_id: str) -> None:
        self._store = store
        self._kind = kind
        self._task_id = task_id
        self._writer: ITaskWriter | None = None
        self._piece_length_there: int | None = None

    @property
    def descriptor(self) -> int:
        return self._opened().descriptor

    @property
    def directory(self) -> Path:
        return self._store.directory

    @property
    def is_behind(self) -> bool:
        return self._opened().unwritten > MOST_UNWRITTEN

    def open(self) -> Deferred[Found]:
        return Deferred.fromCoroutine(self._open())

    async def _open(self) -> Found:
        self._writer = await self._store.write_task(self._kind, self._task_id)
        task = self._writer.task
        if task is not None and task.content_length is not None and task.content_length < task.piece_length:
            self._piece_length_there = task.piece_length
        return Found(task=task, pieces=self._writer.pieces)

    def claim(self, number: int) -> Deferred[Claim]:
        return self._opened().claim(number)

    def release(self, number: int) -> None:
        self._opened().release(number)

    def renew(self) -> None:
        self._opened().renew()

    def keep(self, metadata: PieceMetadata, piece_length: int) -> Deferred[None]:
        # Of a task of one piece the piece length cannot be seen: only who has stored it before may know it.
        there = self._piece_length_there
        if there is not None and metadata.number == 0 and metadata.length <= there:
            piece_length = there
        return self._opened().add_piece(metadata, piece_length or piece_length_for(0))

    def set_content_length(self, content_length: int | None) -> Deferred[None]:
        return self._opened().set_content_length(content_length)

    def drop(self, numbers: Sequence[int]) -> Deferred[None]:
        self._piece_length_there = None
        return self._opened().drop_pieces(numbers)

    def publish(self, content_length: int) -> Deferred[None]:
        return self._opened().finish(content_length)

    def close(self) -> Deferred[None]:
        writer, self._writer = self._writer, None
        return succeed(None) if writer is None else writer.close()

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        return self._store.subscribe(changed)

    def failure(self, reason: str) -> VortexError:
        return StorageFailure(f"task {self._task_id}: {reason}")

    def _opened(self) -> ITaskWriter:
        """The task, open."""
        if self._writer is None:
            raise StorageFailure(f"task {self._task_id}: expected it to be open for writing, it is closed")
        return self._writer
