"""One piece over one way: what is heard of it, and when the way is given up."""

from __future__ import annotations

import os

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.downloaders.attempt import FIRST_WORDS, Attempt
from dragonfly_vortex.downloaders.ways import Way
from dragonfly_vortex.errors import ParentUnreachable, PieceNotFound, PieceTimeout
from dragonfly_vortex.interfaces import IFileSink, IPieceSink
from dragonfly_vortex.model import DownloadPieceResponse, FilePlace
from dragonfly_vortex.transport.sinks import FileSink
from test.downloaders.played import PIECE, Asked, Played


class AttemptTests(SynchronousTestCase):
    """A way that is played, at 100 seconds; a piece may take 360."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(100)
        self.played = Played()
        self.way = self.make_way()

    def make_way(self, *, can_be_heard: bool = True) -> Way:
        """A way of which nothing is known."""
        return Way(name="TCP", address="192.0.2.1:4005", downloader=lambda: self.played, can_be_heard=can_be_heard)

    def ask(
        self, sink: IPieceSink | None = None, piece_timeout: float | None = 360.0
    ) -> tuple[Deferred[DownloadPieceResponse], Asked]:
        """Ask for the piece: what comes of it, and what has been asked of the downloader."""
        attempt = Attempt(self.clock, self.way, PIECE.request(sink), piece_timeout)
        return Deferred.fromCoroutine(attempt.result()), self.played.take()

    def assert_silent(self, result: Deferred[DownloadPieceResponse], reason: str) -> None:
        """The way has been given up for its silence."""
        error = self.failureResultOf(result, ParentUnreachable).value
        self.assertIsInstance(error, ParentUnreachable)
        self.assertEqual(str(error), f"piece {PIECE.piece_id} from parent 192.0.2.1:4005: {reason}")
        self.assertEqual((self.played.cancelled, self.clock.getDelayedCalls()), (1, []))

    def test_comes(self) -> None:
        """The piece comes, and nothing is waited for any more; what is heard is remembered of the way."""
        result, asked = self.ask()
        self.clock.advance(1)
        asked.succeed()
        self.assertEqual(self.successResultOf(result).content, PIECE.content)
        self.assertEqual((self.way.heard_at, self.clock.getDelayedCalls()), (101.0, []))

    def test_first_words(self) -> None:
        """A way that has never answered is given up after a few seconds."""
        result, _ = self.ask()
        self.clock.advance(FIRST_WORDS - 0.1)
        self.assertNoResult(result)
        self.clock.advance(0.1)
        self.assert_silent(result, "nothing came for 5 s")

    def test_short_time(self) -> None:
        """Where a piece has little time, silence has a share of that."""
        result, _ = self.ask(piece_timeout=2.0)
        self.clock.advance(0.5)
        self.assert_silent(result, "nothing came for 0.5 s")

    def test_metadata_alone(self) -> None:
        """A parent that has announced a piece's content has said something, though none of it has come."""
        result, asked = self.ask()
        self.clock.advance(FIRST_WORDS - 1)
        asked.sink.begin(PIECE.metadata)
        self.clock.advance(FIRST_WORDS)
        self.assertNoResult(result)
        asked.end()
        self.assertEqual(self.successResultOf(result).content, PIECE.content[500:])

    def test_falls_silent(self) -> None:
        """A way that has worked, and says nothing any more, has a share of the piece's time."""
        result, asked = self.ask()
        asked.begin()
        self.clock.advance(89.9)
        self.assertNoResult(result)
        self.clock.advance(0.1)
        self.assert_silent(result, "nothing came for 90 s")

    def test_another_piece(self) -> None:
        """What is heard of another piece is heard of the way."""
        result, _ = self.ask()
        self.clock.advance(FIRST_WORDS - 1)
        _, other = self.ask()
        other.begin()
        self.clock.advance(89.9)
        self.assertNoResult(result)

    def test_error(self) -> None:
        """An error that the parent tells is something; that nothing has come is not."""
        for kind, heard_at in ((PieceTimeout, None), (ParentUnreachable, None), (PieceNotFound, 100.0)):
            result, asked = self.ask()
            asked.fail(kind, "so it is")
            self.failureResultOf(result, kind)
            self.assertEqual((self.way.heard_at, self.clock.getDelayedCalls()), (heard_at, []))

    def test_last_way(self) -> None:
        """The last way, and one on which nothing can be heard, may be silent."""
        result, _ = self.ask(piece_timeout=None)
        self.way = self.make_way(can_be_heard=False)
        other, _ = self.ask()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(1000)
        self.assertNoResult(result)
        self.assertNoResult(other)

    def test_tried_again(self) -> None:
        """A way that has failed is being tried for as long as the piece is under way, and has few seconds."""
        self.way.heard_at = 50.0
        self.way.failed(0, 60.0, "refused")
        result, _ = self.ask()
        self.assertTrue(self.way.is_tried)
        self.clock.advance(FIRST_WORDS)
        self.assert_silent(result, "nothing came for 5 s")
        self.assertFalse(self.way.is_tried)

    def test_cancelled(self) -> None:
        """A piece that is cancelled by whoever wanted it is no silence, and lets the next one try."""
        self.way.failed(0, 60.0, "refused")
        result, _ = self.ask()
        result.cancel()
        self.failureResultOf(result, CancelledError)
        self.assertEqual((self.way.is_tried, self.clock.getDelayedCalls()), (False, []))

    def test_sink_with_a_file(self) -> None:
        """What is put into a sink's file past the sink is heard, too."""
        descriptor = os.open(self.mktemp(), os.O_RDWR | os.O_CREAT)
        self.addCleanup(os.close, descriptor)
        sink = FileSink(descriptor, 5)
        result, asked = self.ask(sink)
        begun = IFileSink(asked.request.sink)
        begun.begin(PIECE.metadata)
        self.assertEqual(begun.place(), FilePlace(descriptor, 5))
        for _ in range(4):
            self.clock.advance(80)
            begun.wrote(100)
        self.assertEqual((sink.place(), self.played.cancelled), (FilePlace(descriptor, 405), 0))
        asked.result.callback(DownloadPieceResponse(metadata=PIECE.metadata, content=None))
        self.successResultOf(result)

    def test_sink_without_a_file(self) -> None:
        """A sink without a file has no place."""
        _, asked = self.ask()
        self.assertIsNone(IFileSink(asked.request.sink).place())
