"""
The proxies of the environment (``http_proxy``, ``https_proxy``, ``all_proxy``, ``no_proxy``), and the endpoint that
connects through one.

Which proxy is for which host is decided by the standard library. A connection for ``https`` goes through a tunnel
(CONNECT, RFC 9110, 9.3.6), so that TLS is verified as without a proxy. Twisted and treq have no such tunnel.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionClosed, ConnectionDone
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory, IStreamClientEndpoint, ITCPTransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from dragonfly_vortex.errors import UsageError

__all__ = ["Proxies", "Proxy", "ProxyEndpoint", "ProxyRefused", "ProxyUnreachable", "TunnelEndpoint"]

_LONGEST_HEAD = 16 * 1024
"""Bytes that a proxy's answer may have before the tunnel begins."""


class ProxyRefused(ConnectionClosed):
    """A proxy does not connect to a host."""


class ProxyUnreachable(ConnectionClosed):
    """
    A proxy cannot be connected to.

    :ivar error: why.
    """

    def __init__(self, error: Exception) -> None:
        self.error = error
        super().__init__(str(error))


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """
    A proxy of HTTP.

    :param authorization: the value of ``Proxy-Authorization``; empty for none.
    """

    host: str
    port: int
    authorization: str = field(default="", repr=False)

    @classmethod
    def from_url(cls, url: str) -> Proxy:
        """
        Read a proxy's address.

        :param url: ``http://[USER:PASSWORD@]HOST[:PORT]``; without a scheme it is one of ``http``.
        :raises UsageError: it is not like that. The message has no password.
        """
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            port = parts.port or 80
        except ValueError:
            parts, port = urlsplit(""), 0
        if parts.scheme != "http" or not parts.hostname:
            raise UsageError("expected a proxy http://HOST:PORT in the environment, got another kind of address")
        user, _, password = parts.netloc.rpartition("@")[0].partition(":")
        credentials = base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode("ascii")
        return cls(host=parts.hostname, port=port, authorization=f"Basic {credentials}" if user else "")


class Proxies:
    """
    The proxies of all hosts.

    :param by_scheme: their URLs by the schemes of what is asked for, and under ``no`` the hosts that are asked without;
        None: those of the environment.
    :raises UsageError: one is no proxy that can be used.
    """

    def __init__(self, by_scheme: Mapping[str, str] | None = None) -> None:
        self._by_scheme = dict(getproxies_environment() if by_scheme is None else by_scheme)
        self._proxies = {
            scheme: Proxy.from_url(self._by_scheme[scheme])
            for scheme in ("http", "https", "all")
            if self._by_scheme.get(scheme)
        }

    def for_host(self, scheme: str, host: str, port: int) -> Proxy | None:
        """The proxy for a host; None for a direct connection."""
        proxy = self._proxies.get(scheme) or self._proxies.get("all")
        if proxy is None or proxy_bypass(f"{host}:{port}", self._by_scheme):
            return None
        return proxy


@implementer(IStreamClientEndpoint)
class ProxyEndpoint:
    """
    Connects to a proxy.

    :param endpoint: does it; its failure becomes :class:`ProxyUnreachable`, to tell the proxy from the source.
    """

    def __init__(self, endpoint: IStreamClientEndpoint) -> None:
        self._endpoint = endpoint

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """See :meth:`twisted.internet.interfaces.IStreamClientEndpoint.connect`."""

        def fail(failure: Failure) -> Failure:
            error = failure.value
            if isinstance(error, Exception) and not isinstance(error, CancelledError):
                return Failure(ProxyUnreachable(error))
            return failure

        connecting: Deferred[IProtocol] = self._endpoint.connect(protocolFactory)
        return connecting.addErrback(fail)


@implementer(IStreamClientEndpoint)
class TunnelEndpoint:
    """
    Connects to a host through a proxy.

    :param endpoint: connects to the proxy.
    :param target: ``HOST:PORT`` of the host, an IPv6 address in brackets.
    :param authorization: the value of ``Proxy-Authorization``; empty for none.
    """

    def __init__(self, endpoint: IStreamClientEndpoint, target: str, authorization: str = "") -> None:
        self._endpoint = endpoint
        self._target = target
        self._authorization = authorization

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        See :meth:`twisted.internet.interfaces.IStreamClientEndpoint.connect`.

        :returns: fires when the tunnel is open. Fails with :class:`ProxyRefused`, and as the proxy's endpoint does.
            Cancelling it ends the connection.
        """
        lines = [f"CONNECT {self._target} HTTP/1.1", f"Host: {self._target}"]
        if self._authorization:
            lines.append(f"Proxy-Authorization: {self._authorization}")
        factory = _TunnelFactory(protocolFactory, "\r\n".join([*lines, "", ""]).encode("ascii"))
        connecting = self._endpoint.connect(factory)

        def give_up(_: Deferred[IProtocol]) -> None:
            connecting.cancel()
            factory.abort()

        factory.connected = Deferred(give_up)
        connecting.addErrback(factory.fail)
        return factory.connected


class _TunnelFactory(Factory):
    """
    Makes the one protocol that waits for a tunnel.

    :param wanted: makes the protocol that the tunnel is for.
    :param request: what the proxy is asked.
    """

    noisy = False
    connected: Deferred[IProtocol]

    def __init__(self, wanted: IProtocolFactory, request: bytes) -> None:
        self.wanted = wanted
        self.request = request
        self._tunnel: _Tunnel | None = None

    def buildProtocol(self, addr: IAddress | None) -> _Tunnel:
        self._tunnel = _Tunnel(self, cast(IAddress, addr))
        return self._tunnel

    def abort(self) -> None:
        """End the connection, if there is one."""
        if self._tunnel is not None and self._tunnel.connected:
            self._tunnel.transport.abortConnection()

    def fail(self, reason: Failure) -> None:
        """Fail: the tunnel could not be made."""
        if not self.connected.called:
            self.connected.errback(reason)


class _Tunnel(Protocol):
    """
    Asks a proxy for a tunnel, and then stands between the connection and its protocol.

    :param attempt: what it belongs to.
    :param address: the proxy's.
    """

    transport: ITCPTransport

    def __init__(self, attempt: _TunnelFactory, address: IAddress) -> None:
        self._attempt = attempt
        self._address = address
        self._head = b""
        self._protocol: IProtocol | None = None

    def connectionMade(self) -> None:
        self.transport.write(self._attempt.request)

    def dataReceived(self, data: bytes) -> None:
        if self._protocol is not None:
            self._protocol.dataReceived(data)
            return
        self._head += data
        head, end, rest = self._head.partition(b"\r\n\r\n")
        if not end:
            if len(self._head) > _LONGEST_HEAD:
                self._refuse("expected the answer of a proxy, got too long a one")
            return
        words = head.partition(b"\r\n")[0].split(None, 2)
        if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].startswith(b"2"):
            status = words[1][:3].decode("ascii", "replace") if len(words) > 1 else "no status"
            self._refuse(f"expected status 200 of the proxy, got {status}")
            return
        self._open(rest)

    def _open(self, rest: bytes) -> None:
        """Make the connection of the wanted protocol through the open tunnel."""
        protocol = self._attempt.wanted.buildProtocol(self._address)
        if protocol is None:
            self._refuse("expected a protocol, got none")
            return
        self._protocol = protocol
        protocol.makeConnection(self.transport)
        self._attempt.connected.callback(protocol)
        if rest:
            protocol.dataReceived(rest)

    def _refuse(self, reason: str) -> None:
        self._attempt.fail(Failure(ProxyRefused(reason)))
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._protocol is not None:
            self._protocol.connectionLost(reason)
        else:
            kind = "closed" if reason.check(ConnectionDone) else "lost"
            self._attempt.fail(Failure(ProxyRefused(f"the proxy {kind} the connection")))
