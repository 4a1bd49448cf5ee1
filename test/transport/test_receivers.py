"""A receiver lets a piece through only if it is what its metadata say, and tells the sink once how it ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from dragonfly_vortex.errors import DigestMismatch, PieceRefused, SinkFailed, UnexpectedPiece, VortexError
from dragonfly_vortex.interfaces import IPieceSink
from dragonfly_vortex.testing.pieces import sample_piece
from dragonfly_vortex.transport.receivers import PieceReceiver
from dragonfly_vortex.wire import PieceMetadata

PIECE = sample_piece(100, number=2)
PARENT = "parent.example:4005"


@implementer(IPieceSink)
class RecordingSink:
    """
    A sink that writes down what it is told, and raises where it is told to.

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
        return PieceReceiver(PARENT, PIECE.piece_id, metadata, sink, allow_empty_digest=allow_empty_digest)

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
        """A digest that nobody can compute is refused before the sink begins."""
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
        """Whatever a sink raises is this side's failure; a sink that has begun is told of it once."""
        for method, calls in (
            ("begin", ["begin"]),
            ("write", ["begin", "write", "fail"]),
            ("finish", ["begin", "write", "finish", "fail"]),
        ):
            for cause in (OSError("no room"), ValueError("a defect")):
                error = self.assert_ends(RecordingSink(method, cause), calls, SinkFailed)
                self.assertIs(error.__cause__, cause)

    def test_sink_that_cannot_fail(self) -> None:
        """A sink that raises when it is told of a failure is logged, and the failure stays what it was."""
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
