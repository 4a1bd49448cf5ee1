"""Tests of a task's layout, and of the parents that vouch for it."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.errors import PieceNotFound
from dragonfly_vortex.model import ByteRange
from dragonfly_vortex.task.layout import Layout, VerifiedPiece, Wanted
from dragonfly_vortex.task.parent_state import Parent, Standing
from dragonfly_vortex.wire import PieceMetadata
from test.task.planning import PlanTestCase, why


class LayoutTests(SynchronousTestCase):
    """Pieces of ten bytes from two parents."""

    def setUp(self) -> None:
        self.parents = {name: Parent(address=name) for name in ("a", "b")}
        self.layout = Layout(self.parents)

    def add(self, number: int, parent: str = "a", length: int = 10) -> None:
        """A piece is verified."""
        self.layout.add(number, VerifiedPiece(parent=parent, length=length))

    def tell(self, parent: str, content_length: int | None, piece_length: int | None) -> None:
        """A parent has told something, and it is believed."""
        self.parents[parent].told_content_length = content_length
        self.parents[parent].told_piece_length = piece_length
        self.layout.set_piece_length(piece_length)

    def against(self, number: int, offset: int, length: int) -> list[tuple[str, set[str] | None]]:
        """What a piece contradicts."""
        metadata = PieceMetadata(number=number, offset=offset, length=length, digest="")
        return [(str(each), each.accusers) for each in self.layout.contradictions(number, metadata)]

    def against_telling(self, content_length: int | None, piece_length: int | None) -> list[set[str] | None]:
        """The parents that vouch for what an announcement contradicts."""
        return [each.accusers for each in self.layout.contradictions_of_telling(content_length, piece_length)]

    def test_pieces(self) -> None:
        """The first piece says the piece length, a shorter one the end."""
        self.add(0)
        self.assertEqual((self.layout.piece_length, self.layout.content_length), (10, None))
        self.add(2, length=3)
        self.assertEqual((self.layout.short, self.layout.content_length), (2, 23))
        self.layout.drop([2])
        self.assertEqual((self.layout.short, self.layout.content_length), (None, None))
        self.assertEqual(self.parents["a"].last, 0)

    def test_told(self) -> None:
        """A parent says it beforehand, and is believed until it has lied."""
        self.tell("a", 25, 10)
        self.assertEqual((self.layout.told_length, self.layout.told_count), (25, 3))
        self.parents["a"].standing = Standing.LIED
        self.layout.hear_told()
        self.assertIsNone(self.layout.told_count)

    def test_told_nothing(self) -> None:
        """A content of no bytes is one piece."""
        self.tell("a", 0, 0)
        self.assertEqual(self.layout.told_count, 1)

    def test_vouchers(self) -> None:
        """The parent that announced the length vouches for it, and so do a full first piece and any later one."""
        self.tell("a", None, 10)
        self.assertEqual(self.layout.vouchers(), {"a"})
        self.add(0, "b", length=4)
        self.assertEqual(self.layout.vouchers(), {"a"})
        self.layout.drop([0])
        self.add(0, "b")
        self.assertEqual(self.layout.vouchers(), {"a", "b"})
        self.layout.drop([0])
        self.parents["a"].told_piece_length = None
        self.assertEqual(self.layout.vouchers(), set())
        self.add(1, "a")
        self.assertEqual(self.layout.vouchers(), {"a"})
        self.parents["a"].standing = Standing.LIED
        self.assertEqual(self.layout.vouchers(), set())

    def test_contradictions(self) -> None:
        """A piece is where the told length has it, and as long."""
        self.tell("a", 25, 10)
        for number, offset, length, reasons in (
            (1, 10, 10, []),
            (2, 20, 5, []),
            (2, 20, 10, ["expected 5 bytes, of 25, got 10"]),
            (1, 10, 9, ["expected 10 bytes, of 25, got 9"]),
            (3, 30, 10, ["expected nothing behind 25 bytes, got piece 3"]),
            (1, 11, 10, ["expected offset 10, 1 x 10, got 11"]),
        ):
            self.assertEqual(self.against(number, offset, length), [(reason, {"a"}) for reason in reasons])

    def test_tellings(self) -> None:
        """An announcement is compared with those of others, and with the pieces that are there."""
        self.tell("a", 25, 10)
        self.assertEqual(self.against_telling(25, 10), [])
        self.assertEqual(self.against_telling(None, 10), [])
        self.assertEqual(self.against_telling(25, 5), [{"a"}])
        self.assertEqual(self.against_telling(26, 10), [{"a"}])
        self.tell("a", None, 10)
        self.add(1, "b")
        self.assertEqual(self.against_telling(25, 10), [])
        self.assertEqual(self.against_telling(20, 10), [])
        self.assertEqual(self.against_telling(15, 10), [{"b"}])
        self.assertEqual(self.against_telling(5, 10), [{"b"}])
        self.add(2, "a", length=4)
        self.assertEqual(self.against_telling(24, 10), [])
        self.assertEqual(self.against_telling(25, 10), [{"a"}])
        self.assertEqual(self.against_telling(34, 10), [{"a"}])


SOURCE = "http://origin/f"


class WantedTests(SynchronousTestCase):
    """The numbers of the pieces of a range."""

    def test_numbers(self) -> None:
        """Of a task of 95 bytes in pieces of ten, each range has the pieces that have a byte of it."""
        wanted = Wanted()
        for span, expected in (
            (ByteRange(start=20, length=10), [2]),
            (ByteRange(start=19, length=2), [1, 2]),
            (ByteRange(start=85), [8, 9]),
            (ByteRange(length=6), [8, 9]),
            (ByteRange(start=0, length=1000), list(range(10))),
            (ByteRange(start=95, length=1), [0]),  # its caller hears with a piece how long the task is
        ):
            wanted.ranges = (span,)
            self.assertEqual(wanted.numbers(95, 10), expected, span)

    def test_several(self) -> None:
        """A piece of two ranges is there once."""
        wanted = Wanted()
        wanted.ranges = ByteRange(start=70, length=15), ByteRange(start=0, length=1), ByteRange(start=80, length=1)
        self.assertEqual(wanted.numbers(95, 10), [0, 7, 8])

    def test_unknown(self) -> None:
        """Without a range, or a length, there are none."""
        wanted = Wanted()
        self.assertIsNone(wanted.numbers(95, 10))
        wanted.ranges = (ByteRange(start=1),)
        self.assertIsNone(wanted.numbers(None, 10))
        self.assertIsNone(wanted.numbers(95, None))


class PlanTests(PlanTestCase):
    """A task of ten pieces of ten bytes."""

    def begin_with(self, *parents: str, at_once: int = 4, source: str = "") -> None:
        """Plan a download from parents that have announced all, of which bytes 50 to 79 are wanted."""
        self.begin(*parents, at_once=at_once, source=source)
        self.wanted.ranges, self.wanted.is_all = (ByteRange(start=50, length=30),), False
        for parent in parents:
            self.plan.announcements.begin(parent)
            self.plan.announcements.learn(parent, 100, 10)
            for number in range(10):
                self.plan.announcements.add(parent, number, number * 10, 10)
            self.plan.announcements.end(parent, True)

    def test_alone(self) -> None:
        """The pieces of the range are asked for, each once, and no others; then nothing is waited for."""
        self.begin_with("a", "b")
        requests = self.ask_all()
        self.assertEqual(self.numbers(requests), [5, 6, 7])
        self.assertEqual({request.parent for request in requests}, {"a", "b"})
        for request in requests:
            self.give(request)
        self.assertEqual(self.ask_all(), [])
        self.wait(1000.0)
        self.assertFalse(self.plan.is_complete)
        self.assertIsNone(self.plan.failure())

    def test_first(self) -> None:
        """Where all is wanted, the range comes first, then what is before it and behind it."""
        self.begin_with("a", at_once=10)
        self.wanted.is_all = True
        self.assertEqual([request.number for request in self.ask_all()], [5, 6, 7, 0, 1, 2, 3, 4, 8, 9])

    def test_changed(self) -> None:
        """All that is missing is asked for once that is wanted, too."""
        self.begin_with("a", at_once=10)
        for request in self.ask_all():
            self.give(request)
        self.wanted.is_all = True
        for request in self.ask_all():
            self.give(request)
        self.assertTrue(self.plan.is_complete)

    def test_source(self) -> None:
        """The source is asked for the range alone, and for what another parent does not give of it."""
        self.begin_with(SOURCE, source=SOURCE)
        self.assertEqual(self.numbers(self.ask_all()), [5, 6, 7])
        self.begin_with("a", SOURCE, source=SOURCE, at_once=1)
        first = self.ask()
        self.assertEqual((first.parent, first.number), ("a", 5))
        self.plan.record_failure(first, why(PieceNotFound, first))
        for expected in (("a", 6), ("a", 7), (SOURCE, 5)):
            request = self.ask()
            self.assertEqual((request.parent, request.number), expected)
            self.give(request)

    def test_different_pieces(self) -> None:
        """Where parents announce different pieces, each is asked for what it has of the range."""
        self.begin("a", "b", at_once=4)
        self.wanted.ranges, self.wanted.is_all = (ByteRange(start=50, length=30),), False
        for parent, numbers in (("a", (0, 1, 6)), ("b", (2, 3, 7))):
            self.plan.announcements.begin(parent)
            self.plan.announcements.learn(parent, 100, 10)
            for number in numbers:
                self.plan.announcements.add(parent, number, number * 10, 10)
        self.assertEqual({(request.parent, request.number) for request in self.ask_all()}, {("a", 6), ("b", 7)})

    def test_what_is_not_wanted_is_not_missed(self) -> None:
        """A piece outside of the range that no parent has does not fail the download; one of the range does."""
        for wanted, fails in ((50, False), (0, True)):
            self.begin("a")
            self.wanted.ranges, self.wanted.is_all = (ByteRange(start=wanted, length=10),), False
            self.plan.announcements.begin("a")
            self.plan.announcements.learn("a", 100, 10)
            self.plan.announcements.add("a", 5, 50, 10)
            self.plan.announcements.end("a", True)
            for request in self.ask_all():
                self.give(request)
            self.assertEqual(self.plan.failure() is not None, fails)

    def test_without_a_layout(self) -> None:
        """A parent that does not say how long the task is is asked in order: it may have no more."""
        self.begin("a", at_once=2)
        self.wanted.ranges, self.wanted.is_all = (ByteRange(start=50, length=30),), False
        first = self.ask()
        self.assertEqual(first.number, 0)
        self.give(first)
        self.assertEqual(self.numbers(self.ask_all()), [1, 2])
