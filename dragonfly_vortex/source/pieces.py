"""
The pieces of a task that has a source: cut from its content by Dragonfly's rule, with a digest that is computed as
their bytes come.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IConsumer, IProducer, IPushProducer, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from dragonfly_vortex.deferreds import add_deadline
from dragonfly_vortex.errors import (
    ParentRefused,
    ParentUnreachable,
    PieceError,
    PieceNotFound,
    PieceTimeout,
    RangesIgnored,
    SourceChanged,
    SourceError,
    SourceNotFound,
    SourceRefused,
    SourceTruncated,
    SourceUnavailable,
    StorageError,
    UnexpectedPiece,
)
from dragonfly_vortex.geometry import check_lengths, piece_count, piece_length_for, piece_span
from dragonfly_vortex.interfaces import DownloadPieceRequest, ISocketConsumer, ISource
from dragonfly_vortex.model import DownloadPieceResponse, SourceStat, piece_id
from dragonfly_vortex.source.stream import Flow, PieceStream, the_end
from dragonfly_vortex.transport.ratelimit import TokenBucket
from dragonfly_vortex.transport.receiver import PieceReceiver
from dragonfly_vortex.transport.sinks import MemorySink
from dragonfly_vortex.transport.splice import Splicer
from dragonfly_vortex.transport_table import HTTP
from dragonfly_vortex.wire import PieceMetadata, TrafficType

__all__ = ["SourcePieces"]

_PAUSE = 0.1
"""Seconds for which a failure to say anything is the answer to all, so that the source is not asked many times."""


class SourcePieces:
    """
    The pieces of one source.

    :param source: gives the bytes.
    :param clock: for time-outs, and for the rests that the limiter asks for.
    :param limiter: what all content is spent from.
    :param timeout: seconds in which the source says what it has. It is asked again when that is wanted again.
    :param piece_length: bytes of every piece but the last; None: by Dragonfly's rule.
    :param version: what is known already of the version of the content; empty for nothing. Another one is refused.
    :param splicer: moves content from plain sockets to files; None: all content is read. Its creator closes it.
    """

    def __init__(
        self,
        source: ISource,
        clock: IReactorTime,
        limiter: TokenBucket,
        *,
        timeout: float,
        piece_length: int | None = None,
        version: str = "",
        splicer: Splicer | None = None,
    ) -> None:
        self._source = source
        self._splicer = splicer
        self._timeout = timeout
        self._clock = clock
        self._limiter = limiter
        self._wanted_length = piece_length
        self._version = version
        self._stat: SourceStat | None = None
        self._asking: list[Deferred[SourceStat]] | None = None  # those that wait for the first answer
        self._coming: Deferred[SourceStat] | None = None  # that answer
        self._failure: Failure | None = None  # of the last request for it
        self._failed_until = 0.0  # it is not asked again before
        self._stream: PieceStream | None = None

    @property
    def version(self) -> str:
        """The version of the content; empty where it is not known, or where the source names none."""
        return self._version if self._stat is None else self._stat.version

    @property
    def piece_length(self) -> int | None:
        """Bytes of every piece but the last; None where the source has not been asked yet."""
        if self._stat is None:
            return None
        return self._wanted_length or piece_length_for(self._stat.content_length or 0)

    def stat(self) -> Deferred[SourceStat]:
        """
        The metadata of the source's content. The source is asked once; where that failed, again after a pause.

        :returns: fails with a :class:`~dragonfly_vortex.errors.SourceError`.
        """
        waiting: Deferred[SourceStat] = Deferred()
        if self._failure is not None and self._clock.seconds() < self._failed_until:
            if isinstance(self._failure.value, SourceUnavailable):
                self._failure.value.retry_after = self._failed_until - self._clock.seconds()
            waiting.errback(self._failure)
        elif self._stat is not None:
            waiting.callback(self._stat)
        elif self._asking is not None:
            self._asking.append(waiting)
        else:
            self._asking = [waiting]
            self._coming = self._source.stat().addTimeout(self._timeout, self._clock, self._no_answer)
            self._coming.addBoth(self._answered)
        return waiting

    def download(self, request: DownloadPieceRequest, timeout: float) -> Deferred[DownloadPieceResponse]:
        """See :meth:`~dragonfly_vortex.interfaces.IClient.download_piece`."""
        transfer = _Transfer(self._clock, self._limiter)
        result = Deferred.fromCoroutine(self._download(request, transfer))

        def since() -> float:
            return max(transfer.flow.progressed_at, self._stream.progressed_at if self._stream else float("-inf"))

        def too_late(outcome: DownloadPieceResponse | Failure) -> Failure:
            got = f"{transfer.receiver.received} bytes" if transfer.receiver is not None else "no answer"
            reason = f"expected some of the piece within {round(timeout, 3):g} s, got {got}"
            return Failure(PieceTimeout(self._source.name, self._piece_id(request), reason))

        return add_deadline(result, self._clock, timeout, since=since, too_late=too_late)

    def stop(self) -> Deferred[None]:
        """End what is under way."""
        if self._coming is not None:
            self._coming.cancel()
        if self._stream is not None:
            self._stream.stop()
        return self._source.stop()

    # -- one piece -----------------------------------------------------------------------------------------------------

    async def _download(self, request: DownloadPieceRequest, transfer: _Transfer) -> DownloadPieceResponse:
        try:
            stat = await self.stat()
            receiver = transfer.receiver = self._receiver(request, stat)
        except SourceError as error:
            raise self._error(request, error) from error
        try:
            await self._receive(request.number, stat, transfer)
            content = receiver.finish()
        except SourceError as error:
            receiver.fail()
            raise self._error(request, error) from error
        except BaseException:
            receiver.fail()
            raise
        return DownloadPieceResponse(
            metadata=receiver.metadata,
            content=content,
            waited=transfer.flow.rested,
            source_version=stat.version,
            transport=HTTP.name,
        )

    async def _receive(self, number: int, stat: SourceStat, transfer: _Transfer) -> None:
        """Have the bytes of a piece come, as a range or out of the stream."""
        receiver, metadata = transfer.taker, transfer.taker.metadata
        if stat.content_length is not None and not metadata.length:
            receiver.begin()
            return
        if stat.has_ranges and self._stream is None:
            receiver.begin()
            try:
                await self._receive_ranges(transfer, metadata)
                return
            except RangesIgnored:
                if receiver.received:
                    raise
                receiver.fail()
        if self._stream is None:
            self._stream = PieceStream(self._source, self.piece_length or 0, lambda: Flow(self._clock, self._limiter))
        await self._stream.fetch(number, receiver)

    async def _receive_ranges(self, transfer: _Transfer, metadata: PieceMetadata) -> None:
        """Have a range come; where the connection ends in the middle, what is missing of it."""
        received = -1
        while transfer.taker.received < metadata.length:
            if transfer.taker.received == received:
                raise SourceTruncated(self._source.name, f"expected more than {received} bytes of the piece, got none")
            received = transfer.taker.received
            try:
                await self._source.fetch(metadata.offset + received, metadata.length - received, transfer)
            except SourceTruncated:
                if transfer.taker.received == received:
                    raise

    def _receiver(self, request: DownloadPieceRequest, stat: SourceStat) -> PieceReceiver:
        """What takes a piece."""
        piece_length = self.piece_length or 0
        offset, length = request.number * piece_length, piece_length
        if stat.content_length is not None:
            if request.number >= piece_count(stat.content_length, piece_length):
                raise the_end(self._source.name, stat.content_length)
            offset, length = piece_span(request.number, stat.content_length, piece_length)
        metadata = PieceMetadata(
            number=request.number,
            offset=offset,
            length=length,
            digest="",
            traffic_type=TrafficType.BACK_TO_SOURCE,
            created_at=int(time.time()),
        )
        sink = MemorySink() if request.sink is None else request.sink
        name, task_id = self._source.name, request.task_id
        return PieceReceiver(name, task_id, metadata, sink, splicer=self._splicer, is_source=True)

    def _no_answer(self, _: object, timeout: float) -> Failure:
        reason = f"expected an answer within {round(timeout, 3):g} s, got none"
        return Failure(SourceUnavailable(self._source.name, reason))

    def _answered(self, result: SourceStat | Failure) -> None:
        """Pass the answer of the source, or its failure, to all that wait for it."""
        waiting, self._asking, self._coming = self._asking or [], None, None
        if isinstance(result, SourceStat):
            if self._version and result.version != self._version:
                reason = f"expected version {self._version}, got {result.version or '-'}"
                result = Failure(SourceChanged(self._source.name, reason))
            else:
                result = self._checked(result)
        if isinstance(result, SourceStat):
            self._stat = result
        if isinstance(result, Failure):
            asked = result.value.retry_after if isinstance(result.value, SourceUnavailable) else 0.0
            self._failure, self._failed_until = result, self._clock.seconds() + max(_PAUSE, asked)
        else:
            self._failure = None
        for each in waiting:
            if isinstance(result, Failure):
                each.errback(result)
            else:
                each.callback(result)

    def _checked(self, stat: SourceStat) -> SourceStat | Failure:
        """What the source has said, or a refusal of a content that has too many pieces."""
        try:
            check_lengths(stat.content_length, self._wanted_length or piece_length_for(stat.content_length or 0))
        except StorageError as error:
            return Failure(SourceRefused(self._source.name, str(error)))
        return stat

    # -- errors --------------------------------------------------------------------------------------------------------

    def _piece_id(self, request: DownloadPieceRequest) -> str:
        return piece_id(request.task_id, request.number)

    def _error(self, request: DownloadPieceRequest, error: SourceError) -> PieceError:
        """An error of a source as one of a parent's."""
        kind = next(kind for source, kind in _KINDS.items() if isinstance(error, source))
        failed = kind(self._source.name, self._piece_id(request), error.reason)
        if isinstance(error, SourceUnavailable):
            failed.retry_after = error.retry_after
        if isinstance(error, SourceNotFound) and isinstance(failed, PieceNotFound):
            failed.content_length = error.content_length
        return failed


_KINDS: dict[type[SourceError], Callable[[str, str, str], PieceError]] = {
    SourceNotFound: PieceNotFound,
    SourceRefused: ParentRefused,
    SourceChanged: UnexpectedPiece,
    SourceUnavailable: ParentUnreachable,
    SourceError: ParentUnreachable,
}
"""What a source's failure to give a piece is, as one of a parent's."""


@implementer(IConsumer, ISocketConsumer)
class _Transfer:
    """
    The bytes of one piece, on their way to its receiver.

    :param clock: for the rests.
    :param limiter: what all content is spent from.
    """

    def __init__(self, clock: IReactorTime, limiter: TokenBucket) -> None:
        self.flow = Flow(clock, limiter)
        self.receiver: PieceReceiver | None = None
        """Takes the bytes; None before the source has said what it has."""

    @property
    def taker(self) -> PieceReceiver:
        """The receiver, where there is one."""
        if self.receiver is None:
            raise CancelledError("no piece is received")
        return self.receiver

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """See :meth:`twisted.internet.interfaces.IConsumer.registerProducer`."""
        self.flow.begin(IPushProducer(producer))

    def unregisterProducer(self) -> None:
        """See :meth:`twisted.internet.interfaces.IConsumer.unregisterProducer`."""
        self.flow.end()

    def write(self, data: bytes) -> None:
        """See :meth:`twisted.internet.interfaces.IConsumer.write`."""
        self.flow.spend(len(data))
        self.taker.write(data)

    def take(self, sock: socket.socket, length: int) -> int:
        """See :meth:`~dragonfly_vortex.interfaces.ISocketConsumer.take`."""
        taken = self.taker.take(sock, min(length, self.flow.at_once))
        if taken:
            self.flow.spend(taken)
        return taken
