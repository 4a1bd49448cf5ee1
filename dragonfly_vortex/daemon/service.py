"""
A whole peer as a Twisted service: a storage, the doors that offer it, and the metrics that tell of them. Built from a
configuration, here only.
"""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, ClassVar, cast

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IAddress,
    IReactorCore,
    IReactorFDSet,
    IReactorTCP,
    IReactorThreads,
    IReactorTime,
)
from twisted.logger import Logger
from twisted.python.failure import Failure

from dragonfly_vortex.config import Config, TLSIdentity, check_ports, main_share, reloaded, server_tls
from dragonfly_vortex.daemon.supervisor import ISupervisingReactor
from dragonfly_vortex.daemon.workers_server import WorkersServer
from dragonfly_vortex.deferreds import failures_of
from dragonfly_vortex.errors import CannotServe
from dragonfly_vortex.interfaces import IServer
from dragonfly_vortex.metrics.counters import StatTally, Tally
from dragonfly_vortex.rpc.server import UploadService
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.database import Access
from dragonfly_vortex.storage.reactor.rechecks import Rechecks
from dragonfly_vortex.storage.reactor.store import PieceStore
from dragonfly_vortex.transport.ratelimit import TokenBucket
from dragonfly_vortex.transport.readahead import ReadAhead
from dragonfly_vortex.transport.socket_options import socket_options
from dragonfly_vortex.transport.tls import ServerTLS, server_tls_from
from dragonfly_vortex.vortex.connections import ConnectionRegistry, ServerSettings
from dragonfly_vortex.vortex.server import SharedSocket, TCPServer
from dragonfly_vortex.vortex.server_protocol import VortexServerFactory

if TYPE_CHECKING:
    from dragonfly_vortex.rpc.credentials import ServerCertificates

__all__ = ["IPeerReactor", "VortexService"]

_DISK_TIMEOUT = 1.0
"""Seconds that the end of a peer waits at least for reads of the disk that are under way."""


class IPeerReactor(IReactorCore, IReactorFDSet, IReactorTCP, IReactorThreads, ISupervisingReactor):
    """What a peer needs of a reactor."""


class VortexService(Service):
    """
    Serves the pieces of a storage, by the doors that ``storage.server.protocol`` names: Vortex, gRPC, or both. Nothing
    is opened before :meth:`startService`, and nothing is left after :meth:`stopService`.

    :param config: the peer's configuration.
    :param reactor: what it runs on.
    :param warnings: what reading the configuration warned of; it goes to the log when the service starts.
    :param shared: what the Vortex door of a worker accepts from, instead of listening itself. With it the service can
        be started once.
    :param tally: where the Vortex door of a worker counts what it sends; None: in one of its own.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        config: Config,
        reactor: IPeerReactor,
        warnings: tuple[str, ...] = (),
        shared: SharedSocket | None = None,
        tally: Tally | None = None,
    ) -> None:
        self.config = config
        self.reactor = reactor
        self._warnings = warnings
        self._shared = shared
        self._tally = tally
        self._store: PieceStore | None = None
        self._read_ahead: ReadAhead | None = None
        self._rechecks: Rechecks | None = None
        self._server: IServer | None = None
        self._upload: UploadService | None = None
        self._metrics: IServer | None = None
        self._limiter: TokenBucket | None = None
        self._connections: ConnectionRegistry | None = None
        self._tls: ServerTLS | None = None
        self._certificates: ServerCertificates | None = None

    @property
    def address(self) -> IAddress | None:
        """Where the peer listens for Vortex, None while it does not."""
        address: IAddress | None = self._server.address if self._server is not None else None
        return address

    @property
    def grpc_address(self) -> IAddress | None:
        """Where the peer listens for gRPC, None while it does not; that door opens a moment later than the other."""
        return self._upload.address if self._upload is not None else None

    @property
    def metrics_address(self) -> IAddress | None:
        """Where the peer tells its metrics, None while it does not."""
        address: IAddress | None = self._metrics.address if self._metrics is not None else None
        return address

    def startService(self) -> None:
        """
        Open the storage and listen. This blocks for as long as it takes to open the storage's database, once, and to
        read the files for TLS.

        :raises PortGivenTwice: two doors, or one and the metrics, are to listen on the same port.
        :raises CertificateUnusable: a file for TLS cannot be used.
        :raises StorageFailure: the storage cannot be opened.
        :raises twisted.internet.error.CannotListenError: the address cannot be had.
        """
        for warning in self._warnings:
            self.log.warn("{text}", text=warning)  # Twisted takes an event with a "warning" for one of Python's
        check_ports(self.config)
        # The store opens it later, in its own thread; a failure is to be reported at the start.
        with Catalog(self.config.storage.dir, Access.SERVE) as catalog:
            if catalog.read_only and self._shared is None:
                text = "the storage {directory} can only be read, and is served: {reason}"
                self.log.warn(text, directory=self.config.storage.dir, reason=catalog.read_only)
        store = PieceStore(self.config.storage.dir, self.reactor)
        limiter = self._limiter = TokenBucket(main_share(self.config).upload.bandwidth_limit, self.reactor)
        identity = server_tls(self.config)
        doors = self.config.storage.server.protocol
        read_ahead = ReadAhead(self.reactor)
        rechecks = Rechecks(self.config.storage.dir, IReactorTime(self.reactor), read_ahead.in_thread)
        vortex, grpc, stats = self._tally or Tally(), Tally(), StatTally()
        server = self._make_server(store, limiter, read_ahead, rechecks, identity, vortex) if doors != "grpc" else None
        upload = self._make_upload(store, limiter, rechecks, identity, grpc, stats) if doors != "tcp" else None
        metrics = self._make_metrics(server, (vortex, grpc), stats if upload is not None else None)
        # In this order, so that a port that cannot be had leaves no thread. No connection is accepted before this
        # returns.
        if upload is not None:
            _try_to_listen(self.config.upload.server.ip, self.config.upload.server.port)
        with ExitStack() as unless_started:
            if metrics is not None:
                metrics.start()
                unless_started.callback(metrics.stop, 0.0)
            if server is not None:
                server.start()
            unless_started.pop_all()
        self._store, self._read_ahead, self._server, self._upload = store, read_ahead, server, upload
        self._metrics, self._rechecks = metrics, rechecks
        store.start().addErrback(self._storage_failed, store)
        if upload is not None:
            upload.startService().addErrback(self._does_not_listen, upload)
        Service.startService(self)

    def reload(self, config: Config) -> tuple[str, ...]:
        """
        Go on with another configuration, as far as that is possible while the peer runs (see
        :func:`~dragonfly_vortex.config.reload.reloaded`). The files for TLS are read again in any case, and hold for
        new connections. This blocks for as long as they take to be read.

        :param config: the new configuration.
        :returns: the dotted keys of what holds from the next start on.
        :raises CertificateUnusable: a file for TLS cannot be used; nothing has changed then.
        """
        taken, left = reloaded(self.config, config)
        identity = server_tls(taken)
        if identity is not None:
            tls = server_tls_from(identity)
            if self._certificates is not None:
                self._certificates.load(identity)
            if self._tls is not None:
                self._tls.become(tls)
        self.config = taken
        tcp = taken.storage.server.tcp
        if self._limiter is not None:
            self._limiter.change_rate(main_share(taken).upload.bandwidth_limit)
        if self._connections is not None:
            self._connections.change_limits(idle_timeout=tcp.idle_timeout, max_connections=tcp.max_connections)
        if isinstance(self._server, WorkersServer):
            self._server.reload(taken)
        return left

    def stopService(self) -> Deferred[None]:
        """
        Stop accepting at all doors, end what is idle, finish the pieces under way for at most ``shutdown_timeout``
        seconds of the configuration; then comes the storage, and last the metrics, which tell of the others' end.

        :returns: fires when everything is closed. What fails to stop keeps nothing else open: the Deferred fails with
            the first failure then, and further ones are logged.
        """
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        server, self._server = self._server, None
        upload, self._upload = self._upload, None
        store, self._store = self._store, None
        read_ahead, self._read_ahead = self._read_ahead, None
        metrics, self._metrics = self._metrics, None
        rechecks, self._rechecks = self._rechecks, None
        if rechecks is not None:
            rechecks.stop()
        clock = IReactorTime(self.reactor)
        until = clock.seconds() + self.config.shutdown_timeout
        failures = await failures_of(
            door.stop(self.config.shutdown_timeout) for door in (server, upload) if door is not None
        )
        # A disk that does not answer is not waited for much longer than a child.
        until = max(until, clock.seconds() + _DISK_TIMEOUT)
        if read_ahead is not None:
            failures += await failures_of([read_ahead.stop(until - clock.seconds())])
        if store is not None:
            failures += await failures_of([store.stop(max(0.0, until - clock.seconds()))])
        if metrics is not None:
            failures += await failures_of([metrics.stop(0.0)])
        for failure in failures[1:]:
            self.log.failure("the peer could not be stopped in order", failure)
        if failures:
            failures[0].raiseException()

    def _storage_failed(self, failure: Failure, store: PieceStore) -> None:
        """The storage could not be opened after all, unless it was to be closed by then."""
        if store is self._store:
            self.log.error("the storage could not be opened: {reason}", reason=failure.getErrorMessage())
            self.door_failed(failure)

    def _does_not_listen(self, failure: Failure, upload: UploadService) -> None:
        """The gRPC door could not be opened after all; unless it was to be closed by then, that is to be known."""
        if upload is self._upload:
            self.door_failed(failure)

    def _worker_failed(self, reason: str) -> None:
        self.door_failed(Failure(CannotServe(reason)))

    def door_failed(self, failure: Failure) -> None:
        """
        A door, or the storage, has failed to open after :meth:`startService` had returned, or a worker cannot serve.
        The peer goes on without it; a program may override this method and end the peer.

        :param failure: which is in the log by now.
        """

    def _vortex_port(self) -> int | None:
        """The port of the Vortex door, which the gRPC door tells to children."""
        port: int | None = getattr(self.address, "port", None)
        return port

    def _make_server(
        self,
        store: PieceStore,
        limiter: TokenBucket,
        read_ahead: ReadAhead,
        rechecks: Rechecks,
        identity: TLSIdentity | None,
        tally: Tally,
    ) -> IServer:
        server = self.config.storage.server
        # With workers, too: they read the files themselves, but a peer whose files cannot be used does not start.
        tls = self._tls = server_tls_from(identity) if identity is not None else None
        if server.workers > 1:
            return IServer(WorkersServer(self.reactor, self.config, self._worker_failed))
        clock = IReactorTime(self.reactor)
        settings = ServerSettings(
            clock=clock, limiter=limiter, cork=server.tcp.cork, read_ahead=read_ahead, tally=tally, rechecks=rechecks
        )
        connections = self._connections = ConnectionRegistry(
            clock, max_connections=server.tcp.max_connections, idle_timeout=server.tcp.idle_timeout
        )
        factory = VortexServerFactory(store, settings, connections)
        return IServer(
            TCPServer(
                self.reactor,
                factory,
                ip=server.ip,
                port=server.tcp.port,
                options=socket_options(server.tcp),
                tls=tls,
                shared=self._shared,
            )
        )

    def _make_upload(
        self,
        store: PieceStore,
        limiter: TokenBucket,
        rechecks: Rechecks,
        identity: TLSIdentity | None,
        tally: Tally,
        stats: StatTally,
    ) -> UploadService:
        credentials = None
        if identity is not None:
            from dragonfly_vortex.rpc.credentials import ServerCertificates

            self._certificates = ServerCertificates(identity)
            credentials = self._certificates.credentials()
        return UploadService(
            store,
            self.reactor,
            ip=self.config.upload.server.ip,
            port=self.config.upload.server.port,
            host=self.config.host,
            vortex_port=self._vortex_port,
            credentials=credentials,
            limiter=limiter,
            tally=tally,
            stats=stats,
            rechecks=rechecks,
        )

    def _make_metrics(
        self, server: IServer | None, tallies: tuple[Tally, ...], stats: StatTally | None
    ) -> IServer | None:
        """The page of metrics, of this process and of its workers."""
        if not self.config.metrics.enable:
            return None
        # Here, since it loads Twisted's web server, which a worker has no use for.
        from dragonfly_vortex.metrics.http import IMetricsReactor, MetricsServer
        from dragonfly_vortex.metrics.peer_collector import PeerMetrics

        workers = server if isinstance(server, WorkersServer) else None
        metrics = PeerMetrics(
            storage=self.config.storage.dir.absolute(),
            tallies=lambda: tallies + (workers.tallies if workers is not None else ()),
            stats=stats,
            workers=lambda: [pid for pid in workers.pids if pid is not None] if workers is not None else [],
        )
        place = self.config.metrics.server
        reactor = cast(IMetricsReactor, self.reactor)  # it is, under a name that would have to be loaded
        return IServer(MetricsServer(reactor, metrics.families, ip=place.ip, port=place.port))


def _try_to_listen(ip: str, port: int) -> None:
    """
    See whether an address can be had. grpcio says it too, but later and from another thread.

    :raises CannotListenError: it cannot.
    """
    try:
        # An IPv6 address may have a zone, which is a number in the socket's address.
        (family, kind, _, _, address), *_ = socket.getaddrinfo(
            ip, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
        )
        with socket.socket(family, kind) as trying:
            trying.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trying.bind(address)
    except OSError as error:
        raise CannotListenError(ip, port, error) from error
