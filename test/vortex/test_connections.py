"""Tests of the registry of connections: which are accepted, which are closed, and how they end."""

from __future__ import annotations

import os

from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

from dragonfly_vortex.address import share_of
from dragonfly_vortex.errors import StorageFailure
from dragonfly_vortex.wire import PieceKind
from test.vortex.child import request_bytes
from test.vortex.serving import ServingInMemory, ServingTestCase, connection_of

KIB = 1024
MIB = 1024 * KIB


class DrainTests(ServingTestCase):
    """How all connections end together."""

    async def test_drain(self) -> None:
        """Idle connections end at once, a busy one when its reply is complete; one that takes too long is aborted."""
        store = self.shelf(64 * MIB, 10)
        factory = self.factory(store)
        address = self.serve(factory)
        idle = await self.child(address)
        await deferToThread(idle.ask, 1)
        await deferToThread(idle.reply)
        busy, late = [await self.child(address, receive_buffer=64 * KIB) for _ in range(2)]
        for child in (busy, late):
            await deferToThread(child.ask, 0, 1, 1)
            await deferToThread(child.receive, 1)
        drained = factory.connections.drain(1000.0)  # longer than a test may take
        self.assertEqual(await deferToThread(idle.end), b"")
        rest = await deferToThread(busy.end)
        self.assertTrue(rest.endswith(store.content(0)))
        self.assertFalse(drained.called)
        factory.connections.drain(0.1)
        await drained
        with self.assertRaises(ConnectionResetError):
            await deferToThread(late.end)

    async def test_not_waited_for(self) -> None:
        """A connection that takes too long is aborted, too, when its end is not waited for any more."""
        store = self.shelf(64 * MIB)
        factory = self.factory(store)
        late = await self.child(self.serve(factory), receive_buffer=64 * KIB)
        await deferToThread(late.ask, 0)
        await deferToThread(late.receive, 1)
        drained = factory.connections.drain(0.1)
        drained.cancel()
        self.failureResultOf(drained, CancelledError)
        await self.until(lambda: not len(factory.connections))

    async def test_counted(self) -> None:
        """A connection is busy at first and during a reply, idle after it, and gone in the end."""
        factory = self.factory(self.shelf(8 * MIB))
        tally = factory.settings.tally
        child = await self.child(self.serve(factory))
        await self.until(lambda: tally.connections)
        self.assertEqual(tally.idle_connections, 0)
        await deferToThread(child.ask, 0)
        await self.until(lambda: tally.pieces_under_way)
        self.assertEqual((tally.connections, tally.idle_connections), (1, 0))
        await deferToThread(child.replies, 1)
        await self.until(lambda: tally.idle_connections)
        self.assertEqual((tally.connections, tally.idle_connections), (1, 1))
        child.close()
        await self.until(lambda: not tally.connections)
        self.assertEqual(tally.idle_connections, 0)

    async def test_requests_unread(self) -> None:
        """Requests that were sent ahead and will not be answered do not cost a child the end of its piece."""
        store = self.shelf(8 * MIB)
        factory = self.factory(store)
        child = await self.child(self.serve(factory))
        sending = deferToThread(child.ask, *[0] * 5000)
        await self.until(lambda: len(factory.connections) and not connection_of(factory)._reading)
        drained = factory.connections.drain(10.0)
        await sending
        await self.pause(0.3)
        data = await deferToThread(child.end)
        self.assertEqual(len(data) % (len(data) // (8 * MIB)), 0)
        self.assertTrue(data.endswith(store.content(0)))
        child.close()
        await drained


class RoomTests(ServingInMemory):
    """Which connection makes room for which, and what is logged."""

    def test_longest_idle_makes_room(self) -> None:
        """At the limit the connection that has been idle longest is closed, and busy ones are not."""
        first, first_transport = self.connect()
        second, second_transport = self.connect()
        self.clock.advance(1.0)
        first.dataReceived(request_bytes(0))  # and idle again: the second is the longest idle now
        third, _ = self.connect()
        self.assertTrue(second_transport.disconnecting)
        self.assertFalse(first_transport.disconnecting)
        for protocol in (first, second, third):
            self.lose(protocol)

    def test_newcomers_are_heard(self) -> None:
        """A new connection is not closed to make room for the next before it has had the time to ask; then it is."""
        made: list[None] = []
        self.parent.connections.call_when_room(lambda: made.append(None))
        for _ in range(2):
            _, transport = self.connect()
        self.assertFalse(self.parent.connections.has_room())
        self.assertIsNone(self.parent.buildProtocol(None))
        self.assertEqual(made, [])
        self.clock.advance(1.0)
        self.assertEqual(len(made), 1)
        self.assertIsNotNone(self.parent.buildProtocol(None))
        self.assertFalse(transport.disconnecting)

    def test_all_busy(self) -> None:
        """With all connections busy there is no room; a listener that has asked is called when one ends or is idle."""
        made: list[None] = []
        connections = self.parent.connections
        connections.call_when_room(lambda: made.append(None))
        self.store.waiting = []
        first, _ = self.connect()
        self.assertTrue(connections.has_room())
        second, _ = self.connect()
        for protocol in (first, second):
            protocol.dataReceived(request_bytes(0))
        self.assertFalse(connections.has_room())
        self.lose(first)
        self.assertEqual(len(made), 1)
        third, _ = self.connect()
        third.dataReceived(request_bytes(0))
        self.assertFalse(connections.has_room())
        self.store.waiting[-1].callback(self.store.open(0))
        self.assertEqual(len(made), 2)
        self.assertTrue(connections.has_room())
        third.dataReceived(request_bytes(0))
        self.assertFalse(connections.has_room())
        connections.change_limits(max_connections=3, idle_timeout=30.0)
        self.assertEqual(len(made), 3)
        self.assertTrue(connections.has_room())
        for protocol in (second, third):
            self.lose(protocol)

    def test_room_that_was_not_asked_for(self) -> None:
        """A listener that has not asked is not called."""
        made: list[None] = []
        self.parent.connections.call_when_room(lambda: made.append(None))
        protocols = [self.connect()[0] for _ in range(2)]
        for protocol in protocols:
            protocol.dataReceived(request_bytes(0))
        self.assertTrue(self.parent.connections.has_room())
        for protocol in protocols:
            self.lose(protocol)
        self.assertEqual(made, [])

    def test_all_busy_without_a_listener(self) -> None:
        """With all connections busy and no listener to stop, a new one is closed."""
        self.store.waiting = []
        for _ in range(2):
            protocol, _ = self.connect()
            protocol.dataReceived(request_bytes(0))
        self.assertIsNone(self.parent.buildProtocol(None))

    def test_share(self) -> None:
        """An address has at most half of the connections that the others leave, an IPv6 network of 64 bits too."""
        self.parent = self.parent_for(max_connections=8)
        connections = self.parent.connections
        self.store.waiting = []
        for host in ["192.0.2.1"] * 4 + ["2001:db8::1", "2001:db8::2"]:
            self.assertTrue(connections.has_room(share_of(host)))
            self.connect(host)[0].dataReceived(request_bytes(0))
        for host in ("192.0.2.1", "::ffff:192.0.2.1", "2001:db8::3"):
            self.assertFalse(connections.has_room(share_of(host)))
        for host in ("192.0.2.2", "127.0.0.1"):
            self.assertTrue(connections.has_room(share_of(host)))
            self.connect(host)[0].dataReceived(request_bytes(0))
        self.assertFalse(connections.has_room(share_of("127.0.0.1")))

    def test_share_at_its_own_expense(self) -> None:
        """An address that has its share makes room with its own idle connection, not with that of another."""
        self.parent = self.parent_for(max_connections=4)
        other, other_transport = self.connect("192.0.2.2")
        other.dataReceived(request_bytes(0))
        first, first_transport = self.connect("192.0.2.1")
        first.dataReceived(request_bytes(0))
        self.store.waiting = []
        second, _ = self.connect("192.0.2.1")
        self.assertEqual([first_transport.disconnecting, other_transport.disconnecting], [True, False])
        self.lose(first)
        made: list[None] = []
        self.parent.connections.call_when_room(lambda: made.append(None))
        second.dataReceived(request_bytes(0))
        self.assertFalse(self.parent.connections.has_room("192.0.2.1"))
        self.lose(second)
        self.assertEqual(len(made), 1)
        self.assertTrue(self.parent.connections.has_room("192.0.2.1"))

    def test_share_with_requests_ahead(self) -> None:
        """A connection that has sent requests ahead is not idle between two replies: one that waits does not end it."""
        self.parent = self.parent_for(max_connections=2)
        self.store.waiting = []
        first, transport = self.connect("192.0.2.1")
        first.dataReceived(request_bytes(0) + request_bytes(2))
        made: list[bool] = []
        connections = self.parent.connections
        connections.call_when_room(lambda: made.append(connections.make_room("192.0.2.1")))
        self.assertFalse(connections.has_room("192.0.2.1"))
        self.store.waiting[0].callback(self.store.open(0))
        self.assertEqual((made, transport.disconnecting, len(self.store.waiting)), ([], False, 2))
        self.store.waiting[1].callback(self.store.open(2))
        self.assertTrue(transport.value().endswith(self.store.content(2)))
        self.assertEqual((made, transport.disconnecting), ([True], True))
        self.lose(first)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_share_without_a_listener(self) -> None:
        """Where no listener can let a connection wait, an address gets more than its share while there is room."""
        self.store.waiting = []
        for _ in range(2):
            self.connect("192.0.2.1")[0].dataReceived(request_bytes(0))
        self.assertIsNone(self.parent.buildProtocol(IPv4Address("TCP", "192.0.2.1", 1)))

    def test_shares_without_a_listener(self) -> None:
        """Where none can wait, an address that has nearly all connections loses its newest to others, to a half."""
        self.parent = self.parent_for(max_connections=4)
        self.store.waiting = []
        many = [self.connect("192.0.2.1") for _ in range(4)]
        for protocol, _ in many:
            protocol.dataReceived(request_bytes(0))
        for kept in (3, 2):
            self.connect("192.0.2.2")[0].dataReceived(request_bytes(0))
            self.assertEqual([t.disconnected for _, t in many], [False] * kept + [True] * (4 - kept))
        for protocol, _ in many[2:]:
            self.lose(protocol)
        for host in ("192.0.2.1", "192.0.2.2"):
            self.assertIsNone(self.parent.buildProtocol(IPv4Address("TCP", host, 1)))
        self.connect("127.0.0.1")
        self.assertEqual(len(self.parent.connections), 4)

    def test_slow_requests(self) -> None:
        """Connections whose requests come a byte at a time count as idle: they make room for others."""
        slow = [self.connect() for _ in range(2)]
        request = request_bytes(0)
        for at in range(4):
            for protocol, _ in slow:
                protocol.dataReceived(request[at : at + 1])
            self.clock.advance(1.0)
        self.connect("192.0.2.1")
        self.assertEqual([transport.disconnecting for _, transport in slow], [True, False])

    def test_drain_twice(self) -> None:
        """Every waiting caller learns of the end, and one that has given up waiting aborts nothing."""
        self.store.waiting = []
        protocol, transport = self.connect()
        protocol.dataReceived(request_bytes(0))
        drained = [self.parent.connections.drain(10.0) for _ in range(3)]
        drained[0].cancel()
        self.failureResultOf(drained[0])
        self.lose(protocol)
        for one in drained[1:]:
            self.successResultOf(one)
        self.assertFalse(transport.disconnected)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.successResultOf(self.parent.connections.drain(10.0))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_drain_refuses_new_connections(self) -> None:
        """A connection that is made while the server drains ends at once."""
        self.store.waiting = []
        first, _ = self.connect()
        first.dataReceived(request_bytes(0))
        drained = self.parent.connections.drain(10.0)
        second, transport = self.connect()
        self.assertTrue(transport.disconnecting)
        for protocol in (first, second):
            self.lose(protocol)
        self.successResultOf(drained)

    def test_unmarked_damage_is_logged(self) -> None:
        """A mark that cannot be made is logged, and the child sees an abort anyway."""
        os.truncate(self.store.path, 0)
        self.store.mark_damaged = self._failing_mark  # type: ignore[method-assign] # this store's disk is full
        protocol, transport = self.connect()
        protocol.dataReceived(request_bytes(0))
        self.assertTrue(transport.disconnected)
        self.assertEqual(len(self.flushLoggedErrors(StorageFailure)), 1)
        self.lose(protocol)

    def _failing_mark(self, kind: PieceKind, task_id: str, number: int, reason: str) -> Deferred[None]:
        """A mark that cannot be made."""
        marking: Deferred[None] = Deferred()
        marking.errback(Failure(StorageFailure("disk full")))
        return marking
