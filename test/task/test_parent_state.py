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


class TransitionTests(SynchronousTestCase):
    """What a parent does, and what is thought of it then."""

    def setUp(self) -> None:
        self.parent = Parent(address="a")

    def test_fails(self) -> None:
        """It is in doubt after a failure and out after the next; failures of one round count once; an answer clears."""
        self.parent.fail(1, self.parent.round)
        self.parent.fail(2, 0)
        self.assertIs(self.parent.standing, Standing.DOUBTED)
        self.parent.answer()
        self.assertIs(self.parent.standing, Standing.GOOD)
        for _ in range(2):
            self.parent.fail(1, self.parent.round)
        self.assertEqual((self.parent.standing, self.parent.has_failed_at(1)), (Standing.OUT, True))

    def test_rests(self) -> None:
        """After a pause it is in doubt, and may be asked for what it failed to give; its pauses are counted."""
        self.parent.failures[1] = 2
        self.parent.give_up()
        for count in (1, 2):
            self.parent.rest(100.0, 1.0)
            self.parent.rest(100.0, 4.0)
            self.assertEqual((self.parent.retry_at, self.parent.backoffs), (101.0, count))
            self.parent.recover()
        self.assertEqual((self.parent.standing, self.parent.may_have(1)), (Standing.DOUBTED, True))

    def test_lies(self) -> None:
        """What it lacks is forgotten; it is believed again when no accuser is left, once."""
        for is_acquitted in (True, False):
            self.parent.lacks.add(3)
            self.parent.lie_about("expected one thing, got another", {"b", "c"})
            self.assertEqual((self.parent.standing, self.parent.lacks), (Standing.LIED, set()))
            self.assertFalse(self.parent.lose_accuser("b"))
            self.assertEqual((self.parent.lose_accuser("c"), self.parent.is_honest), (is_acquitted, is_acquitted))

    def test_caught(self) -> None:
        """A lie that needs no accuser stands whatever other parents did."""
        self.parent.lie_about("expected one thing, got another", None)
        self.assertEqual((self.parent.is_caught, self.parent.lose_accuser("b")), (True, False))

    def test_widens(self) -> None:
        """It is asked for half as many when a piece is late, for one more when one is early, and then without limit."""
        self.parent.under_way = 3
        self.assertTrue(self.parent.narrow(100.0, 10.0))
        self.assertEqual(self.parent.most, 2)
        self.parent.widen(4)
        self.assertEqual(self.parent.most, 3)
        self.parent.widen(4)
        self.assertIsNone(self.parent.most)

    def test_looks_again(self) -> None:
        """What it lacked is forgotten, and one that can say what it has is to be asked that first."""
        self.parent.lacks.add(1)
        self.assertEqual((self.parent.look_again(), self.parent.may_have(1)), (False, True))
        self.parent.begin_announcing()
        self.parent.end_announcing(is_open=False)
        self.assertEqual((self.parent.look_again(), self.parent.is_announcing), (True, True))
