"""How long questions may be, and a budget that calls wait for."""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.rpc.inquiry import MAX_PIECES
from dragonfly_vortex.rpc.limits import MAX_NUMBERS, MAX_PLAIN_REQUEST, MAX_REQUEST, Budget, Place, owner_of
from dragonfly_vortex.rpc.methods import METHODS


class LimitTests(SynchronousTestCase):
    """A child's questions are not too long for a parent."""

    def test_numbers(self) -> None:
        """The longest question that a child asks fits, with IDs that are as long as a plain question may be."""
        numbers = range(MAX_PIECES - MAX_NUMBERS, MAX_PIECES)
        for row in METHODS.values():
            request = row.sync_request(**{"task_id": "x" * MAX_PLAIN_REQUEST, row.interested: numbers})
            self.assertLess(request.ByteSize(), MAX_REQUEST)


class BudgetTests(SynchronousTestCase):
    """A budget of 100 bytes."""

    def setUp(self) -> None:
        self.budget = Budget(100)
        self.entered: list[str] = []

    def enter(self, name: str, length: int) -> Place:
        """Ask for bytes."""
        return self.budget.enter(length, self.note(name))

    def note(self, name: str) -> Callable[[], None]:
        """Records that an owner has entered."""
        return lambda: self.entered.append(name)

    def test_room(self) -> None:
        """A call that finds room enters at once, up to the last byte."""
        self.enter("a", 60)
        self.enter("b", 40)
        self.assertEqual((self.entered, self.budget.taken), (["a", "b"], 100))

    def test_waiting(self) -> None:
        """A call that finds none waits until enough has been given back."""
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
        """A call that gives up waiting is forgotten, and those behind it move up."""
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


class FairTests(SynchronousTestCase):
    """A fair budget of 100 bytes."""

    def setUp(self) -> None:
        self.budget = Budget(100, fair=True)
        self.entered: list[str] = []

    def enter(self, owner: str, length: int) -> Place:
        """Ask for bytes."""
        return self.budget.enter(length, lambda: self.entered.append(owner), owner)

    def test_one_owner_leaves_room_for_others(self) -> None:
        """An owner that has its share waits, and is overtaken by owners that have not."""
        first = self.enter("a", 30)
        self.enter("a", 30)
        self.enter("b", 35)
        self.assertEqual((self.entered, self.budget.taken), (["a", "b"], 65))
        first.leave()
        self.assertEqual((self.entered, self.budget.taken), (["a", "b", "a"], 65))

    def test_each_owner_leaves_half(self) -> None:
        """Owners that keep what they have, each as much as it can get, leave room for one more."""
        for owner in "abcde":
            for _ in range(100):
                self.enter(owner, 1)
        self.enter("f", 1)
        self.assertEqual([self.entered.count(owner) for owner in "abcdef"], [50, 25, 12, 6, 3, 1])

    def test_room_still_counts(self) -> None:
        """A share does not make room: a third owner waits, and no call behind it passes."""
        for owner in ("a", "b"):
            self.enter(owner, 45)
        third = self.enter("c", 20)
        self.enter("d", 5)
        self.assertEqual(self.entered, ["a", "b"])
        third.leave()
        self.assertEqual(self.entered, ["a", "b", "d"])

    def test_a_piece_longer_than_a_share(self) -> None:
        """It enters when its owner has nothing else."""
        first = self.enter("a", 10)
        self.enter("a", 80)
        self.assertEqual(self.entered, ["a"])
        first.leave()
        self.assertEqual((self.entered, self.budget.taken), (["a", "a"], 80))

    def test_left_by_a_with_statement(self) -> None:
        """The end of a block gives a place back."""
        with self.enter("a", 50):
            self.assertEqual(self.budget.taken, 50)
        self.assertEqual(self.budget.taken, 0)


class OwnerTests(SynchronousTestCase):
    """Whose the bytes of a call are."""

    def test_address(self) -> None:
        """However many connections an address, or a network of IPv6, has, it is one owner."""
        for one, other, is_same in (
            ("ipv4:192.0.2.1:1", "ipv4:192.0.2.1:2", True),
            ("ipv4:192.0.2.1:1", "ipv6:[::ffff:192.0.2.1]:2", True),
            ("ipv6:[2001:db8::1]:1", "ipv6:[2001:db8::2]:2", True),
            ("ipv6:[2001:db8::1]:1", "ipv6:[2001:db8:0:1::1]:1", False),
            ("ipv4:192.0.2.1:1", "ipv4:192.0.2.2:1", False),
            ("ipv4:127.0.0.1:1", "ipv4:127.0.0.1:2", False),
            ("unix:1", "unix:2", False),
        ):
            self.assertEqual(owner_of(one) == owner_of(other), is_same, (one, other))
