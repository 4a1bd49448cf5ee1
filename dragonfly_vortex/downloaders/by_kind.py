"""The three methods of :class:`~dragonfly_vortex.interfaces.IDownloader` that have a kind in their names, as one."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from dragonfly_vortex.interfaces import DownloadPieceRequest, IPieceSink
from dragonfly_vortex.model import DownloadedPiece, DownloadPieceResponse
from dragonfly_vortex.wire import PieceKind

__all__ = ["ByKind"]


class ByKind:
    """The base class of downloaders: the design document's methods, each over :meth:`download`."""

    def download_piece(
        self, addr: str, number: int, host_id: str, task_id: str, sink: IPieceSink | None = None
    ) -> Deferred[DownloadedPiece]:
        return self._download_kind(PieceKind.STANDARD, addr, number, host_id, task_id, sink)

    def download_persistent_piece(
        self, addr: str, number: int, host_id: str, task_id: str, sink: IPieceSink | None = None
    ) -> Deferred[DownloadedPiece]:
        return self._download_kind(PieceKind.PERSISTENT, addr, number, host_id, task_id, sink)

    def download_persistent_cache_piece(
        self, addr: str, number: int, host_id: str, task_id: str, sink: IPieceSink | None = None
    ) -> Deferred[DownloadedPiece]:
        return self._download_kind(PieceKind.PERSISTENT_CACHE, addr, number, host_id, task_id, sink)

    def download(self, addr: str, request: DownloadPieceRequest) -> Deferred[DownloadPieceResponse]:
        """See :meth:`~dragonfly_vortex.interfaces.IDownloader.download`."""
        raise NotImplementedError

    def _download_kind(
        self, kind: PieceKind, addr: str, number: int, host_id: str, task_id: str, sink: IPieceSink | None
    ) -> Deferred[DownloadedPiece]:
        request = DownloadPieceRequest(kind=kind, task_id=task_id, number=number, host_id=host_id, sink=sink)
        return self.download(addr, request).addCallback(_as_downloaded)


def _as_downloaded(response: DownloadPieceResponse) -> DownloadedPiece:
    metadata = response.metadata
    return DownloadedPiece(content=response.content, offset=metadata.offset, digest=metadata.digest)
