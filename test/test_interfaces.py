"""Tests of a client's request, and of the interfaces that classes provide."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import Interface
from zope.interface.verify import verifyObject

from dragonfly_vortex import interfaces
from dragonfly_vortex.config import default_config
from dragonfly_vortex.downloaders.factory import DownloaderFactory
from dragonfly_vortex.storage.reactor.store import PieceStore
from dragonfly_vortex.transport.endpoints import client_endpoint
from dragonfly_vortex.transport.ratelimit import UploadLimiter
from dragonfly_vortex.transport.sinks import FileSink, MemorySink
from dragonfly_vortex.vortex.client import TCPClient
from dragonfly_vortex.vortex.client_protocol import ClientSettings
from dragonfly_vortex.vortex.connections import ConnectionRegistry, ServerSettings
from dragonfly_vortex.vortex.server import TCPServer, VortexServerFactory
from dragonfly_vortex.wire import PieceKind


class RequestTests(SynchronousTestCase):
    """What a client is asked for."""

    def test_a_request_is_frozen(self) -> None:
        """A request cannot be changed by the client that gets it."""
        request = interfaces.DownloadPieceRequest(kind=PieceKind.STANDARD, task_id="a" * 64, number=0)
        for field in ("kind", "task_id", "number", "host_id", "sink"):
            with self.assertRaises(AttributeError):
                setattr(request, field, None)

    def test_a_request_is_the_same_whatever_its_sink(self) -> None:
        """Where the bytes go is no part of what is asked for."""
        first = interfaces.DownloadPieceRequest(kind=PieceKind.CACHE, task_id="a" * 64, number=3, sink=MemorySink())
        second = interfaces.DownloadPieceRequest(kind=PieceKind.CACHE, task_id="a" * 64, number=3)
        self.assertEqual(first, second)


class ProviderTests(SynchronousTestCase):
    """Every provider has all that its interface promises, with the arguments that it names."""

    def assert_provides(self, interface: type[Interface], provider: object) -> None:
        """See whether an object keeps the promise of an interface."""
        self.assertTrue(verifyObject(interface, provider))

    def test_downloader(self) -> None:
        """What the factory builds is a downloader."""
        downloader = DownloaderFactory("tcp", default_config(), reactor=MemoryReactorClock()).build()
        self.assert_provides(interfaces.IDownloader, downloader)

    def test_client(self) -> None:
        """The way to one parent is a client."""
        reactor = MemoryReactorClock()
        client = TCPClient(
            "127.0.0.1:4005", lambda address: client_endpoint(reactor, address, 2.0), ClientSettings(clock=reactor)
        )
        self.assert_provides(interfaces.IClient, client)

    def test_store_and_server(self) -> None:
        """The storage is a piece store, and what serves it a server."""
        reactor = MemoryReactorClock()
        store = PieceStore(Path(self.mktemp()), cast(IReactorFromThreads, reactor))  # which it has no use for yet
        factory = VortexServerFactory(
            store, ServerSettings(clock=reactor, limiter=UploadLimiter(1000, reactor)), ConnectionRegistry(reactor)
        )
        server = TCPServer(reactor, factory, ip="127.0.0.1", port=0)
        self.assert_provides(interfaces.ITaskStore, store)
        self.assert_provides(interfaces.IServer, server)

    def test_sinks(self) -> None:
        """Memory and a file are sinks."""
        self.assert_provides(interfaces.IPieceSink, MemorySink())
        self.assert_provides(interfaces.IFileSink, FileSink(0, 0))
