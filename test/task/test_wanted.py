"""Ranges that are wanted first, or alone: which pieces are asked for."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.errors import PieceNotFound
from dragonfly_vortex.model import ByteRange
from dragonfly_vortex.task.wanted import Wanted
from test.task.planning import PlanTestCase, why

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
            self.plan.announcing_began(parent)
            self.plan.learn_layout(parent, 100, 10)
            for number in range(10):
                self.plan.announce(parent, number, number * 10, 10)
            self.plan.announcing_ended(parent, True)

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
            self.plan.announcing_began(parent)
            self.plan.learn_layout(parent, 100, 10)
            for number in numbers:
                self.plan.announce(parent, number, number * 10, 10)
        self.assertEqual({(request.parent, request.number) for request in self.ask_all()}, {("a", 6), ("b", 7)})

    def test_what_is_not_wanted_is_not_missed(self) -> None:
        """A piece outside of the range that no parent has does not fail the download; one of the range does."""
        for wanted, fails in ((50, False), (0, True)):
            self.begin("a")
            self.wanted.ranges, self.wanted.is_all = (ByteRange(start=wanted, length=10),), False
            self.plan.announcing_began("a")
            self.plan.learn_layout("a", 100, 10)
            self.plan.announce("a", 5, 50, 10)
            self.plan.announcing_ended("a", True)
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
