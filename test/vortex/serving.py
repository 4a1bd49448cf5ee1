"""A server on a real socket, and what must be left of it at a test's end: nothing."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from twisted.internet import reactor, tcp
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IReactorFDSet, IReactorTime
from twisted.internet.posixbase import PosixReactorBase
from twisted.internet.task import Clock, LoopingCall, deferLater
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from dragonfly_vortex.config import TLSIdentity
from dragonfly_vortex.transport.ratelimit import UploadLimiter
from dragonfly_vortex.transport.socket_options import SocketOptions
from dragonfly_vortex.transport.tls import server_tls_from
from dragonfly_vortex.vortex.connections import ConnectionRegistry, ServerSettings
from dragonfly_vortex.vortex.server import TCPServer, VortexServerFactory
from dragonfly_vortex.vortex.server_protocol import VortexServerProtocol
from test.certificates import Authority
from test.vortex.child import Child
from test.vortex.shelf import Shelf

__all__ = ["REACTOR", "UNLIMITED", "ServingInMemory", "ServingTestCase", "connection_of", "open_descriptors"]

REACTOR = cast(PosixReactorBase, reactor)
UNLIMITED = 1 << 40


class TurnClock(Clock):
    """
    A clock that goes on by a hundredth of a second at a time, however long the reactor takes for that: where other
    processes have the processor, it stands still. What is due at once is the reactor's.
    """

    _STEP = 0.01

    def __init__(self, case: TestCase) -> None:
        super().__init__()
        stepping = LoopingCall(self.advance, self._STEP)
        stepping.start(self._STEP, now=False)
        case.addCleanup(stepping.stop)

    def callLater(self, when: float, what: Callable[..., object], *given: Any, **named: Any) -> IDelayedCall:  # type: ignore[override] # what the reactor returns, too
        """See :meth:`twisted.internet.interfaces.IReactorTime.callLater`."""
        later = super().callLater if when else REACTOR.callLater
        return later(when, what, *given, **named)


def open_descriptors() -> dict[str, str]:
    """The descriptors of files and sockets that this process has open, and what they are."""
    descriptors = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            descriptors[name] = os.readlink(f"/proc/self/fd/{name}")
    # The reactor has new pipes to wake itself whenever it is run. Twisted opens /dev/null when a port first listens, to
    # have a descriptor to spare.
    of_reactor = ("pipe:", "anon_inode:", os.devnull)
    return {name: what for name, what in descriptors.items() if not what.startswith(of_reactor)}


def connection_of(factory: VortexServerFactory) -> VortexServerProtocol:
    """The only connection of a factory."""
    (connection,) = factory.connections._all
    return cast(VortexServerProtocol, connection)


class ServingTestCase(TestCase):
    """Tests of a server on a real socket: at the end no descriptor is open, and the reactor watches nothing."""

    timeout = 120

    def setUp(self) -> None:
        """See what is open before."""
        before = set(open_descriptors().values())

        async def check() -> None:
            left: set[str] = set()
            for _ in range(100):  # a connection's end takes the reactor some turns
                left = set(open_descriptors().values()) - before
                if not left:
                    break
                await self.pause(0.02)
            self.assertEqual(left, set())
            watched = {*REACTOR.getReaders(), *REACTOR.getWriters()}
            self.assertEqual([one for one in watched if isinstance(one, (tcp.Connection, tcp.Port))], [])

        self.addCleanup(lambda: Deferred.fromCoroutine(check()))

    def shelf(self, *lengths: int) -> Shelf:
        """A store with pieces of these lengths."""
        path = Path(self.mktemp()).absolute()
        return Shelf(path, lengths)

    def factory(
        self,
        store: Shelf,
        *,
        rate: int = UNLIMITED,
        idle_timeout: float = 600.0,
        max_connections: int = 1000,
        cork: bool = False,
    ) -> VortexServerFactory:
        """A factory that serves the store. A short idle time-out is one of a :class:`TurnClock`."""
        clock = REACTOR if idle_timeout > self.timeout else cast(IReactorTime, TurnClock(self))
        settings = ServerSettings(clock=clock, limiter=UploadLimiter(rate, clock), cork=cork)
        connections = ConnectionRegistry(
            clock, max_connections=max_connections, idle_timeout=idle_timeout, tally=settings.tally
        )
        return VortexServerFactory(store, settings, connections)

    def serve(
        self,
        factory: VortexServerFactory,
        options: SocketOptions | None = None,
        ip: str = "127.0.0.1",
        identity: TLSIdentity | None = None,
    ) -> tuple[str, int]:
        """Serve until the test ends, under TLS with an identity; the address."""
        tls = server_tls_from(identity) if identity is not None else None
        server = TCPServer(IReactorFDSet(REACTOR), factory, ip=ip, port=0, options=options or SocketOptions(), tls=tls)
        address = server.start()
        self.addCleanup(server.stop, 0)
        if not isinstance(address, (IPv4Address, IPv6Address)):
            raise AssertionError(f"expected an internet address, got {address!r}")
        return address.host, address.port

    def serve_tls(self, factory: VortexServerFactory) -> tuple[str, int]:
        """Serve under TLS until the test ends; the address."""
        directory = Path(self.mktemp())
        directory.mkdir()
        return self.serve(factory, identity=Authority(directory).issue().identity())

    async def child(self, address: tuple[str, int], receive_buffer: int | None = None, tls: bool = False) -> Child:
        """A child that has connected, and is closed when the test ends."""
        child = await deferToThread(Child, address, receive_buffer, tls)
        self.addCleanup(child.close)
        return child

    def pause(self, seconds: float) -> Deferred[None]:
        """Let the reactor go on."""
        return deferLater(REACTOR, seconds)

    async def until(self, condition: Callable[[], object]) -> None:
        """Let the reactor go on until the condition is true."""
        while not condition():
            await self.pause(0.01)


class ServingInMemory(SynchronousTestCase):
    """Tests of a server on a clock of their own, without a socket."""

    def setUp(self) -> None:
        """A server on a clock."""
        self.clock = Clock()
        self.store = Shelf(Path(self.mktemp()), [10, 70 << 10, 10])
        self.parent = self.parent_for()

    def parent_for(self, *, rate: int = UNLIMITED, max_connections: int = 2) -> VortexServerFactory:
        """A factory on the clock."""
        settings = ServerSettings(clock=self.clock, limiter=UploadLimiter(rate, self.clock))
        connections = ConnectionRegistry(self.clock, max_connections=max_connections, idle_timeout=30.0)
        return VortexServerFactory(self.store, settings, connections)

    def connect(self, host: str = "") -> tuple[VortexServerProtocol, StringTransport]:
        """A connection in memory, from an address or none."""
        protocol = self.parent.buildProtocol(IPv4Address("TCP", host, 1) if host else None)
        if protocol is None:
            self.fail("expected a connection")
        transport = StringTransport()
        protocol.makeConnection(transport)
        return protocol, transport

    def lose(self, protocol: VortexServerProtocol) -> None:
        """The connection ends."""
        protocol.connectionLost(Failure(ConnectionDone()))
