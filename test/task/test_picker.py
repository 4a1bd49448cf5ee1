"""Tests of the choice of pieces and parents that the plan's own tests do not cover."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.task.layout import VerifiedPiece
from dragonfly_vortex.task.parent_state import Parent
from dragonfly_vortex.task.timing import Request
from test.task.planning import pieces_of


class PickerTests(SynchronousTestCase):
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

    def test_order(self) -> None:
        """New numbers follow one another; returned ones are taken first, the lowest before the others."""
        self.assertEqual([self.take() for _ in range(4)], [0, 1, 2, 3])
        for number in (2, 0):
            self.put_back(number)
        self.assertEqual([self.take() for _ in range(3)], [0, 2, 4])

    def test_cautious(self) -> None:
        """
        Where a parent logs what it lacks, one piece is asked for behind those that are promised, and none behind a
        shorter one or "not found"; what a parent has announced is asked for.
        """
        self.numbers.is_cautious = True
        self.assertEqual(self.take(), 0)
        self.assertIsNone(self.picker.next())
        for number in (0, 1, 2):
            self.numbers.promised(number, 10)
        self.assertEqual([self.take() for _ in range(3)], [1, 2, 3])
        self.assertIsNone(self.picker.next())
        self.numbers.promised(3, 4)
        self.assertIsNone(self.picker.next())
        self.b.announced[4] = 40, 10
        self.assertEqual(self.picker.next(), (self.b, 4))

    def test_cautious_resumed(self) -> None:
        """What is there already counts as promised, up to the first gap; with an end all pieces before it do."""
        self.numbers.is_cautious = True
        for number in (0, 1, 5):
            self.layout.add(number, VerifiedPiece(parent="a", length=10))
        self.assertEqual(self.take(), 2)
        self.assertIsNone(self.picker.next())
        self.b.told_content_length = 100
        self.layout.hear_told()
        self.assertEqual([self.take() for _ in range(3)], [3, 4, 6])

    def test_least_to_do(self) -> None:
        """The parent with the fewest requests under way is asked, and of equals the one with the fewest so far."""
        self.a.under_way = 1
        self.assertEqual(self.picker.next(), (self.b, 0))
        self.b.under_way, self.b.asked = 1, 5
        self.assertEqual(self.picker.next(), (self.a, 0))
