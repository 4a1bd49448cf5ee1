"""Proxies of the environment, with a real one that lets through what it is asked for."""

from __future__ import annotations

import base64
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IAddress, IReactorTCP
from twisted.internet.protocol import Factory, Protocol, ServerFactory
from twisted.protocols.portforward import ProxyFactory
from twisted.trial.unittest import SynchronousTestCase, TestCase

from dragonfly_vortex.errors import SourceUnavailable, UsageError
from dragonfly_vortex.source.proxies import Proxies, Proxy, ProxyRefused, TunnelEndpoint
from dragonfly_vortex.testing.scripted_origin import ScriptedOrigin
from test.source.origins import CONTENT, SourceCase


class ProxiesTests(SynchronousTestCase):
    """Which proxy is for which host."""

    def test_by_scheme(self) -> None:
        """A proxy is for its scheme, all_proxy for both, and no_proxy for none."""
        proxies = Proxies({"https": "http://user:p%40ss@proxy:3128", "no": "localhost,.internal,10.0.0.1"})
        credentials = base64.b64encode(b"user:p@ss").decode()
        proxy = Proxy(host="proxy", port=3128, authorization=f"Basic {credentials}")
        self.assertEqual(proxies.for_host("https", "example.org", 443), proxy)
        self.assertNotIn(credentials, repr(proxy))
        self.assertIsNone(proxies.for_host("http", "example.org", 80))
        for host in ("localhost", "a.internal", "10.0.0.1"):
            self.assertIsNone(proxies.for_host("https", host, 443))
        both = Proxies({"all": "proxy"})
        self.assertEqual(both.for_host("http", "example.org", 80), Proxy(host="proxy", port=80))
        self.assertIsNone(Proxies({"all": "proxy", "no": "*"}).for_host("http", "example.org", 80))

    def test_unusable(self) -> None:
        """A proxy of another kind is a usage error, which does not show its password."""
        for url in ("socks5://u:secret@h:1", "https://u:secret@h", "http://u:secret@h:port", "http://"):
            self.assertNotIn("secret", str(self.assertRaises(UsageError, Proxies, {"http": url})))


class _Proxy(Protocol):
    """A proxy that answers a CONNECT as a test says."""

    def __init__(self, proxy: ScriptedProxy) -> None:
        self._proxy = proxy
        self._head = b""

    def dataReceived(self, data: bytes) -> None:
        self._head += data
        if not self._head.endswith(b"\r\n\r\n"):
            return
        self._proxy.heads.append(self._head)
        if self._proxy.answer:
            self.transport.write(self._proxy.answer)  # type: ignore[union-attr]
            self.transport.loseConnection()  # type: ignore[union-attr]
            return
        host, port = self._head.split()[1].decode().split(":")
        onward: Any = ProxyFactory(host, int(port)).buildProtocol(None)
        # From here on Twisted's port forwarder passes on what comes.
        onward.makeConnection(self.transport)
        self.dataReceived = onward.dataReceived  # type: ignore[method-assign]
        self.connectionLost = onward.connectionLost  # type: ignore[method-assign]
        self.transport.write(b"HTTP/1.1 200 Connection established\r\n\r\n")  # type: ignore[union-attr]


class ScriptedProxy(ServerFactory):
    """
    A proxy on a socket.

    :param answer: what it answers; empty: it lets through.
    """

    noisy = False

    def __init__(self, answer: bytes = b"") -> None:
        self.answer = answer
        self.heads: list[bytes] = []

    def buildProtocol(self, addr: IAddress | None) -> _Proxy:
        return _Proxy(self)

    async def start(self, case: TestCase, reactor: IReactorTCP) -> int:
        """Listen, until the end of the case. The port."""
        port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(self)
        case.addCleanup(port.stopListening)
        return int(port.getHost().port)


class ThroughProxyTests(SourceCase):
    """Sources that are asked through a proxy."""

    async def test_plain(self) -> None:
        """A source of http is asked of the proxy, by its whole URL."""
        proxy = ScriptedOrigin(CONTENT)
        proxy.start(self.reactor)
        self.addCleanup(proxy.stop)
        by_scheme = {"http": proxy.url("").replace("//", "//u:p@")}
        source = self.source("http://origin.invalid/f?q=1", proxies=by_scheme)
        await source.stat()
        self.assertEqual(await self.fetched(source, 5, 1000), CONTENT[5:1005])
        self.assertEqual(proxy.asked[0].uri, "http://origin.invalid/f?q=1")
        self.assertEqual(proxy.asked[0].headers["proxy-authorization"], "Basic dTpw")
        self.assertEqual(proxy.asked[0].headers["host"], "origin.invalid")

    async def test_tunnel(self) -> None:
        """A source of https is reached through a tunnel, and its certificate is verified there."""
        origin = self.secure()
        proxy = ScriptedProxy()
        port = await proxy.start(self, self.reactor)
        source = self.source(origin.url(), proxies={"https": f"http://u:p@127.0.0.1:{port}"})
        await source.stat()
        self.assertEqual(await self.fetched(source, 0, len(CONTENT)), CONTENT)
        self.assertEqual(
            proxy.heads[0],
            f"CONNECT 127.0.0.1:{origin.port} HTTP/1.1\r\nHost: 127.0.0.1:{origin.port}\r\n"
            "Proxy-Authorization: Basic dTpw\r\n\r\n".encode(),
        )
        self.assertNotIn("proxy-authorization", origin.asked[0].headers)

    async def test_refused(self) -> None:
        """The error distinguishes a proxy that refuses from the source."""
        for answer, said in (
            (b"HTTP/1.1 407 Auth\r\n\r\n", "got 407"),
            (b"SSH-2.0-x\r\n\r\n", "got"),
            (b"x", "closed"),
        ):
            proxy = ScriptedProxy(answer)
            port = await proxy.start(self, self.reactor)
            source = self.source("https://origin.invalid/f", proxies={"https": f"http://127.0.0.1:{port}"})
            error = await self.failure_of(source.stat())
            self.assertIsInstance(error, SourceUnavailable)
            self.assertIn("proxy", str(error))
            self.assertIn(said, str(error))

    async def test_not_there(self) -> None:
        """The error distinguishes a proxy that cannot be connected to from the source."""
        listening = await TCP4ServerEndpoint(self.reactor, 0, interface="127.0.0.1").listen(ScriptedProxy())
        port = listening.getHost().port
        await maybeDeferred(listening.stopListening)
        for scheme in ("http", "https"):
            source = self.source(f"{scheme}://origin.invalid/f", proxies={scheme: f"http://127.0.0.1:{port}"})
            error = await self.failure_of(source.stat())
            self.assertIsInstance(error, SourceUnavailable)
            self.assertIn("the proxy of the environment: connection refused", str(error))

    async def test_tunnel_is_cancelled(self) -> None:
        """A tunnel that does not open can be given up."""
        proxy = ScriptedProxy(b" ")
        port = await proxy.start(self, self.reactor)
        endpoint = TunnelEndpoint(TCP4ClientEndpoint(self.reactor, "127.0.0.1", port), "h:1")
        connecting: Deferred[object] = endpoint.connect(Factory.forProtocol(Protocol))  # type: ignore[assignment]
        connecting.cancel()
        error = await self.failure_of(connecting)
        self.assertNotIsInstance(error, (ProxyRefused, ConnectionLost))
