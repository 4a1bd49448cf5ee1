"""Those who wait for an end hear of it when it has come, once, and not before."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.deferreds import Ending


class EndingTests(SynchronousTestCase):
    """An end that comes when nothing is left of what the test has under way."""

    def setUp(self) -> None:
        self.left = ["a thread"]
        self.ending = Ending(lambda: not self.left)

    def test_nothing_left(self) -> None:
        """Where nothing is left there is nothing to wait for."""
        self.left.clear()
        self.successResultOf(self.ending.wait())
        self.assertFalse(self.ending.is_awaited)

    def test_something_left(self) -> None:
        """All who wait are told when the last has ended, and when somebody looks, not before."""
        self.assertFalse(self.ending.is_awaited)
        waiting = [self.ending.wait(), self.ending.wait()]
        self.ending.look()
        for each in waiting:
            self.assertNoResult(each)
        self.assertTrue(self.ending.is_awaited)
        self.left.clear()
        self.ending.look()
        for each in waiting:
            self.successResultOf(each)
        self.assertFalse(self.ending.is_awaited)

    def test_comes_again(self) -> None:
        """Where something has begun anew there is another end; whoever has been told is not told of it."""
        first = self.ending.wait()
        self.left.clear()
        self.ending.look()
        self.left.append("another thread")
        second = self.ending.wait()
        self.successResultOf(first)
        self.assertNoResult(second)

    def test_told_once(self) -> None:
        """Whoever looks again while all are told tells nobody twice."""
        told: list[str] = []

        def hear(_: None, name: str) -> None:
            told.append(name)
            self.ending.look()

        for name in ("first", "second"):
            self.ending.wait().addCallback(hear, name)
        self.left.clear()
        self.ending.look()
        self.assertEqual(told, ["first", "second"])
