"""The TCP downloader keeps the contract of downloaders, with a parent that keeps connections and one that does not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.interfaces import IReactorTCP, IReactorTime
from twisted.trial.unittest import TestCase

from dragonfly_vortex.config.model import Config, DownloadConfig, TLSConfig
from dragonfly_vortex.downloaders.factory import DownloaderFactory
from dragonfly_vortex.interfaces import IDownloader
from dragonfly_vortex.testing.contract_parent import Offer, VortexContractParent
from dragonfly_vortex.testing.downloader_contract import DownloaderContract
from dragonfly_vortex.transport.tls import server_tls_from
from test.certificates import Authority


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
