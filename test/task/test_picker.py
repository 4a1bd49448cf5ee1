"""Tests of the choice of pieces and parents that the plan's own tests do not cover."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.task.parent_state import Parent
from dragonfly_vortex.task.timing import Request
from test.task.planning import pieces_of


class PickerTests(SynchronousTestCase):
    """Two parents, and a piece length of ten bytes that one of them has told."""

    def setUp(self) -> None:
        self.a, self.b = Parent(address="a", told_piece_length=10), Parent(address="b")
        parents = {"a": self.a, "b": self.b}
        pieces = pieces_of(parents)
        self.numbers, self.picker = pieces.numbers, pieces.picker
        pieces.layout.piece_length = 10

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

    def test_order(self) -> None:
        """New numbers follow one another; returned ones are taken first, the lowest before the others."""
        self.assertEqual([self.take() for _ in range(4)], [0, 1, 2, 3])
        for number in (2, 0):
            self.put_back(number)
        self.assertEqual([self.take() for _ in range(3)], [0, 2, 4])

    def test_least_to_do(self) -> None:
        """The parent with the fewest requests under way is asked, and of equals the one with the fewest so far."""
        self.a.under_way = 1
        self.assertEqual(self.picker.next(), (self.b, 0))
        self.b.under_way, self.b.asked = 1, 5
        self.assertEqual(self.picker.next(), (self.a, 0))
