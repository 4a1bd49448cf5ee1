"""Pieces share the memory that there is for them, in the order in which they came."""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.rpc.budget import Budget, Place


class BudgetTests(SynchronousTestCase):
    """A budget of 100 bytes."""

    def setUp(self) -> None:
        self.budget = Budget(100)
        self.entered: list[str] = []

    def enter(self, name: str, length: int) -> Place:
        """Ask for bytes."""
        return self.budget.enter(length, self.note(name))

    def note(self, name: str) -> Callable[[], None]:
        """What notes that somebody has entered."""
        return lambda: self.entered.append(name)

    def test_room(self) -> None:
        """Who finds room enters at once, up to the last byte."""
        self.enter("a", 60)
        self.enter("b", 40)
        self.assertEqual((self.entered, self.budget.taken), (["a", "b"], 100))

    def test_waiting(self) -> None:
        """Who finds none waits until enough has been given back."""
        first, second = self.enter("a", 60), self.enter("b", 30)
        self.enter("c", 50)
        second.leave()
        self.assertEqual(self.entered, ["a", "b"])
        first.leave()
        self.assertEqual((self.entered, self.budget.taken), (["a", "b", "c"], 50))

    def test_order(self) -> None:
        """A short piece does not overtake a long one."""
        first = self.enter("a", 60)
        self.enter("long", 90)
        self.enter("short", 1)
        self.assertEqual(self.entered, ["a"])
        first.leave()
        self.assertEqual(self.entered, ["a", "long", "short"])

    def test_longer_than_all(self) -> None:
        """What is longer than the budget enters when it is alone."""
        first = self.enter("a", 1)
        huge = self.enter("huge", 1000)
        self.assertEqual(self.entered, ["a"])
        first.leave()
        self.assertEqual(self.entered, ["a", "huge"])
        huge.leave()
        self.assertEqual(self.budget.taken, 0)

    def test_giving_up(self) -> None:
        """Who gives up waiting is forgotten, and those behind him come up."""
        self.enter("a", 60)
        waiting = self.enter("b", 90)
        self.enter("c", 40)
        waiting.leave()
        self.assertEqual(self.entered, ["a", "c"])

    def test_leaving_twice(self) -> None:
        """Bytes are given back once."""
        place = self.enter("a", 60)
        self.enter("b", 10)
        place.leave()
        place.leave()
        self.assertEqual(self.budget.taken, 10)
