"""The gRPC downloader keeps the contract of downloaders, with a parent that speaks the legacy methods by hand."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.interfaces import IReactorTCP, IReactorTime
from twisted.trial.unittest import SynchronousTestCase, TestCase

from dragonfly_vortex.config.model import Config, DownloadConfig
from dragonfly_vortex.downloaders.factory import DownloaderFactory
from dragonfly_vortex.downloaders.grpc_downloader import GRPCDownloader
from dragonfly_vortex.interfaces import IDownloader
from dragonfly_vortex.testing.contract_parent import Offer
from dragonfly_vortex.testing.downloader_contract import DownloaderContract
from dragonfly_vortex.testing.pieces import TASK_ID, sample_piece
from test.layout import PACKAGE, layer_of, module_name, sources
from test.rpc.legacy_parent import LegacyParent


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
    """gRPC is not loaded before somebody asks for it."""

    def test_not_before_it_is_needed(self) -> None:
        """A program that has imported everything but gRPC's own layers has loaded none of gRPC's packages."""
        root = Path(__file__).resolve().parent.parent.parent
        modules = [module_name(root, path) for path in sources(root, PACKAGE)]
        others = [name for name in modules if layer_of(name) not in ("rpc", "upload") and "__main__" not in name]
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
