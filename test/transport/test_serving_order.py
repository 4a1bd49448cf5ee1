"""Tests of the order in which replies are sent, on a clock."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.transport.serving_order import LONGEST_PAUSE, MAX_PASSED, ServingOrder, Turn

STEP = 10


class ServingOrderTests(SynchronousTestCase):
    """Replies that can be sent at any time, ten bytes in a step, a step in a second."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.order = ServingOrder(self.clock.seconds)
        self.steps: list[Hashable] = []  # the piece of each

    def ask(self, *pieces: Hashable, left: int = 3 * STEP) -> list[Turn]:
        """Ask for some pieces."""
        turns = [self.order.enter(piece, left) for piece in pieces]
        for turn in turns:
            self.order.wait(turn)
        return turns

    def serve(self, steps: int = 10**6, seconds: float = 0.0) -> list[Hashable]:
        """Send as many steps, or all; the pieces in the order in which they became complete."""
        complete = []
        while steps and (turn := self.order.next()) is not None:
            steps -= 1
            self.steps.append(turn.piece)
            self.clock.advance(seconds)
            turn.left -= min(STEP, turn.left)
            if turn.left:
                self.order.wait(turn)
            else:
                self.order.leave(turn, is_whole=True)
                complete.append(turn.piece)
        return complete

    def assert_one_by_one(self, pieces: Iterable[Hashable]) -> None:
        """Each piece has had all of its steps before the next had one."""
        self.assertEqual(self.steps, [piece for piece in pieces for _ in range(3)])

    def test_nothing_waits(self) -> None:
        """Where no reply waits there is no next one."""
        self.assertIsNone(self.order.next())
        turn = self.order.enter("a", STEP)
        self.assertIsNone(self.order.next())
        self.order.wait(turn)
        self.assertEqual(len(self.order), 1)
        self.assertIs(self.order.next(), turn)
        self.assertEqual(len(self.order), 0)

    def test_in_the_order_of_asking(self) -> None:
        """Replies are sent one after the other, in the order in which they were asked for."""
        self.ask(*"abcd")
        self.assertEqual(self.serve(), [*"abcd"])
        self.assert_one_by_one("abcd")

    def test_connections_take_turns(self) -> None:
        """What a connection asks for next stands behind what others have asked for."""
        self.ask(*"ab")
        self.serve(3)
        self.ask("c")
        self.ask("d")
        self.serve()
        self.assert_one_by_one("abcd")

    def test_first_copies(self) -> None:
        """A first copy of each piece is sent before the second of any, and a second before a third."""
        self.ask(*"aabacb")
        self.assertEqual(self.serve(), [*"abcaba"])
        self.ask(*"cd")
        self.assertEqual(self.serve(), [*"dc"])

    def test_copy_that_was_sent_at_once(self) -> None:
        """A reply that never had to wait is a copy as well."""
        self.order.sent("a")
        self.ask(*"ab")
        self.assertEqual(self.serve(), [*"ba"])

    def test_copy_that_did_not_leave(self) -> None:
        """A reply that was broken off is no copy, whether it was begun or not."""
        (turn,) = self.ask("a")
        self.serve(1)
        self.order.leave(turn, is_whole=False)
        (turn,) = self.ask("a")
        self.order.leave(turn, is_whole=False)
        self.assertEqual(len(self.order), 0)
        self.ask(*"ab")
        self.assertEqual(self.serve(), [*"ab"])

    def test_begun_elsewhere(self) -> None:
        """A reply of which a part has been sent before it had to wait goes on first."""
        self.ask("a")
        self.order.wait(self.order.enter("b", 3 * STEP, is_begun=True))
        self.assertEqual(self.serve(), [*"ba"])
        self.ask(*"bc")
        self.assertEqual(self.serve(), [*"cb"])

    def test_passed_over(self) -> None:
        """A second copy is passed over by a bounded number of replies that were asked for later."""
        self.order.sent("a")
        self.ask("a")
        self.ask(*range(2 * MAX_PASSED))
        self.assertEqual(self.serve().index("a"), MAX_PASSED)

    def test_much_shorter(self) -> None:
        """A short piece passes a long one, and takes half of the steps at the most."""
        self.ask("long", left=1000 * STEP)
        self.serve(2)
        self.ask("short")
        self.serve(6)
        self.assertEqual(sorted(self.steps[2:]), ["long"] * 3 + ["short"] * 3)

    def test_short_ones_do_not_keep_out_others(self) -> None:
        """However many short pieces are asked for, the long one has half of the steps."""
        self.ask("long", left=1000 * STEP)
        self.serve(2)
        self.ask(*range(100))
        self.serve(98)
        self.assertEqual(self.steps.count("long"), 2 + 49)

    def test_a_little_shorter(self) -> None:
        """A piece that is a little shorter waits for its turn."""
        self.ask("long", left=5 * STEP)
        self.ask("other")
        self.assertEqual(self.serve(), ["long", "other"])

    def test_child_that_takes_nothing(self) -> None:
        """While the child of the first reply takes nothing, the next reply has its steps; then the first goes on."""
        first, *_ = self.ask(*"ab")
        self.assertIs(self.order.next(), first)
        self.serve(1)
        self.order.wait(first)
        self.serve()
        self.assertEqual(self.steps, [*"baaabb"])

    def test_long_wait(self) -> None:
        """A reply that has waited for long gets a step now and then, and keeps its place in the order."""
        self.ask("first", left=100 * STEP)
        self.ask("second", left=100 * STEP)
        self.serve(40, seconds=LONGEST_PAUSE / 10)
        between = [step for step, piece in enumerate(self.steps, 1) if piece == "second"]
        self.assertEqual(between, [15, 25, 35])
        self.ask("third", left=100 * STEP)
        self.serve(1)
        self.assertEqual(self.steps[-1], "first")

    def test_long_waits_of_many(self) -> None:
        """However many replies have waited for long, the first in the order has four of five steps."""
        self.ask("first", left=1000 * STEP)
        self.ask(*range(100), left=1000 * STEP)
        self.clock.advance(LONGEST_PAUSE)
        self.serve(100)
        self.assertEqual(self.steps.count("first"), 80)
        self.assertEqual(len(set(self.steps)), 21)

    def test_memory_of_what_has_left(self) -> None:
        """Replies that have been sent are not kept, however long others wait."""
        for piece in range(1000):
            self.ask(piece, left=STEP * (2 + piece % 3))
            self.serve(2)
        while len(self.order) > 5:
            self.serve(1)
        self.ask("another")
        self.assertLess(len(self.order._shortest), 100)

    def test_memory(self) -> None:
        """Of a bounded number of pieces it is remembered that they have left."""
        for piece in range(20_000):
            self.order.sent(piece)
        self.assertLess(len(self.order._copies), 10_000)
        self.ask(19_999, 0)
        self.assertEqual(self.serve(), [0, 19_999])
