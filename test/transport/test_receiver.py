"""A receiver lets a piece through only if it is what its metadata say, and tells the sink once how it ended."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Callable

from msgspec.structs import replace
from twisted.internet.error import ConnectionLost
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from dragonfly_vortex.errors import DigestMismatch, PieceRefused, SinkFailed, UnexpectedPiece, VortexError
from dragonfly_vortex.interfaces import IPieceSink
from dragonfly_vortex.model import FilePlace
from dragonfly_vortex.testing.pieces import sample_piece
from dragonfly_vortex.transport.receiver import PieceReceiver
from dragonfly_vortex.transport.sinks import FileSink
from dragonfly_vortex.transport.splice import Splicer
from dragonfly_vortex.wire import PieceMetadata
from test.transport.test_read_pacing import tcp_pair

PIECE = sample_piece(100, number=2)
PARENT = "parent.example:4005"


@implementer(IPieceSink)
class RecordingSink:
    """
    A sink that records its calls, and raises where the test says so.

    :param failing: the name of the method that raises.
    :param error: what it raises.
    """

    def __init__(self, failing: str = "", error: Exception | None = None) -> None:
        self.calls: list[str] = []
        self.content = b""
        self._failing = failing
        self._error = error or OSError("no room")

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name == self._failing:
            raise self._error

    def begin(self, metadata: PieceMetadata) -> None:
        self._call("begin")

    def write(self, data: bytes | memoryview) -> None:
        self._call("write")
        self.content += data

    def finish(self) -> str:
        self._call("finish")
        return "what the sink made of it"

    def fail(self) -> None:
        self._call("fail")


class PieceReceiverTests(SynchronousTestCase):
    """One piece."""

    def receiver(
        self, sink: RecordingSink, metadata: PieceMetadata = PIECE.metadata, *, allow_empty_digest: bool = False
    ) -> PieceReceiver:
        """A receiver for the sample piece."""
        return PieceReceiver(PARENT, PIECE.task_id, metadata, sink, allow_empty_digest=allow_empty_digest)

    def assert_ends(
        self, sink: RecordingSink, calls: list[str], error: type[VortexError], content: bytes = PIECE.content
    ) -> VortexError:
        """A piece that is received ends with this error, and after these calls to its sink."""

        def receive() -> None:
            receiver.begin()
            receiver.write(content)
            receiver.finish()

        receiver = self.receiver(sink)
        raised: VortexError = self.assertRaises(error, receive)
        receiver.fail()
        self.assertEqual(sink.calls, calls)
        self.assertIn(PIECE.piece_id, str(raised))
        self.assertIn(PARENT, str(raised))
        return raised

    def test_passes_on(self) -> None:
        """All bytes go to the sink as they come, and what it makes of them comes back."""
        sink = RecordingSink()
        receiver = self.receiver(sink)
        receiver.begin()
        receiver.write(PIECE.content[:40])
        self.assertEqual((receiver.received, sink.content), (40, PIECE.content[:40]))
        receiver.write(memoryview(PIECE.content)[40:])
        self.assertEqual(receiver.finish(), "what the sink made of it")
        self.assertEqual((receiver.received, sink.content), (100, PIECE.content))
        receiver.fail()
        self.assertEqual(sink.calls, ["begin", "write", "write", "finish"])

    def test_algorithms(self) -> None:
        """The algorithm is the one that the digest names."""
        for algorithm in ("crc32", "sha256", "sha512"):
            piece = sample_piece(100, algorithm=algorithm)
            receiver = self.receiver(RecordingSink(), piece.metadata)
            receiver.begin()
            receiver.write(piece.content)
            receiver.finish()

    def test_wrong_content(self) -> None:
        """Content with another digest is refused with both digests named, and the sink does not finish it."""
        wrong = b"x" + PIECE.content[1:]
        error = self.assert_ends(RecordingSink(), ["begin", "write", "fail"], DigestMismatch, wrong)
        self.assertIn(PIECE.metadata.digest, str(error))
        self.assertEqual(str(error).count("crc32:"), 2)

    def test_digest_is_compared_as_text(self) -> None:
        """A digest with a leading zero is another digest, as it is for the reference."""
        padded = PIECE.metadata.digest.replace(":", ":0")
        receiver = self.receiver(RecordingSink(), replace(PIECE.metadata, digest=padded))
        receiver.begin()
        receiver.write(PIECE.content)
        self.assertRaises(DigestMismatch, receiver.finish)

    def test_unknown_digest(self) -> None:
        """A digest of an unknown kind is refused before the sink begins."""
        for digest in ("md5:0123", "crc32", "crc32:xyz", "sha256:0123"):
            sink = RecordingSink()
            error = self.assertRaises(DigestMismatch, self.receiver(sink, replace(PIECE.metadata, digest=digest)).begin)
            self.assertIn(digest.partition(":")[0], str(error))
            self.assertEqual(sink.calls, [])

    def test_long_digest(self) -> None:
        """A stranger's nonsense is not repeated at length."""
        receiver = self.receiver(RecordingSink(), replace(PIECE.metadata, digest="crc32:" + "x" * 60_000))
        self.assertLess(len(str(self.assertRaises(DigestMismatch, receiver.begin))), 1000)

    def test_empty_digest(self) -> None:
        """A piece without a digest is refused."""
        sink = RecordingSink()
        self.assertRaises(DigestMismatch, self.receiver(sink, replace(PIECE.metadata, digest="")).begin)
        self.assertEqual(sink.calls, [])

    def test_empty_digest_allowed(self) -> None:
        """A piece without a digest is taken as it comes where that is allowed; a wrong digest is refused even then."""
        metadata = replace(PIECE.metadata, digest="")
        receiver = self.receiver(RecordingSink(), metadata, allow_empty_digest=True)
        receiver.begin()
        receiver.write(b"anything")
        self.assertEqual(receiver.finish(), "what the sink made of it")
        receiver = self.receiver(RecordingSink(), allow_empty_digest=True)
        receiver.begin()
        self.assertRaises(DigestMismatch, receiver.finish)

    def test_refusing_sink(self) -> None:
        """A refusal is the parent's fault, and a sink that has not begun is not told of a failure."""
        refusal = PieceRefused("expected offset 7")
        error = self.assert_ends(RecordingSink("begin", refusal), ["begin"], UnexpectedPiece)
        self.assertIn("expected offset 7", str(error))
        self.assertIs(error.__cause__, refusal)

    def test_failing_sink(self) -> None:
        """Whatever a sink raises is this side's failure; the ``fail`` of a sink that has begun is called once."""
        for method, calls in (
            ("begin", ["begin"]),
            ("write", ["begin", "write", "fail"]),
            ("finish", ["begin", "write", "finish", "fail"]),
        ):
            for cause in (OSError("no room"), ValueError("a defect")):
                error = self.assert_ends(RecordingSink(method, cause), calls, SinkFailed)
                self.assertIs(error.__cause__, cause)

    def test_sink_that_cannot_fail(self) -> None:
        """A sink that raises in its ``fail`` is logged, and the failure stays what it was."""
        defect = ValueError("a defect")
        self.assert_ends(RecordingSink("fail", defect), ["begin", "write", "fail"], DigestMismatch, b"x")
        self.assertEqual([failure.value for failure in self.flushLoggedErrors(ValueError)], [defect])

    def test_fails_once(self) -> None:
        """A piece that is given up twice fails once, and one that never began does not."""
        sink = RecordingSink()
        receiver = self.receiver(sink)
        receiver.fail()
        receiver.begin()
        fail: Callable[[], None] = receiver.fail
        fail()
        fail()
        self.assertEqual(sink.calls, ["begin", "fail"])


class FailingFileSink(FileSink):
    """A sink in a file that counts its failures, and may take its place away."""

    failures = 0
    is_revoked = False

    def place(self) -> FilePlace | None:
        if self.is_revoked:
            raise OSError("taken away")
        return super().place()

    def fail(self) -> None:
        self.failures += 1


class TakingTests(SynchronousTestCase):
    """What a receiver takes from a socket itself."""

    def setUp(self) -> None:
        self.ours, self.parent = tcp_pair()
        self.ours.setblocking(False)
        self.addCleanup(self.parent.close)
        self.addCleanup(self.ours.close)
        self.splicer = Splicer()
        self.addCleanup(self.splicer.close)
        self.descriptor = os.open(self.mktemp(), os.O_RDWR | os.O_CREAT)
        self.addCleanup(os.close, self.descriptor)
        self.sink = FailingFileSink(self.descriptor, 3)

    def receiver(
        self, sink: IPieceSink, *, splicer: Splicer | None = None, metadata: PieceMetadata = PIECE.metadata
    ) -> PieceReceiver:
        """A receiver that has begun."""
        receiver = PieceReceiver(PARENT, PIECE.task_id, metadata, sink, allow_empty_digest=True, splicer=splicer)
        receiver.begin()
        return receiver

    def test_takes(self) -> None:
        """Written or taken, in any order, every byte is hashed and at its place."""
        receiver = self.receiver(self.sink, splicer=self.splicer)
        receiver.write(PIECE.content[:10])
        self.parent.sendall(PIECE.content[10:60])
        self.assertEqual(receiver.take(self.ours, 30), 30)
        self.assertEqual(receiver.take(self.ours, 60), 20)
        self.assertEqual(receiver.take(self.ours, 40), 0)
        receiver.write(PIECE.content[60:70])
        self.parent.sendall(PIECE.content[70:])
        self.assertEqual(receiver.take(self.ours, 30), 30)
        self.assertEqual(receiver.received, 100)
        receiver.finish()
        self.assertEqual(os.pread(self.descriptor, 200, 0), b"\0\0\0" + PIECE.content)
        self.assertEqual(self.sink.failures, 0)

    def test_large(self) -> None:
        """A piece of many bytes is taken in as few steps as it comes in."""
        piece = sample_piece(1_000_000)
        receiver = self.receiver(self.sink, splicer=self.splicer, metadata=piece.metadata)
        self.parent.setblocking(False)
        sent = taken = 0
        while taken < len(piece.content):
            with contextlib.suppress(BlockingIOError):
                sent += self.parent.send(piece.content[sent : sent + 200_000])
            taken += receiver.take(self.ours, len(piece.content) - taken)
        receiver.finish()

    def test_wrong_content(self) -> None:
        """What was taken is verified as what was written is."""
        receiver = self.receiver(self.sink, splicer=self.splicer)
        self.parent.sendall(PIECE.content[:-1] + b"x")
        self.assertEqual(receiver.take(self.ours, 100), 100)
        self.assertRaises(DigestMismatch, receiver.finish)
        self.assertEqual(self.sink.failures, 1)

    def test_without_a_digest(self) -> None:
        """A piece that cannot be verified may be taken, too, where such pieces are allowed."""
        receiver = self.receiver(self.sink, splicer=self.splicer, metadata=replace(PIECE.metadata, digest=""))
        self.parent.sendall(PIECE.content)
        self.assertEqual(receiver.take(self.ours, 100), 100)
        receiver.finish()
        self.assertEqual(os.pread(self.descriptor, 200, 3), PIECE.content)

    def test_takes_nothing(self) -> None:
        """Without a splicer, without a file and with one that cannot be read back, all is left to be read."""
        descriptor = os.open(self.mktemp(), os.O_WRONLY | os.O_CREAT)
        self.addCleanup(os.close, descriptor)
        self.parent.sendall(b"abc")
        for sink, splicer in (
            (self.sink, None),
            (RecordingSink(), self.splicer),
            (FileSink(descriptor, 0), self.splicer),
        ):
            self.assertEqual(self.receiver(sink, splicer=splicer).take(self.ours, 3), 0)
        self.assertEqual(self.ours.recv(3), b"abc")

    def test_place_taken_away(self) -> None:
        """A sink whose place has been taken away fails the piece, and nothing is taken."""
        receiver = self.receiver(self.sink, splicer=self.splicer)
        self.parent.sendall(PIECE.content)
        self.sink.is_revoked = True
        self.assertIn("taken away", str(self.assertRaises(SinkFailed, receiver.take, self.ours, 100)))
        self.assertEqual((self.sink.failures, os.fstat(self.descriptor).st_size), (1, 0))
        self.assertEqual(self.ours.recv(100), PIECE.content)

    def test_full(self) -> None:
        """A file that has no room fails the piece once, and the next piece is whole."""
        full = os.open("/dev/full", os.O_RDWR)
        self.addCleanup(os.close, full)
        sink = FailingFileSink(full, 0)
        receiver = self.receiver(sink, splicer=self.splicer)
        self.parent.sendall(PIECE.content)
        self.assertRaises(SinkFailed, receiver.take, self.ours, 100)
        receiver.fail()
        self.assertEqual(sink.failures, 1)
        receiver = self.receiver(self.sink, splicer=self.splicer)
        self.parent.sendall(PIECE.content)
        self.assertEqual(receiver.take(self.ours, 100), 100)
        receiver.finish()

    def test_reset(self) -> None:
        """A failed connection is reported as such; the owner of the connection ends the piece."""
        receiver = self.receiver(self.sink, splicer=self.splicer)
        self.parent.send(PIECE.content[:10])
        self.parent.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.parent.close()
        self.assertRaises(ConnectionLost, receiver.take, self.ours, 100)
        self.assertEqual((receiver.received, self.sink.failures), (10, 0))
