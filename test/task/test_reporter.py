"""Tests of the events that a download reports."""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.errors import NoParentLeft, ParentRefused, ParentUnreachable, PieceTimeout
from dragonfly_vortex.events import (
    DigestMismatched,
    DownloadedTask,
    DownloadEvent,
    DownloadFailed,
    DownloadFinished,
    LayoutFound,
    ParentAdded,
    ParentDropped,
    ParentShare,
    PieceKept,
    PiecesDropped,
    Waiting,
    WaitReason,
)
from dragonfly_vortex.task.layout import VerifiedPiece
from dragonfly_vortex.task.reporter import share_of
from test.task.downloading import CONTENT, DownloadTestCase
from test.task.parents import PlayedParent


class EventTests(DownloadTestCase):
    """What a listener is given, in which order."""

    def of(self, *types: type) -> list[DownloadEvent]:
        """The events of some types, in order."""
        return [event for event in self.events if isinstance(event, types)]

    def test_course(self) -> None:
        """A download reports its parents, the layout as it becomes known, each piece with its parent, and its end."""
        self.play(a=PlayedParent(content=CONTENT[:250], piece_length=100))
        done = self.assert_complete(self.download(CONTENT[:250]), CONTENT[:250])
        self.assertEqual(
            [type(event) for event in self.events],
            [ParentAdded, LayoutFound, PieceKept, PieceKept, LayoutFound, PieceKept, DownloadFinished],
        )
        self.assertEqual(self.events[0], ParentAdded(parent="a"))
        self.assertEqual(
            self.of(LayoutFound),
            [LayoutFound(content_length=None, piece_length=100), LayoutFound(content_length=250, piece_length=100)],
        )
        last = self.kept[-1]
        self.assertEqual((last.number, last.offset, last.length, last.parent), (2, 200, 50, "a"))
        self.assertTrue(last.digest.startswith("crc32:"))
        self.assertEqual(self.events[-1], DownloadFinished(task=done))
        self.assertIsInstance(done, DownloadedTask)

    def test_seconds(self) -> None:
        """A piece has the time from its request to its end."""
        self.play(a=PlayedParent(content=CONTENT[:100], piece_length=100), is_held=True)
        self.download(CONTENT[:100])
        self.clock.advance(0.25)
        self.downloader.give(self.downloader.asked[0])
        self.assertEqual(self.kept[0].seconds, 0.25)

    def test_rests(self) -> None:
        """A parent that failed and will be asked again is dropped for a pause; one that cannot be asked is not."""
        late = PlayedParent(content=CONTENT, piece_length=100, faults=[PieceTimeout])
        self.play(a=late, b=PlayedParent(content=CONTENT, piece_length=100, faults=[ParentRefused]))
        self.download(retry=60.0)
        reason = "expected a piece, got a fault"
        dropped = [ParentDropped(parent=name, reason=reason, has_failed=True, rests=name == "a") for name in "ab"]
        self.assertEqual(self.of(ParentDropped), dropped)

    def test_failed(self) -> None:
        """The last event of a failure says why; a parent that cannot be asked is dropped with its reason."""
        self.play(a=PlayedParent(content=CONTENT, piece_length=100, faults=[ParentRefused]))
        self.assert_failed(self.download(), NoParentLeft)
        self.assertEqual(
            self.of(ParentDropped), [ParentDropped(parent="a", reason="expected a piece, got a fault", has_failed=True)]
        )
        [last] = self.of(DownloadFailed)
        self.assertIs(last, self.events[-1])
        self.assertIn("NoParentLeft", str(last))
        self.assertIn("expected a piece, got a fault", str(last))

    def test_cancelled(self) -> None:
        """So does that of a download that is cancelled."""
        self.play(a=PlayedParent(content=CONTENT, piece_length=100), is_held=True)
        started = self.download()
        started.cancel()
        self.assert_failed(started, CancelledError)
        self.assertEqual(self.events[-1], DownloadFailed(error="CancelledError", reason=""))

    def test_cancelled_when_a_piece_begins(self) -> None:
        """Nothing is done after the end, though the next piece is asked for soon where a parent logs what it lacks."""
        self.play(a=PlayedParent(content=CONTENT, piece_length=100, repeats_id=False), is_held=True)
        started = self.download()
        self.downloader.give(self.downloader.asked[0])
        self.downloader.begin(self.downloader.waiting[0])
        started.cancel()
        self.assert_failed(started, CancelledError)

    def test_listener_removes_and_cancels(self) -> None:
        """A listener may remove a parent, which is reported to it at once, and cancel then."""
        wrong, right = bytes(reversed(CONTENT)), CONTENT
        self.play(
            is_held=True,
            a=PlayedParent(content=wrong[:500] + right[500:], piece_length=500),
            b=PlayedParent(content=right, piece_length=500),
            c=PlayedParent(content=right, piece_length=500),
        )

        def hear(event: DownloadEvent) -> None:
            self.events.append(event)
            if isinstance(event, DigestMismatched):
                self.task.remove_parent("c")
                started.cancel()

        self.on_event = hear
        started = self.download()
        while self.downloader.waiting and not any(isinstance(event, DigestMismatched) for event in self.events):
            self.downloader.give(self.downloader.waiting[0])
        self.assertIn(DigestMismatched, map(type, self.events))
        self.clock.advance(0)
        self.assert_failed(started, CancelledError)

    def test_last_event_of_a_failing_listener(self) -> None:
        """A listener that fails over the last event does not change the result."""
        self.play(a=PlayedParent(content=CONTENT, piece_length=100))

        def hear(event: DownloadEvent) -> None:
            if isinstance(event, DownloadFinished):
                raise ZeroDivisionError("the listener's own fault")

        self.on_event = hear
        self.assert_complete(self.download())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_liar(self) -> None:
        """A parent that has lied is dropped, with what was wrong."""
        self.play(
            a=PlayedParent(content=CONTENT, piece_length=100, spoils=set(range(10))),
            b=PlayedParent(content=CONTENT, piece_length=100),
        )
        self.assert_complete(self.download())
        [dropped] = self.of(ParentDropped)
        self.assertEqual(getattr(dropped, "has_lied", None), True)
        self.assertIn("expected crc32:", str(dropped))

    def test_comes_back(self) -> None:
        """A parent that failed and is asked again is added again; the wait is reported once, with its reason."""
        parent = PlayedParent(content=CONTENT, piece_length=100)
        parent.faults = [None, None, None, *[ParentUnreachable] * 5]
        self.play(a=parent)
        started = self.download(retry=30.0)
        for _ in range(40):
            self.clock.advance(0.5)
        self.assert_complete(started)
        changes = [type(event) for event in self.of(ParentAdded, ParentDropped)]
        self.assertEqual(changes[:3], [ParentAdded, ParentDropped, ParentAdded])
        [waiting] = [event for event in self.events if isinstance(event, Waiting)]
        self.assertEqual((waiting.reason, waiting.parent), (WaitReason.FAILED_PARENT, "a"))

    def test_changed_parents(self) -> None:
        """Parents that the user adds and removes are reported."""
        self.play(a=PlayedParent(content=CONTENT, piece_length=100), is_held=True)
        started = self.download()
        self.task.add_parent("b")
        self.task.remove_parent("b")
        self.assertEqual(
            self.of(ParentAdded, ParentDropped),
            [ParentAdded(parent="a"), ParentAdded(parent="b"), ParentDropped(parent="b", reason="removed")],
        )
        started.cancel()
        self.failureResultOf(started, CancelledError)

    def test_pieces_of_a_liar(self) -> None:
        """Pieces that are wrong as a whole are dropped, and do not count any more; each is reported again."""
        wrong = bytes(reversed(CONTENT))
        self.play(a=PlayedParent(content=wrong, piece_length=100), b=PlayedParent(content=CONTENT, piece_length=100))
        self.assert_complete(self.download())
        self.assertEqual((self.kept[-1].kept_pieces, self.kept[-1].kept_bytes), (10, 1000))
        there: dict[int, str] = {}
        for event in self.events:
            if isinstance(event, PieceKept):
                there[event.number] = event.digest
            elif isinstance(event, PiecesDropped):
                for number in event.numbers:
                    del there[number]
                self.assertEqual(event.kept_pieces, len(there))
        self.assertEqual(sorted(there), list(range(10)))
        self.assertTrue(any(isinstance(event, ParentDropped) for event in self.events))


class ShareTests(SynchronousTestCase):
    """What each parent has given."""

    def test_share(self) -> None:
        """Only its own pieces count; a parent that has sent nothing has a share of nothing."""
        pieces = [VerifiedPiece(parent=name, length=length) for name, length in (("a", 3), ("b", 5), ("a", 2))]
        self.assertEqual(share_of("a", pieces), ParentShare(parent="a", piece_count=2, content_length=5))
        self.assertEqual(share_of("c", pieces), ParentShare(parent="c", piece_count=0, content_length=0))
