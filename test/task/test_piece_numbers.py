"""Tests of the numbers of pieces, free, under way and lost, that the plan's own tests do not cover."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.task.layout import VerifiedPiece
from dragonfly_vortex.task.parent_state import Parent, Standing
from dragonfly_vortex.task.timing import Request
from test.task.planning import pieces_of


class PieceNumbersTests(SynchronousTestCase):
    """Two parents, and a piece length of ten bytes that one of them has told."""

    def setUp(self) -> None:
        self.a, self.b = Parent(address="a", told_piece_length=10), Parent(address="b")
        parents = {"a": self.a, "b": self.b}
        pieces = pieces_of(parents)
        self.layout, self.numbers, self.picker = pieces.layout, pieces.numbers, pieces.picker
        self.layout.set_piece_length(10)

    def take(self) -> int:
        """Take the next number, for any parent."""
        chosen = self.picker.next()
        if chosen is None:
            raise self.failureException("expected a number, got none")
        parent, number = chosen
        self.numbers.take(Request(parent=parent.address, number=number, round=parent.round))
        return number

    def put_back(self, number: int) -> None:
        """A request comes to nothing."""
        del self.numbers.under_way[number]
        self.numbers.put_back(number)

    def test_free(self) -> None:
        """A number is free unless it is verified, under way or busy."""
        self.layout.add(0, VerifiedPiece(parent="a", length=10))
        self.numbers.busy.add(1)
        self.assertEqual(self.take(), 2)
        self.assertEqual([self.numbers.is_free(number) for number in range(4)], [False, False, False, True])

    def test_orphans(self) -> None:
        """A returned number that no parent has is lost once it is needed; a parent that gets it is asked."""
        for parent in (self.a, self.b):
            parent.is_open, parent.is_announcing = False, True
            parent.announced[0] = 0, 10
            self.numbers.offer(parent, 0)
        self.take()
        self.layout.add(4, VerifiedPiece(parent="a", length=10))
        self.a.standing = self.b.standing = Standing.OUT
        self.picker.next()
        self.put_back(0)
        self.numbers.find_orphans({0, 7})
        self.assertEqual(self.numbers.lost(), 0)
        self.b.standing = Standing.GOOD
        self.numbers.offer(self.b, 0)
        self.assertEqual((self.numbers.lost(), self.picker.next()), (None, (self.b, 0)))

    def test_start_anew(self) -> None:
        """Started anew, the first number is the next."""
        self.assertEqual([self.take() for _ in range(3)], [0, 1, 2])
        self.put_back(1)
        self.numbers.under_way.clear()
        self.numbers.start_anew()
        self.assertEqual(([self.take() for _ in range(2)], self.numbers.returned), ([0, 1], set()))

    def test_offers(self) -> None:
        """A parent is asked again for the lowest number first, and only for what it may have and is free."""
        self.a.lacks = {2}
        self.assertEqual([self.take() for _ in range(10)], [*range(10)])
        for number in (5, 2, 3, 9):
            self.put_back(number)
        for lowest in (3, 5, 9):
            self.assertEqual(self.numbers.lowest_offer(self.a), lowest)
            self.numbers.busy.add(lowest)
        self.assertIsNone(self.numbers.lowest_offer(self.a))
        self.numbers.busy.clear()
        self.a.announced[1] = 10, 10
        self.layout.add(3, VerifiedPiece(parent="b", length=10))
        self.numbers.offer_anew(self.a)
        self.assertEqual(self.numbers.lowest_offer(self.a), 5)
