"""What is written to a connection, past its transport where that has a plain socket."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any, cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from hyperframe.frame import DataFrame, HeadersFrame
from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTCP, IReactorTime
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from dragonfly_vortex.interfaces import IConnectionTransport
from dragonfly_vortex.rpc.http2_writer import Writer, writer_of
from test.rpc.http2_child import Case

_ROOM = 4096
"""Bytes of a socket's buffers, of which the system makes some more."""


_END_STREAM = 1
"""The flag of a stream's last frame."""


class _Other(Protocol):
    """The writing side of a connection."""

    transport: IConnectionTransport

    def __init__(self) -> None:
        self.made: Deferred[Writer] = Deferred()
        self.lost: Deferred[None] = Deferred()
        self.resumed = 0

    def connectionMade(self) -> None:
        cast(Any, self.transport).getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _ROOM)
        writer = writer_of(self.transport)
        writer.begin(self.resume)
        self.made.callback(writer)

    def resume(self) -> None:
        """The writer takes more."""
        self.resumed += 1

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.lost.callback(None)


def _connect(port: int) -> socket.socket:
    """A socket with little room, which does not block."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _ROOM)
    sock.connect(("127.0.0.1", port))
    sock.setblocking(False)
    return sock


async def _read_some(sock: socket.socket, most: int = 5000) -> bytes:
    """What comes next, in one of the reactor's next turns; nothing at the end of the connection."""
    while True:
        await deferLater(IReactorTime(reactor), 0)
        with contextlib.suppress(BlockingIOError):
            return sock.recv(most)


async def _read(sock: socket.socket, length: int) -> bytes:
    """So many bytes, little by little; less at the end of the connection."""
    read = b""
    while len(read) < length and (data := await _read_some(sock, min(5000, length - len(read)))):
        read += data
    return read


class SocketTests(TestCase):
    """A plain socket with little room, whose other side reads slowly."""

    timeout = 120

    async def connect(self) -> tuple[_Other, Writer, socket.socket]:
        """A connection: its writing side, and the other side's socket."""
        other = _Other()
        port = IReactorTCP(reactor).listenTCP(0, Factory.forProtocol(lambda: other), interface="127.0.0.1")  # type: ignore[arg-type]
        self.addCleanup(port.stopListening)
        sock = _connect(cast(IPv4Address, port.getHost()).port)
        self.addCleanup(sock.close)
        return other, await other.made, sock

    async def test_order(self) -> None:
        """Parts arrive in order, whole, however many and long they are, whenever they were written."""
        other, writer, sock = await self.connect()
        random = Random(12)
        resumed = other.resumed
        parts = [random.randbytes(length) for length in [1, 300_000, *range(1200), 200_000, 9]]
        expected = b"".join(parts)
        writer.write(parts[:3])
        self.assertTrue(writer.is_full)
        writer.write([memoryview(part) for part in parts[3:]])
        self.assertTrue(await _read(sock, len(expected)) == expected)
        self.assertEqual((writer.is_full, other.resumed), (False, resumed + 1))
        writer.write([b"more"])
        self.assertEqual(await _read(sock, 4), b"more")

    async def test_at_once(self) -> None:
        """What the socket has room for is there when it has been written, without a turn of the reactor."""
        _, writer, sock = await self.connect()
        writer.write([b"now", b"!"])
        self.assertEqual(sock.recv(10), b"now!")

    async def test_exactly_full(self) -> None:
        """A socket that has no room for a single byte gets that byte later."""
        _, writer, sock = await self.connect()
        written = 0
        while not writer.is_full:
            writer.write([b"x"])
            written += 1
        self.assertEqual(await _read(sock, written), written * b"x")

    async def test_no_memory(self) -> None:
        """While the system has no memory for a socket, what is written waits, as it does in Twisted."""

        class Short:
            """Has no memory the first time."""

            def sendmsg(self, parts: Sequence[bytes]) -> int:
                cast(Any, writer)._socket = plain
                raise OSError(errno.ENOBUFS, "No buffer space available")

        _, writer, sock = await self.connect()
        plain, cast(Any, writer)._socket = cast(Any, writer)._socket, Short()
        writer.write([b"later"])
        self.assertTrue(writer.is_full)
        self.assertEqual(await _read(sock, 5), b"later")

    async def test_copied(self) -> None:
        """What waits for a full socket is a copy: nothing that it was a part of stays in memory."""
        _, writer, sock = await self.connect()
        content = bytearray(Random(12).randbytes(400_000))
        expected = bytes(content)
        writer.write([memoryview(content)[:200_000], memoryview(content)[200_000:300_000]])
        writer.write([memoryview(content)[300_000:]])
        content.clear()  # a BufferError, if parts of it were still in use
        self.assertTrue(await _read(sock, len(expected)) == expected)

    async def test_close(self) -> None:
        """The other side gets all that was written before the connection was closed, and then its end."""
        other, writer, sock = await self.connect()
        content = Random(12).randbytes(200_000)
        writer.write([content])
        writer.close()
        self.assertTrue(await _read(sock, len(content) + 1) == content)
        await other.lost

    async def test_lost(self) -> None:
        """A connection that is lost while something waits ends, and so does one that only a write finds lost."""
        for is_full in (True, False):
            other, writer, sock = await self.connect()
            other.transport.pauseProducing()  # it hears of no end
            if is_full:
                writer.write([bytes(200_000)])
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
            writer.write([b"too late"])
            writer.write([b"still"])
            await other.lost


class SlowChildTests(Case):
    """A child that reads slowly, at a server with a socket."""

    def ask(self, length: int) -> socket.socket:
        """Call for two replies of this length, on a connection with little room."""
        port = IReactorTCP(reactor).listenTCP(0, cast(Any, self.factory), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        cast(Any, port).socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _ROOM)  # connections inherit it
        sock = _connect(cast(IPv4Address, port.getHost()).port)
        self.addCleanup(sock.close)
        h2 = H2Connection(H2Configuration(header_encoding="utf-8"))
        h2.initiate_connection()
        h2.increment_flow_control_window(10_000_000)
        for number in (1, 3):
            fields = {":method": "POST", ":scheme": "http", ":path": "/test/Long", ":authority": "x"}
            h2.send_headers(number, [*fields.items(), ("content-type", "application/grpc"), ("te", "trailers")])
            request = b"%d" % length
            h2.send_data(number, b"\0" + len(request).to_bytes(4, "big") + request, end_stream=True)
            h2.increment_flow_control_window(10_000_000, number)
        sock.sendall(h2.data_to_send())
        return sock

    async def test_long_replies(self) -> None:
        """Two long replies at once arrive whole, though the server ends meanwhile."""
        sock = self.ask(300_000)
        came = b""
        while data := await _read_some(sock):
            came += data
            self.clock.advance(0)
            if len(came) > 20_000:
                self.factory.drain(100)
        lengths: Counter[int] = Counter()
        ended = set()
        while came:  # h2 takes no headers behind a GOAWAY
            length, kind, flags, number = int.from_bytes(came[:3], "big"), came[3], came[4], came[8]
            if kind == DataFrame.type:
                lengths[number] += length
            elif kind == HeadersFrame.type and flags & _END_STREAM:
                ended.add(number)
            came = came[9 + length :]
        self.assertEqual((lengths, ended), ({1: 300_005, 3: 300_005}, {1, 3}))

    async def test_gone(self) -> None:
        """A child that goes inside a reply leaves nothing behind."""
        sock = self.ask(3_000_000)
        while len(await _read_some(sock)) < 1000:
            self.clock.advance(0)
        sock.close()
        await self.until(lambda: not self.factory.connections and not self.factory.calls)
        self.assertEqual(self.clock.getDelayedCalls(), [])
