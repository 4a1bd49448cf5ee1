"""
The client of HTTP for sources: treq over Twisted's agents, with the proxies of the environment and TLS that is
verified.

treq asks for gzip beside any ``Accept-Encoding`` that it is given, and decodes what comes. A piece is a range of the
bytes as they are, so the agent below it asks for ``identity`` alone, and passes on no other encoding.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias
from urllib.parse import urlsplit

from treq.client import HTTPClient
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred, DeferredList, fail
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IReactorTCP,
    IReactorTime,
    IStreamClientEndpoint,
    ITransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.ssl import CertificateOptions, platformTrust
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, HTTPConnectionPool, ProxyAgent
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import implementer

from dragonfly_vortex.source.connections import CONNECT_TIMEOUT, Reading, SourceEndpoint
from dragonfly_vortex.source.proxies import Proxies, Proxy, ProxyEndpoint, TunnelEndpoint
from dragonfly_vortex.transport.endpoints import AddressNotAllowed, NameEndpoint
from dragonfly_vortex.transport.tls import ClientTLS
from dragonfly_vortex.transport.tls_endpoint import TLSEndpoint

__all__ = ["ContentEncoded", "Discarding", "MayConnect", "SourceAgent", "client_over"]

MayConnect: TypeAlias = "Callable[[str, str | None], bool]"
"""Whether a host may be asked at an address."""

_ENDING = 2.0
"""Seconds that connections have to end. Under TLS the other side may never answer."""


class ContentEncoded(ValueError):
    """
    The content is compressed.

    :param encoding: how it is sent.
    """

    def __init__(self, encoding: str) -> None:
        super().__init__(encoding)
        self.encoding = encoding


class Discarding(Protocol):
    """
    Discards the body of an answer. A short one is read, so that its connection can be kept, and a long one is cut off.

    :param most: bytes that are read.
    """

    transport: ITransport

    def __init__(self, most: int = 64 * 1024) -> None:
        self.done: Deferred[None] = Deferred(lambda _: self.transport.loseConnection())
        """Fires at the end of the body, however it ends. Cancelling it closes the connection."""
        self._left = most

    def connectionMade(self) -> None:
        if not self._left:
            self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.done.called:
            self.done.callback(None)


@implementer(IAgent, IAgentEndpointFactory)
class SourceAgent:
    """
    Asks sources, each by its proxy or without one, over connections that are kept.

    :param reactor: connects, resolves names, and is the clock.
    :param proxies: the proxies of the environment.
    :param connections: that are kept for each host.
    :param read_size: bytes to read from a socket at a time.
    :param may_connect: whether a host may be asked at an address, which is None where a proxy finds it out. For a host
        that may not be asked, a request fails with :class:`~dragonfly_vortex.transport.endpoints.AddressNotAllowed`.
    """

    def __init__(
        self,
        reactor: IReactorTCP,
        proxies: Proxies,
        *,
        connections: int,
        read_size: int,
        may_connect: MayConnect = lambda host, address: True,
    ) -> None:
        self._may_connect = may_connect
        self._reactor = reactor
        self._clock = IReactorTime(reactor)
        self._proxies = proxies
        self._read_size = read_size
        self.reading = Reading()
        """Knows the connection that is being read."""
        self._tls: ClientTLS | None = None
        self._pool = HTTPConnectionPool(reactor)
        self._pool.maxPersistentPerHost = connections
        self._pool.cachedConnectionTimeout = 30
        self._direct = Agent.usingEndpointFactory(reactor, self, self._pool)
        self._through: dict[Proxy, ProxyAgent] = {}

    def request(
        self, method: bytes, uri: bytes, headers: Headers | None = None, bodyProducer: IBodyProducer | None = None
    ) -> Deferred[IResponse]:
        """See :meth:`twisted.web.iweb.IAgent.request`."""
        headers = Headers() if headers is None else headers.copy()
        headers.setRawHeaders(b"Accept-Encoding", [b"identity"])
        parts = urlsplit(uri.decode("ascii"))
        agent: Agent | ProxyAgent = self._direct
        if parts.scheme == "http":
            proxy = self._proxies.for_host("http", parts.hostname or "", parts.port or 80)
            if proxy is not None:
                if not self._may_connect(parts.hostname or "", None):
                    return fail(AddressNotAllowed())
                agent = self._agent_through(proxy)
                if proxy.authorization:
                    headers.setRawHeaders(b"Proxy-Authorization", [proxy.authorization.encode("ascii")])
        return agent.request(method, uri, headers, bodyProducer).addCallback(_refuse_encoded)

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """See :meth:`twisted.web.iweb.IAgentEndpointFactory.endpointForURI`."""
        host, port = uri.host.decode("ascii"), uri.port
        if uri.scheme != b"https":
            return self._prepared(self._endpoint(host, port))
        proxy = self._proxies.for_host("https", host, port)
        if proxy is None:
            endpoint = self._endpoint(host, port)
        elif not self._may_connect(host, None):
            endpoint = _Refusing()
        else:
            target = f"[{host}]:{port}" if isIPv6Address(host) else f"{host}:{port}"
            endpoint = TunnelEndpoint(self._to_proxy(proxy), target, proxy.authorization)
        if self._tls is None:  # only now, because the platform's authorities take time to be read
            self._tls = ClientTLS(CertificateOptions(trustRoot=platformTrust()))
        return self._prepared(TLSEndpoint(self._tls.to(host), endpoint, self._clock))

    def close(self) -> Deferred[None]:
        """Close the connections that are kept. Fires when they have ended, or have had the time for it."""
        closing = self._pool.closeCachedConnections()
        waiting = DeferredList([closing], consumeErrors=True)
        waiting.addTimeout(_ENDING, self._clock, lambda result, seconds: None)
        return waiting.addCallback(lambda _: None)

    def _agent_through(self, proxy: Proxy) -> ProxyAgent:
        if proxy not in self._through:
            self._through[proxy] = ProxyAgent(self._prepared(self._to_proxy(proxy)), self._reactor, self._pool)
        return self._through[proxy]

    def _to_proxy(self, proxy: Proxy) -> IStreamClientEndpoint:
        return ProxyEndpoint(_plain_endpoint(self._reactor, proxy.host, proxy.port, lambda address: True))

    def _prepared(self, endpoint: IStreamClientEndpoint) -> IStreamClientEndpoint:
        return SourceEndpoint(endpoint, self._clock, self._read_size, self.reading)

    def _endpoint(self, host: str, port: int) -> IStreamClientEndpoint:
        return _plain_endpoint(self._reactor, host, port, partial(self._may_connect, host))


def _plain_endpoint(
    reactor: IReactorTCP, host: str, port: int, may_connect: Callable[[str], bool]
) -> IStreamClientEndpoint:
    """What connects to a host without TLS."""
    if isIPAddress(host) or isIPv6Address(host):
        if not may_connect(host):
            return _Refusing()
        kind = TCP6ClientEndpoint if isIPv6Address(host) else TCP4ClientEndpoint
        return kind(reactor, host, port, CONNECT_TIMEOUT)
    return NameEndpoint(reactor, host, port, CONNECT_TIMEOUT, may_connect)


@implementer(IStreamClientEndpoint)
class _Refusing:
    """Stands for a host that may not be asked."""

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """See :meth:`twisted.internet.interfaces.IStreamClientEndpoint.connect`."""
        return fail(AddressNotAllowed())


def client_over(agent: SourceAgent) -> HTTPClient:
    """A client of treq, with cookies of its own."""
    return HTTPClient(agent)


def _refuse_encoded(response: IResponse) -> IResponse | Deferred[IResponse]:
    """Pass on an answer with plain content, and refuse another one before treq would decode it."""
    encodings = b",".join(response.headers.getRawHeaders(b"Content-Encoding", ())).decode("ascii", "replace")
    if response.code not in (200, 206) or encodings.strip().lower() in ("", "identity"):
        return response

    def refuse(_: None) -> IResponse:
        raise ContentEncoded(encodings)

    discarding = Discarding(0)
    response.deliverBody(discarding)
    return discarding.done.addCallback(refuse)
