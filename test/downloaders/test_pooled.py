"""What downloaders share, over a pool of clients that note what they are asked for."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from dragonfly_vortex.downloaders.pooled import PooledDownloader
from dragonfly_vortex.errors import PoolClosed
from dragonfly_vortex.interfaces import DownloadPieceRequest, IClient, IDownloader
from dragonfly_vortex.model import DownloadPieceResponse
from dragonfly_vortex.transport.sinks import MemorySink
from dragonfly_vortex.vortex.client_pool import ClientPool
from dragonfly_vortex.wire import PieceKind, PieceMetadata


@implementer(IClient)
class _Noting:
    """A client that gives the same piece for every request."""

    def __init__(self, address: str, asked: list[tuple[str, DownloadPieceRequest, float]]) -> None:
        self._address = address
        self._asked = asked

    def download_piece(self, request: DownloadPieceRequest, timeout: float) -> Deferred[DownloadPieceResponse]:
        self._asked.append((self._address, request, timeout))
        metadata = PieceMetadata(number=request.number, offset=70, length=3, digest="crc32:1")
        return succeed(DownloadPieceResponse(metadata=metadata, content=b"abc"))

    def stop(self) -> Deferred[None]:
        return succeed(None)


class PooledDownloaderTests(SynchronousTestCase):
    """A downloader turns its arguments into a request, and the response into content, offset and digest."""

    def setUp(self) -> None:
        self.asked: list[tuple[str, DownloadPieceRequest, float]] = []
        clock = Clock()
        self.pool = ClientPool(lambda address: _Noting(address, self.asked), clock)
        self.downloader = PooledDownloader(self.pool, 12.5)

    def test_provides_the_interface(self) -> None:
        """It has the interface's methods."""
        verifyObject(IDownloader, self.downloader)
        self.successResultOf(self.downloader.stop())

    def test_arguments(self) -> None:
        """Each method asks for its own kind, and passes everything else on."""
        sink = MemorySink()
        for kind, method in (
            (PieceKind.STANDARD, self.downloader.download_piece),
            (PieceKind.PERSISTENT, self.downloader.download_persistent_piece),
            (PieceKind.PERSISTENT_CACHE, self.downloader.download_persistent_cache_piece),
        ):
            got = self.successResultOf(method("127.0.0.1:4000", 7, "host", "task", sink))
            self.assertEqual(got, (b"abc", 70, "crc32:1"))
            address, request, timeout = self.asked.pop()
            expected = DownloadPieceRequest(kind=kind, task_id="task", number=7, host_id="host")
            self.assertEqual((address, request, timeout), ("127.0.0.1:4000", expected, 12.5))
            self.assertIs(request.sink, sink)
        self.successResultOf(self.downloader.stop())

    def test_stop(self) -> None:
        """Stopping stops the pool."""
        self.successResultOf(self.downloader.stop())
        self.failureResultOf(self.downloader.download_piece("127.0.0.1:4000", 0, "", "task"), PoolClosed)

    def test_stopped(self) -> None:
        """What the connections shared is closed when the pool has stopped, and not before."""
        stopping: Deferred[None] = Deferred()
        told: list[bool] = []

        class Slow(_Noting):
            """A client that takes its time."""

            def stop(self) -> Deferred[None]:
                return stopping

        pool = ClientPool(lambda address: Slow(address, self.asked), Clock())
        downloader = PooledDownloader(pool, 12.5, stopped=lambda: told.append(True))
        self.successResultOf(downloader.download_piece("127.0.0.1:4000", 7, "", "task"))
        stopped = downloader.stop()
        self.assertEqual(told, [])
        stopping.callback(None)
        self.successResultOf(stopped)
        self.assertEqual(told, [True])
        self.successResultOf(self.downloader.stop())
