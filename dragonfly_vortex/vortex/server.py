"""
The Vortex server: a listening socket with the configured options, a port that accepts only as many connections as there
is room for, and :class:`TCPServer`, which starts and stops both.
"""

from __future__ import annotations

import errno
import os
import socket
from contextlib import ExitStack
from typing import ClassVar

from msgspec import Struct
from twisted.internet import tcp
from twisted.internet.abstract import isIPv6Address
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorFDSet, IReactorTime
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dragonfly_vortex.address import share_of
from dragonfly_vortex.interfaces import IPieceStore, IServer
from dragonfly_vortex.limited_log import LimitedLog
from dragonfly_vortex.transport.socket_options import BACKLOG, SocketOptions, apply_listening_options
from dragonfly_vortex.transport.tls import ServerTLS, TLSServerFactory
from dragonfly_vortex.transport.wrong_port import NEEDS_TLS
from dragonfly_vortex.vortex.accept_balance import Turns
from dragonfly_vortex.vortex.connections import ConnectionRegistry, ServerSettings
from dragonfly_vortex.vortex.server_protocol import VortexServerProtocol
from dragonfly_vortex.vortex.waiting_connections import WaitingConnections
from dragonfly_vortex.wire import ErrorCode, ErrorReply

__all__ = [
    "SharedSocket",
    "TCPServer",
    "VortexPort",
    "VortexServerFactory",
    "address_of",
    "inherited_socket",
    "listening_socket",
    "tls_expected",
]

_DEFAULT_OPTIONS = SocketOptions()

_REST = 0.1
"""Seconds without accepting when nothing could be accepted."""

_COURTESY = 0.005
"""Seconds that another process has to accept a connection that this one leaves to it."""

_NO_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Why a connection that waits cannot be accepted; it goes on waiting."""

_log = Logger()


def tls_expected(data: bytes) -> bytes:
    """
    The reply to a child without TLS on a port that requires it.

    :param data: its first bytes, of a request; the first is the request's packet ID.
    """
    return ErrorReply(packet_id=data[0], code=ErrorCode.INVALID_ARGUMENT, text=NEEDS_TLS).to_bytes()


class SharedSocket(Struct, frozen=True, kw_only=True):
    """
    A listening socket from which several processes accept.

    :param socket: one of :func:`listening_socket`'s.
    :param turns: the balance with other processes; None: the first process accepts.
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


def inherited_socket(listening: socket.socket, options: SocketOptions) -> socket.socket:
    """
    Take a socket that listens already.

    :param options: as for :func:`listening_socket`.
    :returns: the same.
    """
    listening.setblocking(False)
    for warning in apply_listening_options(listening, options):
        _log.warn("{reason}", reason=warning)
    return listening


def address_of(listening: socket.socket) -> IAddress:
    """Return the address where a socket listens."""
    name = listening.getsockname()
    return IPv6Address("TCP", *name) if listening.family == socket.AF_INET6 else IPv4Address("TCP", *name)


class _Connection(tcp.Server):
    """A connection that reports its end to its port."""

    server: VortexPort

    def connectionLost(self, reason: Failure) -> None:
        self.server.connection_lost()
        super().connectionLost(reason)


class VortexPort(tcp.Port):
    """
    Accepts children from a listening socket, which other processes may share.

    :param factory: makes the connections' protocols; its registry of connections says whether there is room.
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
        clock = IReactorTime(reactor)
        outer = factory if tls is None else TLSServerFactory(tls, factory, tls_expected, clock, aggregates=False)
        interface, port, *_ = listening.getsockname()
        super().__init__(port, outer, backlog=BACKLOG, interface=interface, reactor=reactor)
        self._preexistingSocket = listening  # as reactor.adoptStreamPort has it, which makes ports of Twisted's class
        self._turns = turns
        self._limited_log = LimitedLog(self.log, clock)
        self._registry = factory.connections
        self._registry.call_when_room(self._room_made)
        self._waiting = WaitingConnections(clock, self._registry, self._tell)
        self._is_full = False
        self._accepted = 0  # connections that have not ended
        self._was_polite = False  # the others have had their chance
        self._rest: IDelayedCall | None = None

    def doRead(self) -> None:
        """
        Accept one connection, where there is room for it. Twisted's own port accepts many in a turn, more than there is
        room for. Where the process has no descriptor left, it would try again at once, some ten thousand times a
        second, and close the connections that wait.
        """
        if not self._registry.has_room():
            self._is_full = True
            self._tell()
            self.pauseProducing()
            return
        if self._turns is not None and not self._was_polite and not self._turns.mine:
            self._was_polite = True
            self._take_a_rest(_COURTESY)
            return
        self._was_polite = False
        try:
            connection, peer = self.socket.accept()
        except OSError as error:
            # Another process was quicker, or the client has disconnected.
            if error.errno in _NO_ROOM and self._rest is None:
                self._limited_log.error("no connection can be accepted: {reason}", reason=os.strerror(error.errno))
                self._take_a_rest(_REST)
            return
        share = share_of(peer[0])
        if self._registry.has_room(share):
            self._serve(connection, peer)
            return
        text = "{peer} has its share of the connections, the next one waits"
        if not self._waiting.add((connection, peer), share):
            text = "{peer} has its share of the connections and of those that wait, the next one is closed"
        self._limited_log.info(text, peer=peer[0])
        self._tell()

    def startListening(self) -> None:
        super().startListening()
        self._tell()

    def connection_lost(self) -> None:
        """Record that a connection has ended."""
        self._accepted -= 1
        self._tell()

    def connectionLost(self, reason: Failure) -> None:
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        self._waiting.close()
        self._limited_log.close()
        super().connectionLost(reason)  # type: ignore[no-untyped-call] # Twisted's
        self._tell()

    def _tell(self) -> None:
        """Let the other processes know how many connections there are, or that there will be no more."""
        if self._turns is None:
            return
        if self.connected and not self.disconnecting and not self._is_full:
            self._turns.tell(self._accepted + len(self._waiting))
        else:
            self._turns.take_none()

    def _take_a_rest(self, seconds: float) -> None:
        """Accept no connection for a while."""
        self.pauseProducing()
        self._rest = IReactorTime(self.reactor).callLater(seconds, self._rested)

    def _serve(self, connection: socket.socket, peer: tuple[str, int]) -> None:
        try:
            self._connect(connection, peer)
        except Exception:  # a defect of ours: Twisted would close the port for it
            self._limited_log.failure("a connection from {peer} could not be served", peer=peer[0])

    def _connect(self, connection: socket.socket, peer: tuple[str, int]) -> None:
        """Give a connection its protocol, unless there is no room for it."""
        address = IPv6Address("TCP", *peer) if connection.family == socket.AF_INET6 else IPv4Address("TCP", *peer)
        with ExitStack() as unless_served:
            unless_served.callback(connection.close)
            protocol = self.factory.buildProtocol(address) if self.factory is not None else None
            if protocol is None:
                return
            unless_served.pop_all()
        self._accepted += 1
        self._tell()
        number, self.sessionno = self.sessionno, self.sessionno + 1
        protocol.makeConnection(self.transport(connection, protocol, peer, self, number, self.reactor))

    def _rested(self) -> None:
        self._rest = None
        if not self._is_full:
            self.resumeProducing()

    def _room_made(self) -> None:
        while (accepted := self._waiting.next()) is not None:
            self._serve(*accepted)
        if self._is_full and self._registry.has_room():
            self._is_full = False
            self._tell()
            if self._rest is None:
                self.resumeProducing()


@implementer(IServer)
class TCPServer:
    """
    Serves pieces over Vortex.

    :param reactor: where it listens.
    :param factory: answers the connections.
    :param ip: the address to listen on, IPv4 or IPv6.
    :param port: 4005 by Dragonfly's convention; 0 for any.
    :param options: the options of the port's and the connections' sockets.
    :param tls: what every connection speaks; None for no TLS.
    :param shared: what to accept from, with other processes, instead of listening oneself. It serves once: stopping
        closes it.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        reactor: IReactorFDSet,
        factory: VortexServerFactory,
        *,
        ip: str,
        port: int,
        options: SocketOptions = _DEFAULT_OPTIONS,
        tls: ServerTLS | None = None,
        shared: SharedSocket | None = None,
    ) -> None:
        self._reactor = reactor
        self._factory = factory
        self._ip = ip
        self._port_number = port
        self._options = options
        self._tls = tls
        self._shared = shared
        self._port: VortexPort | None = None

    @property
    def address(self) -> IAddress | None:
        """The address where it listens; None while it does not."""
        return self._port.getHost() if self._port is not None else None

    def start(self) -> IAddress:
        """See :meth:`IServer.start`."""
        shared = self._shared or SharedSocket(socket=listening_socket(self._ip, self._port_number, self._options))
        port = VortexPort(self._reactor, self._factory, shared.socket, tls=self._tls, turns=shared.turns)
        port.startListening()
        self._port = port
        address: IAddress = port.getHost()
        self.log.info("serving Vortex on {address}", address=address)
        if self._tls is not None:
            clients = "clients show a certificate" if self._tls.mutual else "clients show none"
            self.log.info("it speaks TLS, {clients}; content is copied, sendfile cannot encrypt", clients=clients)
        return address

    async def _stop(self, timeout: float) -> None:
        port, self._port = self._port, None
        try:
            if port is not None:
                await maybeDeferred(port.stopListening)
        finally:
            await self._factory.connections.drain(timeout)

    def stop(self, timeout: float) -> Deferred[None]:
        """See :meth:`IServer.stop`."""
        return Deferred.fromCoroutine(self._stop(timeout))


class VortexServerFactory(Factory):
    """
    Connections from children.

    :param store: where pieces come from.
    :param settings: what all connections have in common.
    :param connections: where each connection is entered, and which says whether there may be one more.
    """

    noisy = False

    def __init__(self, store: IPieceStore, settings: ServerSettings, connections: ConnectionRegistry) -> None:
        self.store = store
        self.settings = settings
        self.connections = connections

    def buildProtocol(self, addr: IAddress | None) -> VortexServerProtocol | None:
        share = share_of(str(getattr(addr, "host", "")))
        if not self.connections.make_room(share):
            text = "no room for {peer}: all {count} connections are busy"
            self.connections.limited_log.warn(text, peer=addr, count=len(self.connections))
            return None
        protocol = VortexServerProtocol(self.store, self.settings, self.connections, share)
        protocol.factory = self
        return protocol
