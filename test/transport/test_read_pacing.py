"""A connection is read no faster than its limit allows, and its reader is woken no more often than it is worth."""

from __future__ import annotations

import select
import socket

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.transport.ratelimit import TokenBucket
from dragonfly_vortex.transport.read_pacing import LowWaterMark, Pace


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a connection: an end to be read, and the other one."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        other = socket.create_connection(listening.getsockname())
        ours, _ = listening.accept()
    return ours, other


class CountingSocket(socket.socket):
    """A socket that counts how often an option is set."""

    options_set = 0

    def setsockopt(self, *arguments: object) -> None:
        self.options_set += 1
        super().setsockopt(*arguments)  # type: ignore[call-overload] # nor here


class LowWaterMarkTests(SynchronousTestCase):
    """What wakes a reader."""

    def setUp(self) -> None:
        self.ours, self.other = tcp_pair()
        self.addCleanup(self.other.close)
        self.addCleanup(self.ours.close)

    def is_woken(self) -> bool:
        """Whether a waiting poll reports that the socket is readable."""
        return bool(select.select([self.ours], [], [], 0.02)[0])

    def test_below(self) -> None:
        """Fewer bytes than the mark do not wake the reader; as many do, and so does a lower mark, at once."""
        mark = LowWaterMark(self.ours)
        mark.set(100)
        self.other.send(bytes(99))
        self.assertFalse(self.is_woken())
        self.other.send(b"x")
        self.assertTrue(self.is_woken())
        mark.set(101)
        self.assertFalse(self.is_woken())
        mark.set(1)
        self.assertTrue(self.is_woken())

    def test_end(self) -> None:
        """The end of the connection wakes the reader below the mark."""
        LowWaterMark(self.ours).set(100)
        self.other.send(bytes(10))
        self.assertFalse(self.is_woken())
        self.other.shutdown(socket.SHUT_WR)
        self.assertTrue(self.is_woken())

    def test_small_buffer(self) -> None:
        """More than the receive buffer holds is not waited for."""
        self.ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        LowWaterMark(self.ours).set(1 << 20)
        self.assertLessEqual(self.ours.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT), 4096)
        self.other.setblocking(False)
        self.other.send(bytes(1 << 18))
        self.assertTrue(self.is_woken())

    def test_growing_buffer(self) -> None:
        """No more than an eighth of the receive buffer is waited for, however large that is at the moment."""
        mark = LowWaterMark(self.ours)
        for asked in (1 << 14, 1 << 18):
            self.ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, asked)
            mark.set(1 << 20)
            buffer = self.ours.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
            self.assertEqual(self.ours.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT), buffer // 8)

    def test_once(self) -> None:
        """Only changes are passed to the kernel."""
        sock = CountingSocket()
        self.addCleanup(sock.close)
        mark = LowWaterMark(sock)
        for length in (1, 5, 5, 5, 1, 1):
            mark.set(length)
        self.assertEqual(sock.options_set, 2)

    def test_closed(self) -> None:
        """A socket that has been closed is left alone."""
        self.ours.close()
        LowWaterMark(self.ours).set(100)


class RestTests(SynchronousTestCase):
    """A connection that may read a thousand bytes per second."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.transport = StringTransport()
        self.limiter = TokenBucket(1000, self.clock)
        self.pace = Pace(self.transport, None, self.clock, limiter=self.limiter)

    def test_at_once(self) -> None:
        """No more comes at once than the limiter's step; without one, as much as is asked for, and 2 MiB in a turn."""
        free = Pace(self.transport, None, self.clock)
        self.assertEqual((self.pace.at_once(1000), self.pace.at_once(3), self.pace.turn), (10, 3, 10))
        self.assertEqual((free.at_once(1 << 40), free.turn), (1 << 40, 2_097_152))

    def test_no_limit(self) -> None:
        """Without a limit there is no rest."""
        free = Pace(self.transport, None, self.clock)
        free.spend(1 << 40)
        self.assertEqual((free.rest, self.transport.producerState), (None, "producing"))

    def test_rest(self) -> None:
        """Received bytes are paid for before the connection is read again."""
        self.pace.spend(550)
        self.assertIsNotNone(self.pace.rest)
        self.clock.advance(0.4)
        self.assertEqual(self.transport.producerState, "paused")
        self.clock.advance(0.1)
        self.assertEqual((self.pace.rest, self.transport.producerState), (None, "producing"))

    def test_within_the_limit(self) -> None:
        """Without a debt there is no rest."""
        self.pace.spend(50)
        self.assertEqual((self.pace.rest, self.transport.producerState), (None, "producing"))

    def test_more_while_resting(self) -> None:
        """What comes during a rest is paid for, and there is one timer."""
        self.pace.spend(100)
        self.pace.spend(100)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.assertAlmostEqual(self.limiter.debt, 0.15)

    def test_stop(self) -> None:
        """A connection that ends while it rests leaves no timer and is not touched again; stopping twice is no harm."""
        self.pace.spend(100)
        self.pace.stop()
        self.pace.stop()
        self.assertEqual((self.pace.rest, self.clock.getDelayedCalls()), (None, []))
        self.assertEqual(self.transport.producerState, "paused")


class WakeUpTests(SynchronousTestCase):
    """A connection with a plain socket, whose reader is woken at 10,000 bytes."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.transport = StringTransport()
        self.ours, other = tcp_pair()
        self.addCleanup(self.ours.close)
        self.addCleanup(other.close)

    def mark(self, left: int, whole: int, *, limiter: TokenBucket | None = None) -> int:
        """How much wakes the reader when so much is missing of a piece."""
        pace = Pace(self.transport, self.ours, self.clock, limiter=limiter, low_water=10_000)
        pace.wait_for(1000, 10_000)
        pace.wait_for(left, whole)
        return self.ours.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT)

    def test_good_part(self) -> None:
        """As much as was said is waited for; of a small piece a sixteenth; and never more than is missing."""
        self.assertEqual(self.mark(1_000_000, 2_000_000), 10_000)
        self.assertEqual(self.mark(15_000, 16_000), 1000)
        self.assertEqual(self.mark(9_999, 2_000_000), 9_999)

    def test_any_byte(self) -> None:
        """Before a piece, behind it, and of a very small one, any byte wakes the reader."""
        for left, whole in ((0, 0), (0, 2_000_000), (10, 15)):
            self.assertEqual(self.mark(left, whole), 1)

    def test_limited(self) -> None:
        """No more is waited for than the limiter allows at once."""
        self.assertEqual(self.mark(1_000_000, 2_000_000, limiter=TokenBucket(100_000, self.clock)), 1000)

    def test_no_socket(self) -> None:
        """A transport that reads as it likes is not told when."""
        Pace(self.transport, None, self.clock, low_water=10_000).wait_for(1_000_000, 2_000_000)
        self.assertEqual(self.ours.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT), 1)
