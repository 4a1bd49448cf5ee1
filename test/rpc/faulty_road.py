"""A TCP connection between two others that can be cut or held up in the middle of what goes to the child."""

from __future__ import annotations

import enum
from typing import cast

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.interfaces import IAddress, IListeningPort, IReactorTCP, ITCPTransport
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.python.failure import Failure

from test.rpc.conditions import Conditions

__all__ = ["FaultyRoad", "Trouble"]


class Trouble(enum.Enum):
    """What happens to the connections, some way on."""

    CUT = "they are aborted"
    JAM = "nothing arrives any more, until the jam is cleared"


class FaultyRoad:
    """
    Listen on a free port of 127.0.0.1, and pass everything on to another port.

    :param port: where the parent listens.
    """

    def __init__(self, reactor: IReactorTCP, port: int) -> None:
        self.reactor = reactor
        self.port = port
        self.address = ""
        """Where it listens, ``HOST:PORT``."""
        self._trouble: Trouble | None = None
        self._far = 0
        self._connections: set[_Near] = set()
        self._conditions = Conditions()
        self._listener: IListeningPort | None = None

    @property
    def connections(self) -> int:
        """How many connections there are from children."""
        return len(self._connections)

    def start(self) -> None:
        """Listen."""
        self._listener = self.reactor.listenTCP(0, _Factory(self), interface="127.0.0.1")
        here = cast(IPv4Address, self._listener.getHost())
        self.address = f"{here.host}:{here.port}"

    def stop(self) -> Deferred[None]:
        """Refuse connections, and cut those that there are; fires when there is none."""
        listener, self._listener = self._listener, None
        for connection in list(self._connections):
            connection.transport.abortConnection()
        stopped = (listener.stopListening() if listener is not None else None) or succeed(None)
        return stopped.addCallback(lambda _: self.until_empty())

    def until_empty(self) -> Deferred[None]:
        """Fires when there is no connection."""
        return self._conditions.until(lambda: not self._connections)

    def make_trouble(self, trouble: Trouble, far: int) -> None:
        """
        Have trouble on all connections, once.

        :param trouble: of which sort.
        :param far: bytes that still arrive.
        """
        self._far = far
        self._trouble = trouble

    def clear(self) -> None:
        """End a jam: what was held up arrives. A cut that is still to come stays."""
        if self._trouble is not Trouble.JAM:
            return
        self._trouble = None
        for connection in self._connections:
            connection.pass_on(b"")

    # -- what the connections ask and tell

    def may_pass(self, length: int) -> int:
        """How many bytes may pass on to a child."""
        if self._trouble is None:
            return length
        length = min(length, self._far)
        self._far -= length
        return length

    def held_up(self, connection: _Near) -> None:
        """A connection has bytes that may not pass."""
        if self._trouble is Trouble.CUT:
            self._trouble = None
            connection.transport.abortConnection()

    def opened(self, connection: _Near) -> None:
        """A child has connected."""
        self._connections.add(connection)

    def closed(self, connection: _Near) -> None:
        """A child's connection has ended."""
        self._connections.discard(connection)
        self._conditions.look()


class _Factory(ServerFactory):
    """Takes the connections of children."""

    noisy = False

    def __init__(self, road: FaultyRoad) -> None:
        self._road = road

    def buildProtocol(self, addr: IAddress | None) -> _Near:
        return _Near(self._road)


class _Near(Protocol):
    """A child's end."""

    transport: ITCPTransport

    def __init__(self, road: FaultyRoad) -> None:
        self._road = road
        self._far: _Far | None = None
        self._early = b""
        self._late = b""
        self._over = False

    def connectionMade(self) -> None:
        self._road.opened(self)
        endpoint = TCP4ClientEndpoint(self._road.reactor, "127.0.0.1", self._road.port)
        connectProtocol(endpoint, _Far(self)).addCallbacks(self._connected, lambda _: self.transport.abortConnection())

    def _connected(self, far: _Far) -> None:
        self._far = far
        far.transport.write(self._early)
        if self._over:
            far.transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        if self._far is None:
            self._early += data
        else:
            self._far.transport.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._over = True
        if self._far is not None:
            self._far.transport.abortConnection()
        self._road.closed(self)

    def pass_on(self, data: bytes) -> None:
        """Pass on what the parent says, as far as it may."""
        self._late += data
        length = self._road.may_pass(len(self._late))
        self.transport.write(self._late[:length])
        self._late = self._late[length:]
        if self._late:
            self._road.held_up(self)


class _Far(Protocol):
    """The parent's end."""

    transport: ITCPTransport

    def __init__(self, near: _Near) -> None:
        self._near = near

    def dataReceived(self, data: bytes) -> None:
        self._near.pass_on(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._near.transport.loseConnection()
