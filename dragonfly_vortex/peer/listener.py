"""A listening port with the configured socket options, that accepts no more than it is told to."""

from __future__ import annotations

import socket
from typing import ClassVar

from twisted.internet import tcp
from twisted.internet.interfaces import IReactorFDSet
from twisted.logger import Logger

from dragonfly_vortex.peer.replies import tls_expected
from dragonfly_vortex.peer.server import VortexServerFactory
from dragonfly_vortex.transport.sockets import BACKLOG, SocketOptions, apply_listening_options
from dragonfly_vortex.transport.tls import ServerTLS, TLSServerFactory

__all__ = ["VortexPort"]


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

    def _accept(self, accepting: bool) -> None:
        if accepting:
            self.resumeProducing()
        else:
            self.pauseProducing()
