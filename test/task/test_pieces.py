"""Tests of which pieces are there, asked for and forgotten, as far as the plan's own tests do not tell."""

from __future__ import annotations

from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.task.layout import VerifiedPiece
from dragonfly_vortex.task.parent_state import STORAGE, Parent
from dragonfly_vortex.task.pieces import Comparison
from dragonfly_vortex.task.timing import Request
from dragonfly_vortex.wire import PieceMetadata
from test.task.planning import pieces_of


class PiecesTests(SynchronousTestCase):
    """Pieces of ten bytes, two parents and a storage."""

    def setUp(self) -> None:
        self.a, self.b = Parent(address="a"), Parent(address="b")
        parents = {"a": self.a, "b": self.b}
        self.pieces = pieces_of(parents, STORAGE)
        self.pieces.layout.set_piece_length(10)

    def add(self, *numbers: int, parent: str = "a", length: int = 10) -> None:
        """Pieces are verified."""
        for number in numbers:
            self.pieces.add(number, VerifiedPiece(parent=parent, length=length))

    def ask(self) -> Request:
        """The next request, which there is."""
        request = self.pieces.ask()
        if request is None:
            raise self.failureException("expected a request, got none")
        return request

    def test_prefix(self) -> None:
        """The prefix ends before the first gap, wherever the pieces come from, and goes back to what is forgotten."""
        self.add(1, parent=STORAGE)
        self.assertEqual((self.pieces.layout.prefix, self.pieces.layout.prefix_length), (0, 0))
        self.add(0, 2, 3)
        self.assertEqual((self.pieces.layout.prefix, self.pieces.layout.prefix_length), (4, 40))
        self.pieces.drop([2, 1])
        self.assertEqual((self.pieces.layout.prefix, self.pieces.layout.prefix_length, self.pieces.drops), (1, 10, 1))
        self.assertEqual((self.pieces.take_dropped(), self.pieces.take_dropped()), ([2, 1], []))
        self.pieces.drop([])
        self.assertEqual(self.pieces.drops, 1)

    def test_replaced(self) -> None:
        """What another piece has replaced in the file, and what is not there any more, is forgotten."""
        self.add(0, 1, 2)
        there = {number: VerifiedPiece(parent="b", length=10, digest="crc32:1") for number in (0, 1, 5)}
        for number in (0, 2):
            self.pieces.layout.verified[number] = VerifiedPiece(parent="a", length=10, digest="crc32:1")
        self.pieces.layout.verified[1] = mine = VerifiedPiece(parent="a", length=10, digest="crc32:2")
        self.pieces.replace(there)
        gone = {(1, mine), (2, replace(mine, digest="crc32:1")), (1, there[1]), (5, there[5])}
        self.assertEqual(self.pieces.removed, gone)
        self.assertEqual((sorted(self.pieces.layout.verified), self.pieces.take_dropped()), ([0], [1, 2, 5]))
        self.assertEqual(self.pieces.layout.verified[0].parent, "b")

    def test_all_there(self) -> None:
        """All are there when those up to the last one are, which is a shorter one."""
        self.add(0, 2)
        self.add(3, length=4)
        self.assertEqual((self.pieces.are_all_there, self.pieces.content_length), (False, 34))
        self.add(1)
        self.assertTrue(self.pieces.are_all_there)

    def test_nobody_has_more(self) -> None:
        """If no parent has more than there is, that is the length; while one may, the length is unknown."""
        self.add(0, 1)
        self.a.lacks.add(2)
        self.assertIsNone(self.pieces.content_length)
        self.pieces.numbers.lack(self.b, 2)
        self.assertEqual((self.pieces.are_all_there, self.pieces.content_length), (True, 20))

    def test_announced_length(self) -> None:
        """A request has the length that its parent has announced itself, for the piece or else for all pieces."""
        self.a.announced[0] = 0, 7
        self.a.told_piece_length = 10
        self.b.told_piece_length = 20
        asked = {(request.parent, request.number): request for request in (self.ask(), self.ask(), self.ask())}
        lengths = {name: request.announced_length for name, request in asked.items()}
        self.assertEqual(lengths, {("a", 0): 7, ("b", 1): 20, ("a", 2): 10})

    def test_beyond_the_last(self) -> None:
        """What lies beyond a piece that turns out to be the last is forgotten."""
        self.add(0, 1, 4, 5)
        self.add(2, length=3)
        self.assertEqual((sorted(self.pieces.layout.verified), self.pieces.take_dropped()), ([0, 1, 2], [4, 5]))

    def test_asked(self) -> None:
        """
        A parent that is asked has one more request under way, until it is settled; then the piece can be requested
        again.
        """
        first, second = self.ask(), self.ask()
        self.assertEqual([(r.parent, r.number) for r in (first, second)], [("a", 0), ("b", 1)])
        self.assertEqual((self.a.asked, self.a.under_way, self.b.asked, self.b.under_way), (1, 1, 1, 1))
        self.assertIs(self.pieces.settle(first), self.a)
        self.assertEqual((self.a.asked, self.a.under_way), (1, 0))
        self.assertEqual(self.ask().number, 0)

    def test_withdrawn(self) -> None:
        """A parent's requests are given up once, and are so until they are settled; the others are not."""
        mine, others, again = self.ask(), self.ask(), self.ask()
        for _ in range(2):
            self.pieces.withdraw(self.a)
        self.assertEqual([r in self.pieces.withdrawn for r in (mine, others, again)], [True, False, True])
        self.assertIs(self.pieces.next_withdrawn(), again)
        self.pieces.settle(mine)
        self.assertIsNone(self.pieces.next_withdrawn())
        self.assertEqual([r in self.pieces.withdrawn for r in (mine, again)], [False, True])

    def test_others(self) -> None:
        """
        A piece that another process fetches is not requested until it is taken back, nor is one that arrived from
        there.
        """
        for _ in range(3):
            request = self.ask()
            self.pieces.settle(request)
            self.pieces.leave_to_others(request.number)
        self.assertEqual(self.ask().number, 3)
        self.add(1, parent=STORAGE)
        self.pieces.take_from_others()
        self.assertEqual([self.ask().number for _ in range(3)], [0, 2, 4])

    def test_start_anew(self) -> None:
        """Started anew, nothing is there, nothing is known, and all that is under way is given up."""
        *requests, busy = [self.ask() for _ in range(4)]
        self.pieces.settle(busy)
        self.pieces.leave_to_others(busy.number)
        self.add(5, 6)
        self.pieces.start_anew()
        self.assertTrue(all(request in self.pieces.withdrawn for request in requests))
        self.assertEqual((self.pieces.layout.verified, self.pieces.layout.piece_length), ({}, None))
        self.assertEqual((self.pieces.take_dropped(), self.pieces.numbers.busy), ([5, 6], set()))
        self.assertIsNone(self.pieces.ask())
        for request in requests:
            self.pieces.settle(request)
        self.assertEqual(self.ask().number, 0)


def described(number: int, digest: str = "crc32:1", *, length: int = 10, offset: int | None = None) -> PieceMetadata:
    """A piece of ten bytes as its parent describes it."""
    at = number * 10 if offset is None else offset
    return PieceMetadata(number=number, offset=at, length=length, digest=digest)


class ComparisonTests(SynchronousTestCase):
    """Pieces of two parents, and one of them alone."""

    def begin(self, *there: tuple[str, PieceMetadata], by_digest: bool = True) -> None:
        """Compare these pieces with what parent a gives."""
        a = Parent(address="a")
        self.pieces = pieces_of({"a": a}, "b")
        pieces = {metadata.number: VerifiedPiece.of(parent, metadata) for parent, metadata in there}
        self.comparison = Comparison("a", self.pieces, pieces, by_digest=by_digest)

    def ask(self) -> Request:
        """The next request, which there is."""
        request = self.pieces.ask(compared=self.comparison.there)
        if request is None:
            raise self.failureException("expected a request, got none")
        return request

    def test_equal(self) -> None:
        """A piece of another parent that is described in the same way stays, and is not counted as this parent's."""
        self.begin(("b", described(0)))
        request = self.ask()
        self.assertTrue(request.is_comparison)
        self.pieces.settle(request)
        self.comparison.compare(described(0))
        self.assertEqual((self.pieces.layout.verified[0].parent, self.comparison.confirmed), ("b", {0}))
        self.assertEqual((self.comparison.there, self.pieces.take_dropped()), ({}, []))

    def test_different(self) -> None:
        """One with another digest or length, or without a digest, is dropped, and fetched next."""
        for there, told in (
            (described(0), described(0, "crc32:2")),
            (described(0), described(0, length=9)),
            (described(0, ""), described(0, "")),
        ):
            self.begin(("b", there))
            self.pieces.settle(self.ask())
            self.comparison.compare(told)
            self.assertEqual(self.pieces.take_dropped(), [0])
            self.assertEqual(self.pieces.removed, {(0, VerifiedPiece.of("b", there))})
            request = self.ask()
            self.assertEqual(request.number, 0)
            self.assertFalse(request.is_comparison)

    def test_own(self) -> None:
        """What the parent itself has sent before is kept as soon as the piece length is known."""
        self.begin(("a", described(1)), ("b", described(0)))
        self.pieces.settle(self.ask())
        self.comparison.compare(described(0))
        self.comparison.place()
        self.assertEqual((set(self.pieces.layout.verified), self.comparison.confirmed), ({0, 1}, {0}))

    def test_all_own(self) -> None:
        """If that includes the first piece, nothing has to come first."""
        self.begin(("a", described(0)), ("b", described(1)), ("a", described(2)))
        self.assertEqual(set(self.pieces.layout.verified), {0, 2})

    def test_own_contradiction(self) -> None:
        """It is not kept where the parent now says that there is no such piece."""
        self.begin(("a", described(0, length=4)), ("a", described(1)))
        self.assertEqual((set(self.pieces.layout.verified), set(self.comparison.there)), ({0}, set()))

    def test_other_layout(self) -> None:
        """Pieces that lie elsewhere by the parent's piece length are dropped."""
        self.begin(("b", described(0)), ("b", described(1)), ("b", described(2, length=4)))
        self.pieces.layout.set_piece_length(7)
        self.comparison.place()
        self.assertEqual(sorted(self.pieces.take_dropped()), [0, 1, 2])
        self.assertEqual(self.comparison.there, {})

    def test_not_by_digest(self) -> None:
        """If digests are not believed, a piece of another parent is dropped as soon as this one is found to have it."""
        self.begin(("a", described(0)), ("b", described(1)), ("b", described(2)), by_digest=False)
        self.pieces.settle(self.ask())
        self.comparison.compare(described(1))
        self.assertEqual((self.pieces.take_dropped(), set(self.pieces.layout.verified)), ([1], {0}))
        self.assertEqual(set(self.comparison.there), {2})
