"""The Vortex door: TCP connections that this process serves, or its workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from socket import socket
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IReactorTime, IStreamServerEndpoint

from dragonfly_vortex.config import Config, TLSIdentity
from dragonfly_vortex.daemon.door import Door, DoorSettings
from dragonfly_vortex.daemon.workers_server import WorkersServer
from dragonfly_vortex.metrics.counters import Tally
from dragonfly_vortex.transport.socket_options import configure_connection, socket_options
from dragonfly_vortex.transport.tls import server_tls_from
from dragonfly_vortex.vortex.connections import ConnectionRegistry, ServerSettings
from dragonfly_vortex.vortex.endpoint_server import EndpointServer
from dragonfly_vortex.vortex.server import SharedSocket, TCPServer, VortexServerFactory, inherited_socket

__all__ = ["VortexDoor"]


class VortexDoor(Door):
    """See :class:`~dragonfly_vortex.daemon.door.Door`."""

    def __init__(self, settings: DoorSettings) -> None:
        super().__init__(settings)
        # With workers, too: they read the files themselves, but a peer whose files cannot be used does not start.
        self._tls = server_tls_from(settings.identity) if settings.identity is not None else None
        self._tally = settings.tally or Tally()
        self._connections: ConnectionRegistry | None = None
        self._workers: WorkersServer | None = None
        inherited = settings.inherited.get(settings.config.storage.server.tcp.port)
        self._server: TCPServer | EndpointServer | WorkersServer
        if settings.endpoints is not None:
            self._server = self._endpoint_server(settings, settings.endpoints)
        elif settings.config.storage.server.workers > 1:
            self._server = self._workers = WorkersServer(settings.reactor, settings.config, settings.failed, inherited)
        else:
            self._server = self._tcp_server(settings, inherited)

    def _factory(self, settings: DoorSettings, **more: Any) -> VortexServerFactory:
        server = settings.config.storage.server
        clock = IReactorTime(settings.reactor)
        server_settings = ServerSettings(
            clock=clock,
            limiter=settings.limiter,
            cork=server.tcp.cork,
            read_ahead=settings.read_ahead,
            tally=self._tally,
            rechecks=settings.rechecks,
            **more,
        )
        connections = self._connections = ConnectionRegistry(
            clock,
            max_connections=server.tcp.max_connections,
            idle_timeout=server.tcp.idle_timeout,
            tally=self._tally,
        )
        return VortexServerFactory(settings.store, server_settings, connections)

    def _endpoint_server(self, settings: DoorSettings, endpoints: Sequence[IStreamServerEndpoint]) -> EndpointServer:
        configure = partial(configure_connection, options=socket_options(settings.config.storage.server.tcp))
        factory = self._factory(settings, configure_socket=configure)
        return EndpointServer(IReactorTime(settings.reactor), factory, endpoints, tls=self._tls)

    def _tcp_server(self, settings: DoorSettings, inherited: socket | None) -> TCPServer:
        server, shared = settings.config.storage.server, settings.shared
        if inherited is not None:
            shared = SharedSocket(socket=inherited_socket(inherited, socket_options(server.tcp)))
        return TCPServer(
            settings.reactor,
            self._factory(settings),
            ip=server.ip,
            port=server.tcp.port,
            options=socket_options(server.tcp),
            tls=self._tls,
            shared=shared,
        )

    @property
    def address(self) -> IAddress | None:
        return self._server.address

    @property
    def tallies(self) -> Sequence[Tally]:
        return (self._tally,) if self._workers is None else self._workers.tallies

    @property
    def worker_pids(self) -> Sequence[int]:
        return () if self._workers is None else [pid for pid in self._workers.pids if pid is not None]

    def open(self) -> None:
        self._server.start()

    def start(self) -> Deferred[None]:
        return self._server.listening() if isinstance(self._server, EndpointServer) else succeed(None)

    def prepare_reload(self, config: Config, identity: TLSIdentity | None) -> Callable[[], None]:
        tls = server_tls_from(identity) if identity is not None else None

        def take_effect() -> None:
            tcp = config.storage.server.tcp
            if tls is not None and self._tls is not None:
                self._tls.become(tls)
            if self._connections is not None:
                self._connections.change_limits(idle_timeout=tcp.idle_timeout, max_connections=tcp.max_connections)
            if self._workers is not None:
                self._workers.reload(config)

        return take_effect

    def stop(self, timeout: float) -> Deferred[None]:
        return self._server.stop(timeout)
