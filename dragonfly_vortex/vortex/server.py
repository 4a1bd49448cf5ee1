"""The way into a peer over Vortex and TCP: a port, and the connections that came through it."""

from __future__ import annotations

from typing import ClassVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IAddress, IReactorFDSet
from twisted.logger import Logger
from zope.interface import implementer

from dragonfly_vortex.interfaces import IServer
from dragonfly_vortex.transport.socket_options import SocketOptions
from dragonfly_vortex.transport.tls import ServerTLS
from dragonfly_vortex.vortex.listener import SharedSocket, VortexPort, listening_socket
from dragonfly_vortex.vortex.server_factory import VortexServerFactory

__all__ = ["TCPServer"]


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
        options: SocketOptions,
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
        """Where it listens, None while it does not."""
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
            await self._factory.drain(timeout)

    def stop(self, timeout: float) -> Deferred[None]:
        """See :meth:`IServer.stop`."""
        return Deferred.fromCoroutine(self._stop(timeout))
