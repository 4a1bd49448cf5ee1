"""A listening socket with the configured options, and the port that accepts no more from it than it is told to."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import ExitStack
from dataclasses import dataclass
from typing import ClassVar

from twisted.internet import tcp
from twisted.internet.abstract import isIPv6Address
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorFDSet, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from dragonfly_vortex.limited_log import LimitedLog
from dragonfly_vortex.transport.socket_options import BACKLOG, SocketOptions, apply_listening_options
from dragonfly_vortex.transport.tls import ServerTLS, TLSServerFactory
from dragonfly_vortex.vortex.accept_balance import Turns
from dragonfly_vortex.vortex.replies import tls_expected
from dragonfly_vortex.vortex.server_factory import VortexServerFactory

__all__ = ["SharedSocket", "VortexPort", "address_of", "listening_socket"]

_REST = 0.1
"""Seconds without accepting when nothing could be accepted."""

_COURTESY = 0.005
"""Seconds that another process has to accept a connection that this one leaves to it."""

_NO_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Why a connection that waits cannot be accepted; it goes on waiting."""

_log = Logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedSocket:
    """
    What several processes accept from.

    :param socket: one of :func:`listening_socket`'s.
    :param turns: whose turn it is; None: whoever comes first.
    """

    socket: socket.socket
    turns: Turns | None = None


def listening_socket(ip: str, port: int, options: SocketOptions) -> socket.socket:
    """
    Listen.

    :param ip: the address to listen on, IPv4 or IPv6.
    :param port: 0 for any.
    :param options: set before listening, so that every accepted connection inherits them; what cannot be had is a
        warning in the log.
    :returns: a socket that does not block.
    :raises twisted.internet.error.CannotListenError: the address cannot be had.
    """
    listening = socket.socket(socket.AF_INET6 if isIPv6Address(ip) else socket.AF_INET)
    try:
        listening.setblocking(False)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for warning in apply_listening_options(listening, options):
            _log.warn("{reason}", reason=warning)  # a field "warning" would be taken for one of Python's
        # With its numeric scope, which the address of a link needs.
        (_, _, _, _, place), *_ = socket.getaddrinfo(ip, port, listening.family, flags=socket.AI_NUMERICHOST)
        listening.bind(place)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise CannotListenError(ip, port, error) from error
    return listening


def address_of(listening: socket.socket) -> IAddress:
    """Where a socket listens."""
    name = listening.getsockname()
    return IPv6Address("TCP", *name) if listening.family == socket.AF_INET6 else IPv4Address("TCP", *name)


class _Connection(tcp.Server):
    """A connection whose port knows when it has ended."""

    server: VortexPort

    def connectionLost(self, reason: Failure) -> None:
        self.server.connection_lost()
        super().connectionLost(reason)


class VortexPort(tcp.Port):
    """
    Accepts children from a listening socket, which other processes may share.

    :param factory: told how to stop and start accepting, see :meth:`VortexServerFactory.control`.
    :param listening: one of :func:`listening_socket`'s; the port closes it.
    :param tls: what every connection speaks; None for no TLS.
    :param turns: whose turn it is to accept; None: always this port's.
    """

    log: ClassVar[Logger] = Logger()
    transport = _Connection

    def __init__(
        self,
        reactor: IReactorFDSet,
        factory: VortexServerFactory,
        listening: socket.socket,
        *,
        tls: ServerTLS | None = None,
        turns: Turns | None = None,
    ) -> None:
        outer = factory if tls is None else TLSServerFactory(tls, factory, tls_expected, factory.clock)
        interface, port, *_ = listening.getsockname()
        super().__init__(port, outer, backlog=BACKLOG, interface=interface, reactor=reactor)
        self._preexistingSocket = listening  # as reactor.adoptStreamPort has it, which makes ports of Twisted's class
        self._turns = turns
        self._limited_log = LimitedLog(self.log, factory.clock)
        self._connections = 0
        self._accepting = True
        self._was_polite = False  # the others have had their chance
        self._rest: IDelayedCall | None = None
        factory.control(self._accept)

    def doRead(self) -> None:
        """
        Accept one. Twisted's own accepts ever more in a turn, past the room that there is before the factory can stop
        it; and where that is not possible, because the process has no descriptor left, it would try again at once, some
        ten thousand times a second, and close the connections of those who wait.
        """
        if self._turns is not None and not self._was_polite and not self._turns.mine:
            self._was_polite = True
            self._take_a_rest(_COURTESY)
            return
        self._was_polite = False
        try:
            connection, peer = self.socket.accept()
        except OSError as error:
            # Another process was quicker, or whoever waited has gone: there will be others.
            if error.errno in _NO_ROOM and self._rest is None:
                self._limited_log.error("no connection can be accepted: {reason}", reason=os.strerror(error.errno))
                self._take_a_rest(_REST)
            return
        try:
            self._connect(connection, peer)
        except Exception:  # a defect of ours: Twisted would close the port for it
            self._limited_log.failure("a connection from {peer} could not be served", peer=peer[0])

    def startListening(self) -> None:
        super().startListening()
        self._tell()

    def connection_lost(self) -> None:
        """A connection has ended."""
        self._connections -= 1
        self._tell()

    def connectionLost(self, reason: Failure) -> None:
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        self._limited_log.close()
        super().connectionLost(reason)  # type: ignore[no-untyped-call] # Twisted's
        self._tell()

    def _tell(self) -> None:
        """Let the other processes know how many connections there are, or that there will be no more."""
        if self._turns is None:
            return
        if self._accepting and self.connected and not self.disconnecting:
            self._turns.tell(self._connections)
        else:
            self._turns.take_none()

    def _take_a_rest(self, seconds: float) -> None:
        """Accept nobody for a while."""
        self.pauseProducing()
        self._rest = IReactorTime(self.reactor).callLater(seconds, self._rested)

    def _connect(self, connection: socket.socket, peer: tuple[str, int]) -> None:
        """Give a connection its protocol, unless there is no room for it."""
        address = IPv6Address("TCP", *peer) if connection.family == socket.AF_INET6 else IPv4Address("TCP", *peer)
        with ExitStack() as unless_served:
            unless_served.callback(connection.close)
            protocol = self.factory.buildProtocol(address) if self.factory is not None else None
            if protocol is None:
                return
            unless_served.pop_all()
        self._connections += 1
        self._tell()
        number, self.sessionno = self.sessionno, self.sessionno + 1
        protocol.makeConnection(self.transport(connection, protocol, peer, self, number, self.reactor))

    def _rested(self) -> None:
        self._rest = None
        self._accept(self._accepting)

    def _accept(self, accepting: bool) -> None:
        self._accepting = accepting
        self._tell()
        if not accepting:
            self.pauseProducing()
        elif self._rest is None:
            self.resumeProducing()
