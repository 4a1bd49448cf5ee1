"""
A client endpoint in memory: the test reads what the protocol sends, and supplies what it receives.

Connections end as Twisted's do: in the next turn of the clock, and once.
"""

from __future__ import annotations

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IReactorTime, IStreamClientEndpoint
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from dragonfly_vortex.wire import Event, PacketReader

__all__ = ["MemoryConnection", "MemoryEndpoint"]


class MemoryConnection(StringTransport):
    """
    A protocol's transport, and the other side of it.

    :param protocol: the protocol that is connected.
    :param clock: ends the connection in its next turn.
    """

    def __init__(self, protocol: IProtocol, clock: IReactorTime) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Twisted has no types for it
        self.protocol = protocol
        self.ended = False
        self.aborted = False
        self._clock = clock
        self._reader = PacketReader()
        self._read = 0

    # -- what the protocol calls

    def loseConnection(self) -> None:
        super().loseConnection()  # type: ignore[no-untyped-call]  # nor for this
        self._clock.callLater(0, self.end, ConnectionDone())

    def abortConnection(self) -> None:
        self.aborted = True
        self.disconnecting = True
        self._clock.callLater(0, self.end, ConnectionAborted())

    # -- what the test calls

    def packets(self) -> list[Event]:
        """The packets that the protocol has sent since the last call."""
        data = self.value()
        self._reader.receive_data(data[self._read :])
        self._read = len(data)
        return list(iter(self._reader.next_event, None))

    def receive(self, data: bytes) -> None:
        """Have the protocol receive bytes, if it still does."""
        if not self.disconnecting and not self.ended:
            self.protocol.dataReceived(data)

    def end(self, reason: Exception | None = None) -> None:
        """
        End the connection now, if it has not ended yet.

        :param reason: why; None means that the other side has closed it.
        """
        if not self.ended:
            self.ended = self.disconnected = True
            self.protocol.connectionLost(Failure(reason or ConnectionDone()))

    def reset(self) -> None:
        """End the connection now, as by a reset from the other side."""
        self.end(ConnectionLost())


@implementer(IStreamClientEndpoint)
class MemoryEndpoint:
    """
    Connect when the test says so, or at once.

    :param clock: of the connections.
    :param at_once: connect without a call of :meth:`accept`.
    """

    def __init__(self, clock: IReactorTime, *, at_once: bool = True) -> None:
        self.at_once = at_once
        self.connections: list[MemoryConnection] = []
        """All connections that were made, ended ones too."""
        self.attempts: list[tuple[IProtocolFactory, Deferred[IProtocol]]] = []
        """The attempts that wait for a connection."""
        self._clock = clock

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        connecting: Deferred[IProtocol] = Deferred(self._give_up)
        self.attempts.append((protocolFactory, connecting))
        if self.at_once:
            self.accept()
        return connecting

    def accept(self) -> MemoryConnection:
        """Make the connection for the oldest attempt."""
        factory, connecting = self.attempts.pop(0)
        protocol = factory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 4005))
        if protocol is None:
            raise ValueError(f"expected a protocol from {factory}, got none")
        connection = MemoryConnection(protocol, self._clock)
        self.connections.append(connection)
        protocol.makeConnection(connection)
        connecting.callback(protocol)
        return connection

    def refuse(self, error: Exception) -> None:
        """
        Refuse the oldest attempt.

        :param error: what to fail with.
        """
        _, connecting = self.attempts.pop(0)
        connecting.errback(error)

    def _give_up(self, cancelled: Deferred[IProtocol]) -> None:
        self.attempts = [attempt for attempt in self.attempts if attempt[1] is not cancelled]
