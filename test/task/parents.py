"""
Parents played in memory: an :class:`~dragonfly_vortex.interfaces.IDownloader` whose answers a test can hold back and
spoil.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from twisted.internet.defer import CancelledError, Deferred
from zope.interface import implementer

from dragonfly_vortex.errors import DigestMismatch, PieceError, PieceNotFound, PieceRefused, SinkFailed, UnexpectedPiece
from dragonfly_vortex.interfaces import DownloadPieceRequest, IDownloader, IPieceSink
from dragonfly_vortex.model import DownloadedPiece, DownloadPieceResponse, piece_id
from dragonfly_vortex.wire import PieceKind, PieceMetadata

__all__ = ["Asked", "PlayedDownloader", "PlayedParent"]

_CHUNK = 65536


@dataclass(kw_only=True)
class PlayedParent:
    """
    What a parent has, and what it does instead of giving it.

    :param content: the task's content, or a liar's.
    :param faults: errors for its first, second, … requests; None answers that request.
    :param lacks: numbers of pieces that it does not have though they are part of the content.
    :param shift: bytes that are added to each offset that it tells.
    :param spoils: numbers of pieces whose content does not have the digest that it names.
    :param repeats_id: see :class:`~dragonfly_vortex.model.DownloadPieceResponse`.
    """

    content: bytes
    piece_length: int
    faults: list[type[PieceError] | None] = field(default_factory=list)
    lacks: set[int] = field(default_factory=set)
    shift: int = 0
    spoils: set[int] = field(default_factory=set)
    repeats_id: bool = True

    def piece(self, number: int) -> tuple[PieceMetadata, memoryview] | None:
        """A piece and its bytes, None where there is none. Content of no bytes is one piece of no bytes."""
        start = number * self.piece_length
        if number in self.lacks or (start >= len(self.content) and number):
            return None
        data = memoryview(self.content)[start : start + self.piece_length]
        digest = f"crc32:{zlib.crc32(data)}"
        return PieceMetadata(number=number, offset=start + self.shift, length=len(data), digest=digest), data


@dataclass(kw_only=True, eq=False)
class Asked:
    """
    A request that has been made of a parent.

    :param answer: what the asker waits for.
    """

    addr: str
    request: DownloadPieceRequest
    answer: Deferred[DownloadPieceResponse]
    is_cancelled: bool = False


@implementer(IDownloader)
class PlayedDownloader:
    """
    Reaches only the parents that it is given.

    :param is_held: whether requests wait until the test calls :meth:`give`.
    """

    def __init__(self, parents: Mapping[str, PlayedParent], *, is_held: bool = False) -> None:
        self.parents = parents
        self.is_held = is_held
        self.asked: list[Asked] = []

    @property
    def numbers(self) -> list[int]:
        """The numbers that have been asked for, in order."""
        return [asked.request.number for asked in self.asked]

    @property
    def waiting(self) -> list[Asked]:
        """The requests that have no answer yet."""
        return [asked for asked in self.asked if not asked.answer.called]

    def download(self, addr: str, request: DownloadPieceRequest) -> Deferred[DownloadPieceResponse]:
        """Ask a parent; cancelling fails the sink, as every provider does it."""
        answer: Deferred[DownloadPieceResponse] = Deferred(lambda _: self._cancelled(asked))
        asked = Asked(addr=addr, request=request, answer=answer)
        self.asked.append(asked)
        if not self.is_held:
            self.give(asked)
        return answer

    def give(self, asked: Asked) -> None:
        """Answer a request as the parent does, with what a client makes of it."""
        parent, name = self.parents[asked.addr], piece_id(asked.request.task_id, asked.request.number)
        fault = parent.faults.pop(0) if parent.faults else None
        piece = parent.piece(asked.request.number)
        if fault is not None:
            asked.answer.errback(fault(asked.addr, name, "expected a piece, got a fault"))
        elif piece is None:
            asked.answer.errback(PieceNotFound(asked.addr, name, "expected the piece, got not found"))
        else:
            self._send(asked, name, *piece)

    def begin(self, asked: Asked) -> IPieceSink:
        """Announce a piece and send none of it."""
        sink = asked.request.sink
        piece = self.parents[asked.addr].piece(asked.request.number)
        if sink is None or piece is None:
            raise ValueError("expected a sink and a piece")
        sink.begin(piece[0])
        return sink

    def _send(self, asked: Asked, name: str, metadata: PieceMetadata, data: memoryview) -> None:
        """Have a piece arrive at its sink."""
        sink = asked.request.sink
        if sink is None:
            raise ValueError("expected a sink")
        try:
            sink.begin(metadata)
            for start in range(0, len(data), _CHUNK):
                sink.write(data[start : start + _CHUNK])
        except PieceRefused as refusal:
            asked.answer.errback(UnexpectedPiece(asked.addr, name, str(refusal)))
        except OSError as error:
            sink.fail()
            failed = SinkFailed(str(error))
            failed.__cause__ = error
            asked.answer.errback(failed)
        else:
            parent = self.parents[asked.addr]
            if asked.request.number in parent.spoils:
                sink.fail()
                asked.answer.errback(DigestMismatch(asked.addr, name, f"expected {metadata.digest}, got crc32:0"))
            else:
                content = sink.finish()
                asked.answer.callback(
                    DownloadPieceResponse(metadata=metadata, content=content, repeats_id=parent.repeats_id)
                )

    def _cancelled(self, asked: Asked) -> None:
        """A request has been cancelled."""
        asked.is_cancelled = True
        if asked.request.sink is not None:
            asked.request.sink.fail()
        asked.answer.errback(CancelledError())

    def download_piece(
        self, addr: str, number: int, host_id: str, task_id: str, sink: IPieceSink | None = None
    ) -> Deferred[DownloadedPiece]:
        return self._download(PieceKind.STANDARD, addr, number, host_id, task_id, sink)

    def download_persistent_piece(
        self, addr: str, number: int, host_id: str, task_id: str, sink: IPieceSink | None = None
    ) -> Deferred[DownloadedPiece]:
        return self._download(PieceKind.PERSISTENT, addr, number, host_id, task_id, sink)

    def download_persistent_cache_piece(
        self, addr: str, number: int, host_id: str, task_id: str, sink: IPieceSink | None = None
    ) -> Deferred[DownloadedPiece]:
        return self._download(PieceKind.PERSISTENT_CACHE, addr, number, host_id, task_id, sink)

    def stop(self) -> Deferred[None]:
        """Cancel what is under way."""
        for asked in self.waiting:
            asked.answer.cancel()
        stopped: Deferred[None] = Deferred()
        stopped.callback(None)
        return stopped

    def _download(
        self, kind: PieceKind, addr: str, number: int, host_id: str, task_id: str, sink: IPieceSink | None
    ) -> Deferred[DownloadedPiece]:
        """A piece of any kind, as content, offset and digest."""
        request = DownloadPieceRequest(kind=kind, task_id=task_id, number=number, host_id=host_id, sink=sink)
        return self.download(addr, request).addCallback(_as_piece)


def _as_piece(response: DownloadPieceResponse) -> DownloadedPiece:
    """What the three named methods give."""
    return DownloadedPiece(response.content, response.metadata.offset, response.metadata.digest)
