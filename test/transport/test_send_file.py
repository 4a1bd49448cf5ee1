"""A range of a file is sent over real connections: plain, of a Unix socket, and under TLS."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from pathlib import Path
from typing import IO, cast
from unittest import SkipTest

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
        """The end of the connection is reported."""
        sender, receiver = await self.connect()
        receiver.transport.pauseProducing()
        with self.path.open("rb") as file:
            sent = send_file(sender.transport, file)
        receiver.transport.abortConnection()
        await self.assertFailure(sent, ConnectionLost)

    async def test_becomes_shorter(self) -> None:
        """A file that becomes shorter during the transfer is an error, not a short transfer."""
        sender, receiver = await self.connect()
        receiver.transport.pauseProducing()
        with self.path.open("rb") as file:
            sent = send_file(sender.transport, file)
        os.truncate(self.path, 7 * MIB)
        receiver.transport.resumeProducing()
        await self.assertFailure(sent, PieceDamaged)
        sender.transport.abortConnection()
        self.assertEqual(await receiver.lost, self.content[: len(receiver.data)])

    async def test_becomes_longer(self) -> None:
        """What is added to a file during the transfer is not sent."""
        sender, receiver = await self.connect()
        receiver.transport.pauseProducing()
        with self.path.open("rb") as file:
            sent = send_file(sender.transport, file)
        with self.path.open("ab") as file:
            file.write(b"more")
        receiver.transport.resumeProducing()
        self.assertEqual(await sent, 8 * MIB)
        sender.transport.loseConnection()
        self.assertEqual(await receiver.lost, self.content)

    async def test_producer(self) -> None:
        """A transport that has a producer is refused, and the producer stays."""
        sender, _ = await self.connect()
        with self.path.open("rb") as file:
            first = send_file(sender.transport, file, 0, 8 * MIB)
            self.assertRaises(ValueError, send_file, sender.transport, file)
        self.assertEqual(await first, 8 * MIB)


class ArgumentTests(SynchronousTestCase):
    """What it refuses."""

    def assert_refused(self, reason: str, file: IO[bytes] | int, offset: int = 0, length: int | None = None) -> None:
        """Assert that a range is refused, and nothing is sent."""
        transport = StringTransport()
        error = self.assertRaises(
            ValueError, send_file, cast(IConnectionTransport, transport), file, offset, length, reactor=Clock()
        )
        self.assertIn(reason, str(error))
        self.assertEqual((transport.value(), transport.producer), (b"", None))

    def test_range(self) -> None:
        """A range must lie in the file; one of no bytes may begin at its end."""
        path = self.mktemp()
        Path(path).write_bytes(b"0123456789")
        with open(path, "rb") as file:
            for offset in (-1, 0, 3, 10, 11):
                for length in (None, -1, 0, 7, 8, 10, 11):
                    end = max(10, offset) if length is None else offset + length
                    if offset < 0 or (length or 0) < 0:
                        self.assert_refused("expected an offset and a length of at least 0, got", file, offset, length)
                    elif end > 10:
                        reason = f"expected a range within the file's 10 bytes, got one from {offset} to {end}"
                        self.assert_refused(reason, file, offset, length)
                    else:
                        self.assertEqual(self.sent(file, offset, length), b"0123456789"[offset:end])

    def test_no_regular_file(self) -> None:
        """A pipe, a directory, a device and a socket have no range."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        self.addCleanup(os.close, writing)
        os.write(writing, b"content")
        directory = os.open("/", os.O_RDONLY)
        self.addCleanup(os.close, directory)
        for length in (None, 0, 5):
            self.assert_refused("expected a regular file, got a pipe", reading, 0, length)
            self.assert_refused("expected a regular file, got a directory", directory, 0, length)
            with open("/dev/zero", "rb") as device:
                self.assert_refused("expected a regular file, got a character device", device, 0, length)
            with socket.socket() as sock:
                self.assert_refused("expected a regular file, got a socket", sock.fileno(), 0, length)

    def test_no_length(self) -> None:
        """A file of /proc has content and a length of 0: it is not taken for an empty one."""
        if not Path("/proc/version").exists():
            raise SkipTest("this system has no /proc")
        with open("/proc/version", "rb") as file:
            for length in (None, 5):
                self.assert_refused("expected a regular file whose length is known", file, 0, length)
        empty = Path(self.mktemp())
        empty.touch()
        with empty.open("rb") as file:
            self.assertEqual(self.sent(file), b"")

    def sent(self, file: IO[bytes], offset: int = 0, length: int | None = None) -> bytes:
        """What is sent of a file."""
        transport, clock = StringTransport(), Clock()
        sent = send_file(cast(IConnectionTransport, transport), file, offset, length, reactor=clock)
        clock.pump([0] * 5)
        data = bytes(transport.value())
        self.assertEqual(self.successResultOf(sent), len(data))
        return data

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
