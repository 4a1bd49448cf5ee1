"""The count of frames in the bytes of a connection."""

from __future__ import annotations

from h2.exceptions import ProtocolError
from hyperframe.frame import ContinuationFrame, DataFrame, HeadersFrame, PingFrame
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.rpc.http2_frames import FrameAllowance, FrameCount

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class CountTests(SynchronousTestCase):
    """Frames are counted by their beginnings, however their bytes come."""

    def test_pieces(self) -> None:
        """The number is the same for every cut of the bytes."""
        frames = [PingFrame(0, opaque_data=b"12345678"), DataFrame(1, data=b""), DataFrame(1, data=bytes(100))]
        data = PREFACE + b"".join(frame.serialize() for frame in 3 * frames)
        for step in (1, 5, 9, 64, len(data)):
            count = FrameCount(100)
            for start in range(0, len(data), step):
                count.add(data[start : start + step])
            self.assertEqual(count.frames, 9)

    def test_headers(self) -> None:
        """The headers of each call have a limit, continuations included."""
        count = FrameCount(100)
        count.add(PREFACE)
        for number in (1, 3):
            count.add(HeadersFrame(number, data=bytes(60)).serialize())
            count.add(ContinuationFrame(number, data=bytes(40)).serialize())
        self.assertRaises(ProtocolError, count.add, ContinuationFrame(3, data=b"x").serialize())


class AllowanceTests(SynchronousTestCase):
    """A child may send some frames that no call needs."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.frames = FrameAllowance(self.clock, 100)
        self.frames.add(PREFACE)

    def are_too_many(self, count: int) -> bool:
        """Send so many frames without content at once."""
        self.frames.add(count * DataFrame(1, data=b"").serialize())
        return self.frames.are_too_many(0)

    def test_too_many(self) -> None:
        """Five thousand are allowed in ten seconds, and as many in the next ten."""
        self.assertFalse(self.are_too_many(5000))
        self.assertTrue(self.are_too_many(1))
        self.clock.advance(11)
        self.assertFalse(self.are_too_many(5000))

    def test_needed(self) -> None:
        """Bytes that are sent and calls that are answered allow more."""
        self.frames.add_sent(10 * 1024)
        self.frames.add_answered()
        self.assertFalse(self.are_too_many(5018))
        self.assertTrue(self.are_too_many(1))
