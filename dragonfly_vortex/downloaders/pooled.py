"""Pieces over a pool of clients, whatever the transport of those: what all downloaders are."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from zope.interface import implementer

from dragonfly_vortex.interfaces import (
    DownloadedPiece,
    DownloadPieceRequest,
    DownloadPieceResponse,
    IDownloader,
    IPieceSink,
)
from dragonfly_vortex.peer.pool import ClientPool
from dragonfly_vortex.wire import PieceKind

__all__ = ["PooledDownloader"]


@implementer(IDownloader)
class PooledDownloader:
    """
    Fetch pieces from any parent, each by the client that the pool has for its address.

    :param pool: the clients.
    :param piece_timeout: seconds that one piece may take.
    """

    def __init__(self, pool: ClientPool, piece_timeout: float) -> None:
        self._pool = pool
        self._piece_timeout = piece_timeout

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

    def download(self, addr: str, request: DownloadPieceRequest) -> Deferred[DownloadPieceResponse]:
        return self._pool.download_piece(addr, request, self._piece_timeout)

    def stop(self) -> Deferred[None]:
        return self._pool.stop()

    def _download(
        self, kind: PieceKind, addr: str, number: int, host_id: str, task_id: str, sink: IPieceSink | None
    ) -> Deferred[DownloadedPiece]:
        request = DownloadPieceRequest(kind=kind, task_id=task_id, number=number, host_id=host_id, sink=sink)
        return self.download(addr, request).addCallback(_as_downloaded)


def _as_downloaded(response: DownloadPieceResponse) -> DownloadedPiece:
    metadata = response.metadata
    return DownloadedPiece(content=response.content, offset=metadata.offset, digest=metadata.digest)
