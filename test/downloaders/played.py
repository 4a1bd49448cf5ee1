"""A downloader whose results the test supplies."""

from __future__ import annotations

from dataclasses import dataclass

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from dragonfly_vortex.downloaders.by_kind import ByKind
from dragonfly_vortex.errors import ParentUnreachable, PieceError, PoolClosed
from dragonfly_vortex.interfaces import DownloadPieceRequest, IDownloader
from dragonfly_vortex.model import DownloadPieceResponse
from dragonfly_vortex.testing.pieces import sample_piece
from dragonfly_vortex.transport.sinks import MemorySink

__all__ = ["PIECE", "Asked", "Played"]

PIECE = sample_piece(1000)
"""The piece that is asked for."""


@dataclass(kw_only=True)
class Asked:
    """
    A request that a downloader has had.

    :param result: what the downloader has given for it.
    """

    address: str
    request: DownloadPieceRequest
    result: Deferred[DownloadPieceResponse]

    def begin(self) -> None:
        """The first half of the piece arrives."""
        sink = self.sink
        sink.begin(PIECE.metadata)
        sink.write(PIECE.content[:500])

    def end(self) -> None:
        """The rest of the piece arrives."""
        sink = self.sink
        sink.write(PIECE.content[500:])
        self.result.callback(DownloadPieceResponse(metadata=PIECE.metadata, content=sink.finish()))

    def succeed(self) -> None:
        """The whole piece arrives."""
        self.begin()
        self.end()

    def fail(self, kind: type[PieceError] = ParentUnreachable, reason: str = "connection refused") -> None:
        """It fails."""
        self.result.errback(kind(self.address, PIECE.piece_id, reason))

    @property
    def sink(self) -> MemorySink:
        """Where the bytes go: what the downloader under test made of the one that it was given."""
        if self.request.sink is None:
            raise ValueError("expected a sink")
        return self.request.sink  # type: ignore[return-value]  # whatever it is, it is used as one


@implementer(IDownloader)
class Played(ByKind):
    """A downloader whose results the test supplies."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.cancelled = 0
        self.stopped = False

    def download(self, addr: str, request: DownloadPieceRequest) -> Deferred[DownloadPieceResponse]:
        def cancel(_: object) -> None:
            self.cancelled += 1

        asked = Asked(address=addr, request=request, result=Deferred(cancel))
        self.asked.append(asked)
        return asked.result

    def take(self) -> Asked:
        """The oldest request that has not been taken."""
        return self.asked.pop(0)

    def stop(self) -> Deferred[None]:
        self.stopped = True
        for asked in self.asked:
            if not asked.result.called:
                asked.result.errback(PoolClosed("stopped"))
        return succeed(None)
