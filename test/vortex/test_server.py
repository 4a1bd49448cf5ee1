"""Tests of the way into a peer over TCP: the port, its options, how many it lets in, and the server."""

from __future__ import annotations

import os
import resource
import socket
from typing import cast

from twisted.internet.address import IPv4Address
from twisted.internet.defer import gatherResults, maybeDeferred
from twisted.internet.error import CannotListenError, ConnectionDone
from twisted.internet.interfaces import IReactorFDSet
from twisted.internet.protocol import ServerFactory
from twisted.internet.tcp import Connection
from twisted.internet.testing import EventLoggingObserver, MemoryReactorClock
from twisted.internet.threads import deferToThread
from twisted.logger import LogLevel, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dragonfly_vortex.interfaces import IServer
from dragonfly_vortex.transport.ratelimit import UploadLimiter
from dragonfly_vortex.transport.socket_options import SocketOptions, plain_socket
from dragonfly_vortex.vortex.accept_balance import Turns, shared_counts
from dragonfly_vortex.vortex.connections import ConnectionRegistry, ServerSettings
from dragonfly_vortex.vortex.server import (
    SharedSocket,
    TCPServer,
    VortexPort,
    VortexServerFactory,
    address_of,
    listening_socket,
    tls_expected,
)
from dragonfly_vortex.wire import ErrorCode, ErrorReply, PieceKind, PieceRequest, Vortex
from test.vortex.child import Child, request_bytes
from test.vortex.serving import REACTOR, UNLIMITED, ServingTestCase, connection_of
from test.vortex.shelf import TASK_ID, Shelf

KIB = 1024
MIB = 1024 * KIB


class OptionTests(ServingTestCase):
    """What the sockets of accepted connections have."""

    async def test_inherited(self) -> None:
        """An accepted connection has every option that the listener was given."""
        factory = self.factory(self.shelf(1))
        options = SocketOptions(
            buffer_size=100_000,
            nodelay=False,
            keepalive_idle=7.0,
            keepalive_interval=11.0,
            keepalive_probes=13,
            congestion_control="reno",
        )
        await self.child(self.serve(factory, options))
        await self.until(lambda: factory.connections)
        connection = connection_of(factory)
        sock = plain_socket(connection.transport)
        if sock is None:
            self.fail("expected a socket")
        tcp, any_socket = socket.IPPROTO_TCP, socket.SOL_SOCKET
        self.assertEqual(sock.getsockopt(tcp, socket.TCP_NODELAY), 0)
        self.assertEqual(sock.getsockopt(any_socket, socket.SO_KEEPALIVE), 1)
        self.assertEqual(sock.getsockopt(tcp, socket.TCP_KEEPIDLE), 7)
        self.assertEqual(sock.getsockopt(tcp, socket.TCP_KEEPINTVL), 11)
        self.assertEqual(sock.getsockopt(tcp, socket.TCP_KEEPCNT), 13)
        self.assertEqual(sock.getsockopt(tcp, socket.TCP_CONGESTION, 16).rstrip(b"\0"), b"reno")
        self.assertEqual(sock.getsockopt(any_socket, socket.SO_SNDBUF), 200_000)
        self.assertEqual(sock.getsockopt(any_socket, socket.SO_RCVBUF), 200_000)

    async def test_warnings(self) -> None:
        """An option that cannot be had is a warning in the log, and children are served anyway."""
        observer = EventLoggingObserver.createWithCleanup(self, globalLogPublisher)
        store = self.shelf(10)
        child = await self.child(self.serve(self.factory(store), SocketOptions(congestion_control="no-such-thing")))
        warnings = [event["reason"] for event in observer if event.get("log_level") is LogLevel.warn]
        self.assertEqual(len(warnings), 1)
        self.assertIn("asked for no-such-thing, refused", warnings[0])
        await deferToThread(child.ask, 0)
        self.assertEqual((await deferToThread(child.reply)).content, store.content(0))

    async def test_ipv6(self) -> None:
        """Children are served over IPv6."""
        store = self.shelf(300 * KIB)
        child = await self.child(self.serve(self.factory(store), ip="::1"))
        await deferToThread(child.ask, 0)
        self.assertTrue((await deferToThread(child.reply)).content == store.content(0))

    async def test_fastopen(self) -> None:
        """A port with fast open serves children."""
        store = self.shelf(300 * KIB)
        address = self.serve(self.factory(store), SocketOptions(fastopen=True))
        for _ in range(2):
            child = await self.child(address)
            await deferToThread(child.ask, 0)
            self.assertTrue((await deferToThread(child.reply)).content == store.content(0))


class RefusalTests(SynchronousTestCase):
    """What is said to a child that speaks no TLS."""

    def test_tls_expected(self) -> None:
        """The request is called invalid, with its packet ID."""
        request = PieceRequest(packet_id=200, kind=PieceKind.CACHE, task_id=TASK_ID, number=3)
        reply = Vortex.from_bytes(tls_expected(request.to_bytes()))
        text = "expected TLS (tls://) on this port, got a request without it"
        self.assertEqual(reply, ErrorReply(packet_id=200, code=ErrorCode.INVALID_ARGUMENT, text=text))


class RoomTests(ServingTestCase):
    """No more connections than there may be."""

    async def test_longest_idle(self) -> None:
        """When there is no room, the connection that has been idle longest ends in order, and no other."""
        store = self.shelf(10)
        factory = self.factory(store, max_connections=3)
        address = self.serve(factory)
        children = [await self.child(address) for _ in range(3)]
        for child in (children[0], children[2], children[1]):
            await deferToThread(child.ask, 0)
            await deferToThread(child.reply)
        await deferToThread(children[0].ask, 0)
        await deferToThread(children[0].reply)
        newcomer = await self.child(address)
        await deferToThread(newcomer.ask, 0)
        self.assertEqual((await deferToThread(newcomer.reply)).content, store.content(0))
        self.assertEqual(await deferToThread(children[2].end), b"")
        for child in (children[0], children[1], newcomer):
            await deferToThread(child.ask, 0)
            self.assertEqual((await deferToThread(child.reply)).content, store.content(0))
        await self.until(lambda: len(factory.connections) == 3)

    async def test_all_busy(self) -> None:
        """When all are busy a newcomer waits, and is served once one ends."""
        store = self.shelf(64 * MIB, 10)
        factory = self.factory(store, max_connections=2)
        address = self.serve(factory)
        busy = [await self.child(address, receive_buffer=64 * KIB) for _ in range(2)]
        for child in busy:
            await deferToThread(child.ask, 0)
            await deferToThread(child.receive, 1)
        newcomer = await self.child(address)
        await deferToThread(newcomer.ask, 1)
        reply = deferToThread(newcomer.reply)
        await self.pause(0.3)
        self.assertFalse(reply.called)
        self.assertEqual(len(factory.connections), 2)
        busy[0].close()
        self.assertEqual((await reply).content, store.content(1))

    async def test_burst(self) -> None:
        """Many children at once, with little room, are all answered: none is turned out before it was heard."""
        store = self.shelf(64 * MIB, 100 * KIB)
        factory = self.factory(store, max_connections=2)
        address = self.serve(factory)
        busy = await self.child(address, receive_buffer=64 * KIB)
        await deferToThread(busy.ask, 0)
        await deferToThread(busy.receive, 1)

        def fetch() -> bool:
            child = Child(address)
            try:
                child.ask(1)
                return child.reply().content == store.content(1)
            finally:
                child.close()

        self.assertEqual(await gatherResults([deferToThread(fetch) for _ in range(50)]), [True] * 50)
        self.assertLessEqual(len(factory.connections), 3)

    async def test_no_descriptor_left(self) -> None:
        """
        While no descriptor is left the port tries again now and then; a waiting client is served when there is one.
        """
        await self.pause(0)  # the reactor itself has opened what it needs
        address = self.serve(self.factory(self.shelf(10)))
        observer = EventLoggingObserver.createWithCleanup(self, globalLogPublisher)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        with socket.socket() as child:
            child.settimeout(120)
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
            try:
                child.connect(address)
                child.sendall(request_bytes(0))
                began = REACTOR.seconds()
                await self.pause(0.35)
                seconds = REACTOR.seconds() - began
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            reply = await deferToThread(child.recv, 2)
        self.assertEqual(reply[1], 1)
        tries = [event["reason"] for event in observer if event.get("log_level") is LogLevel.error]
        self.assertTrue(1 <= len(tries) <= 2 + seconds / 0.1, f"{len(tries)} tries in {seconds} s")
        self.assertEqual(set(tries), {"Too many open files"})


class _FromElsewhere(socket.socket):
    """A listening socket on which connections from 127.0.0.N seem to come from 192.0.2.N."""

    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        """Accept a connection."""
        connection, (host, port) = super().accept()
        return connection, (host.replace("127.0.0.", "192.0.2."), port)


class ShareTests(ServingTestCase):
    """The connections that one address has, and those of others beside them."""

    def serve_elsewhere(self, factory: VortexServerFactory) -> tuple[str, int]:
        """Serve children of other machines until the test ends; the address."""
        options = SocketOptions()
        listening = _FromElsewhere(fileno=listening_socket("127.0.0.1", 0, options).detach())
        listening.setblocking(False)
        shared = SharedSocket(socket=listening)
        server = TCPServer(IReactorFDSet(REACTOR), factory, ip="127.0.0.1", port=0, options=options, shared=shared)
        address = cast(IPv4Address, server.start())
        self.addCleanup(server.stop, 0)
        self.server = server
        return address.host, address.port

    async def child_of(self, address: tuple[str, int], source: str) -> Child:
        """A child of that machine, with a small receive buffer, which is closed when the test ends."""
        child = await deferToThread(Child, address, 64 * KIB, source=source)
        self.addCleanup(child.close)
        return child

    async def test_slow_readers(self) -> None:
        """However many connections an address has that do not read, a child of another one is answered at once."""
        store = self.shelf(64 * MIB, 10)
        factory = self.factory(store, max_connections=8, idle_timeout=600.0)
        address = self.serve_elsewhere(factory)
        slow = [await self.child_of(address, "127.0.0.2") for _ in range(20)]
        for child in slow:
            await deferToThread(child.ask, 0)
        await self.until(lambda: factory.settings.tally.pieces_under_way >= 4)
        other = await self.child_of(address, "127.0.0.3")
        await deferToThread(other.ask, 1)
        self.assertEqual((await deferToThread(other.reply)).content, store.content(1))
        self.assertEqual(factory.settings.tally.pieces_under_way, 4)

    async def test_many_of_one_address(self) -> None:
        """Many children behind one address, with little room, are all answered, in their order."""
        store = self.shelf(64 * MIB, 100 * KIB)
        factory = self.factory(store, max_connections=4)
        address = self.serve_elsewhere(factory)
        busy = await self.child_of(address, "127.0.0.2")
        await deferToThread(busy.ask, 0)
        await deferToThread(busy.receive, 1)

        def fetch() -> bool:
            child = Child(address, source="127.0.0.2")
            try:
                child.ask(1)
                return child.reply().content == store.content(1)
            finally:
                child.close()

        self.assertEqual(await gatherResults([deferToThread(fetch) for _ in range(50)]), [True] * 50)

    async def test_idle_of_the_share(self) -> None:
        """At its share of the connections, an idle one of the same address makes room for the next."""
        store = self.shelf(10)
        factory = self.factory(store, max_connections=4)
        address = self.serve_elsewhere(factory)
        for _ in range(6):
            child = await self.child_of(address, "127.0.0.2")
            await deferToThread(child.ask, 0)
            self.assertEqual((await deferToThread(child.reply)).content, store.content(0))
        self.assertLess(len(factory.connections), 4)

    async def test_waited_too_long(self) -> None:
        """A connection that has waited for the idle timeout is closed, and no longer counts for other processes."""
        clock = MemoryReactorClock()
        settings = ServerSettings(clock=clock, limiter=UploadLimiter(UNLIMITED, clock))
        registry = ConnectionRegistry(clock, max_connections=2, idle_timeout=600.0)
        factory = VortexServerFactory(self.shelf(4 * MIB), settings, registry)
        listening = _FromElsewhere(fileno=listening_socket("127.0.0.1", 0, SocketOptions()).detach())
        counts = shared_counts(1)
        turns = Turns(counts, 1)
        os.close(counts)
        self.addCleanup(turns.close)
        port = VortexPort(cast(IReactorFDSet, clock), factory, listening, turns=turns)
        port.startListening()
        address = listening.getsockname()
        busy = await self.child_of(address, "127.0.0.2")
        port.doRead()
        busy.ask(0)
        cast(Connection, connection_of(factory).transport).doRead()
        registry.change_limits(max_connections=2, idle_timeout=5.0)
        waiting = await self.child_of(address, "127.0.0.2")
        port.doRead()
        self.assertEqual(turns.counts, (2,))
        registry.change_limits(max_connections=2, idle_timeout=600.0)
        clock.advance(5.0)
        self.assertEqual(turns.counts, (1,))
        self.assertEqual(await deferToThread(waiting.end), b"")
        connection_of(factory).abort()
        clock.advance(0)
        port.connectionLost(Failure(ConnectionDone()))

    async def test_waiting_at_the_end(self) -> None:
        """Connections that wait are closed when the port is."""
        store = self.shelf(64 * MIB)
        factory = self.factory(store, max_connections=2)
        address = self.serve_elsewhere(factory)
        busy, waiting = [await self.child_of(address, "127.0.0.2") for _ in range(2)]
        await deferToThread(busy.ask, 0)
        await self.until(lambda: factory.settings.tally.pieces_under_way)
        stopped = self.server.stop(0)
        self.assertEqual(await deferToThread(waiting.end), b"")
        await stopped


class SharedTests(ServingTestCase):
    """A socket that several ports accept from, as those of several processes do."""

    def port(
        self, listening: socket.socket, store: Shelf, *, turns: Turns | None = None, max_connections: int = 1000
    ) -> VortexPort:
        """One port more, until the test ends."""
        factory = self.factory(store, max_connections=max_connections)
        port = VortexPort(IReactorFDSet(REACTOR), factory, listening, turns=turns)
        port.startListening()
        self.addCleanup(factory.connections.drain, 0)
        self.addCleanup(lambda: maybeDeferred(port.stopListening))
        return port

    async def test_somebody_was_quicker(self) -> None:
        """
        A process that finds no connection, because another one accepted it, goes on, and does not close the other's.
        """
        store = self.shelf(10)
        listening = listening_socket("127.0.0.1", 0, SocketOptions())
        other = self.port(listening.dup(), store)
        port = self.port(listening, store)
        address = cast(IPv4Address, address_of(listening))
        port.doRead()
        self.assertEqual(port.sessionno, 0)
        self.assertIn(port, REACTOR.getReaders())
        await maybeDeferred(other.stopListening)
        child = await self.child((address.host, address.port))
        await deferToThread(child.ask, 0)
        self.assertEqual((await deferToThread(child.reply)).content, store.content(0))
        self.assertEqual((port.sessionno, other.sessionno), (1, 0))

    def in_turns(self, **other: int) -> tuple[tuple[str, int], VortexPort, VortexPort, Turns]:
        """Where two ports listen that take turns, both, and the first's turns; the second has what else is given."""
        counts = shared_counts(2)
        self.addCleanup(os.close, counts)
        store = self.shelf(10)
        first, second = Turns(counts, 1), Turns(counts, 2)
        self.addCleanup(first.close)
        self.addCleanup(second.close)
        listening = listening_socket("127.0.0.1", 0, SocketOptions())
        address = cast(IPv4Address, address_of(listening))
        one = self.port(listening.dup(), store, turns=first)
        two = self.port(listening, store, turns=second, **other)
        return (address.host, address.port), one, two, first

    async def test_turns(self) -> None:
        """Connections that come at once are shared evenly, and one that has lost some gets the next."""
        address, one, two, turns = self.in_turns()
        children = [await self.child(address) for _ in range(20)]
        await self.until(lambda: one.sessionno + two.sessionno == 20)
        self.assertEqual((one.sessionno, two.sessionno), (10, 10))
        two.pauseProducing()
        await self.child(address)
        await self.until(lambda: one.sessionno == 11)
        self.assertFalse(turns.mine)
        for child in children:
            child.close()
        await self.until(lambda: turns.counts == (1, 0))

    async def test_turns_of_one_that_does_not_come(self) -> None:
        """A connection that another process should accept, and does not, is accepted a moment later."""
        address, one, two, _ = self.in_turns()
        two.pauseProducing()  # its process is stopped
        for _ in range(3):
            await self.child(address)
        await self.until(lambda: one.sessionno == 3)

    async def test_turns_of_one_that_is_full(self) -> None:
        """No process waits for one that has no room, nor for one that has ended."""
        address, one, two, turns = self.in_turns(max_connections=1)
        for _ in range(5):
            await self.child(address)
        await self.until(lambda: (one.sessionno, two.sessionno) == (4, 1))
        self.assertTrue(turns.mine)
        await maybeDeferred(two.stopListening)
        self.assertTrue(turns.mine)

    def test_defect(self) -> None:
        """A connection whose protocol cannot be made is closed and told to the log, and the port goes on."""
        listening = listening_socket("127.0.0.1", 0, SocketOptions())
        port = self.port(listening, self.shelf(10))
        address = cast(IPv4Address, address_of(listening))
        defective = ServerFactory()  # knows no protocol
        port.factory = defective
        with socket.create_connection((address.host, address.port)) as child:
            port.doRead()
            self.assertEqual(child.recv(1), b"")
        self.assertIn(port, REACTOR.getReaders())
        self.assertEqual(len(self.flushLoggedErrors(AssertionError)), 1)


class TCPServerTests(ServingTestCase):
    """Starting and stopping."""

    def server(self, *lengths: int, port: int = 0) -> TCPServer:
        """A server of pieces of these lengths."""
        self.store = self.shelf(*lengths)
        self.server_factory = self.factory(self.store)
        reactor = cast(IReactorFDSet, REACTOR)
        server = TCPServer(reactor, self.server_factory, ip="127.0.0.1", port=port, options=SocketOptions())
        self.addCleanup(server.stop, 0)
        return server

    def start(self, server: TCPServer) -> tuple[str, int]:
        """Start it; its address."""
        address = server.start()
        self.assertEqual(server.address, address)
        if not isinstance(address, IPv4Address):
            self.fail(f"expected an IPv4 address, got {address}")
        return address.host, address.port

    def test_interface(self) -> None:
        """It is a server."""
        self.assertTrue(verifyObject(IServer, self.server()))

    async def test_start(self) -> None:
        """It listens where it says, and nowhere before or after."""
        server = self.server(10)
        self.assertIsNone(server.address)
        address = self.start(server)
        child = await self.child(address)
        await deferToThread(child.ask, 0)
        self.assertEqual((await deferToThread(child.reply)).content, self.store.content(0))
        await server.stop(1.0)
        self.assertIsNone(server.address)
        with self.assertRaises(ConnectionRefusedError):
            await deferToThread(Child, address)

    async def test_start_again(self) -> None:
        """It can be stopped, stopped again, and started again."""
        server = self.server(10)
        for _ in range(2):
            child = await self.child(self.start(server))
            await deferToThread(child.ask, 0)
            self.assertEqual((await deferToThread(child.reply)).content, self.store.content(0))
            await server.stop(1.0)
            await server.stop(1.0)

    async def test_address_taken(self) -> None:
        """An address that is taken cannot be had, and that server listens nowhere."""
        _, port = self.start(self.server())
        other = self.server(port=port)
        self.assertRaises(CannotListenError, other.start)
        self.assertIsNone(other.address)

    async def test_stop(self) -> None:
        """Stopping ends idle connections at once and busy ones after their piece, and takes no new ones meanwhile."""
        server = self.server(32 * MIB)
        address = self.start(server)
        idle, busy = await self.child(address), await self.child(address, receive_buffer=64 * 1024)
        await self.until(lambda: len(self.server_factory.connections) == 2)
        await deferToThread(busy.ask, 0)
        await deferToThread(busy.receive, 1)
        stopped = server.stop(10.0)
        self.assertEqual(await deferToThread(idle.end), b"")
        with self.assertRaises(ConnectionRefusedError):
            await deferToThread(Child, address)
        self.assertFalse(stopped.called)
        self.assertTrue((await deferToThread(busy.end)).endswith(self.store.content(0)))
        busy.close()
        await stopped

    async def test_stop_in_time(self) -> None:
        """What is still under way after the time that it was given is aborted."""
        server = self.server(32 * MIB)
        busy = await self.child(self.start(server), receive_buffer=64 * 1024)
        await deferToThread(busy.ask, 0)
        await deferToThread(busy.receive, 1)
        await server.stop(0.2)
        with self.assertRaises(ConnectionResetError):
            await deferToThread(busy.end)

    async def test_stop_while_full(self) -> None:
        """A server that has stopped accepting because it is full stops anyway."""
        server = self.server(32 * MIB)
        self.server_factory.connections.max_connections = 1
        busy = await self.child(self.start(server), receive_buffer=64 * 1024)
        await deferToThread(busy.ask, 0)
        await deferToThread(busy.receive, 1)
        stopped = server.stop(10.0)
        busy.close()
        await stopped
