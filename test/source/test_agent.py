"""The client of HTTP for sources: encodings, kept connections, TLS."""

from __future__ import annotations

import os
from typing import Any, cast

from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IAddress, IConsumer, IPullProducer, ITCPTransport
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from zope.interface import implementer

from dragonfly_vortex.errors import SourceChanged, SourceRefused, SourceUnavailable
from dragonfly_vortex.model import Origin
from dragonfly_vortex.source.agent import Discarding
from dragonfly_vortex.source.http import HTTPSource
from dragonfly_vortex.source.location import locate
from dragonfly_vortex.testing.scripted_origin import encoded
from test.source.origins import CONTENT, SourceCase


class AgentTests(SourceCase):
    """What all requests have in common."""

    async def test_compressed_in_spite_of_identity(self) -> None:
        """A compressed content is refused: a range of it is no range of the file."""
        origin = self.origin(always=encoded)
        error = await self.failure_of(self.source(origin.url()).stat())
        self.assertIsInstance(error, SourceChanged)
        self.assertIn("Content-Encoding 'gzip'", str(error))

    def test_discarding_given_up(self) -> None:
        """The connection of a body that is not waited for any more is closed."""
        discarding, transport = Discarding(), StringTransport()
        discarding.makeConnection(transport)
        discarding.done.cancel()
        self.failureResultOf(discarding.done, CancelledError)
        self.assertTrue(transport.disconnecting)
        discarding.connectionLost()

    async def test_connections_are_kept(self) -> None:
        """Ranges one after the other take one connection."""
        origin = self.origin()
        source = self.source(origin.url())
        await source.stat()
        for start in range(0, 50_000, 10_000):
            await self.fetched(source, start, 10_000)
        self.assertEqual(len(origin._transports), 1)

    async def test_log(self) -> None:
        """A connection is no line of the log."""
        lines: list[str] = []

        @implementer(ILogObserver)
        def observe(event: LogEvent) -> None:
            lines.append(str(formatEvent(event)))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        origin = self.origin()
        source = self.source(origin.url("/f?sig=secret"))
        await source.stat()
        await self.fetched(source, 0, 1000)
        self.assertEqual([line for line in lines if "HTTP11" in line or "secret" in line], [])


class _Transport(ITCPTransport, IConsumer):
    """A connection whose producer is asked for more."""


@implementer(IPullProducer)
class Talker(Protocol):
    """
    An origin that sends a line of its answer again and again, until its connection ends.

    :ivar sent: bytes.
    """

    transport: _Transport

    def __init__(self, line: bytes) -> None:
        self.sent = 0
        self._block = line * (10_000 // len(line))

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(b"HTTP/1.1 200 OK\r\n" if self._block.startswith(b"X") else b"")
        self.transport.registerProducer(self, False)

    def resumeProducing(self) -> None:
        """The transport has room."""
        self.sent += len(self._block)
        if self.sent > 50_000_000:
            self.stopProducing()
        else:
            self.transport.write(self._block)

    def stopProducing(self) -> None:
        """The connection ends."""
        self.transport.unregisterProducer()
        self.transport.loseConnection()


class Talkers(Factory):
    """Has one for each connection."""

    noisy = False

    def __init__(self, line: bytes) -> None:
        self.line = line
        self.built: list[Talker] = []

    def buildProtocol(self, addr: IAddress | None) -> Talker:
        self.built.append(Talker(self.line))
        return self.built[-1]


class EndlessTests(SourceCase):
    """Answers that never come to their content."""

    async def test_headers(self) -> None:
        """Headers without end, and answers before the answer, end the connection before they take memory."""
        for line in (b"X-Header: " + 80 * b"y" + b"\r\n", b"HTTP/1.1 103 Early Hints\r\n\r\n"):
            talkers = Talkers(line)
            port = self.reactor.listenTCP(0, cast(Any, talkers), interface="127.0.0.1")
            self.addCleanup(port.stopListening)
            url = f"http://127.0.0.1:{cast(IPv4Address, port.getHost()).port}/f"
            with self.assertRaises(SourceUnavailable):
                await HTTPSource(locate(Origin(url=url)), self.agent()).stat()
            self.assertLess(sum(talker.sent for talker in talkers.built), 40_000_000)


class TLSTests(SourceCase):
    """Sources under TLS."""

    async def test_verified(self) -> None:
        """A certificate of an authority that the platform trusts is accepted, and the ranges come."""
        origin = self.secure()
        source = self.source(origin.url())
        await source.stat()
        self.assertEqual(await self.fetched(source, 7, 200_000), CONTENT[7:200_007])

    async def test_refused(self) -> None:
        """A certificate of another authority, or for another host, is refused for good."""
        origin = self.secure(hosts=("elsewhere.example",))
        error = await self.failure_of(self.source(origin.url()).stat())
        self.assertIsInstance(error, SourceRefused)
        self.assertIn("the certificate is not for 127.0.0.1", str(error))
        del os.environ["SSL_CERT_FILE"]
        error = await self.failure_of(self.source(origin.url()).stat())
        self.assertIsInstance(error, SourceRefused)
        self.assertIn("not signed by an authority", str(error))

    async def test_none_spoken(self) -> None:
        """A source that speaks no TLS is refused for good."""
        talkers = Talkers(b"HTTP/1.1 400 Bad Request\r\n")
        port = self.reactor.listenTCP(0, cast(Any, talkers), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        url = f"https://127.0.0.1:{cast(IPv4Address, port.getHost()).port}/f"
        error = await self.failure_of(HTTPSource(locate(Origin(url=url)), self.agent()).stat())
        self.assertIsInstance(error, SourceRefused)
        self.assertIn("expected TLS, got something else", str(error))
