"""Tests of the producers that send a range of a file."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import cast

from twisted.internet.defer import Deferred
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
from dragonfly_vortex.transport.producers import CopyProducer, SendfileProducer
from dragonfly_vortex.transport.ratelimit import UploadLimiter
from dragonfly_vortex.transport.readahead import Pages, ReadAhead
from dragonfly_vortex.transport.sender import Sender
from test.transport.cold import cold_file
from test.vortex.serving import REACTOR, UNLIMITED, ServingTestCase, open_descriptors

KIB = 1024
MIB = 1024 * KIB
HEADER = b"h" * 100
SENDFILE = os.sendfile


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
