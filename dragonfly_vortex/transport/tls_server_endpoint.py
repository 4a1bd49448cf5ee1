"""
A server endpoint under TLS 1.3 that asks its clients for a certificate, and its description as a string.

The strings ``ssl:`` and ``tls:`` of Twisted 26.10 ask for none, and have no parameter for it.
"""

from __future__ import annotations

from pathlib import Path

from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint, serverFromString, wrapServerTLS
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IReactorTime, IStreamServerEndpoint
from zope.interface import implementer

from dragonfly_vortex.config import TLSIdentity
from dragonfly_vortex.errors import CertificateUnusable
from dragonfly_vortex.transport.tls import server_tls_from

__all__ = ["TLSServerEndpoint", "endpoint_from_string"]


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
    What the string ``mtls:WHERE:certificate=FILE:trustRoots=FILE`` describes.

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
