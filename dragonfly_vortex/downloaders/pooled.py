"""The downloaders of one transport: each takes its clients from a pool."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from zope.interface import implementer

from dragonfly_vortex.downloaders.by_kind import ByKind
from dragonfly_vortex.interfaces import DownloadPieceRequest, IDownloader
from dragonfly_vortex.model import DownloadPieceResponse
from dragonfly_vortex.vortex.client_pool import ClientPool

__all__ = ["GRPCDownloader", "PooledDownloader", "TCPDownloader"]


@implementer(IDownloader)
class PooledDownloader(ByKind):
    """
    Fetch pieces from any parent, each by the client that the pool has for its address.

    :param pool: the clients.
    :param piece_timeout: seconds that one piece may take.
    :param stopped: called when all connections have ended, to close what they shared.
    """

    def __init__(self, pool: ClientPool, piece_timeout: float, *, stopped: Callable[[], None] = lambda: None) -> None:
        self._pool = pool
        self._piece_timeout = piece_timeout
        self._stopped = stopped

    def download(self, addr: str, request: DownloadPieceRequest) -> Deferred[DownloadPieceResponse]:
        return self._pool.download_piece(addr, request, self._piece_timeout)

    def stop(self) -> Deferred[None]:
        return self._pool.stop().addCallback(lambda _: self._stopped())


class TCPDownloader(PooledDownloader):
    """
    Fetch pieces from any parent over TCP: its pool has a :class:`~dragonfly_vortex.vortex.client.TCPClient` for each.
    """


class GRPCDownloader(PooledDownloader):
    """
    Fetch pieces from any parent over gRPC: its pool has a :class:`~dragonfly_vortex.rpc.client.GRPCClient` for each.
    """
