"""
One piece over one way to its parent: :class:`Attempt` listens to what comes, and gives up a way that is silent for too
long while there is another one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

from dragonfly_vortex.downloaders.ways import Way
from dragonfly_vortex.errors import ParentUnreachable, PieceError, PieceTimeout
from dragonfly_vortex.interfaces import DownloadPieceRequest, IFileSink, IPieceSink
from dragonfly_vortex.model import DownloadPieceResponse, FilePlace, piece_id
from dragonfly_vortex.transport.sinks import MemorySink
from dragonfly_vortex.wire import PieceMetadata

__all__ = ["FIRST_WORDS", "Attempt"]

FIRST_WORDS = 5.0
"""Seconds in which something must come over TCP from a parent of which nothing has come that way before."""

_SHARE = 4
"""
One part in so many of the time for a piece is how long a way that works may be silent, while there is another one. A
parent of the reference may wait for a piece itself before it answers, and the other way needs time, too.
"""


class Attempt:
    """
    One piece over one way.

    :param clock: for how long the way is silent.
    :param way: how the parent is asked.
    :param request: what for.
    :param piece_timeout: seconds that the piece may take, over all ways together, where there is another way; None
        where this is the last one, and may be silent.
    """

    def __init__(
        self,
        clock: IReactorTime,
        way: Way,
        request: DownloadPieceRequest,
        piece_timeout: float | None = None,
    ) -> None:
        self.way = way
        self.round = way.round
        self._clock = clock
        self._request = request
        self._piece_timeout = piece_timeout if way.can_be_heard else None
        self._asked_at = clock.seconds()
        self._downloading: Deferred[DownloadPieceResponse] | None = None
        self._listening: IDelayedCall | None = None
        self._was_silent = False

    async def result(self) -> DownloadPieceResponse:
        """
        The piece.

        :raises ParentUnreachable: the way has failed, or has been silent for too long.
        """
        way, request = self.way, self._request
        sink = _HeardSink(MemorySink() if request.sink is None else request.sink, self._hear)
        is_trying = way.failed_at is not None and not way.is_tried
        way.is_tried |= is_trying
        try:
            self._downloading = way.downloader().download(way.address, replace(request, sink=sink))
            self._listen()
            return await self._downloading
        except CancelledError as error:
            if not self._was_silent:
                raise
            seconds = round(self._clock.seconds() - self._since(), 1)
            name = piece_id(request.task_id, request.number)
            raise ParentUnreachable(way.address, name, f"nothing came for {seconds:g} s") from error
        except (ParentUnreachable, PieceTimeout):
            raise
        except PieceError:
            self._hear()
            raise
        finally:
            if self._listening is not None and self._listening.active():
                self._listening.cancel()
            if is_trying:
                way.is_tried = False

    def _hear(self) -> None:
        """Something has come."""
        self.way.heard_at = self._clock.seconds()

    def _since(self) -> float:
        """Since when the way has been silent, as far as this piece goes."""
        return max(self._asked_at, self.way.heard_at or self._asked_at)

    def _listen(self) -> None:
        """Give up when the way has been silent for too long; look again when that may be."""
        if self._piece_timeout is None or self._downloading is None:
            return
        left = self._since() + self._patience(self._piece_timeout) - self._clock.seconds()
        if left > 0:
            self._listening = self._clock.callLater(left, self._listen)
        else:
            self._was_silent = True
            self._downloading.cancel()

    def _patience(self, piece_timeout: float) -> float:
        """Seconds that the way may be silent."""
        share = piece_timeout / _SHARE
        has_worked = self.way.heard_at is not None and self.way.failed_at is None
        return share if has_worked else min(FIRST_WORDS, share)


@implementer(IFileSink)
class _HeardSink:
    """
    A sink that tells when something comes for it. Whether it has a file is known by the one that it stands for.

    :param sink: where it goes.
    """

    def __init__(self, sink: IPieceSink, hear: Callable[[], None]) -> None:
        self._sink = sink
        self._file_sink: IFileSink | None = IFileSink(sink, None)
        self._hear = hear

    def begin(self, metadata: PieceMetadata) -> None:
        self._hear()
        self._sink.begin(metadata)

    def write(self, data: bytes | memoryview) -> None:
        self._hear()
        self._sink.write(data)

    def place(self) -> FilePlace | None:
        return None if self._file_sink is None else self._file_sink.place()

    def wrote(self, length: int) -> None:
        self._hear()
        if self._file_sink is not None:
            self._file_sink.wrote(length)

    def finish(self) -> object:
        return self._sink.finish()

    def fail(self) -> None:
        self._sink.fail()
