"""Tests of what sends replies one after the other, and of its producers."""

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
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IAddress, IPullProducer, IPushProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dragonfly_vortex.errors import PieceDamaged, StorageFailure
from dragonfly_vortex.interfaces import IConnectionTransport
from dragonfly_vortex.model import FileRange
from dragonfly_vortex.transport.ratelimit import UploadLimiter
from dragonfly_vortex.transport.readahead import Pages, ReadAhead
from dragonfly_vortex.transport.sender import (
    ONE_WRITE_LENGTH,
    CopyProducer,
    FileRangeProducer,
    Sender,
    SendfileProducer,
)
from test.transport.cold import cold_file, make_cold, make_hole
from test.vortex.serving import REACTOR, UNLIMITED, ServingTestCase, open_descriptors
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

    def cold(self, *lengths: int, tls: bool = False, idle_timeout: float = 10.0) -> tuple[Shelf, tuple[str, int]]:
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
        store, address = self.cold(3 * MIB, idle_timeout=0.1)
        child = await self.child(address)
        await deferToThread(child.ask, 0)
        reading = deferToThread(child.reply)
        await self.pause(0.5)
        self.let_go()
        self.assertTrue((await reading).content == store.content(0))

    async def test_broken_disk(self) -> None:
        """A disk that fails ends the connection, and nothing is left open."""
        store, address = self.cold(3 * MIB)
        factory = self.factory(store, idle_timeout=100)
        factory.settings = replace(factory.settings, read_ahead=BrokenDisk(REACTOR))
        address = self.serve(factory)
        child = await self.child(address)
        await deferToThread(child.ask, 0)
        with self.assertRaises(ConnectionResetError):
            await deferToThread(child.end)
        self.assertNotIn(str(store.opened[-1]), open_descriptors())


def a_file(path: str, length: int) -> tuple[FileRange, bytes]:
    """A file with a byte before and a byte behind a range of that length; the range, and its bytes."""
    content = os.urandom(length)
    Path(path).write_bytes(b"<" + content + b">")
    return FileRange(os.open(path, os.O_RDONLY), 1, length), content


class ReadWhenTold(ReadAhead):
    """Reads what is not in memory when the test says so."""

    def __init__(self) -> None:
        super().__init__(REACTOR)
        self.asked: list[tuple[Callable[[], object], Deferred[object]]] = []

    def in_thread(self, work: Callable[[], object]) -> Deferred[object]:  # type: ignore[override] # it returns nothing
        """Keep the work."""
        done: Deferred[object] = Deferred()
        self.asked.append((work, done))
        return done

    def read(self) -> None:
        """Do all that was asked for."""
        asked, self.asked = self.asked, []
        for work, done in asked:
            done.callback(work())


class CopyProducerTests(SynchronousTestCase):
    """Reading and writing, step by step, on a clock."""

    def setUp(self) -> None:
        """A producer on a transport in memory."""
        self.clock = Clock()
        self.transport = StringTransport()
        self.steps: list[int] = []
        self.producer = self.producer_for(UNLIMITED)

    def producer_for(self, rate: int) -> CopyProducer:
        """A producer with that limit."""
        self.limiter = UploadLimiter(rate, self.clock)
        transport = cast(IConnectionTransport, self.transport)  # as much of one as is used
        return CopyProducer(transport, self.clock, self.limiter, self.steps.append)

    def send(self, length: int) -> tuple[Deferred[None], bytes, int]:
        """Begin to send a file: its end, its content and its descriptor."""
        source, content = a_file(self.mktemp(), length)
        return self.producer.send(HEADER, Pages(source)), content, source.descriptor

    def assert_ended(self, descriptor: int) -> None:
        """Nothing is left of the producer."""
        self.assertIsNone(self.transport.producer)
        self.assertNotIn(str(descriptor), open_descriptors())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_interface(self) -> None:
        """It is a push producer."""
        self.assertTrue(verifyObject(IPushProducer, self.producer))

    def test_content(self) -> None:
        """The header comes first, the content in steps of later turns; then all is over."""
        done, content, descriptor = self.send(300 * KIB)
        self.assertTrue(self.transport.streaming)
        self.assertEqual(self.transport.value(), HEADER)
        self.assertNoResult(done)
        self.clock.advance(0)
        self.assertEqual(self.steps, [128 * KIB, 128 * KIB, 44 * KIB])
        self.assertTrue(self.transport.value() == HEADER + content)
        self.successResultOf(done)
        self.assert_ended(descriptor)

    def test_empty_range(self) -> None:
        """A range of no bytes is whole once its header has gone."""
        done, _, descriptor = self.send(0)
        self.clock.advance(0)
        self.successResultOf(done)
        self.assertEqual(self.transport.value(), HEADER)
        self.assert_ended(descriptor)

    def test_no_range(self) -> None:
        """A header alone waits until the transport can take more."""
        done = self.producer.send(HEADER, None)
        self.producer.pauseProducing()
        self.clock.advance(0)
        self.assertNoResult(done)
        self.producer.resumeProducing()
        self.successResultOf(done)
        self.assertIsNone(self.transport.producer)

    def test_paused(self) -> None:
        """While the transport is full nothing is read or written; then it goes on."""
        done, content, _ = self.send(300 * KIB)
        self.producer.pauseProducing()
        self.clock.pump([0] * 10)
        self.assertEqual(self.transport.value(), HEADER)
        self.producer.resumeProducing()
        self.assertEqual(self.steps, [128 * KIB])
        self.producer.resumeProducing()  # a second one takes no step ahead of its turn
        self.assertEqual(self.steps, [128 * KIB])
        self.clock.pump([0] * 10)
        self.assertTrue(self.transport.value() == HEADER + content)
        self.successResultOf(done)

    def test_rests(self) -> None:
        """The limiter says when a step is taken, and its pauses differ from those of the other side."""
        self.producer = self.producer_for(1000)
        self.limiter.spend(50)
        done, content, descriptor = self.send(25)
        self.assertFalse(self.producer.resting)
        self.clock.advance(0)
        self.assertEqual(self.steps, [10])
        self.clock.advance(0)
        self.assertTrue(self.producer.resting)
        self.clock.advance(0.009)
        self.assertEqual(self.steps, [10])
        self.producer.resumeProducing()  # a transport that can take more does not shorten the rest
        self.assertEqual(self.steps, [10])
        self.clock.advance(0.0011)
        self.assertEqual(self.steps, [10, 10])
        self.clock.pump([0, 0.01])
        self.assertEqual(self.steps, [10, 10, 5])
        self.successResultOf(done)
        self.assertFalse(self.producer.resting)
        self.assertEqual(self.transport.value(), HEADER + content)
        self.assert_ended(descriptor)

    def test_paused_at_rest(self) -> None:
        """A transport that is full at the end of a rest is waited for."""
        self.producer = self.producer_for(1000)
        self.limiter.spend(1050)
        self.send(10)
        self.clock.advance(0)
        self.producer.pauseProducing()
        self.clock.advance(1.1)
        self.assertEqual(self.steps, [])
        self.assertFalse(self.producer.resting)
        self.producer.resumeProducing()
        self.assertEqual(self.steps, [10])

    def cold(self, length: int) -> tuple[Deferred[None], bytes, int, ReadWhenTold]:
        """Begin to send a file that is not in memory: what :meth:`send` returns, and the reader."""
        path, read_ahead = Path(self.mktemp()), ReadWhenTold()
        content = cold_file(path, length)
        descriptor = os.open(path, os.O_RDONLY)
        done = self.producer.send(HEADER, Pages(FileRange(descriptor, 0, length), read_ahead))
        return done, content, descriptor, read_ahead

    def test_cold(self) -> None:
        """What is not in memory is asked for once, whatever the transport says meanwhile; then it is sent."""
        done, content, descriptor, read_ahead = self.cold(300 * KIB)
        self.assertFalse(self.producer.resting)
        self.clock.advance(0)
        self.assertTrue(self.producer.resting)
        self.producer.pauseProducing()
        self.producer.resumeProducing()
        self.assertEqual(len(read_ahead.asked), 1)
        self.assertEqual(self.steps, [])
        read_ahead.read()
        self.clock.advance(0)
        self.assertEqual(self.steps, [128 * KIB, 128 * KIB, 44 * KIB])
        self.successResultOf(done)
        self.assertTrue(self.transport.value() == HEADER + content)
        self.assert_ended(descriptor)

    def test_cold_and_paused(self) -> None:
        """A transport that has become full while the disk was waited for is waited for, too."""
        done, _, _, read_ahead = self.cold(300 * KIB)
        self.clock.advance(0)
        self.producer.pauseProducing()
        read_ahead.read()
        self.clock.advance(0)
        self.assertEqual(self.steps, [])
        self.producer.resumeProducing()
        self.clock.advance(0)
        self.successResultOf(done)

    def test_cold_and_lost(self) -> None:
        """A connection that is lost while the disk is waited for ends it at once; the descriptor is closed later."""
        done, _, descriptor, read_ahead = self.cold(300 * KIB)
        self.clock.advance(0)
        self.producer.stopProducing()
        self.failureResultOf(done, ConnectionLost)
        self.assertFalse(self.producer.resting)
        self.assertIn(str(descriptor), open_descriptors())
        read_ahead.read()
        self.assert_ended(descriptor)
        self.assertEqual(self.transport.value(), HEADER)

    def test_lost(self) -> None:
        """A connection that is lost ends it once, at rest too, and what was not sent is not owed."""
        self.producer = self.producer_for(1000)
        self.limiter.spend(1050)
        done, _, descriptor = self.send(25)
        self.clock.advance(0)
        self.producer.stopProducing()
        self.failureResultOf(done, ConnectionLost)
        self.assertAlmostEqual(self.limiter.debt, 1.0)
        self.assert_ended(descriptor)
        self.producer.resumeProducing()
        self.producer.stopProducing()
        self.assertEqual(self.transport.value(), HEADER)

    def test_short_file(self) -> None:
        """A file that ends too early fails with what is missing."""
        source, _ = a_file(self.mktemp(), 10)
        done = self.producer.send(HEADER, Pages(source._replace(length=20)))
        self.clock.pump([0, 0, 0])
        error = self.failureResultOf(done, PieceDamaged).value
        self.assertEqual(str(error), "expected 9 more bytes at offset 12 of the file, which ends there")
        self.assert_ended(source.descriptor)

    def test_unreadable(self) -> None:
        """A file that cannot be read fails as the storage's fault, and the text names no path."""
        descriptor = os.open(".", os.O_RDONLY)
        done = self.producer.send(HEADER, Pages(FileRange(descriptor, 0, 10)))
        self.clock.advance(0)
        error = self.failureResultOf(done, StorageFailure).value
        self.assertEqual(str(error), "reading a piece's file failed: Is a directory")
        self.assertIsInstance(error.__cause__, IsADirectoryError)
        self.assert_ended(descriptor)


class SendingProtocol(Protocol):
    """Sends a file as soon as it is connected."""

    def __init__(self, send: Callable[[IConnectionTransport], None]) -> None:
        self._send = send

    def connectionMade(self) -> None:
        """The other side is there."""
        self._send(cast(IConnectionTransport, self.transport))


class SendingFactory(Factory):
    """Makes such protocols."""

    noisy = False

    def __init__(self, send: Callable[[IConnectionTransport], None]) -> None:
        self._send = send

    def buildProtocol(self, addr: IAddress | None) -> SendingProtocol:
        """A protocol for one connection."""
        return SendingProtocol(self._send)


class SendfileProducerTests(ServingTestCase):
    """Sending with sendfile, on a real socket."""

    async def exchange(self, length: int, claimed: int | None = None) -> tuple[bytes, bytes, Exception | None]:
        """Send a file over a connection: what was to come, what came, and how the producer ended."""
        source, content = a_file(self.mktemp(), length)
        if claimed is not None:
            source = source._replace(length=claimed)
        ended: list[Exception | None] = []
        transports: list[IConnectionTransport] = []
        self.steps: list[int] = []

        def send(transport: IConnectionTransport) -> None:
            limiter = UploadLimiter(UNLIMITED, REACTOR)
            self.producer = Sender(transport, REACTOR, limiter, self.steps.append)._make_producer()
            transports.append(transport)
            done = self.producer.send(HEADER, Pages(source))
            done.addCallbacks(ended.append, lambda failure: ended.append(failure.value))
            done.addCallback(lambda _: transport.loseConnection())

        port = REACTOR.listenTCP(0, SendingFactory(send), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        child = await self.child(("127.0.0.1", port.getHost().port))
        received = await deferToThread(child.end)
        self.assertEqual(len(ended), 1)
        self.assertNotIn(str(source.descriptor), open_descriptors())
        return HEADER + content, received, ended[0]

    async def test_interface(self) -> None:
        """It is a pull producer, and the one for a plain socket."""
        await self.exchange(1)
        self.assertIsInstance(self.producer, SendfileProducer)
        self.assertTrue(verifyObject(IPullProducer, self.producer))

    async def test_content(self) -> None:
        """Header and content of any size come in order, byte for byte, in steps that leave others their turn."""
        for length in (0, 1, 4 * KIB, 64 * KIB - 1, 64 * KIB + 1, 5 * MIB):
            expected, received, error = await self.exchange(length)
            self.assertIsNone(error)
            self.assertTrue(received == expected, f"{length} bytes")
            self.assertEqual(sum(self.steps), length)
            self.assertLessEqual(max(self.steps, default=0), 2 * MIB)

    async def test_short_file(self) -> None:
        """A file that ends too early is an error, not a short reply; the range's end is the file's, one byte on."""
        _, received, error = await self.exchange(1 * MIB, claimed=2 * MIB)
        self.assertIsInstance(error, PieceDamaged)
        self.assertEqual(len(received), len(HEADER) + 1 * MIB + 1)

    def failing(self, error: int, after: int) -> None:
        """Let sendfile fail after that many calls."""
        calls = 0

        def fails(out_fd: int, in_fd: int, offset: int, count: int) -> int:
            nonlocal calls
            calls += 1
            if calls > after:
                raise OSError(error, os.strerror(error))
            return SENDFILE(out_fd, in_fd, offset, min(count, 100_000))

        self.patch(os, "sendfile", fails)

    async def test_file_system_that_cannot(self) -> None:
        """A file system or a sandbox that refuses sendfile, from the start or midway, is done without."""
        for error in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):
            for after in (0, 3):
                self.failing(error, after)
                expected, received, ended = await self.exchange(3 * MIB)
                self.assertIsNone(ended)
                self.assertTrue(received == expected)

    async def test_file_that_fails(self) -> None:
        """A disk that fails midway is the storage's failure."""
        self.failing(errno.EIO, 2)
        _, _, ended = await self.exchange(3 * MIB)
        self.assertIsInstance(ended, StorageFailure)

    async def test_connection_that_fails(self) -> None:
        """A connection that fails midway is a connection lost."""
        for error in (errno.EPIPE, errno.ECONNRESET, errno.ETIMEDOUT, errno.EHOSTUNREACH):
            self.failing(error, 2)
            _, _, ended = await self.exchange(3 * MIB)
            self.assertIsInstance(ended, ConnectionLost)


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


class TransportWithSocket(StringTransport):
    """A transport in memory that has a socket."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # Twisted's
        self.handle = socket.socket()

    def getHandle(self) -> socket.socket:
        """Its socket."""
        return self.handle
