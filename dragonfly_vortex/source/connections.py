"""
The connections to sources, below the client of HTTP.

Of a body that comes over a plain socket only the first bytes of each turn pass through the client. The rest goes from
the socket to the file of the piece inside the kernel (:mod:`~dragonfly_vortex.transport.splice`), as from a parent over
TCP. The client counts the bytes of a body, to know its end: so it is given as many zeros in their place, which the body
drops.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from typing import Protocol, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
    ITCPTransport,
    ITransport,
)
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from zope.interface import implementer

from dragonfly_vortex.transport.endpoints import connect_within
from dragonfly_vortex.transport.read_pacing import LOW_WATER, LowWaterMark
from dragonfly_vortex.transport.socket_options import beneath, plain_socket

__all__ = ["CONNECT_TIMEOUT", "Body", "Reading", "SourceConnection", "SourceEndpoint"]

CONNECT_TIMEOUT = 10.0
"""Seconds that connecting to a source may take, with the name, a proxy and TLS. A source may be far away."""

_MOST_HEADERS = 256 * 1024
"""Bytes of the headers of an answer, those of the answers before it (1xx) included."""

_HEAD_END = re.compile(rb"\n\r?\n")
_INTERIM = re.compile(rb"HTTP/1\.[01] 1[0-9][0-9]\b")

_ZEROS = bytes(256 * 1024)
"""What the client is given for bytes that did not pass through it."""

_FIRST_READ = 16 * 1024
"""Bytes that are read in the ordinary way: of an answer's beginning, and of each turn of a body that is then taken."""


class Body(Protocol):
    """The body of an answer, which takes its bytes from a socket itself."""

    @property
    def left(self) -> int:
        """Bytes that are missing of it."""

    def take(self, sock: socket.socket) -> int:
        """
        Take the next bytes that a socket holds.

        :returns: how many were taken.
        """


class Reading:
    """Knows which connection is being read, for the body that gets its bytes in that moment."""

    connection: SourceConnection | None = None


class SourceConnection(ProtocolWrapper):
    """
    A connection that ends at once when it is given up. By itself it would read on under TLS, until the other side has
    sent all that it has. It also ends at headers that are too long: Twisted keeps any number of them (26.10).
    """

    factory: _ConnectionFactory
    body: Body | None = None
    """What takes bytes of an answer past the client; None for all bytes to pass through the client."""
    _head: bytearray | None = None
    """The part of an answer's headers that has arrived; None behind them."""
    _came = 0
    _socket: socket.socket | None = None
    _mark: LowWaterMark | None = None

    def write(self, data: bytes) -> None:
        self._head, self._came = bytearray(), 0  # a request, and its answer comes next
        if self._socket is not None:
            self._read_at_once(_FIRST_READ)  # the client copies all that came for each line of the headers
        ProtocolWrapper.write(self, data)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def dataReceived(self, data: bytes) -> None:
        if self._head is not None:
            self._head += data
            self._came += len(data)
            while (end := _HEAD_END.search(self._head)) is not None:
                if not _INTERIM.match(self._head):
                    self._head = None
                    break
                del self._head[: end.end()]
            if self._head is not None and self._came > _MOST_HEADERS:
                self.loseConnection()
                return
        self._hand_on(data)
        if self._socket is not None:
            self._take_on(self._socket)

    def makeConnection(self, transport: ITransport) -> None:
        tcp = beneath(cast(ITCPTransport, transport))
        if plain_socket(tcp) is not None:
            tcp.bufferSize = self.factory.read_size  # type: ignore[attr-defined]
        self._socket = plain_socket(transport)
        if self._socket is not None:
            self._mark = LowWaterMark(self._socket)
        ProtocolWrapper.makeConnection(self, transport)

    def loseConnection(self) -> None:
        self.disconnecting = 1
        cast(ITCPTransport, self.transport).abortConnection()

    def _hand_on(self, data: bytes) -> None:
        """Give bytes to the client."""
        reading = self.factory.reading
        reading.connection = self
        try:
            ProtocolWrapper.dataReceived(self, data)
        finally:
            reading.connection = None

    def _take_on(self, sock: socket.socket) -> None:
        """Have the body take what the socket still holds of it, and the client count that."""
        taken = 0
        if self.body is not None and not self.disconnecting:
            left = taken = self.body.take(sock)
            while left:
                zeros = _ZEROS[:left]
                left -= len(zeros)
                self._hand_on(zeros)
        missing = 0 if self.body is None else self.body.left
        is_asked = self._head is not None  # the next request may have been made by now
        self._read_at_once(_FIRST_READ if missing or is_asked else self.factory.read_size)
        if self._mark is not None:
            # No more than half of what came at once: so one that sends slowly is read as slowly as before.
            self._mark.set(max(1, min(missing, taken // 2, LOW_WATER)))

    def _read_at_once(self, length: int) -> None:
        """Have the next bytes come in such parts, or in smaller ones where the limit of all content wants that."""
        self.transport.bufferSize = min(length, self.factory.read_size)  # type: ignore[union-attr]


class _ConnectionFactory(WrappingFactory[SourceConnection]):
    """
    Makes the connections for a protocol.

    :param wanted: makes the protocol.
    :param read_size: bytes to read from the socket at a time.
    :param reading: keeps which connection is being read.
    """

    noisy = False
    protocol = SourceConnection

    def __init__(self, wanted: IProtocolFactory, read_size: int, reading: Reading) -> None:
        super().__init__(wanted)  # type: ignore[no-untyped-call]
        self.read_size = read_size
        self.reading = reading

    def doStart(self) -> None:
        """Start this factory alone: Twisted's own one would log each connection."""

    def doStop(self) -> None:
        """Stop this factory alone."""


@implementer(IStreamClientEndpoint)
class SourceEndpoint:
    """
    Connects within a limited time, and prepares the connection.

    :param endpoint: connects.
    :param clock: measures the time.
    :param read_size: bytes to read from the socket at a time.
    :param reading: keeps which connection is being read.
    """

    def __init__(self, endpoint: IStreamClientEndpoint, clock: IReactorTime, read_size: int, reading: Reading) -> None:
        self._endpoint = endpoint
        self._clock = clock
        self._read_size = read_size
        self._reading = reading

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """See :meth:`twisted.internet.interfaces.IStreamClientEndpoint.connect`."""
        factory = _ConnectionFactory(protocolFactory, self._read_size, self._reading)
        connecting = connect_within(CONNECT_TIMEOUT, self._clock, self._endpoint, factory)
        return connecting.addCallback(lambda protocol: cast(ProtocolWrapper, protocol).wrappedProtocol)
