"""
A whole peer as a Twisted service: a storage, and the server that offers it. Built from a configuration, here only.
"""

from __future__ import annotations

from typing import ClassVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IReactorCore,
    IReactorFDSet,
    IReactorTCP,
    IReactorThreads,
    IReactorTime,
)
from twisted.logger import Logger

from dragonfly_vortex.config import Config, server_tls
from dragonfly_vortex.interfaces import IServer
from dragonfly_vortex.peer.server import VortexServerFactory
from dragonfly_vortex.peer.tcp_server import TCPServer
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.store import PieceStore
from dragonfly_vortex.transport.ratelimit import TokenBucket
from dragonfly_vortex.transport.sockets import socket_options
from dragonfly_vortex.transport.tls import server_tls_from

__all__ = ["DRAIN_TIMEOUT", "IPeerReactor", "VortexService"]

DRAIN_TIMEOUT = 10.0
"""Seconds that the pieces under way have to be finished when a peer stops."""


class IPeerReactor(IReactorCore, IReactorFDSet, IReactorTCP, IReactorThreads, IReactorTime):
    """What a peer needs of a reactor."""


class VortexService(Service):
    """
    Serves the pieces of a storage. Nothing is opened before :meth:`startService`, and nothing is left after
    :meth:`stopService`.

    :param config: the peer's configuration.
    :param reactor: what it runs on.
    :param warnings: what reading the configuration warned of; it goes to the log when the service starts.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(self, config: Config, reactor: IPeerReactor, warnings: tuple[str, ...] = ()) -> None:
        self.config = config
        self._reactor = reactor
        self._warnings = warnings
        self._store: PieceStore | None = None
        self._server: IServer | None = None

    @property
    def address(self) -> IAddress | None:
        """Where the peer listens, None while it does not."""
        address: IAddress | None = self._server.address if self._server is not None else None
        return address

    def startService(self) -> None:
        """
        Open the storage and listen. This blocks for as long as it takes to open the storage's database, once, and to
        read the files for TLS.

        :raises CertificateUnusable: a file for TLS cannot be used.
        :raises StorageFailure: the storage cannot be opened.
        :raises twisted.internet.error.CannotListenError: the address cannot be had.
        """
        for warning in self._warnings:
            self.log.warn("{text}", text=warning)  # Twisted takes an event with a "warning" for one of Python's
        # The store opens it in its own thread, and tells that later; whoever starts a peer is to know now.
        with Catalog(self.config.storage.dir):
            pass
        store = PieceStore(self.config.storage.dir, self._reactor)
        server = self._make_server(store)
        # In this order, so that a port that cannot be had leaves no thread. Nobody is accepted before this returns.
        server.start()
        store.start().addErrback(lambda failure: self.log.failure("the storage could not be opened", failure))
        self._store, self._server = store, server
        Service.startService(self)

    def stopService(self) -> Deferred[None]:
        """
        Stop accepting, end idle connections, finish the pieces under way for at most :data:`DRAIN_TIMEOUT`.

        :returns: fires when everything is closed.
        """
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        server, self._server = self._server, None
        store, self._store = self._store, None
        try:
            if server is not None:
                await server.stop(DRAIN_TIMEOUT)
        finally:
            if store is not None:
                await store.stop()

    def _make_server(self, store: PieceStore) -> IServer:
        server = self.config.storage.server
        factory = VortexServerFactory(
            store,
            self._reactor,
            limiter=TokenBucket(self.config.upload.bandwidth_limit, self._reactor),
            idle_timeout=server.tcp.idle_timeout,
            max_connections=server.tcp.max_connections,
            cork=server.tcp.cork,
        )
        identity = server_tls(self.config)
        return IServer(
            TCPServer(
                self._reactor,
                factory,
                ip=server.ip,
                port=server.tcp.port,
                options=socket_options(server.tcp),
                tls=server_tls_from(identity) if identity is not None else None,
            )
        )
