"""
The downloaders of one transport ask their pool for the right piece, and keep the contract of downloaders.

The TCP downloader meets a parent that keeps connections and one that does not, the gRPC downloader a parent that speaks
the legacy methods by hand.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTCP, IReactorTime
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from dragonfly_vortex.config import Config, DownloadConfig, TLSConfig
from dragonfly_vortex.downloaders.factory import DownloaderFactory
from dragonfly_vortex.downloaders.pooled import GRPCDownloader, PooledDownloader
from dragonfly_vortex.errors import PoolClosed
from dragonfly_vortex.interfaces import DownloadPieceRequest, IClient, IDownloader
from dragonfly_vortex.model import DownloadPieceResponse
from dragonfly_vortex.testing.contract_parent import Offer, VortexContractParent
from dragonfly_vortex.testing.downloader_contract import DownloaderContract
from dragonfly_vortex.testing.pieces import TASK_ID, sample_piece
from dragonfly_vortex.transport.sinks import MemorySink
from dragonfly_vortex.transport.tls import server_tls_from
from dragonfly_vortex.vortex.client_pool import ClientPool
from dragonfly_vortex.wire import PieceKind, PieceMetadata
from test.certificates import Authority
from test.layout import PACKAGE, layer_of, module_name, sources
from test.rpc.legacy_parent import LegacyParent


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


class KeepingParentTests(DownloaderContract, TestCase):
    """With a parent that keeps its connections open, as this package's does."""

    clock = IReactorTime(reactor)
    closes = False

    def config(self) -> Config:
        """The downloader's, but for what the contract asks."""
        return Config()

    def make_downloader(self, piece_timeout: float) -> IDownloader:
        config = replace(self.config(), download=DownloadConfig(piece_timeout=piece_timeout))
        return DownloaderFactory("tcp", config, reactor=IReactorTCP(reactor)).build()

    def make_parent(self, offers: Iterable[Offer]) -> VortexContractParent:
        parent = VortexContractParent(IReactorTCP(reactor), offers, closes=self.closes)
        parent.start()
        self.addCleanup(parent.stop)
        return parent


class ClosingParentTests(KeepingParentTests):
    """With a parent that closes after each reply and echoes no packet ID, as the reference's does."""

    closes = True


class UnderTLSTests(KeepingParentTests):
    """With a parent that speaks TLS, and wants to see a certificate."""

    def setUp(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir()
        self.authority = Authority(directory)
        self.peer = self.authority.issue()

    def config(self) -> Config:
        return Config(tls=TLSConfig(cert=self.peer.certificate, key=self.peer.key, ca_cert=self.authority.file))

    def make_parent(self, offers: Iterable[Offer]) -> VortexContractParent:
        tls = server_tls_from(self.peer.identity(self.authority.file))
        parent = VortexContractParent(IReactorTCP(reactor), offers, closes=self.closes, tls=tls)
        parent.start()
        self.addCleanup(parent.stop)
        return parent


class ClosingUnderTLSTests(UnderTLSTests):
    """With a parent that speaks TLS, and closes after each reply."""

    closes = True


class LegacyParentTests(DownloaderContract, TestCase):
    """With a parent whose messages are written by hand, from the fields of before January 2026."""

    clock = IReactorTime(reactor)

    def make_downloader(self, piece_timeout: float) -> IDownloader:
        config = Config(download=DownloadConfig(piece_timeout=piece_timeout))
        return DownloaderFactory("grpc", config, reactor=IReactorTCP(reactor)).build()

    def make_parent(self, offers: Iterable[Offer]) -> LegacyParent:
        parent = LegacyParent(reactor, offers)
        parent.start()
        self.addCleanup(parent.stop)
        return parent

    def test_is_a_grpc_downloader(self) -> None:
        """The factory gives what its name says."""
        self.assertIsInstance(self.downloader(), GRPCDownloader)

    async def test_leaves_no_connection(self) -> None:
        """Stopping ends the connection to the parent."""
        piece = sample_piece(10)
        parent = self.make_parent([Offer(piece=piece)])
        downloader = self.make_downloader(10)
        self.assert_piece(await downloader.download_piece(parent.address, 0, "", TASK_ID), piece)
        self.assertEqual(parent.road.connections, 1)
        await downloader.stop()
        await parent.road.until_empty()


class ImportTests(SynchronousTestCase):
    """gRPC is not loaded before its first use."""

    def test_not_before_it_is_needed(self) -> None:
        """A program that has imported everything but what is for gRPC alone has loaded none of gRPC's packages."""
        root = Path(__file__).resolve().parent.parent.parent
        modules = [module_name(root, path) for path in sources(root, PACKAGE)]
        alone = {f"{PACKAGE}.downloaders.grpc", f"{PACKAGE}.testing.fake_scheduler"}
        # The modules for schedulers, which only a peer in a cluster loads.
        of_cluster = ("conversation", "host", "hosts", "membership", "methods", "owner", "registration", "schedulers")
        alone.update(f"{PACKAGE}.cluster.{name}" for name in of_cluster)
        others = [name for name in modules if layer_of(name) != "rpc" and "__main__" not in name and name not in alone]
        program = (
            "import importlib, sys\n"
            "for name in sys.argv[1:]: importlib.import_module(name)\n"
            "print(*{name.partition('.')[0] for name in sys.modules})\n"
        )
        ran = subprocess.run(
            [sys.executable, "-c", program, *others], cwd=root, capture_output=True, text=True, check=True
        )
        loaded = set(ran.stdout.split())
        self.assertIn("dragonfly_vortex", loaded)
        self.assertEqual(loaded & {"grpc", "dragonfly_api", "grpc_health", "google"}, set())
