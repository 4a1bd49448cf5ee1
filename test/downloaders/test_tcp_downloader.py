"""The TCP downloader keeps the contract of downloaders, with a parent that keeps connections and one that does not."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.internet import reactor
from twisted.internet.interfaces import IReactorTCP, IReactorTime
from twisted.trial.unittest import TestCase

from dragonfly_vortex.config.model import Config, DownloadConfig
from dragonfly_vortex.downloaders.factory import DownloaderFactory
from dragonfly_vortex.interfaces import IDownloader
from dragonfly_vortex.testing.contract_parent import Offer, VortexContractParent
from dragonfly_vortex.testing.downloader_contract import DownloaderContract


class KeepingParentTests(DownloaderContract, TestCase):
    """With a parent that keeps its connections open, as this package's does."""

    clock = IReactorTime(reactor)
    closes = False

    def make_downloader(self, piece_timeout: float) -> IDownloader:
        config = Config(download=DownloadConfig(piece_timeout=piece_timeout))
        return DownloaderFactory("tcp", config, reactor=IReactorTCP(reactor)).build()

    def make_parent(self, offers: Iterable[Offer]) -> VortexContractParent:
        parent = VortexContractParent(IReactorTCP(reactor), offers, closes=self.closes)
        parent.start()
        self.addCleanup(parent.stop)
        return parent


class ClosingParentTests(KeepingParentTests):
    """With a parent that closes after each reply and echoes no packet ID, as the reference's does."""

    closes = True
