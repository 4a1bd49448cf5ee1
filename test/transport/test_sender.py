"""Tests of what sends replies one after the other."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import cast

from msgspec.structs import replace
from twisted.internet.defer import Deferred, fail
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.errors import PieceDamaged, StorageFailure
from dragonfly_vortex.interfaces import IConnectionTransport
from dragonfly_vortex.model import FileRange
from dragonfly_vortex.transport.producers import (
    CopyProducer,
    EncryptingProducer,
    FileRangeProducer,
    SendfileProducer,
)
from dragonfly_vortex.transport.ratelimit import UploadLimiter
from dragonfly_vortex.transport.readahead import ReadAhead
from dragonfly_vortex.transport.sender import ONE_WRITE_LENGTH, Sender
from dragonfly_vortex.transport.tls import TLSServerFactory, server_tls_from
from dragonfly_vortex.vortex.server import VortexServerFactory
from dragonfly_vortex.vortex.server_protocol import VortexServerProtocol
from test.certificates import Authority
from test.transport.cold import make_cold, make_hole
from test.vortex.serving import REACTOR, UNLIMITED, ServingTestCase, connection_of, open_descriptors
from test.vortex.shelf import Shelf

KIB = 1024
MIB = 1024 * KIB
HEADER = b"h" * 100
SENDFILE = os.sendfile


class FullTransport(StringTransport):
    """A transport whose other side takes nothing until :meth:`flush`."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # Twisted's
        self.writes: list[int] = []

    def write(self, data: bytes) -> None:
        """Keep the bytes, and stop a producer."""
        super().write(data)  # type: ignore[no-untyped-call] # Twisted's
        self.writes.append(len(data))
        if self.producer is not None and self.streaming:
            self.producer.pauseProducing()

    def flush(self) -> None:
        """The other side has taken all."""
        if self.producer is not None:
            self.producer.resumeProducing()


class SenderTests(SynchronousTestCase):
    """Replies of all sizes through a transport that is full."""

    def setUp(self) -> None:
        """A sender."""
        self.clock = Clock()
        self.transport = FullTransport()
        self.progress: list[int] = []
        self.sender = self.sender_for(UNLIMITED)

    def sender_for(self, rate: int) -> Sender:
        """A sender with that limit."""
        self.limiter = UploadLimiter(rate, self.clock)
        transport = cast(IConnectionTransport, self.transport)  # as much of one as is used
        return Sender(transport, self.clock, self.limiter, self.progress.append)

    def send(self, length: int) -> Deferred[None]:
        """Send a reply with content of that length."""
        path = Path(self.mktemp())
        self.content = os.urandom(length)
        path.write_bytes(self.content)
        self.source = FileRange(os.open(path, os.O_RDONLY), 0, length)
        return self.sender.send(HEADER, self.source)

    def test_small(self) -> None:
        """A small reply is one write, and the next may follow at once."""
        for length in (0, 1, ONE_WRITE_LENGTH):
            self.transport.clear()
            self.successResultOf(self.send(length))
            self.assertEqual(self.transport.writes.pop(), len(HEADER) + length)
            self.assertTrue(self.transport.value() == HEADER + self.content)
            self.assertNotIn(str(self.source.descriptor), open_descriptors())
        self.assertEqual(self.progress, [1, ONE_WRITE_LENGTH])

    def test_large(self) -> None:
        """A large reply goes in steps."""
        sent = self.send(ONE_WRITE_LENGTH + 1)
        self.assertNoResult(sent)
        self.transport.flush()
        self.successResultOf(sent)
        self.assertTrue(self.transport.value() == HEADER + self.content)

    def test_header_alone(self) -> None:
        """An error is a header alone."""
        self.successResultOf(self.sender.send(HEADER))
        self.assertEqual(self.transport.value(), HEADER)

    def test_unflushed(self) -> None:
        """Replies that the child does not read wait before they fill the memory, headers and errors too."""
        for length in (ONE_WRITE_LENGTH, 1, 0, None):
            self.transport = FullTransport()
            self.sender = self.sender_for(UNLIMITED)
            sent: Deferred[None] | None = None
            for _ in range(100_000):
                sent = self.send(length) if length else self.sender.send(HEADER)
                if not sent.called:
                    break
            if sent is None or sent.called:
                self.fail(f"expected a reply of {length} bytes to wait")
            waiting = len(self.transport.value())
            self.assertTrue(190 * KIB < waiting < 260 * KIB, f"{waiting} bytes of replies of {length} wait")
            self.transport.flush()
            self.successResultOf(sent)
            self.successResultOf(self.send(1))

    def test_empty_behind_a_full_buffer(self) -> None:
        """A reply of no bytes that had to wait is whole, not damaged."""
        for _ in range(10_000):
            sent = self.send(0)
            if not sent.called:
                break
        self.assertNoResult(sent)
        self.transport.flush()
        self.successResultOf(sent)
        self.assertNotIn(str(self.source.descriptor), open_descriptors())

    def test_in_debt(self) -> None:
        """A small reply waits until what others owe is paid, and that is our own rest."""
        self.sender = self.sender_for(100_000)
        self.limiter.spend(105_000)
        sent = self.send(10)
        self.assertEqual(self.transport.value(), HEADER)
        self.transport.flush()
        self.assertTrue(self.sender.resting)
        self.clock.advance(0.9)
        self.assertNoResult(sent)
        self.clock.advance(0.2)
        self.transport.flush()
        self.successResultOf(sent)
        self.assertFalse(self.sender.resting)
        self.assertEqual(self.transport.value(), HEADER + self.content)

    def test_errors_are_not_limited(self) -> None:
        """An error is no content, and costs nothing."""
        self.sender = self.sender_for(1000)
        self.limiter.spend(1050)
        self.successResultOf(self.sender.send(HEADER))
        self.assertAlmostEqual(self.limiter.debt, 1.0)

    def test_small_is_paid_for(self) -> None:
        """Small replies count like large ones."""
        self.sender = self.sender_for(100_000)
        self.limiter.spend(5000)
        self.successResultOf(self.send(1000))
        self.assertAlmostEqual(self.limiter.debt, 0.01)

    def test_low_limit(self) -> None:
        """A reply of more than a step is sent in steps, however small it is."""
        self.sender = self.sender_for(1000)
        sent = self.send(15)
        self.transport.flush()
        self.assertEqual(self.progress, [10])
        self.transport.flush()
        self.successResultOf(sent)

    def test_short_file(self) -> None:
        """A small file that is too short fails before a byte has gone."""
        source = FileRange(os.open(os.devnull, os.O_RDONLY), 0, 5)
        error = self.failureResultOf(self.sender.send(HEADER, source), PieceDamaged).value
        self.assertEqual(str(error), "expected 5 bytes at offset 0 of the file, got 0")
        self.assertEqual(self.transport.value(), b"")
        self.assertNotIn(str(source.descriptor), open_descriptors())

    def test_unreadable(self) -> None:
        """A small file that cannot be read is the storage's failure."""
        source = FileRange(os.open(".", os.O_RDONLY), 0, 5)
        error = self.failureResultOf(self.sender.send(HEADER, source), StorageFailure).value
        self.assertEqual(str(error), "reading a piece's file failed: Is a directory")
        self.assertNotIn(str(source.descriptor), open_descriptors())


class SocketTransport(FullTransport):
    """A transport over a real socket, that is never told that it may write."""

    def __init__(self) -> None:
        super().__init__()
        self.handle, self.child = socket.socketpair()
        self.handle.setblocking(False)

    def getHandle(self) -> socket.socket:
        """The socket."""
        return self.handle

    def registerProducer(self, producer: SendfileProducer, streaming: bool) -> None:
        """Let a pull producer produce, as a connection does."""
        super().registerProducer(producer, streaming)  # type: ignore[no-untyped-call] # Twisted's
        if not streaming:
            producer.resumeProducing()

    def startWriting(self) -> None:
        """It is :meth:`flush` that says when it may be written."""


class SocketTests(SynchronousTestCase):
    """Small replies through a socket that can be written to."""

    def setUp(self) -> None:
        """A sender."""
        self.transport = SocketTransport()
        self.addCleanup(self.transport.child.close)
        self.addCleanup(self.transport.handle.close)
        self.progress: list[int] = []
        transport = cast(IConnectionTransport, self.transport)  # as much of one as is used
        self.sender = Sender(transport, Clock(), UploadLimiter(UNLIMITED, Clock()), self.progress.append)
        path = Path(self.mktemp())
        self.content = os.urandom(10 * KIB)
        path.write_bytes(self.content)
        self.file = os.open(path, os.O_RDWR)
        self.addCleanup(os.close, self.file)

    def send(self, *, more: bool = False) -> None:
        """Send a reply, which is done at once."""
        source = FileRange(os.dup(self.file), 0, len(self.content))
        self.successResultOf(self.sender.send(HEADER, source, more=more))

    def test_at_once(self) -> None:
        """A reply is in the socket, header and content, before the reactor is asked for anything."""
        self.send()
        self.assertEqual(self.transport.child.recv(MIB), HEADER + self.content)
        self.successResultOf(self.sender.send(HEADER))
        self.assertEqual(self.transport.child.recv(MIB), HEADER)
        self.assertEqual((self.transport.writes, self.progress), ([], [len(self.content)]))

    def test_more(self) -> None:
        """A reply that another follows waits for that in the transport, and nothing passes it by."""
        self.send(more=True)
        self.send()
        self.assertEqual(self.transport.value(), (HEADER + self.content) * 2)

    def test_full(self) -> None:
        """What the socket does not take is in the transport, and what follows is behind it."""
        count = 0
        while not self.transport.writes:
            self.send()
            count += 1
        for _ in range(3):
            self.send()
        taken = bytearray()
        self.transport.child.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while data := self.transport.child.recv(MIB):
                taken += data
        self.assertTrue(taken + self.transport.value() == (HEADER + self.content) * (count + 3))
        self.assertEqual(len(self.transport.writes), 4)

    def test_behind_a_large_one(self) -> None:
        """Behind a large reply a small one goes to the socket again, unless the large one was copied and may wait."""
        for sendfile in (os.sendfile, self.sendfile_that_cannot):
            self.patch(os, "sendfile", sendfile)
            length = ONE_WRITE_LENGTH + 1
            os.truncate(self.file, length)
            sent = self.sender.send(HEADER, FileRange(os.dup(self.file), 0, length))
            while not sent.called:
                self.transport.flush()
            before = len(self.transport.value())
            self.send()
            written = len(self.transport.value()) - before
            self.assertEqual(written, 0 if sendfile != self.sendfile_that_cannot else len(HEADER + self.content))

    def test_large_at_once(self) -> None:
        """Large content is in the socket, as far as that takes it, before the reactor is asked for anything."""
        length = ONE_WRITE_LENGTH + 1
        os.truncate(self.file, length)
        sent = self.sender.send(HEADER, FileRange(os.dup(self.file), 0, length), at_once=True)
        taken = bytearray()
        while len(taken) < sum(self.progress) + len(HEADER):
            taken += self.transport.child.recv(MIB)
        self.assertEqual((self.progress[:1], taken.startswith(HEADER + self.content)), ([len(taken) - 100], True))
        while not sent.called:
            self.transport.flush()
        self.assertEqual((sum(self.progress), self.transport.writes), (length, []))

    def test_large_at_once_behind_others(self) -> None:
        """Where bytes wait in the transport, large content goes behind them, and its header too."""
        self.send(more=True)
        os.truncate(self.file, ONE_WRITE_LENGTH + 1)
        self.sender.send(HEADER, FileRange(os.dup(self.file), 0, ONE_WRITE_LENGTH + 1), at_once=True)
        self.assertEqual(self.transport.value(), HEADER + self.content + HEADER)
        self.assertEqual(self.progress, [len(self.content)])
        self.transport.flush()
        self.assertGreater(len(self.progress), 1)

    def sendfile_that_cannot(self, *_: object) -> int:
        """A file system's that has none."""
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    def test_gone(self) -> None:
        """A connection that is gone is the transport's to find out."""
        self.transport.child.close()
        self.send()
        self.assertEqual(self.transport.value(), HEADER + self.content)


class BrokenDisk(ReadAhead):
    """A disk that cannot read what is not in memory."""

    def in_thread(self, work: Callable[[], object]) -> Deferred[object]:  # type: ignore[override] # it returns nothing
        """Fail as a disk does."""
        return fail(OSError(errno.EIO, os.strerror(errno.EIO)))


class ColdTests(ServingTestCase):
    """Replies from a real file whose pages are not in memory, while the only thread that reads has no time."""

    def cold(self, *lengths: int, tls: bool = False, idle_timeout: float = 600.0) -> tuple[Shelf, tuple[str, int]]:
        """A server of pieces that are not in memory, and its address; nothing reads them before :meth:`let_go`."""
        store = self.shelf(*lengths)
        make_cold(store.path)
        read_ahead = ReadAhead(REACTOR, threads=1)
        self.addCleanup(read_ahead.stop)
        waiting = threading.Event()
        self.let_go = waiting.set
        factory = self.factory(store, idle_timeout=idle_timeout)
        factory.settings = replace(factory.settings, read_ahead=read_ahead)
        address = self.serve_tls(factory) if tls else self.serve(factory)
        self.addCleanup(self.let_go)
        read_ahead.in_thread(waiting.wait)
        return store, address

    async def test_large(self) -> None:
        """The reactor's thread does not read a large piece, and goes on: it answers others meanwhile."""
        for tls in (False, True):
            store, address = self.cold(3 * MIB, 10, tls=tls)
            with store.path.open("rb") as file:
                os.pread(file.fileno(), 10, 3 * MIB)
            child, other = await self.child(address, tls=tls), await self.child(address, tls=tls)
            await deferToThread(child.ask, 0)
            reading = deferToThread(child.reply)
            await deferToThread(other.ask, 1)
            self.assertEqual((await deferToThread(other.reply)).content, store.content(1))
            await self.pause(0.05)
            self.assertFalse(reading.called)
            self.let_go()
            self.assertTrue((await reading).content == store.content(0))

    async def test_small(self) -> None:
        """Replies leave in the order of their requests, when only the first has to wait for the disk."""
        store, address = self.cold(64 * KIB, 64 * KIB)
        make_hole(store.path, 32 * KIB, 32 * KIB)
        child = await self.child(address)
        await deferToThread(child.ask, 0, 1, 0)
        receiving = deferToThread(child.replies, 3)
        await self.pause(0.05)
        self.let_go()
        replies = await receiving
        self.assertEqual([reply.number for reply in replies], [0, 1, 0])
        self.assertTrue(all(reply.content == store.content(reply.number) for reply in replies))

    async def test_small_is_not_read(self) -> None:
        """A small piece that is not in memory is not read at once: only its header goes, and the rest follows."""
        transport, read_ahead = FullTransport(), ReadAhead(REACTOR)
        self.addCleanup(read_ahead.stop)
        sender = Sender(
            cast(IConnectionTransport, transport),
            REACTOR,
            UploadLimiter(UNLIMITED, REACTOR),
            lambda _: None,
            read_ahead,
        )
        store = self.shelf(64 * KIB)
        make_cold(store.path)
        sent = sender.send(HEADER, store.open(0).range)
        self.assertNoResult(sent)
        self.assertEqual(transport.value(), HEADER)
        transport.flush()
        await sent
        self.assertTrue(transport.value() == HEADER + store.content(0))

    async def test_child_vanishes(self) -> None:
        """A descriptor from which a thread reads is closed when the thread has finished, and not before."""
        store, address = self.cold(3 * MIB)
        child = await self.child(address)
        await deferToThread(child.ask, 0)
        await deferToThread(child.receive, 1)
        descriptor = str(store.opened[-1])
        await self.pause(0.05)
        await deferToThread(child.reset)
        await self.pause(0.05)
        self.assertIn(descriptor, open_descriptors())
        self.let_go()
        await self.until(lambda: descriptor not in open_descriptors())

    async def test_our_disk_is_not_the_childs_fault(self) -> None:
        """A child is not given up while our own disk is waited for."""
        store, address = self.cold(3 * MIB, idle_timeout=0.3)
        child = await self.child(address)
        await deferToThread(child.ask, 0)
        reading = deferToThread(child.reply)
        await self.pause(0.5)
        self.let_go()
        self.assertTrue((await reading).content == store.content(0))

    async def test_broken_disk(self) -> None:
        """A disk that fails ends the connection, and nothing is left open."""
        store, address = self.cold(3 * MIB)
        factory = self.factory(store)
        factory.settings = replace(factory.settings, read_ahead=BrokenDisk(REACTOR))
        address = self.serve(factory)
        child = await self.child(address)
        await deferToThread(child.ask, 0)
        with self.assertRaises(ConnectionResetError):
            await deferToThread(child.end)
        self.assertNotIn(str(store.opened[-1]), open_descriptors())


class EncryptingTests(ServingTestCase):
    """Content that is encrypted past the transport's writes."""

    async def test_behind_what_waits(self) -> None:
        """A step that the limiter grants leaves behind what TLS itself has written in the same turn."""
        store, clock = self.shelf(MIB), Clock()
        factory = self.factory(store)
        factory.settings = replace(factory.settings, limiter=UploadLimiter(100 * KIB, clock))
        child = await self.child(self.serve_tls(factory), tls=True)
        await deferToThread(child.ask, 0)
        connection = await self.waiting(factory)
        receiving = deferToThread(child.receive, MIB)
        written = b"as an answer to a KeyUpdate"
        connection.transport.write(written)
        while not receiving.called:
            clock.advance(1.0)
            await self.pause(0.001)
        data = await receiving
        self.assertEqual(data.count(written), 1)
        content = data.replace(written, b"")
        self.assertTrue(content[-64 * KIB :] in store.content(0))

    async def waiting(self, factory: VortexServerFactory) -> VortexServerProtocol:
        """The only connection, when its producer waits for the limiter."""

        def is_waiting() -> bool:
            producer = connection_of(factory)._sender._producer if len(factory.connections) else None
            return producer is not None and producer._is_queued

        await self.until(is_waiting)
        return connection_of(factory)


class ChosenProducerTests(ServingTestCase):
    """Which producer is taken."""

    def chosen(self, transport: StringTransport) -> type[FileRangeProducer]:
        """The class of the producer for a transport."""
        clock = Clock()
        sender = Sender(cast(IConnectionTransport, transport), clock, UploadLimiter(1, clock), lambda _: None)
        return type(sender._make_producer())

    def test_no_socket(self) -> None:
        """A transport without a socket is written to."""
        self.assertIs(self.chosen(StringTransport()), CopyProducer)

    def test_socket(self) -> None:
        """A transport with a socket is sent to with sendfile, where there is one."""
        transport = TransportWithSocket()
        self.addCleanup(transport.handle.close)
        self.assertIs(self.chosen(transport), SendfileProducer)
        sendfile = os.sendfile
        del os.sendfile
        self.addCleanup(setattr, os, "sendfile", sendfile)
        self.assertIs(self.chosen(transport), CopyProducer)

    def test_tls(self) -> None:
        """Under TLS that encrypts at once, over a socket, content is encrypted past the transport's writes."""
        directory = Path(self.mktemp())
        directory.mkdir()
        tls = server_tls_from(Authority(directory).issue().identity())
        with_socket = TransportWithSocket()
        self.addCleanup(with_socket.handle.close)
        for beneath, aggregates, expected in (
            (with_socket, False, EncryptingProducer),
            (with_socket, True, CopyProducer),
            (StringTransport(), False, CopyProducer),
        ):
            factory = TLSServerFactory(
                tls, Factory.forProtocol(Protocol), lambda _: b"", Clock(), aggregates=aggregates
            )
            transport = factory.buildProtocol(None)
            if transport is None:
                self.fail("expected a protocol")
            transport.makeConnection(beneath)
            self.assertIs(self.chosen(cast(StringTransport, transport)), expected)


class TransportWithSocket(StringTransport):
    """A transport in memory that has a socket."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # Twisted's
        self.handle = socket.socket()

    def getHandle(self) -> socket.socket:
        """Its socket."""
        return self.handle
