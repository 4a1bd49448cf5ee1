"""A listening port with the configured socket options, that accepts no more than it is told to."""

from __future__ import annotations

import socket
from typing import ClassVar

from twisted.internet import tcp
from twisted.internet.interfaces import IDelayedCall, IReactorFDSet, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from dragonfly_vortex.peer.replies import tls_expected
from dragonfly_vortex.peer.server import VortexServerFactory
from dragonfly_vortex.transport.sockets import BACKLOG, SocketOptions, apply_listening_options
from dragonfly_vortex.transport.tls import ServerTLS, TLSServerFactory

__all__ = ["VortexPort"]

_REST = 0.1
"""Seconds without accepting when nothing could be accepted."""


class VortexPort(tcp.Port):
    """
    Listens for children.

    :param factory: told how to stop and start accepting, see :meth:`VortexServerFactory.control`.
    :param port: 0 for any.
    :param interface: the address to listen on, IPv4 or IPv6.
    :param options: set before listening, so that every accepted connection inherits them.
    :param tls: what every connection speaks; None for no TLS.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        reactor: IReactorFDSet,
        factory: VortexServerFactory,
        *,
        port: int,
        interface: str,
        options: SocketOptions,
        tls: ServerTLS | None = None,
    ) -> None:
        outer = factory if tls is None else TLSServerFactory(tls, factory, tls_expected, factory.clock)
        super().__init__(port, outer, backlog=BACKLOG, interface=interface, reactor=reactor)
        self._options = options
        self._accepting = True
        self._rest: IDelayedCall | None = None
        factory.control(self._accept)

    @property
    def numberAccepts(self) -> int:
        """
        Connections accepted in one turn of the reactor: Twisted raises it as it goes, and would accept more than there
        is room for, before the factory can stop it.
        """
        return 1

    @numberAccepts.setter
    def numberAccepts(self, value: int) -> None:
        """It stays 1."""

    def createInternetSocket(self) -> socket.socket:
        sock: socket.socket = super().createInternetSocket()  # type: ignore[no-untyped-call] # Twisted's
        for warning in apply_listening_options(sock, self._options):
            self.log.warn("{reason}", reason=warning)  # a field "warning" would be taken for one of Python's
        return sock

    def doRead(self) -> None:
        """
        Accept one, and rest where that was not possible. The process may have no descriptor left, and whoever waits
        goes on to wait: Twisted would try again at once and write that to the log, some ten thousand times a second.
        """
        before = self.sessionno
        super().doRead()  # type: ignore[no-untyped-call] # Twisted's
        if self.sessionno == before and self._rest is None:
            self.pauseProducing()
            self._rest = IReactorTime(self.reactor).callLater(_REST, self._rested)

    def connectionLost(self, reason: Failure) -> None:
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        super().connectionLost(reason)  # type: ignore[no-untyped-call] # Twisted's

    def _rested(self) -> None:
        self._rest = None
        self._accept(self._accepting)

    def _accept(self, accepting: bool) -> None:
        self._accepting = accepting
        if not accepting:
            self.pauseProducing()
        elif self._rest is None:
            self.resumeProducing()
