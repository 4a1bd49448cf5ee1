"""
A task that a program downloads into its own peer: the end, the events, ranges that come first, and the content in
order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IConsumer, IReactorTime
from twisted.python.failure import Failure

from dragonfly_vortex.daemon.downloads import Downloads
from dragonfly_vortex.daemon.task_content import Feed, TaskContent
from dragonfly_vortex.events import (
    DownloadedTask,
    DownloadEvent,
    DownloadFailed,
    DownloadFinished,
    PieceKept,
    PiecesDropped,
)
from dragonfly_vortex.model import StoredTask, TaskRequest
from dragonfly_vortex.storage.reactor.store import PieceStore
from dragonfly_vortex.wire import PieceKind

__all__ = ["Download"]


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
        self._done: Deferred[DownloadedTask] | None = None
        self._downloads = downloads
        self._request = request
        self._clock = clock
        self._content = TaskContent(store, request, downloads.in_thread, self._wake, whole=whole)
        self._events: list[_Events] = []  # that have not ended
        self._result: DownloadedTask | None = None
        self._outcome: DownloadedTask | Failure | None = None
        self._downloading: Deferred[StoredTask] | None = None

    @property
    def done(self) -> Deferred[DownloadedTask]:
        """
        Fires with the result when all of the task is in the storage. Fails as
        :meth:`~dragonfly_vortex.task.download.TaskDownload.start` does, with
        :class:`~dragonfly_vortex.errors.NoParentKnown`, and with ``CancelledError`` when it is cancelled. Cancelling it
        ends the download, unless another one wants the same task. It is made when it is first wanted: the failure of a
        program that takes the events, or reads, is no unhandled error.
        """
        if self._done is None:
            self._done = Deferred(lambda _: self._cancel())
            if self._outcome is not None:
                self._done.callback(self._outcome)  # a Failure is taken as one
        return self._done

    @property
    def task_id(self) -> str:
        """The task's ID."""
        return self._request.task_id

    @property
    def kind(self) -> PieceKind:
        """The kind of the task."""
        return self._request.kind

    def start(self) -> None:
        """Start the download. The peer calls this method."""
        self._downloads.listeners.append(self._hear)
        self._downloading = self._downloads.download(self._request, self._content.add, self._content.wishes)
        self._downloading.addCallbacks(self._complete, self._fail)

    def cancel(self) -> None:
        """End the download, unless it has ended: :attr:`done` fails with ``CancelledError``."""
        if self._done is None:
            self._cancel()
        else:
            self._done.cancel()

    def close(self) -> None:
        """As :meth:`cancel`, for a program that does not wait for :attr:`done` any more."""
        if self._done is not None:
            self._done.addErrback(lambda failure: failure.trap(CancelledError) and None)
        self.cancel()

    # -- events

    def __aiter__(self) -> _Events:
        """
        The events from now on; see :mod:`dragonfly_vortex.events`. They end with a ``DownloadFinished`` or a
        ``DownloadFailed``. An iterator that is made in the same turn of the reactor as the download misses none. Those
        that are not taken yet wait in memory until the download ends; a program that takes no more of them before
        closes the iterator (``contextlib.aclosing``).
        """
        events = _Events(self._wake, self._ignore)
        if self._outcome is None:
            self._events.append(events)
        else:
            events.add(self._last_event())
        return events

    def _ignore(self, events: _Events) -> None:
        """Add no more events to an iterator."""
        if events in self._events:
            self._events.remove(events)

    def _hear(self, request: TaskRequest, event: DownloadEvent) -> None:
        """Pass on an event of the task. The last one of this download is passed on by its end."""
        if (request.kind, request.task_id) != (self.kind, self.task_id):
            return
        if isinstance(event, PiecesDropped):
            self._content.drop(event.numbers)
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

    def _complete(self, task: StoredTask) -> None:
        """Fire the result: all of the task is in the storage."""
        result = self._result
        if result is None:  # it was there, so that nothing was downloaded
            result = DownloadedTask(
                task_id=task.task_id,
                content_length=task.content_length or 0,
                piece_length=task.piece_length,
                piece_count=len(self._content.pieces),
                seconds=0.0,
                left_to_hash=0,
                shares=(),
                found_piece_count=len(self._content.pieces),
                digest=task.digest,
            )
            self._report_found(task)
        self._content.layout = (task.content_length, task.piece_length)
        self._end(result)

    def _report_found(self, task: StoredTask) -> None:
        """Report the pieces of a task that was in the storage."""
        kept = 0
        for count, number in enumerate(sorted(self._content.pieces), start=1):
            metadata = self._content.pieces[number].metadata
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
        """End the events, the content and the result with the outcome of the download."""
        self._outcome = outcome
        self._downloads.listeners.remove(self._hear)
        ended, self._events = self._events, []
        for events in ended:
            events.add(self._last_event())
        self._content.end(outcome)
        if self._done is not None:
            self._done.callback(outcome)

    def _wake(self, waiting: Deferred[None]) -> None:
        """
        Fire a Deferred in the next turn of the reactor. A program's code that waits for it may cancel the download,
        whose own coroutine may be running now: one that is cancelled from inside itself ends too early.
        """

        def fire() -> None:
            if not waiting.called:  # not cancelled meanwhile
                waiting.callback(None)

        self._clock.callLater(0, fire)

    # -- reading

    def size(self) -> Deferred[int]:
        """
        The length of the content.

        :returns: fires with bytes as soon as it is known; fails as the download.
        """
        return Deferred.fromCoroutine(self._content.size())

    def read(self, offset: int = 0, length: int | None = None) -> Deferred[bytes]:
        """
        Read a range. Its pieces are fetched before all others.

        :param offset: the first byte.
        :param length: bytes; None for all to the end. What is behind the end is left out.
        :returns: fires with the bytes, which are in memory then, when their pieces have arrived; fails as the download.
            Cancelling it ends the reading, and not the download. When pieces are dropped, for example because the
            source has another version now, it reads the range from its beginning.
        :raises ValueError: the range is none.
        """
        if offset < 0 or (length is not None and length < 0):
            raise ValueError(f"expected an offset and a length of at least 0, got {offset} and {length}")
        return Deferred.fromCoroutine(self._content.read(offset, length))

    def feed(self, consumer: IConsumer) -> Deferred[int]:
        """
        Write the content to a consumer, in order, as it comes. A push producer is registered meanwhile. While the
        consumer takes nothing, at most a few pieces are fetched ahead, unless the whole task is wanted in any case.

        :param consumer: for example a transport.
        :returns: fires with the number of bytes when all have been written; fails as the download, with
            :class:`~dragonfly_vortex.errors.TaskChanged` where a piece is dropped that was written, and with
            ``ConnectionLost`` or the like where the consumer stops. Cancelling it ends the writing.
        """
        return Feed(self._content, consumer).start()


class _Events(AsyncIterator[DownloadEvent]):
    """
    Events that wait to be taken.

    :param wake: fires the Deferred of a program's code that waits for an event.
    :param closed: called when no more events are wanted.
    """

    def __init__(self, wake: Callable[[Deferred[None]], None], closed: Callable[[_Events], None]) -> None:
        self._wake = wake
        self._closed = closed
        self._events: deque[DownloadEvent] = deque()
        self._is_over = False
        self._added: Deferred[None] | None = None

    def add(self, event: DownloadEvent) -> None:
        """Add an event."""
        self._events.append(event)
        self._go_on()

    async def aclose(self) -> None:
        """Take no more events. Code that waits for one gets none."""
        self._is_over = True
        self._events.clear()
        self._closed(self)
        self._go_on()

    def _go_on(self) -> None:
        """Resume the code that waits for an event."""
        added, self._added = self._added, None
        if added is not None:
            self._wake(added)

    async def __anext__(self) -> DownloadEvent:
        while not self._events:
            if self._is_over:
                raise StopAsyncIteration
            self._added = Deferred()
            await self._added
        event = self._events.popleft()
        self._is_over = isinstance(event, (DownloadFinished, DownloadFailed))
        return event
