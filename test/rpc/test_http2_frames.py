"""The count of frames in the bytes of a connection."""

from __future__ import annotations

from h2.exceptions import ProtocolError
from hyperframe.frame import ContinuationFrame, DataFrame, HeadersFrame, PingFrame
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.rpc.http2_frames import FrameCount

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
