"""
A scripted parent on a real socket: for each request it plays a script of bytes, pauses and ends.

It counts what it is asked, and by how many connections, so that a test can say what a child has done.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IListeningPort,
    IOpenSSLServerConnectionCreator,
    IReactorTCP,
    IReactorTime,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from dragonfly_vortex.wire import Close, PacketReader, PieceRequest

__all__ = ["End", "Pause", "Reset", "ScriptedParent", "Send", "Step"]


@dataclass(frozen=True, slots=True)
class Send:
    """
    Send bytes.

    :param data: the bytes.
    """

    data: bytes


@dataclass(frozen=True, slots=True)
class Pause:
    """
    Do nothing for a while.

    :param seconds: for how long.
    """

    seconds: float


@dataclass(frozen=True, slots=True)
class End:
    """Close the connection when everything has been sent: the child reads an end of file."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Abort the connection: what has not been sent is lost, and the child gets a reset."""


Step = Send | Pause | End | Reset
"""What a script consists of. At its end the connection stays open, so that no step at all is a stall."""


class ScriptedParent:
    """
    Listen on a free port of 127.0.0.1, and answer by a script.

    :param reactor: listens, and is the clock.
    :param answer: the steps to play for a request.
    :param greeting: the steps to play for a new connection, before it has asked anything.
    :param tls: what connections speak, such as ``twisted.internet.ssl.CertificateOptions``; None for no TLS.
    """

    def __init__(
        self,
        reactor: IReactorTCP,
        answer: Callable[[PieceRequest], Iterable[Step]],
        *,
        greeting: Iterable[Step] = (),
        tls: IOpenSSLServerConnectionCreator | None = None,
    ) -> None:
        self.answer = answer
        self.greeting = tuple(greeting)
        self.clock = IReactorTime(reactor)
        self.address = ""
        """Where it listens, ``HOST:PORT``, with ``tls://`` before it under TLS."""
        self.connections = 0
        """How many connections have been made."""
        self.requests: list[PieceRequest] = []
        """What it has been asked for."""
        self.goodbyes = 0
        """The number of close packets that have arrived."""
        self._reactor = reactor
        self._tls = tls
        self._open: list[_ScriptedProtocol] = []
        self._port: IListeningPort | None = None
        self._waiting: list[tuple[Callable[[], bool], Deferred[None]]] = []

    @property
    def open_connections(self) -> int:
        """The number of open connections."""
        return len(self._open)

    def start(self) -> str:
        """
        Listen.

        :returns: the address.
        """
        factory: Any = _ScriptedFactory(self)  # Twisted types what listens as ServerFactory, which that for TLS is not
        if self._tls is not None:
            factory = TLSMemoryBIOFactory(self._tls, False, factory, self.clock)
        self._port = self._reactor.listenTCP(0, factory, interface="127.0.0.1")
        here = cast(IPv4Address, self._port.getHost())
        self.address = f"{'tls://' if self._tls is not None else ''}{here.host}:{here.port}"
        return self.address

    def play(self, *steps: Step) -> None:
        """Play further steps on each open connection, behind those that it still has to play."""
        for connection in list(self._open):
            connection.play(steps)

    def stop_listening(self) -> Deferred[None]:
        """Refuse further connections; those that there are go on."""
        port, self._port = self._port, None
        return (port.stopListening() if port is not None else None) or succeed(None)

    def stop(self) -> Deferred[None]:
        """Refuse further connections and abort those that there are. Fires when all have ended."""
        for connection in list(self._open):
            connection.transport.abortConnection()
        return self.stop_listening().addCallback(lambda _: self.until_deserted())

    def until_asked(self, requests: int = 1) -> Deferred[None]:
        """
        Fires when that many requests have arrived, in all.

        :param requests: how many.
        """
        return self.until(lambda: len(self.requests) >= requests)

    def until_deserted(self) -> Deferred[None]:
        """Fires when there is no connection."""
        return self.until(lambda: not self._open)

    def until(self, condition: Callable[[], bool]) -> Deferred[None]:
        """
        Fires when a condition holds.

        :param condition: looked at now, and whenever something has been said or a connection has ended.
        """
        reached: Deferred[None] = Deferred()
        self._waiting.append((condition, reached))
        self._look()
        return reached

    # -- what the connections tell

    def connected(self, connection: _ScriptedProtocol) -> None:
        """Record that a connection was made."""
        self.connections += 1
        self._open.append(connection)

    def asked(self, request: PieceRequest) -> None:
        """Record that a request has arrived."""
        self.requests.append(request)
        self._look()

    def said_goodbye(self) -> None:
        """Record that a close packet has arrived."""
        self.goodbyes += 1
        self._look()

    def disconnected(self, connection: _ScriptedProtocol) -> None:
        """Record that a connection has ended."""
        self._open.remove(connection)
        self._look()

    def _look(self) -> None:
        """Fire the Deferreds whose condition is true."""
        due = [waiting for waiting in self._waiting if waiting[0]()]
        for waiting in due:
            self._waiting.remove(waiting)
        for _, reached in due:
            reached.callback(None)


class _ScriptedFactory(ServerFactory):
    """Takes the connections of a parent."""

    noisy = False

    def __init__(self, parent: ScriptedParent) -> None:
        self._parent = parent

    def buildProtocol(self, addr: IAddress | None) -> _ScriptedProtocol:
        return _ScriptedProtocol(self._parent)


class _ScriptedProtocol(Protocol):
    """One connection from a child, and the steps that are still to be played on it."""

    transport: ITCPTransport

    def __init__(self, parent: ScriptedParent) -> None:
        self._parent = parent
        self._reader = PacketReader()
        self._steps: deque[Step] = deque()
        self._pause: IDelayedCall | None = None

    def play(self, steps: Iterable[Step]) -> None:
        """Play further steps."""
        self._steps.extend(steps)
        self._play()

    def connectionMade(self) -> None:
        self._parent.connected(self)
        self.play(self._parent.greeting)

    def dataReceived(self, data: bytes) -> None:
        self._reader.receive_data(data)
        while (event := self._reader.next_event()) is not None:
            if isinstance(event, PieceRequest):
                self._parent.asked(event)
                self._steps.extend(self._parent.answer(event))
            elif isinstance(event, Close):
                self._parent.said_goodbye()
        self._play()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._steps.clear()
        if self._pause is not None:
            self._pause.cancel()
        self._parent.disconnected(self)

    def _play(self) -> None:
        """Play what there is, up to the next pause."""
        while self._steps and self._pause is None:
            step = self._steps.popleft()
            if isinstance(step, Send):
                self.transport.write(step.data)
            elif isinstance(step, Pause):
                self._pause = self._parent.clock.callLater(step.seconds, self._go_on)
            elif isinstance(step, End):
                self.transport.loseConnection()
            else:
                self.transport.abortConnection()

    def _go_on(self) -> None:
        self._pause = None
        self._play()
