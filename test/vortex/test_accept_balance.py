"""Tests of whose turn it is, among processes that share a socket."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.vortex.accept_balance import Turns, shared_counts


class TurnTests(SynchronousTestCase):
    """Three processes, as each of them sees all."""

    def setUp(self) -> None:
        counts = shared_counts(3)
        self.one, self.two, self.three = (Turns(counts, number) for number in (1, 2, 3))
        os.close(counts)
        for each in (self.one, self.two, self.three):
            self.addCleanup(each.close)

    def whose(self) -> list[bool]:
        """Whether it is each one's turn."""
        return [each.mine for each in (self.one, self.two, self.three)]

    def test_fewest(self) -> None:
        """It is the turn of those that have the fewest."""
        for each, connections in ((self.one, 3), (self.two, 2), (self.three, 2)):
            each.tell(connections)
        self.assertEqual(self.whose(), [False, True, True])
        self.two.tell(70_000)
        self.assertEqual(self.whose(), [False, False, True])

    def test_takes_none(self) -> None:
        """No process waits for one that has not started yet, is full or has ended."""
        self.two.tell(5)
        self.assertEqual(self.whose(), [False, True, False])
        self.one.tell(0)
        self.assertEqual(self.whose(), [True, False, False])
        self.one.take_none()
        self.assertEqual(self.whose(), [False, True, False])
        self.assertEqual(self.three.counts, (None, 5, None))
