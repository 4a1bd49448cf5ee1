"""
A task that a program downloads into its own peer: the end, the events, ranges that come first, and the content in
order.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import AsyncIterator, Callable
from functools import partial

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IConsumer, IPushProducer, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from dragonfly_vortex.daemon.downloads import Downloads
from dragonfly_vortex.daemon.shared_download import Wishes
from dragonfly_vortex.errors import NotStored
from dragonfly_vortex.events import DownloadedTask, DownloadEvent, DownloadFailed, DownloadFinished, PieceKept
from dragonfly_vortex.files import read_exactly
from dragonfly_vortex.model import ArrivedPiece, ByteRange, FileRange, StoredTask, TaskRequest, piece_id
from dragonfly_vortex.storage.reactor.store import PieceStore
from dragonfly_vortex.wire import PieceKind

__all__ = ["Download"]

_BLOCK = 1024 * 1024
"""Bytes that a consumer gets at once."""

_AHEAD = 8
"""Pieces that are fetched before a consumer has taken those in front of them."""

_NOTHING = ByteRange(start=0, length=0)


class Download:
    """
    A download of a running peer. The content goes into the peer's storage, where it stays, and is verified piece by
    piece before anything reads it; with a digest of the whole, that is verified at the end.

    :param downloads: the peer's downloads.
    :param store: the peer's storage.
    :param request: which task.
    :param clock: for the next turn of the reactor, in which code that waits goes on.
    :param whole: whether all of it is wanted. Otherwise only what :meth:`read` and :meth:`feed` ask for is fetched, and
        the first piece, with which the length of the content becomes known.
    """

    def __init__(
        self, downloads: Downloads, store: PieceStore, request: TaskRequest, clock: IReactorTime, *, whole: bool
    ) -> None:
        self.done: Deferred[DownloadedTask] = Deferred(lambda _: self._cancel())
        """
        Fires with the result when all of the task is in the storage. Fails as
        :meth:`~dragonfly_vortex.task.download.TaskDownload.start` does, with
        :class:`~dragonfly_vortex.errors.NoParentKnown`, and with ``CancelledError`` when it is cancelled. Cancelling it
        ends the download, unless another one wants the same task.
        """
        self._downloads = downloads
        self._store = store
        self._request = request
        self._clock = clock
        self._unread: tuple[ByteRange, ...] = () if whole else (_NOTHING,)  # the wish while nothing is read
        self._wishes = Wishes(self._unread, is_all=whole)
        self._wanted: list[ByteRange] = []  # what readers wait for
        self._pieces: dict[int, ArrivedPiece] = {}
        self._layout: tuple[int | None, int | None] = (None, None)  # of content and pieces, in bytes
        self._events: list[_Events] = []  # that have not ended
        self._changed: list[Deferred[None]] = []  # fire at the next piece, or the end
        self._result: DownloadedTask | None = None
        self._outcome: DownloadedTask | Failure | None = None
        self._downloading: Deferred[StoredTask] | None = None

    @property
    def task_id(self) -> str:
        """The task's ID."""
        return self._request.task_id

    @property
    def kind(self) -> PieceKind:
        """The kind of the task."""
        return self._request.kind

    def start(self) -> None:
        """Begin. The peer calls it."""
        self._downloads.listeners.append(self._hear)
        self._downloading = self._downloads.download(self._request, self._arrived, self._wishes)
        self._downloading.addCallbacks(self._complete, self._fail)

    def cancel(self) -> None:
        """End the download, unless it has ended: :attr:`done` fails with ``CancelledError``."""
        self.done.cancel()

    def close(self) -> None:
        """As :meth:`cancel`, for a program that does not look at :attr:`done`."""
        self.done.addErrback(lambda failure: failure.trap(CancelledError) and None)
        self.cancel()

    # -- events

    def __aiter__(self) -> AsyncIterator[DownloadEvent]:
        """
        The events from now on; see :mod:`dragonfly_vortex.events`. They end with a ``DownloadFinished`` or a
        ``DownloadFailed``. An iterator that is made in the same turn of the reactor as the download misses none. Those
        that are not taken yet wait in memory.
        """
        events = _Events(self._wake)
        if self._outcome is None:
            self._events.append(events)
        else:
            events.add(self._last_event())
        return events

    def _hear(self, request: TaskRequest, event: DownloadEvent) -> None:
        """Pass on an event of the task. The last one of this download is passed on by its end."""
        if (request.kind, request.task_id) != (self.kind, self.task_id):
            return
        if isinstance(event, DownloadFinished):
            self._result = event.task
        elif not isinstance(event, DownloadFailed):
            for events in self._events:
                events.add(event)

    def _last_event(self) -> DownloadEvent:
        outcome = self._outcome
        if isinstance(outcome, DownloadedTask):
            return DownloadFinished(task=outcome)
        error = outcome.value if outcome is not None else CancelledError()
        return DownloadFailed(error=type(error).__name__, reason=str(error))

    # -- what comes

    def _arrived(self, piece: ArrivedPiece) -> None:
        """A piece is in the storage."""
        self._pieces[piece.metadata.number] = piece
        self._layout = (piece.content_length or self._layout[0], piece.piece_length or self._layout[1])
        if piece.content_length == 0:
            self._layout = (0, piece.piece_length)
        self._change()

    def _complete(self, task: StoredTask) -> None:
        """All of the task is in the storage."""
        result = self._result
        if result is None:  # it was there, so that nothing was downloaded
            result = DownloadedTask(
                task_id=task.task_id,
                content_length=task.content_length or 0,
                piece_length=task.piece_length,
                piece_count=len(self._pieces),
                seconds=0.0,
                left_to_hash=0,
                shares=(),
                found_piece_count=len(self._pieces),
                digest=task.digest,
            )
            self._report_found(task)
        self._layout = (task.content_length, task.piece_length)
        self._end(result)

    def _report_found(self, task: StoredTask) -> None:
        """Report the pieces of a task that was in the storage."""
        kept = 0
        for count, number in enumerate(sorted(self._pieces), start=1):
            metadata = self._pieces[number].metadata
            kept += metadata.length
            event = PieceKept(
                number=number,
                offset=metadata.offset,
                length=metadata.length,
                digest=metadata.digest,
                kept_bytes=kept,
                kept_pieces=count,
                content_length=task.content_length,
            )
            for events in self._events:
                events.add(event)

    def _fail(self, failure: Failure) -> None:
        self._end(failure)

    def _cancel(self) -> None:
        if self._downloading is not None:
            self._downloading.cancel()

    def _end(self, outcome: DownloadedTask | Failure) -> None:
        """The download is over."""
        self._outcome = outcome
        self._downloads.listeners.remove(self._hear)
        ended, self._events = self._events, []
        for events in ended:
            events.add(self._last_event())
        self._change()
        self.done.callback(outcome)  # a Failure is taken as one

    def _change(self) -> None:
        """Something has come, or the end."""
        changed, self._changed = self._changed, []
        for each in changed:
            self._wake(each)

    def _wake(self, waiting: Deferred[None]) -> None:
        """
        Fire a Deferred in the next turn of the reactor. A program's code that waits for it may cancel the download,
        whose own coroutine may be running now: one that is cancelled from inside itself ends too early.
        """

        def fire() -> None:
            if not waiting.called:  # not cancelled meanwhile
                waiting.callback(None)

        self._clock.callLater(0, fire)

    def _next_change(self) -> Deferred[None]:
        change: Deferred[None] = Deferred()
        self._changed.append(change)
        return change

    # -- reading

    def size(self) -> Deferred[int]:
        """
        The length of the content.

        :returns: fires with bytes as soon as it is known; fails as the download.
        """
        return Deferred.fromCoroutine(self._size())

    def read(self, offset: int = 0, length: int | None = None) -> Deferred[bytes]:
        """
        Read a range. Its pieces are fetched before all others.

        :param offset: the first byte.
        :param length: bytes; None for all to the end. What is behind the end is left out.
        :returns: fires with the bytes, which are in memory then, when their pieces have come; fails as the download.
            Cancelling it ends the reading, and not the download.
        :raises ValueError: the range is none.
        """
        if offset < 0 or (length is not None and length < 0):
            raise ValueError(f"expected an offset and a length of at least 0, got {offset} and {length}")
        return Deferred.fromCoroutine(self._read(offset, length))

    def feed(self, consumer: IConsumer) -> Deferred[int]:
        """
        Write the content to a consumer, in order, as it comes. A push producer is registered meanwhile. While the
        consumer takes nothing, at most a few pieces are fetched ahead, unless the whole task is wanted in any case.

        :param consumer: for example a transport.
        :returns: fires with the number of bytes when all have been written; fails as the download, and with
            ``ConnectionLost`` or the like where the consumer stops. Cancelling it ends the writing.
        """
        return _Feed(self, consumer).start()

    async def _size(self) -> int:
        while (length := self._layout[0]) is None:
            await self._progress()
        return length

    async def _progress(self) -> None:
        """
        Wait for a piece, or the end.

        :raises NotStored: the download has ended, and what is wanted has been removed since.
        """
        if isinstance(self._outcome, Failure):
            self._outcome.raiseException()
        if self._outcome is not None:
            raise NotStored(f"task {self.task_id}: expected a piece of a complete task, it has been removed")
        await self._next_change()

    async def _read(self, offset: int, length: int | None) -> bytes:
        wanted = ByteRange(start=offset, length=length)
        self._want(wanted)
        try:
            blocks = []
            first, end = wanted.within(await self._size())
            while first < end:
                data = await self._read_piece(first, end)
                blocks.append(data)
                first += len(data)
            return b"".join(blocks)
        finally:
            self._forget(wanted)

    async def _read_piece(self, start: int, end: int) -> bytes:
        """The bytes of one piece from a position on, when it has come."""
        while True:
            piece_length = self._layout[1]
            number = start // piece_length if piece_length else 0
            piece = self._pieces.get(number)
            if piece is None:
                if isinstance(self._outcome, DownloadedTask):  # nothing comes any more
                    raise NotStored(f"piece {piece_id(self.task_id, number)} not found")
                await self._progress()
                continue
            try:
                skipped = start - piece.metadata.offset
                length = min(end - start, piece.metadata.length - skipped)
                opened = await self._store.open_piece(self.kind, self.task_id, number, skipped, length)
            except NotStored:
                if self._outcome is not None:
                    raise
                if self._pieces.get(number) is piece:  # not removed by another reader, nor fetched again
                    del self._pieces[number]  # it was wrong, and will be fetched again
                continue
            return await self._downloads.in_thread(partial(_read_and_close, opened.range))

    def _want(self, wanted: ByteRange) -> None:
        """Have a range come first."""
        self._wanted.append(wanted)
        self._wishes.change(tuple(self._wanted))

    def _forget(self, wanted: ByteRange) -> None:
        """A range is not waited for any more."""
        self._wanted.remove(wanted)
        self._wishes.change(tuple(self._wanted) or self._unread)


def _read_and_close(place: FileRange) -> bytes:
    """Read a range, in a thread."""
    try:
        data = bytearray(place.length)
        read_exactly(place.descriptor, memoryview(data), place.offset)
        return bytes(data)
    finally:
        os.close(place.descriptor)


class _Events(AsyncIterator[DownloadEvent]):
    """
    Events that wait to be taken.

    :param wake: fires the Deferred of a program's code that waits for an event.
    """

    def __init__(self, wake: Callable[[Deferred[None]], None]) -> None:
        self._wake = wake
        self._events: deque[DownloadEvent] = deque()
        self._is_over = False
        self._added: Deferred[None] | None = None

    def add(self, event: DownloadEvent) -> None:
        """Add an event."""
        self._events.append(event)
        added, self._added = self._added, None
        if added is not None:
            self._wake(added)

    async def __anext__(self) -> DownloadEvent:
        if self._is_over:
            raise StopAsyncIteration
        while not self._events:
            self._added = Deferred()
            await self._added
        event = self._events.popleft()
        self._is_over = isinstance(event, (DownloadFinished, DownloadFailed))
        return event


@implementer(IPushProducer)
class _Feed:
    """
    Writes the content of a download to a consumer.

    :param download: whose private methods it uses.
    """

    def __init__(self, download: Download, consumer: IConsumer) -> None:
        self._download = download
        self._consumer = consumer
        self._wanted = _NOTHING
        self._running: Deferred[int] | None = None
        self._resumed: Deferred[None] | None = None  # fires when the consumer takes more; None while it does
        self._is_writing = False
        self._is_stopped = False

    def start(self) -> Deferred[int]:
        """See :meth:`Download.feed`."""
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
        self._download._want(self._wanted)
        try:
            if self._is_stopped:  # as it was registered
                raise CancelledError
            length = await self._download._size()
            while position < length:
                while self._resumed is not None:
                    await self._resumed
                self._look_ahead(position, length)
                data = await self._download._read_piece(position, min(length, position + _BLOCK))
                self._write(data)
                position += len(data)
            return position
        except CancelledError:
            if self._is_stopped:
                raise ConnectionLost(f"the consumer stopped after {position} of the bytes") from None
            raise
        finally:
            self._download._forget(self._wanted)
            if not self._is_stopped:
                self._consumer.unregisterProducer()

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
        piece_length = self._download._layout[1] or length
        start = position - position % piece_length
        if start != self._wanted.start or not self._wanted.length:
            before, self._wanted = self._wanted, ByteRange(start=start, length=_AHEAD * piece_length)
            self._download._want(self._wanted)
            self._download._forget(before)
