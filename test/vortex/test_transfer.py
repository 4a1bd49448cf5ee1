"""A piece on its way ends once, with the first reason that there is; what each reason means for it is said here."""

from __future__ import annotations

from msgspec.structs import replace
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.errors import (
    DigestMismatch,
    ParentFailed,
    ParentSpokeWrongly,
    ParentUnreachable,
    PieceError,
    PieceNotFound,
    PieceTruncated,
    RemoteProtocolError,
    SinkFailed,
    UnexpectedPiece,
)
from dragonfly_vortex.model import DownloadPieceResponse
from dragonfly_vortex.testing.pieces import SamplePiece, sample_piece
from dragonfly_vortex.vortex.transfer import Transfer
from dragonfly_vortex.wire import ContentFinished, ContentReceived, ErrorCode, ErrorReply, PieceContent
from test.vortex.sinks import CountingSink, FullSink

_PARENT = "parent.example:4005"
_PIECE = sample_piece(40, number=3)
_BEGUN = PieceContent(packet_id=0, kind=_PIECE.kind, metadata=_PIECE.metadata)


class _TransferTests(SynchronousTestCase):
    """A piece that has been asked for, and a parent that is played by the test."""

    def setUp(self) -> None:
        self.ask()

    def ask(self, piece: SamplePiece = _PIECE, sink: CountingSink | None = None, *, trusting: bool = False) -> None:
        """Ask for a piece, and forget the one before."""
        self.sink = sink or CountingSink()
        self.result: Deferred[DownloadPieceResponse] = Deferred()
        self.transfer = Transfer(_PARENT, piece.request(self.sink), self.result, allow_empty_digest=trusting)

    def receive(self, data: bytes) -> None:
        """Some content comes."""
        self.transfer.follow(ContentReceived(data))

    def refuse(self, code: int, text: str) -> PieceError:
        """The parent refuses; what that means for the piece."""
        self.transfer.follow(ErrorReply(packet_id=0, code=code, text=text))
        return self.told(PieceError)

    def told(self, kind: type[PieceError]) -> PieceError:
        """The resulting error, which names parent and piece."""
        self.assertNoResult(self.result)
        self.transfer.tell()
        error = self.failureResultOf(self.result, kind).value
        if not isinstance(error, PieceError):
            raise self.failureException(f"expected an error of the piece, got {error!r}")
        self.assertEqual((error.parent, error.piece_id), (_PARENT, _PIECE.piece_id))
        return error


class FollowTests(_TransferTests):
    """What the parent says about the piece."""

    def test_complete(self) -> None:
        """A piece is complete with its last byte; its content is what the sink made of it."""
        self.transfer.follow(_BEGUN)
        self.receive(_PIECE.content[:30])
        self.receive(_PIECE.content[30:])
        self.assertIsNone(self.transfer.outcome)
        self.transfer.follow(ContentFinished())
        self.transfer.tell()
        response = self.successResultOf(self.result)
        self.assertEqual((response.metadata, response.content), (_PIECE.metadata, _PIECE.content))
        self.assertEqual(self.sink.failures, 0)

    def test_into_memory(self) -> None:
        """Where no sink is given, the content is kept in memory."""
        result: Deferred[DownloadPieceResponse] = Deferred()
        transfer = Transfer(_PARENT, _PIECE.request(), result)
        for event in (_BEGUN, ContentReceived(_PIECE.content), ContentFinished()):
            transfer.follow(event)
        transfer.tell()
        self.assertEqual(self.successResultOf(result).content, _PIECE.content)

    def test_progress(self) -> None:
        """The progress of a piece is known from the moment when its metadata arrive."""
        self.assertEqual(self.transfer.progress, "no reply")
        self.transfer.follow(_BEGUN)
        self.assertEqual(self.transfer.progress, "0 of 40 bytes")
        self.receive(_PIECE.content[:30])
        self.assertEqual(self.transfer.progress, "30 of 40 bytes")

    def test_wrong_number(self) -> None:
        """Another piece's number is refused, and the sink hears nothing of it."""
        self.ask(_PIECE, FullSink())
        other = replace(_BEGUN, metadata=replace(_PIECE.metadata, number=4))
        error = self.assertRaises(UnexpectedPiece, self.transfer.follow, other)
        self.assertEqual(error.reason, "expected piece number 3, got 4")
        self.transfer.fail(error)
        self.assertEqual((self.told(UnexpectedPiece), self.sink.failures), (error, 0))

    def test_no_digest(self) -> None:
        """A piece without a digest is refused, and taken where that is allowed."""
        bare = replace(_BEGUN, metadata=replace(_PIECE.metadata, digest=""))
        self.assertRaises(DigestMismatch, self.transfer.follow, bare)
        self.ask(trusting=True)
        for event in (bare, ContentReceived(_PIECE.content), ContentFinished()):
            self.transfer.follow(event)
        self.assertIsInstance(self.transfer.outcome, DownloadPieceResponse)

    def test_not_found(self) -> None:
        """A parent that has not got the piece says so in its own words."""
        error = self.refuse(ErrorCode.NOT_FOUND, "gone")
        self.assertIsInstance(error, PieceNotFound)
        self.assertEqual(error.reason, "expected the piece, got error 2: gone")

    def test_other_errors(self) -> None:
        """Any other error, a reserved one too, is the parent's failure, with its code."""
        for code in (0, 1, 3, 4, 255):
            self.ask()
            error = self.refuse(code, "so it is")
            self.assertIsInstance(error, ParentFailed)
            self.assertEqual(getattr(error, "code", None), code)
            self.assertIn("so it is", error.reason)

    def test_text_of_an_error(self) -> None:
        """A parent's words stay on one line, carry no control characters and are not repeated at length."""
        reason = self.refuse(ErrorCode.NOT_FOUND, "a\nb\x1b[2Jc" + "d" * 60_000).reason
        self.assertIn("a b [2Jcd", reason)
        self.assertTrue(reason.isprintable())
        self.assertLess(len(reason), 300)


class EndTests(_TransferTests):
    """What else it may end with."""

    def test_spoke_wrongly(self) -> None:
        """A parent that sends what is not allowed has broken the protocol, whatever came before; the cause is kept."""
        for begun in (False, True):
            self.ask()
            if begun:
                self.transfer.follow(_BEGUN)
            wrong = RemoteProtocolError("expected a reply, got nonsense")
            self.transfer.fail(wrong)
            error = self.told(ParentSpokeWrongly)
            self.assertEqual((error.reason, error.__cause__), ("expected a reply, got nonsense", wrong))
            self.assertEqual(self.sink.failures, int(begun))

    def test_no_reply(self) -> None:
        """
        A connection that ends before a reply: a piece that may be requested again; the error says whether it was
        closed.
        """
        for reason, how in ((ConnectionDone(), "closed"), (ConnectionLost(), "lost")):
            self.ask()
            self.transfer.fail(reason)
            error = self.told(ParentUnreachable)
            self.assertNotIsInstance(error, PieceTruncated)
            self.assertEqual((error.reason, error.__cause__), (f"{how} before a reply", reason))

    def test_truncated(self) -> None:
        """If a connection ends inside the content, the error says how much arrived, and the sink fails."""
        for reason, how in ((ConnectionDone(), "closed"), (ConnectionLost(), "lost")):
            self.ask()
            self.transfer.follow(_BEGUN)
            self.receive(_PIECE.content[:30])
            self.transfer.fail(reason)
            self.assertEqual(self.sink.failures, 1)
            error = self.told(PieceTruncated)
            self.assertEqual((error.reason, error.__cause__), (f"{how} after 30 of 40 bytes", reason))

    def test_under_tls(self) -> None:
        """The error of TLS is reported instead."""
        self.transfer.fail(SSL.Error([("SSL routines", "", "tlsv1 alert unknown ca")]))
        self.assertRegex(self.told(ParentUnreachable).reason, "^TLS: the other side does not trust")

    def test_full(self) -> None:
        """A sink's failure stays what it is, and the sink's ``fail`` is called once."""
        self.ask(_PIECE, FullSink())
        self.transfer.follow(_BEGUN)
        error = self.assertRaises(SinkFailed, self.receive, _PIECE.content)
        self.transfer.fail(error)
        self.transfer.tell()
        self.assertIs(self.failureResultOf(self.result, SinkFailed).value, error)
        self.assertEqual(self.sink.failures, 1)

    def test_first_reason(self) -> None:
        """What comes after the end changes nothing: a piece that is complete does not fail by what follows."""
        for event in (_BEGUN, ContentReceived(_PIECE.content), ContentFinished()):
            self.transfer.follow(event)
        self.transfer.fail(ConnectionLost())
        self.transfer.tell()
        self.assertEqual(self.successResultOf(self.result).content, _PIECE.content)
        self.ask()
        self.refuse(ErrorCode.NOT_FOUND, "gone")
        self.transfer.fail(ConnectionDone())
        self.assertIsInstance(self.transfer.outcome, PieceNotFound)

    def test_given_up(self) -> None:
        """A cancelled piece calls its sink's ``fail`` once, and nothing else."""
        self.transfer.give_up()
        self.assertEqual(self.sink.failures, 0)
        self.transfer.follow(_BEGUN)
        self.transfer.give_up()
        self.transfer.give_up()
        self.assertEqual(self.sink.failures, 1)
        self.assertIsNone(self.transfer.outcome)
