"""A range of a file is sent over real connections: plain, of a Unix socket, and under TLS."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import cast

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from dragonfly_vortex import send_file
from dragonfly_vortex.config import TLSIdentity
from dragonfly_vortex.errors import PieceDamaged
from dragonfly_vortex.interfaces import IConnectionTransport
from dragonfly_vortex.transport.tls import client_tls_from
from dragonfly_vortex.transport.tls_endpoint import TLSEndpoint
from test.certificates import Authority

MIB = 1024 * 1024
CLOCK = IReactorTime(reactor)


class _Sends(Protocol):
    """Keeps its connection."""

    transport: IConnectionTransport
    made: Deferred[_Sends]

    def connectionMade(self) -> None:
        self.made.callback(self)


class _Receives(Protocol):
    """Keeps what it receives."""

    transport: IConnectionTransport

    def __init__(self) -> None:
        self.data = bytearray()
        self.lost: Deferred[bytes] = Deferred()
        self.enough: tuple[int, Deferred[None]] | None = None

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        if self.enough is not None and len(self.data) >= self.enough[0]:
            (_, enough), self.enough = self.enough, None
            enough.callback(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(bytes(self.data))

    def until(self, length: int) -> Deferred[None]:
        """Wait for so many bytes."""
        enough: Deferred[None] = Deferred()
        self.enough = (length, enough)
        self.dataReceived(b"")
        return enough


class SendFileTests(TestCase):
    """Both ends of a connection in this process."""

    timeout = 120

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.content = os.urandom(8 * MIB)
        self.path = self.directory / "file"
        self.path.write_bytes(self.content)

    async def connect(
        self, server: str = "tcp:0:interface=127.0.0.1", tls: Authority | None = None
    ) -> tuple[_Sends, _Receives]:
        """A connection at a listening endpoint."""
        factory = Factory.forProtocol(_Sends)
        identity = TLSIdentity()
        if tls is not None:
            peer = tls.issue()
            identity = peer.identity(tls.file)
            files = f"certificate={peer.certificate}:privateKey={peer.key}:trustRoots={tls.file}"
            server = f"mtls:0:interface=127.0.0.1:{files}"
        made: Deferred[_Sends] = Deferred()
        _Sends.made = made
        port = await serverFromString(reactor, server).listen(factory)
        self.addCleanup(port.stopListening)
        host = port.getHost()
        where = f"unix:{host.name.decode()}" if server.startswith("unix") else f"tcp:127.0.0.1:{host.port}"
        client: IStreamClientEndpoint = clientFromString(reactor, where)
        if tls is not None:
            client = TLSEndpoint(client_tls_from(identity).to("127.0.0.1"), client, CLOCK)
        receiver = cast(_Receives, await client.connect(Factory.forProtocol(_Receives)))
        self.addCleanup(receiver.transport.abortConnection)
        return await made, receiver

    async def assert_sends(self, sender: _Sends, receiver: _Receives) -> None:
        """Assert that a range arrives between what is written before and behind it."""
        sender.transport.write(b"before")
        with self.path.open("rb") as file:
            sent = send_file(sender.transport, file, 3, 6 * MIB)
        self.assertEqual(await sent, 6 * MIB)
        sender.transport.write(b"behind")
        sender.transport.loseConnection()
        self.assertEqual(await receiver.lost, b"before" + self.content[3 : 6 * MIB + 3] + b"behind")

    async def test_tcp(self) -> None:
        """Over TCP the content is not copied; the file may be closed at once."""
        await self.assert_sends(*await self.connect())

    async def test_unix(self) -> None:
        """So over a Unix socket."""
        short = tempfile.mkdtemp()  # the path of a socket has at most 107 bytes
        self.addCleanup(shutil.rmtree, short)
        await self.assert_sends(*await self.connect(f"unix:{short}/s"))

    async def test_tls(self) -> None:
        """Under TLS it is copied, and arrives as well."""
        authority = Authority(self.directory)
        await self.assert_sends(*await self.connect(tls=authority))

    async def test_to_the_end(self) -> None:
        """Without a length all is sent to the end of the file; of nothing, nothing."""
        sender, receiver = await self.connect()
        with self.path.open("rb") as file:
            self.assertEqual(await send_file(sender.transport, file, 8 * MIB - 10), 10)
            self.assertEqual(await send_file(sender.transport, file.fileno(), 8 * MIB), 0)
            self.assertEqual(await send_file(sender.transport, file, 0, 2), 2)
        sender.transport.loseConnection()
        self.assertEqual(await receiver.lost, self.content[-10:] + self.content[:2])

    async def test_back_pressure(self) -> None:
        """While the other side reads nothing, nothing of the file waits in the transport."""
        sender, receiver = await self.connect()
        receiver.transport.pauseProducing()
        with self.path.open("rb") as file:
            sent = send_file(sender.transport, file)
        self.assertFalse(sent.called)
        receiver.transport.resumeProducing()
        self.assertEqual(await sent, 8 * MIB)
        await receiver.until(8 * MIB)

    async def test_cancelled(self) -> None:
        """Cancelled, it sends nothing more, and the transport can be used for something else."""
        sender, receiver = await self.connect()
        receiver.transport.pauseProducing()
        with self.path.open("rb") as file:
            sent = send_file(sender.transport, file)
            sent.cancel()
            await self.assertFailure(sent, CancelledError)
            again = send_file(sender.transport, file, 0, 5)
        receiver.transport.resumeProducing()
        await again
        sender.transport.write(b"end")
        sender.transport.loseConnection()
        received = await receiver.lost
        self.assertTrue(received.endswith(self.content[:5] + b"end"))
        self.assertTrue(self.content.startswith(received[:-8]))
        self.assertLess(len(received), 8 * MIB)

    async def test_connection_lost(self) -> None:
        """The end of the connection is told."""
        sender, receiver = await self.connect()
        receiver.transport.pauseProducing()
        with self.path.open("rb") as file:
            sent = send_file(sender.transport, file)
        receiver.transport.abortConnection()
        await self.assertFailure(sent, ConnectionLost)

    async def test_short_file(self) -> None:
        """A file that ends too early is an error, not a short transfer."""
        sender, receiver = await self.connect()
        with self.path.open("rb") as file:
            await self.assertFailure(send_file(sender.transport, file, 8 * MIB - 5, 10), PieceDamaged)
        sender.transport.abortConnection()
        await receiver.lost

    async def test_producer(self) -> None:
        """A transport that has a producer is refused, and the producer stays."""
        sender, _ = await self.connect()
        with self.path.open("rb") as file:
            first = send_file(sender.transport, file, 0, 8 * MIB)
            self.assertRaises(ValueError, send_file, sender.transport, file)
        self.assertEqual(await first, 8 * MIB)


class ArgumentTests(SynchronousTestCase):
    """What it refuses."""

    def test_range(self) -> None:
        """A range that is none."""
        transport = cast(IConnectionTransport, StringTransport())
        with open(__file__, "rb") as file:
            self.assertRaises(ValueError, send_file, transport, file, -1)
            self.assertRaises(ValueError, send_file, transport, file, 0, -1)

    def test_no_reactor(self) -> None:
        """A transport in memory needs a clock, and gets the content by a copy then."""
        transport = StringTransport()
        with open(__file__, "rb") as file:
            self.assertRaises(ValueError, send_file, cast(IConnectionTransport, transport), file)
            clock = Clock()
            sent = send_file(cast(IConnectionTransport, transport), file, 0, 10, reactor=clock)
            clock.pump([0] * 5)
            self.assertEqual(self.successResultOf(sent), 10)
            self.assertEqual(transport.value(), file.read(10))
