"""Tests of what is known of a parent."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.task.parent_state import Parent, Standing


class ParentTests(SynchronousTestCase):
    """What a parent may be asked for."""

    def test_standing(self) -> None:
        """A parent is asked while it is good or in doubt, and believed unless it has lied."""
        for standing, alive, honest in (
            (Standing.GOOD, True, True),
            (Standing.DOUBTED, True, True),
            (Standing.OUT, False, True),
            (Standing.LIED, False, False),
        ):
            parent = Parent(address="a", standing=standing)
            self.assertEqual((parent.is_alive, parent.is_honest), (alive, honest))
            self.assertEqual((parent.may_have(0), parent.may_come_to_have(0)), (alive, alive))

    def test_not_again(self) -> None:
        """It is not asked for what it said it lacks, nor for what it failed to give twice."""
        parent = Parent(address="a", lacks={1})
        parent.failures[2] = 1
        parent.failures[3] = 2
        self.assertEqual([parent.may_have(number) for number in range(4)], [True, False, True, False])
        self.assertEqual([parent.may_come_to_have(number) for number in range(4)], [True, False, True, False])

    def test_announcing(self) -> None:
        """One that announces may have what it has announced, and may come to have the rest until it has ended."""
        parent = Parent(address="a", is_open=False, is_announcing=True, announced={1: (10, 10)})
        self.assertEqual([parent.may_have(number) for number in range(3)], [False, True, False])
        self.assertEqual([parent.may_come_to_have(number) for number in range(3)], [True, True, True])
        self.assertFalse(parent.denies(0))
        parent.is_announcing = False
        self.assertEqual([parent.may_come_to_have(number) for number in range(3)], [False, True, False])
        self.assertEqual([parent.denies(number) for number in range(3)], [True, False, True])
        parent.is_open = True
        self.assertFalse(parent.denies(0))

    def test_offers(self) -> None:
        """Offers come lowest first, and only of what it may have."""
        parent = Parent(address="a", lacks={2})
        for number in (5, 2, 3, 9):
            parent.offer(number)
        lowest = []
        while (number := parent.lowest_offer() or 0) != 0:
            lowest.append(number)
            parent.take_offer()
        self.assertEqual(lowest, [3, 5, 9])
        parent.offer(7)
        parent.offer_anew({4, 1})
        self.assertEqual(parent.lowest_offer(), 1)
