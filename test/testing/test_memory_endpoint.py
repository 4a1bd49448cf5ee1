"""Tests of connections in memory: they carry bytes, and end as Twisted's do."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost, ConnectionRefusedError
from twisted.internet.interfaces import IAddress, IProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.testing.memory_endpoint import MemoryConnection, MemoryEndpoint
from dragonfly_vortex.wire import Close


class Remembering(Protocol):
    """Remembers what it has received, and why its connection has ended."""

    def __init__(self) -> None:
        self.received = b""
        self.reasons: list[Failure] = []

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.reasons.append(reason)


class Refusing(Factory):
    """Builds no protocol."""

    def buildProtocol(self, addr: IAddress | None) -> None:
        return None


class MemoryEndpointTests(SynchronousTestCase):
    """The endpoint and its connections."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.endpoint = MemoryEndpoint(self.clock)

    def connect(self) -> Deferred[IProtocol]:
        """Connect, or begin to."""
        return self.endpoint.connect(Factory.forProtocol(Remembering))

    def connected(self) -> tuple[Remembering, MemoryConnection]:
        """A protocol and its connection."""
        protocol = self.successResultOf(self.connect())
        assert isinstance(protocol, Remembering)
        return protocol, self.endpoint.connections[-1]

    def test_carries(self) -> None:
        """What is written is read as packets, each once; what is received arrives."""
        protocol, connection = self.connected()
        for packet_id in (1, 2):
            connection.write(Close(packet_id=packet_id).to_bytes())
            self.assertEqual(connection.packets(), [Close(packet_id=packet_id)])
        self.assertEqual(connection.packets(), [])
        connection.receive(b"abc")
        self.assertEqual(protocol.received, b"abc")
        self.assertIs(protocol.transport, connection)

    def test_ends(self) -> None:
        """A connection ends in the next turn of the clock, for the first reason, and once."""
        for end, reason in (("loseConnection", ConnectionDone), ("abortConnection", ConnectionAborted)):
            protocol, connection = self.connected()
            getattr(connection, end)()
            connection.receive(b"abc")
            self.assertEqual((protocol.reasons, protocol.received), ([], b""))
            self.clock.advance(0)
            connection.end()
            self.assertEqual([type(each.value) for each in protocol.reasons], [reason])
            self.assertTrue(connection.ended)

    def test_ended_by_the_other_side(self) -> None:
        """The other side can close and reset."""
        protocol, connection = self.connected()
        connection.end()
        other, reset = self.connected()
        reset.reset()
        self.assertTrue(protocol.reasons[0].check(ConnectionDone))
        self.assertTrue(other.reasons[0].check(ConnectionLost))

    def test_in_its_own_time(self) -> None:
        """The test may say when, and whether, a connection is made."""
        self.endpoint.at_once = False
        first, second, third = self.connect(), self.connect(), self.connect()
        second.cancel()
        self.failureResultOf(second, CancelledError)
        self.assertNoResult(first)
        connection = self.endpoint.accept()
        self.assertIs(self.successResultOf(first), connection.protocol)
        self.endpoint.refuse(ConnectionRefusedError())
        self.failureResultOf(third, ConnectionRefusedError)
        self.assertEqual(self.endpoint.attempts, [])

    def test_no_protocol(self) -> None:
        """A factory that builds no protocol is a mistake in the test."""
        self.assertRaises(ValueError, self.endpoint.connect, Refusing())
