"""
The gRPC servers of a peer as Twisted services.

Importing this loads nothing of gRPC: starting the service does, in the event loop's thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from socket import socket
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

from twisted.application.service import Service
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, DeferredLock, maybeDeferred
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IReactorFromThreads,
    IReactorSocket,
    IReactorTCP,
    IReactorTime,
)
from twisted.logger import Logger
from twisted.python.failure import Failure

from dragonfly_vortex.interfaces import ITaskStore
from dragonfly_vortex.limited_log import LimitedLog
from dragonfly_vortex.metrics.counters import Tally
from dragonfly_vortex.metrics.task_metrics import TaskMetrics
from dragonfly_vortex.peer_exchange import Askers
from dragonfly_vortex.rpc.event_loop import EventLoopThread, start_grpcio
from dragonfly_vortex.rpc.limits import MAX_REQUEST, PIECES_IN_MEMORY, Budget
from dragonfly_vortex.storage.reactor.rechecks import Rechecks
from dragonfly_vortex.transport.ratelimit import UploadLimiter
from dragonfly_vortex.transport.socket_options import BACKLOG
from dragonfly_vortex.transport.tls import ServerTLS, TLSServerFactory
from dragonfly_vortex.transport_table import GRPC
from dragonfly_vortex.wire import PieceKind

if TYPE_CHECKING:
    import grpc

    from dragonfly_vortex.host_stats import NetworkMeter
    from dragonfly_vortex.rpc.host import HostNames
    from dragonfly_vortex.rpc.http2_server import GRPCServerFactory
    from dragonfly_vortex.rpc.peer_tasks import PeerTasks
    from dragonfly_vortex.rpc.servicer import UploadRPCs

__all__ = ["DRAIN_TIMEOUT", "MAX_CALLS", "GRPCService", "RPCs", "UploadService"]

StopServer = Callable[[float], Awaitable[None]]
"""Ends a server, within so many seconds."""

DRAIN_TIMEOUT = 10.0
"""Seconds that the pieces under way have to be finished when the service stops."""

MAX_CALLS = 1024
"""Calls that are under way at once, of all children."""

_SERVER_OPTIONS = (
    # What strangers can make the server keep. A client waits by itself where a connection has all of its streams.
    ("grpc.max_receive_message_length", MAX_REQUEST),
    ("grpc.max_concurrent_streams", 256),
    ("grpc.max_allowed_incoming_connections", 1024),
    ("grpc.max_connection_idle_ms", 300_000),
    ("grpc.server_handshake_timeout_ms", 20_000),
    # Two servers on one port would share its calls without a word.
    ("grpc.so_reuseport", 0),
    ("grpc.max_send_message_length", -1),
    # Keepalive as the reference has it (dragonfly-client, grpc/mod.rs), and more often where a child wants that.
    ("grpc.keepalive_time_ms", 300_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
)


class RPCs(Protocol):
    """The handlers of a server's calls. All are called in the event loop's thread."""

    def handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        """All methods."""

    def end_streams(self) -> None:
        """End all streams soon."""

    def close(self) -> None:
        """Free what is left, once all calls have ended. May block."""


class GRPCService(Service):
    """
    A gRPC server in an event loop of its own, as a Twisted service. A class below this one says where it listens and
    what it serves.

    :param reactor: where Deferreds fire.
    :param name: what to call the service, and the event loop's thread.
    :param drain_timeout: seconds that the calls under way have when the service stops.
    :param max_calls: calls that are under way at once; further ones are refused with ``RESOURCE_EXHAUSTED``.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        reactor: IReactorFromThreads,
        name: str,
        *,
        drain_timeout: float = DRAIN_TIMEOUT,
        max_calls: int = MAX_CALLS,
    ) -> None:
        self.address: IAddress | None = None
        """Where it listens, None while it does not."""
        self.limited_log = LimitedLog(self.log, cast(IReactorTime, reactor))
        """For what a call can cause; used in the reactor's thread."""
        self._reactor = reactor
        self._thread_name = name
        self._drain_timeout = drain_timeout
        self._max_calls = max_calls
        self._running: _Running | None = None
        self._sequence = DeferredLock()

    def make_rpcs(self, thread: EventLoopThread) -> RPCs:
        """
        Make the handlers of the service. Called in the event loop's thread.

        :param thread: the event loop, and the way to the reactor.
        """
        raise NotImplementedError

    def bind(self, server: grpc.aio.Server) -> IAddress:
        """
        Have a server of grpcio listen. Called in the event loop's thread, behind :meth:`make_rpcs` and before the
        server starts.

        :raises CannotListenError: the address cannot be had.
        """
        raise NotImplementedError

    async def serve(self, thread: EventLoopThread, rpcs: RPCs) -> tuple[IAddress, StopServer]:
        """
        Start a server. Runs in the event loop.

        :param thread: the event loop, and the way to the reactor.
        :returns: where it listens, and what stops it, within so many seconds.
        :raises CannotListenError: the address cannot be had.
        """
        import grpc

        start_grpcio()
        server = grpc.aio.server(options=_SERVER_OPTIONS, maximum_concurrent_rpcs=self._max_calls)
        server.add_generic_rpc_handlers(rpcs.handlers())
        address = self.bind(server)
        await server.start()
        # The server asks for its first call in the next turn. Stopped before that, grpcio 1.85 ends the process.
        await asyncio.sleep(0)
        return address, server.stop

    def unbind(self) -> None:
        """Stop listening. Called in the reactor's thread, once for each :meth:`bind` that returned."""

    def log_start(self, address: IAddress) -> None:
        """Log that the service listens at an address."""
        self.log.info("serving gRPC on {address}", address=address)

    def startService(self) -> Deferred[IAddress]:
        """
        Load gRPC and listen, which takes a moment, in another thread.

        Starts and stops are done one after the other, in the order of the calls: grpcio crashes where a server is
        stopped while it starts.

        :returns: fires with the address when the service listens; fails with
            :class:`~twisted.internet.error.CannotListenError`, and nothing is left then. A failure is logged as well.
        """
        Service.startService(self)
        started: Deferred[IAddress] = self._sequence.run(lambda: Deferred.fromCoroutine(self._start()))
        return started.addErrback(self._does_not_listen)

    def stopService(self) -> Deferred[None]:
        """Stop as :meth:`stop` does, with the timeout that the service was given."""
        return self.stop(self._drain_timeout)

    def stop(self, timeout: float) -> Deferred[None]:
        """
        Refuse further calls, end the streams, let the calls under way finish. A service that is still starting is
        stopped as soon as it has started.

        :param timeout: seconds after which the calls under way are aborted.
        :returns: fires when nothing is left.
        """
        Service.stopService(self)
        return self._sequence.run(lambda: Deferred.fromCoroutine(self._stop(timeout)))

    async def _start(self) -> IAddress:
        running = _Running(EventLoopThread(self._reactor, self._thread_name))
        running.thread.start()
        try:
            address = await running.thread.run(lambda: self._listen(running))
        except BaseException:
            await self._end(running, 0.0)
            raise
        self._running = running
        if self.running:  # else a stop waits for its turn
            self.address = address
            self.log_start(address)
        return address

    async def _stop(self, timeout: float) -> None:
        running, self._running = self._running, None
        self.address = None
        if running is not None:
            await self._end(running, timeout)
            self.unbind()
            self.limited_log.close()

    async def _end(self, running: _Running, timeout: float) -> None:
        """End a server and its thread."""
        try:
            await running.thread.run(lambda: running.stop(timeout))
        except Exception:  # of grpcio, or a defect of ours: the thread is ended anyway
            self.log.failure("the {name} service did not stop as it should", name=self._thread_name)
        await running.thread.stop()

    def _does_not_listen(self, failure: Failure) -> Failure:
        reason = failure.getErrorMessage()
        self.log.error("the {name} service cannot listen: {reason}", name=self._thread_name, reason=reason)
        return failure

    async def _listen(self, running: _Running) -> IAddress:
        """In the event loop: make what is served, and a server."""
        running.rpcs = self.make_rpcs(running.thread)
        address, running.stop_server = await self.serve(running.thread, running.rpcs)
        return address


class UploadService(GRPCService):
    """
    Serves the pieces of a storage over gRPC, and announces them.

    :param store: where the pieces are.
    :param reactor: where the store is asked, and Deferreds fire.
    :param ip: the address to listen on, IPv4 or IPv6.
    :param port: 4000 by Dragonfly's convention; 0 for any.
    :param host: the names of this peer; its ``ip`` is announced as the address of its doors.
    :param vortex_port: gives the port of the door for Vortex/TCP, None where there is none; called in the reactor's
        thread.
    :param tls: what every connection speaks; None for no TLS.
    :param limiter: what all content is spent from; None for no limit.
    :param tally: where pieces and bytes are counted; None: in one of its own.
    :param metrics: where questions about tasks are counted; None: in metrics of its own.
    :param drain_timeout: see :class:`GRPCService`.
    :param memory: bytes of the pieces that are in memory at once; further ones wait.
    :param max_calls: see :class:`GRPCService`.
    :param rechecks: is called for each piece that has been sent; None: what children ask for again is not checked.
    :param askers: remembers the peers that ask; None: peers are not named to each other.
    :param tasks: what is done with whole tasks; None: the methods for that are not served.
    :param refusal: why the methods that change something are not for callers; empty where they are.
    :param make_network: makes the measurement of the network that children get to know; None: they get no figures.
    :param inherited: what listens already, in place of the port; None for that port.
    """

    def __init__(
        self,
        store: ITaskStore,
        reactor: IReactorFromThreads,
        *,
        ip: str,
        port: int,
        host: HostNames,
        vortex_port: Callable[[], int | None],
        tls: ServerTLS | None = None,
        limiter: UploadLimiter | None = None,
        tally: Tally | None = None,
        metrics: TaskMetrics | None = None,
        drain_timeout: float = DRAIN_TIMEOUT,
        memory: int = PIECES_IN_MEMORY,
        max_calls: int = MAX_CALLS,
        rechecks: Rechecks | None = None,
        askers: Askers | None = None,
        tasks: PeerTasks | None = None,
        refusal: str = "",
        make_network: Callable[[], NetworkMeter] | None = None,
        inherited: socket | None = None,
    ) -> None:
        super().__init__(reactor, "upload", drain_timeout=drain_timeout, max_calls=max_calls)
        self._store = store
        self._ip = ip
        self._port = port
        self._host = host
        self._vortex_port = vortex_port
        self._tls = tls
        self._clock = cast(IReactorTime, reactor)
        self._limiter = limiter
        self._tally = tally or Tally()
        self._metrics = metrics or TaskMetrics(self._clock.seconds)
        self._memory = memory
        self._rechecks = rechecks
        self._askers = askers
        self._tasks = tasks
        self._refusal = refusal
        self._make_network = make_network
        self._inherited = inherited
        self._rpcs: UploadRPCs | None = None
        self._factory: GRPCServerFactory | None = None

    @property
    def connections(self) -> tuple[int, int]:
        """How many connections there are, and how many of them have no call under way. For any thread."""
        connections = [] if self._factory is None else list(self._factory.connections)
        return len(connections), sum(not connection.is_busy for connection in connections)

    def prepare(self, kind: PieceKind, task_id: str) -> None:
        """Read a complete task, so that its first child is answered at once. In the reactor's thread."""
        if self.address is not None and self._rpcs is not None:
            self._rpcs.announcements.prepare(kind, task_id)

    def make_rpcs(self, thread: EventLoopThread) -> UploadRPCs:
        from dragonfly_vortex.rpc.servicer import UploadRPCs

        self._rpcs = UploadRPCs(
            self._store,
            thread,
            ip=self._host.ip,
            vortex_port=self._vortex_port,
            limiter=self._limiter,
            budget=Budget(self._memory, fair=True),
            tally=self._tally,
            metrics=self._metrics,
            limited_log=self.limited_log,
            rechecks=self._rechecks,
            askers=self._askers,
            tasks=self._tasks,
            refusal=self._refusal,
            scheme=GRPC.schemes[self._tls is not None],
            network=self._make_network() if self._make_network is not None else None,
        )
        return self._rpcs

    async def serve(self, thread: EventLoopThread, rpcs: RPCs) -> tuple[IAddress, StopServer]:
        from dragonfly_vortex.rpc.host import host_message
        from dragonfly_vortex.rpc.http2_server import GRPCServerFactory

        factory = self._factory = GRPCServerFactory(
            thread,
            rpcs.handlers(),
            self._clock,
            max_calls=self._max_calls,
            max_request=MAX_REQUEST,
            limited_log=self.limited_log,
        )
        if self._rpcs is not None:
            factory.answer_at_once = self._rpcs.answer_at_once
        port: IListeningPort = await thread.ask(maybeDeferred, self._listen_at, factory)

        def close(timeout: float) -> Deferred[None]:
            if self._rpcs is not None:
                self._rpcs.announcements.stop()
            return maybeDeferred(port.stopListening).addCallback(lambda _: factory.drain(timeout))

        async def stop(timeout: float) -> None:
            await thread.ask(close, timeout)

        address = cast("IPv4Address | IPv6Address", port.getHost())
        if self._rpcs is not None:
            self._rpcs.host.message = host_message(self._host, address.port)
        return address, stop

    def _listen_at(self, factory: GRPCServerFactory) -> IListeningPort:
        """In the reactor's thread: let connections come."""
        served = factory if self._tls is None else TLSServerFactory(self._tls, factory, lambda _: b"", self._clock)
        port: IListeningPort
        if self._inherited is not None:
            adopting = IReactorSocket(self._reactor)
            port = adopting.adoptStreamPort(self._inherited.fileno(), self._inherited.family, cast(Any, served))
        else:
            reactor = IReactorTCP(self._reactor)
            port = reactor.listenTCP(self._port, cast(Any, served), backlog=BACKLOG, interface=self._ip)
        if self._rpcs is not None:
            self._rpcs.announcements.start()  # which nothing stops where the port is taken
        return port


class _Running:
    """What exists while the service runs: a thread, and what is in it, once that has been made."""

    def __init__(self, thread: EventLoopThread) -> None:
        self.thread = thread
        self.rpcs: RPCs | None = None
        self.stop_server: StopServer | None = None

    async def stop(self, timeout: float) -> None:
        """In the event loop: end everything."""
        if self.stop_server is None or self.rpcs is None:
            return
        self.rpcs.end_streams()
        # Once, and for all calls: grpcio 1.85 ends the process by a segmentation fault where two stops run at once.
        await self.stop_server(timeout)
        self.rpcs.close()
