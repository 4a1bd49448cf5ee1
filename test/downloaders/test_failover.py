"""What is remembered of the ways to a parent, and when a way that is silent is given up. No piece is fetched here."""

from __future__ import annotations

import os

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.downloaders.failover import FIRST_WORDS, REST, Attempt, KnownParent, Way
from dragonfly_vortex.errors import ParentUnreachable, PieceNotFound, PieceTimeout
from dragonfly_vortex.interfaces import IFileSink, IPieceSink
from dragonfly_vortex.model import DownloadPieceResponse, FilePlace
from dragonfly_vortex.transport.sinks import FileSink
from test.downloaders.played import PIECE, Asked, Played

_PARENT = "192.0.2.1:4000"


def way(name: str, address: str) -> Way:
    """A way of which nothing is known."""
    return Way(name=name, address=address, downloader=Played, can_be_heard=True)


class WayTests(SynchronousTestCase):
    """One way, at 100 seconds."""

    def setUp(self) -> None:
        self.way = way("TCP", "192.0.2.1:4005")

    def test_rests(self) -> None:
        """A way that has failed rests for a while, and works before that."""
        self.assertFalse(self.way.is_resting(100.0))
        self.assertTrue(self.way.failed(0, 100.0, "refused"))
        self.assertTrue(self.way.is_resting(100.0 + REST - 0.1))
        self.assertFalse(self.way.is_resting(100.0 + REST))

    def test_one_at_a_time(self) -> None:
        """While a piece tries it again, it rests for all others."""
        self.way.failed(0, 100.0, "refused")
        self.way.is_tried = True
        self.assertTrue(self.way.is_resting(100.0 + REST))

    def test_old_news(self) -> None:
        """The failure of a piece that was asked for before a change says nothing about the way as it is now."""
        self.way.failed(0, 100.0, "refused")
        self.assertFalse(self.way.failed(0, 120.0, "reset"))
        self.assertEqual((self.way.failed_at, self.way.why), (100.0, "refused"))
        self.assertTrue(self.way.failed(1, 140.0, "reset"))
        self.assertEqual((self.way.failed_at, self.way.why), (140.0, "reset"))


class KnownParentTests(SynchronousTestCase):
    """A parent with two ways."""

    def setUp(self) -> None:
        self.tcp, self.grpc = way("TCP", "192.0.2.1:4005"), way("gRPC", _PARENT)
        self.parent = KnownParent(address=_PARENT)
        self.parent.offer([self.tcp, self.grpc])

    def answered(self, way: Way) -> str | None:
        """The way answers what has been asked on it now."""
        return self.parent.answered(way, way.round)

    def fall_back(self) -> None:
        """TCP has failed after it had answered, and gRPC answers."""
        self.answered(self.tcp)
        self.tcp.failed(0, 100.0, "refused")
        self.answered(self.grpc)

    def test_order(self) -> None:
        """The ways are tried in their order, those that rest last; while all rest they are in their order again."""
        self.assertEqual(self.parent.in_order(100.0), [self.tcp, self.grpc])
        self.tcp.failed(0, 100.0, "refused")
        self.assertEqual(self.parent.in_order(100.0), [self.grpc, self.tcp])
        self.grpc.failed(0, 100.0, "gone")
        self.assertEqual(self.parent.in_order(100.0), [self.tcp, self.grpc])

    def test_best(self) -> None:
        """The best way is the first that works."""
        self.assertIs(self.parent.best, self.tcp)
        self.tcp.failed(0, 100.0, "refused")
        self.assertIs(self.parent.best, self.grpc)
        self.grpc.failed(0, 100.0, "gone")
        self.assertIsNone(self.parent.best)

    def test_first_answer(self) -> None:
        """That the best way answers is nothing to speak of, the first time and the next."""
        self.assertEqual((self.answered(self.tcp), self.answered(self.tcp)), (None, None))
        self.assertIs(self.parent.in_use, self.tcp)

    def test_another_way(self) -> None:
        """That another way has to be used is said once, and why."""
        self.tcp.failed(0, 100.0, "refused")
        line = f"parent {_PARENT}: TCP port 4005 does not answer (refused), using gRPC"
        self.assertEqual((self.answered(self.grpc), self.answered(self.grpc)), (line, None))

    def test_another_host(self) -> None:
        """The whole address of a way that leads to another host is said."""
        for parent, address, named in (
            ("grpc://192.0.2.1:4000", "192.0.2.9:4005", "TCP at 192.0.2.9:4005"),
            ("grpcs://parent.example:4000", "tls://parent.example:4005", "TCP port 4005"),
            ("grpc://[2001:db8::1]:4000", "[2001:db8::1]:4005", "TCP port 4005"),
        ):
            tcp, grpc = way("TCP", address), way("gRPC", parent)
            known = KnownParent(address=parent)
            known.offer([tcp, grpc])
            tcp.failed(0, 100.0, "refused")
            line = f"parent {parent}: {named} does not answer (refused), using gRPC"
            self.assertEqual(known.answered(grpc, 0), line)

    def test_the_other_way_round(self) -> None:
        """A way without a port of its own fails by its name."""
        self.fall_back()
        self.grpc.failed(0, 110.0, "gone")
        self.assertEqual(self.answered(self.tcp), f"parent {_PARENT}: gRPC does not answer (gone), using TCP")

    def test_answers_again(self) -> None:
        """A way that answers again works again, which is said once."""
        self.fall_back()
        line = f"parent {_PARENT}: TCP answers again, using TCP"
        self.assertEqual((self.answered(self.tcp), self.answered(self.tcp)), (line, None))
        self.assertIs(self.parent.best, self.tcp)

    def test_back_together(self) -> None:
        """A parent that has answered on neither, and comes back by its best way, is nothing to speak of."""
        self.tcp.failed(0, 100.0, "refused")
        self.grpc.failed(0, 100.0, "gone")
        self.assertIsNone(self.answered(self.tcp))

    def test_old_answer(self) -> None:
        """An answer to what was asked before the way failed does not make it work again."""
        self.fall_back()
        self.assertIsNone(self.parent.answered(self.tcp, 0))
        self.assertEqual((self.parent.best, self.parent.in_use), (self.grpc, self.grpc))

    def test_the_same_again(self) -> None:
        """What is offered again, at the same address, is remembered."""
        self.fall_back()
        self.parent.offer([way("TCP", "192.0.2.1:4005"), way("gRPC", _PARENT)])
        self.assertEqual((self.parent.ways, self.parent.in_use), ((self.tcp, self.grpc), self.grpc))

    def test_another_address(self) -> None:
        """Of another address nothing is known, and what is used next is nothing to speak of."""
        self.fall_back()
        moved = way("TCP", "192.0.2.1:4007")
        self.parent.offer([moved, way("gRPC", _PARENT)])
        self.assertEqual((self.parent.ways, self.parent.in_use), ((moved, self.grpc), None))
        self.assertIsNone(self.answered(moved))


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
        """The metadata of a piece count as an answer, before any of its content arrives."""
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
        """An error packet counts as an answer; silence does not."""
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
        """A piece that its caller cancels is no silence, and lets the next one try."""
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
