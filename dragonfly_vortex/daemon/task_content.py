"""
The content of a task that a program downloads: which pieces are in the storage, ranges that are read while others come,
and all of it in order for a consumer.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IConsumer, IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from dragonfly_vortex.daemon.shared_download import Wishes
from dragonfly_vortex.errors import NotStored, PoolClosed, TaskChanged
from dragonfly_vortex.files import read_exactly
from dragonfly_vortex.interfaces import InThread
from dragonfly_vortex.model import ArrivedPiece, ByteRange, FileRange, TaskRequest, piece_id
from dragonfly_vortex.storage.reactor.store import PieceStore

__all__ = ["Feed", "TaskContent"]

_BLOCK = 1024 * 1024
"""Bytes that a consumer gets at once."""

_AHEAD = 8
"""Pieces that are fetched before a consumer has taken those in front of them."""

_NOTHING = ByteRange(start=0, length=0)


class TaskContent:
    """
    The content, as far as it is in the storage.

    :param store: the storage.
    :param request: which task.
    :param in_thread: calls a function in a thread.
    :param wake: fires the Deferred of a program's code that waits for a piece.
    :param whole: whether all of it is wanted, or only what is read.
    """

    def __init__(
        self,
        store: PieceStore,
        request: TaskRequest,
        in_thread: InThread,
        wake: Callable[[Deferred[None]], None],
        *,
        whole: bool,
    ) -> None:
        self.task_id = request.task_id
        """The task's ID."""
        self.pieces: dict[int, ArrivedPiece] = {}
        """The pieces that are in the storage, by number."""
        self.layout: tuple[int | None, int | None] = (None, None)
        """The lengths of the content and of its pieces, in bytes; None while they are not known."""
        self.drops: list[int] = []
        """Each time that pieces were dropped, the number of the first one."""
        self._unread: tuple[ByteRange, ...] = () if whole else (_NOTHING,)  # the wish while nothing is read
        self.wishes = Wishes(self._unread, is_all=whole)
        """What the download is to fetch first."""
        self._kind = request.kind
        self._store = store
        self._in_thread = in_thread
        self._wake = wake
        self._wanted: list[ByteRange] = []  # what readers wait for
        self._changed: list[Deferred[None]] = []  # fire at the next piece, or the end
        self._outcome: object = None

    # -- what comes

    def add(self, piece: ArrivedPiece) -> None:
        """Record a piece that is in the storage."""
        self.pieces[piece.metadata.number] = piece
        self.layout = (piece.content_length or self.layout[0], piece.piece_length or self.layout[1])
        if piece.content_length == 0:
            self.layout = (0, piece.piece_length)
        self._change()

    def drop(self, numbers: Sequence[int]) -> None:
        """
        Record that pieces are not in the storage any more. Those that come now may be of another version of the source,
        and of other lengths.

        :param numbers: their numbers; none for all.
        """
        for number in numbers or list(self.pieces):
            self.pieces.pop(number, None)
        if not self.pieces:
            self.layout = (None, None)
        self.drops.append(min(numbers, default=0))
        self._change()

    def end(self, outcome: object) -> None:
        """
        Record that no piece comes any more.

        :param outcome: a failure where the download has failed.
        """
        self._outcome = outcome
        self._change()

    def _change(self) -> None:
        """Wake all that wait for bytes, or for the end of the content."""
        changed, self._changed = self._changed, []
        for each in changed:
            self._wake(each)

    # -- reading

    async def size(self) -> int:
        """The length of the content in bytes, as soon as it is known."""
        while (length := self.layout[0]) is None:
            await self._progress()
        return length

    async def read(self, offset: int, length: int | None) -> bytes:
        """Read a range, see :meth:`~dragonfly_vortex.daemon.task_handle.Download.read`."""
        wanted = ByteRange(start=offset, length=length)
        self.want(wanted)
        try:
            while True:
                blocks = []
                first, end = wanted.within(await self.size())
                drops = len(self.drops)
                while first < end and (data := await self.read_piece(first, end, drops)):
                    blocks.append(data)
                    first += len(data)
                if drops == len(self.drops):
                    return b"".join(blocks)
        finally:
            self.forget(wanted)

    async def read_piece(self, start: int, end: int, drops: int) -> bytes:
        """
        Read the bytes of one piece as soon as it is there.

        :param start: the first byte.
        :param end: bytes from here on are left out.
        :param drops: how often pieces had been dropped. When that happens again, there are no bytes.
        """
        while drops == len(self.drops):
            piece_length = self.layout[1]
            number = start // piece_length if piece_length else 0
            piece = self.pieces.get(number)
            if piece is None:
                if self._outcome is not None and not isinstance(self._outcome, Failure):  # nothing comes any more
                    raise NotStored(f"piece {piece_id(self.task_id, number)} not found")
                await self._progress()
                continue
            try:
                skipped = start - piece.metadata.offset
                length = min(end - start, piece.metadata.length - skipped)
                opened = await self._store.open_piece(self._kind, self.task_id, number, skipped, length)
            except NotStored:
                if self._outcome is not None:
                    raise
                if self.pieces.get(number) is piece:  # not removed by another reader, nor fetched again
                    del self.pieces[number]  # it was wrong, and will be fetched again
                continue
            try:
                data = await self._in_thread(partial(_read_and_close, opened.range))
            except PoolClosed:  # it is not called
                os.close(opened.range.descriptor)
                raise
            return data if drops == len(self.drops) else b""
        return b""

    async def _progress(self) -> None:
        """
        Wait for a piece, or the end.

        :raises NotStored: the download has ended, and what is wanted has been removed since.
        """
        if isinstance(self._outcome, Failure):
            self._outcome.raiseException()
        if self._outcome is not None:
            raise NotStored(f"task {self.task_id}: expected a piece of a complete task, it has been removed")
        change: Deferred[None] = Deferred()
        self._changed.append(change)
        await change

    def want(self, wanted: ByteRange) -> None:
        """Request that a range is fetched first."""
        self._wanted.append(wanted)
        self.wishes.change(tuple(self._wanted))

    def forget(self, wanted: ByteRange) -> None:
        """Record that a range is not waited for any more."""
        self._wanted.remove(wanted)
        self.wishes.change(tuple(self._wanted) or self._unread)


def _read_and_close(place: FileRange) -> bytes:
    """Read a range, in a thread."""
    try:
        data = bytearray(place.length)
        read_exactly(place.descriptor, memoryview(data), place.offset)
        return bytes(data)
    finally:
        os.close(place.descriptor)


@implementer(IPushProducer)
class Feed:
    """
    Writes the content to a consumer, in order.

    :param consumer: what it is written to.
    """

    def __init__(self, content: TaskContent, consumer: IConsumer) -> None:
        self._content = content
        self._consumer = consumer
        self._wanted = _NOTHING
        self._piece_length = 0
        self._running: Deferred[int] | None = None
        self._resumed: Deferred[None] | None = None  # fires when the consumer takes more; None while it does
        self._is_writing = False
        self._is_stopped = False

    def start(self) -> Deferred[int]:
        """See :meth:`~dragonfly_vortex.daemon.task_handle.Download.feed`."""
        self._consumer.registerProducer(self, True)
        self._running = Deferred.fromCoroutine(self._run())
        return self._running

    def pauseProducing(self) -> None:
        """Called by the consumer: it takes nothing more now."""
        if self._resumed is None:
            self._resumed = Deferred()

    def resumeProducing(self) -> None:
        """Called by the consumer: it takes more."""
        resumed, self._resumed = self._resumed, None
        if resumed is not None and not resumed.called:
            resumed.callback(None)

    def stopProducing(self) -> None:
        """Called by the consumer: it takes nothing any more."""
        self._is_stopped = True
        if self._running is not None and not self._is_writing:  # otherwise it is seen behind the write
            self._running.cancel()

    async def _run(self) -> int:
        position = 0
        self._content.want(self._wanted)
        try:
            if self._is_stopped:  # as it was registered
                raise CancelledError
            length = await self._content.size()
            drops = len(self._content.drops)
            while position < length:
                while self._resumed is not None:
                    await self._resumed
                self._look_ahead(position, length)
                data = await self._content.read_piece(position, min(length, position + _BLOCK), drops)
                if not data:
                    drops = self._see_written(drops, position)
                    length = await self._content.size()
                    continue
                self._write(data)
                position += len(data)
            self._see_written(drops, position)
            return position
        except CancelledError:
            if self._is_stopped:
                raise ConnectionLost(f"the consumer stopped after {position} of the bytes") from None
            raise
        finally:
            self._content.forget(self._wanted)
            if not self._is_stopped:
                self._consumer.unregisterProducer()

    def _see_written(self, drops: int, position: int) -> int:
        """
        See that of what was written nothing has been dropped.

        :param drops: how often pieces had been dropped before.
        :returns: how often by now.
        :raises TaskChanged: something has.
        """
        content = self._content
        if position and any(first * self._piece_length < position for first in content.drops[drops:]):
            raise TaskChanged(f"task {content.task_id}: expected content that stays, got other after {position} bytes")
        return len(content.drops)

    def _write(self, data: bytes) -> None:
        """
        Write bytes to the consumer.

        :raises CancelledError: it takes nothing any more.
        """
        self._is_writing = True
        try:
            self._consumer.write(data)
        finally:
            self._is_writing = False
        if self._is_stopped:
            raise CancelledError

    def _look_ahead(self, position: int, length: int) -> None:
        """Have the next pieces fetched."""
        self._piece_length = self._content.layout[1] or length
        start = position - position % self._piece_length
        if start != self._wanted.start or not self._wanted.length:
            before, self._wanted = self._wanted, ByteRange(start=start, length=_AHEAD * self._piece_length)
            self._content.want(self._wanted)
            self._content.forget(before)
