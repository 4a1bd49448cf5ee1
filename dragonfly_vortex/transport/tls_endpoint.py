"""
The endpoints under TLS: a client endpoint whose Deferred fires when the handshake is complete, and not before; and a
server endpoint for TLS 1.3 that asks its clients for a certificate, with its description as a string.

The strings ``ssl:`` and ``tls:`` of Twisted 26.10 ask for no certificate, and have no parameter for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint, serverFromString, wrapServerTLS
from twisted.internet.error import NoProtocol
from twisted.internet.interfaces import (
    IAddress,
    IHandshakeListener,
    IListeningPort,
    IOpenSSLClientConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from dragonfly_vortex.config import TLSIdentity
from dragonfly_vortex.errors import CertificateUnusable
from dragonfly_vortex.transport.tls import server_tls_from
from dragonfly_vortex.transport.tls_transport import TLSTransport

__all__ = ["TLSEndpoint", "TLSServerEndpoint", "endpoint_from_string"]


@implementer(IStreamClientEndpoint)
class TLSEndpoint:
    """
    Connects through another endpoint, and speaks TLS.

    Twisted's own endpoint fires before the handshake begins: its errors would come too late, and a time limit for
    connecting would not limit the handshake.

    :param creator: makes the OpenSSL connection.
    :param endpoint: connects.
    :param clock: for small writes, which are put together.
    """

    def __init__(
        self, creator: IOpenSSLClientConnectionCreator, endpoint: IStreamClientEndpoint, clock: IReactorTime
    ) -> None:
        self._creator = creator
        self._endpoint = endpoint
        self._clock = clock

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        Connect, and agree on TLS.

        :param protocolFactory: asked for a protocol after the handshake.
        :returns: fires with that protocol when it has been connected. Fails as the endpoint does, and with the reason
            for which the handshake failed. Cancelling it ends the connection.
        """
        factory = _HandshakeFactory(protocolFactory)
        wrapper = TLSMemoryBIOFactory(self._creator, True, factory, self._clock)
        wrapper.protocol = TLSTransport
        connecting = self._endpoint.connect(wrapper)

        def give_up(_: Deferred[IProtocol]) -> None:
            connecting.cancel()
            factory.abort()

        connected: Deferred[IProtocol] = Deferred(give_up)
        factory.connected = connected
        # What it fires with is only a handshake that has begun.
        connecting.addErrback(factory.fail)
        return connected


class _HandshakeFactory(Factory):
    """
    Makes the one protocol that waits for a handshake.

    :param wanted: makes the protocol for which it is waited.
    """

    noisy = False
    connected: Deferred[IProtocol]

    def __init__(self, wanted: IProtocolFactory) -> None:
        self.wanted = wanted
        self._handshake: _Handshake | None = None

    def buildProtocol(self, addr: IAddress | None) -> _Handshake:
        self._handshake = _Handshake(self, cast(IAddress, addr))  # it is None in tests of Twisted's alone
        return self._handshake

    def abort(self) -> None:
        """End the connection, if there is one."""
        if self._handshake is not None and self._handshake.connected:
            self._handshake.transport.abortConnection()

    def fail(self, reason: Failure) -> None:
        """Fail the handshake: there is no connection, or none under TLS."""
        if not self.connected.called:
            self.connected.errback(reason)


@implementer(IHandshakeListener)
class _Handshake(Protocol):
    """
    Waits for the end of a handshake, and then stands between the connection and its protocol.

    :param attempt: what it belongs to.
    :param address: the other side's.
    """

    transport: ITCPTransport

    def __init__(self, attempt: _HandshakeFactory, address: IAddress) -> None:
        self._attempt = attempt
        self._address = address
        self._protocol: IProtocol | None = None

    def handshakeCompleted(self) -> None:
        protocol = self._protocol = self._attempt.wanted.buildProtocol(self._address)
        if protocol is None:
            self._attempt.fail(Failure(NoProtocol()))
            self._attempt.abort()
        else:
            protocol.makeConnection(self.transport)
            self._attempt.connected.callback(protocol)

    def dataReceived(self, data: bytes) -> None:
        if self._protocol is not None:
            self._protocol.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._protocol is not None:
            self._protocol.connectionLost(reason)
        else:
            self._attempt.fail(reason)


@implementer(IStreamServerEndpoint)
class TLSServerEndpoint:
    """
    Listens at another endpoint, and speaks TLS 1.3 with each client. A protocol finds its client's certificate by
    ``Certificate.peerFromTransport(self.transport)`` of ``twisted.internet.ssl``, once the handshake is complete
    (``IHandshakeListener``).

    :param reactor: the clock.
    :param endpoint: where to listen.
    :param certificate: a file in PEM: this side's certificate, then those that lead to an authority.
    :param key: a file in PEM: its private key, without a password.
    :param client_authority: a file in PEM: the authorities that must have signed a client's certificate; a client that
        shows none is refused in the handshake. None: no client is asked for one.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        endpoint: IStreamServerEndpoint,
        *,
        certificate: Path,
        key: Path,
        client_authority: Path | None = None,
    ) -> None:
        self._reactor = reactor
        self._endpoint = endpoint
        self._identity = TLSIdentity(certificate=certificate, key=key, authority=client_authority)

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """
        Read the files, and listen.

        :param protocolFactory: makes the protocols, each before its handshake.
        :returns: fires as the other endpoint does. Fails with :class:`~dragonfly_vortex.errors.CertificateUnusable`
            where a file cannot be used.
        """
        try:
            tls = server_tls_from(self._identity)
        except CertificateUnusable:
            return fail()
        secure = wrapServerTLS(tls, self._endpoint, self._reactor)
        listening: Deferred[IListeningPort] = secure.listen(protocolFactory)
        return listening


def endpoint_from_string(
    reactor: IReactorTime,
    where: str,
    *,
    certificate: str,
    trustRoots: str,
    privateKey: str = "",
    interface: str = "",
    backlog: str = "50",
) -> TLSServerEndpoint:
    r"""
    Make the endpoint that a string ``mtls:WHERE:certificate=FILE:trustRoots=FILE`` describes.

    :param where: a port of TCP, or the description of another endpoint, whose colons are escaped: ``unix\:/run/x``.
    :param certificate: see :class:`TLSServerEndpoint`.
    :param trustRoots: the authorities of clients. These names are those of Twisted's string for clients, ``tls:``.
    :param privateKey: the key of the certificate; without it the certificate's file has the key, too.
    :param interface: the address to listen on, IPv4 or IPv6, where a port is given.
    :param backlog: connections that may wait to be accepted, where a port is given.
    :raises ValueError: it is no description of an endpoint.
    """
    endpoint: IStreamServerEndpoint
    if where.isdecimal():
        kind = TCP6ServerEndpoint if ":" in interface else TCP4ServerEndpoint
        endpoint = kind(reactor, int(where), int(backlog), interface or ("::" if kind is TCP6ServerEndpoint else ""))
    else:
        endpoint = serverFromString(reactor, where)
    return TLSServerEndpoint(
        reactor,
        endpoint,
        certificate=Path(certificate),
        key=Path(privateKey or certificate),
        client_authority=Path(trustRoots),
    )
