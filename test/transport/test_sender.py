"""Tests of what sends replies one after the other."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.errors import PieceDamaged, StorageFailure
from dragonfly_vortex.interfaces import FileRange, IConnectionTransport
from dragonfly_vortex.transport.ratelimit import TokenBucket
from dragonfly_vortex.transport.sender import ONE_WRITE_LENGTH, Sender
from test.peer.serving import UNLIMITED, open_descriptors

KIB = 1024
HEADER = b"h" * 100


class FullTransport(StringTransport):
    """A transport whose other side takes nothing until :meth:`flush`."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # Twisted's
        self.writes: list[int] = []

    def write(self, data: bytes) -> None:
        """Keep the bytes, and stop a producer."""
        super().write(data)  # type: ignore[no-untyped-call] # Twisted's
        self.writes.append(len(data))
        if self.producer is not None:
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
        self.limiter = TokenBucket(rate, self.clock)
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
        """Replies that nobody takes wait before they fill the memory, headers and errors too."""
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
