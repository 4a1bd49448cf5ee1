"""Tests of the choice of pieces and parents where parents announce different pieces: through the plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Any

from dragonfly_vortex.task.scheduler import Plan
from dragonfly_vortex.task.swarm import WINDOW, Swarm, window
from dragonfly_vortex.task.timing import Request
from test.task.planning import TASK_ID, PlanTestCase, piece


class SwarmTestCase(PlanTestCase):
    """A plan whose parents announce what they have, of a task of many pieces of ten bytes."""

    def join(
        self, chance: int = 0, count: int = 200, *, is_in_order: bool = False, **announced: list[int] | range
    ) -> None:
        """Plan a download from these parents."""
        self.plan = Plan(TASK_ID, list(announced), 8, jitter=Random(chance).random, is_in_order=is_in_order)
        self.now = 100.0
        self.plan.advance(self.now)
        for parent, numbers in announced.items():
            self.plan.announcements.begin(parent)
            self.plan.announcements.learn(parent, count * 10, 10)
            self.announce(parent, *numbers)

    def announce(self, parent: str, *numbers: int) -> None:
        """A parent has pieces."""
        for number in numbers:
            self.plan.announcements.add(parent, number, number * 10, 10)

    def asked_of(self, parent: str) -> list[Request]:
        """The requests to a parent that are under way."""
        return [
            request
            for requests in self.plan.numbers.under_way.values()
            for request in requests
            if request.parent == parent
        ]

    def hear(self, request: Request, seconds: float = 0.0) -> None:
        """A parent begins to answer a request, after some seconds."""
        self.wait(seconds)
        self.plan.judge(request, piece(request.number))

    def serve(self, request: Request, begins: float, ends: float) -> None:
        """A parent answers a request: it begins after some seconds, and takes some more for the rest."""
        self.hear(request, begins)
        self.wait(ends)
        self.give(request)


class Looks(dict[Any, Any]):
    """A table that counts how many of its values, or how often its keys, are looked at."""

    count = 0

    def values(self) -> Iterator[Any]:  # type: ignore[override]
        for value in super().values():
            self.count += 1
            yield value

    def __contains__(self, key: object) -> bool:
        self.count += 1
        return super().__contains__(key)


class WhichPieceTests(SwarmTestCase):
    """Which piece is asked for."""

    def test_rarest(self) -> None:
        """The piece that fewest parents have comes first."""
        self.join(a=range(10), b=[n for n in range(10) if n != 7], c=[n for n in range(10) if n != 7])
        self.assertIsNone(self.plan.pieces.swarm.rarest_parents)
        first = self.ask()
        self.assertEqual((first.number, self.plan.pieces.swarm.rarest_parents), (7, 1))
        self.assertEqual(first.parent, "a")

    def test_parents_that_are_left(self) -> None:
        """A parent that is asked no more does not count: what it had is rarer from then on."""
        self.join(a=range(10), b=[n for n in range(10) if n != 7], c=[7], d=[7])
        self.assertNotEqual(self.ask().number, 7)
        self.plan.remove_parent("c")
        self.plan.remove_parent("d")
        self.assertEqual((self.ask().number, self.plan.pieces.swarm.rarest_parents), (7, 1))

    def test_at_random(self) -> None:
        """Among equally rare pieces chance decides, which is given to the plan."""
        first = set()
        for chance in range(20):
            self.join(chance, a=range(100), b=[])
            first.add(self.ask().number)
        self.assertGreater(len(first), 10)
        self.join(5, a=range(100), b=[])
        again = self.ask().number
        self.join(5, a=range(100), b=[])
        self.assertEqual(self.ask().number, again)

    def test_looks(self) -> None:
        """For a piece to be a candidate it takes one parent; only for the one that is chosen all are looked at."""
        self.join(0, 200, is_in_order=False, **{f"p{number}": range(200) for number in range(16)})
        tables = []
        for parent in self.plan.parents.values():
            parent.announced = Looks(parent.announced)
            tables.append(parent.announced)
        self.assertIsNotNone(self.plan.next_request())
        self.assertLess(sum(table.count for table in tables), 300)  # two for each candidate, and for each parent

    def test_looks_at_parents(self) -> None:
        """Whether parents have different pieces is known with the first that has less."""
        self.join(0, 200, is_in_order=False, **{f"p{number}": range(200 - number % 2) for number in range(16)})
        looks = Looks(self.plan.parents)
        swarm = Swarm(looks, self.plan.layout, self.plan.timing, Random().random)
        self.assertTrue(swarm.is_on)
        self.assertEqual(looks.count, 2)

    def test_window(self) -> None:
        """Only pieces behind the first gap are chosen, so that the hash of the whole can follow."""
        for chance in range(50):
            self.join(chance, a=range(200), b=[])
            self.assertLess(self.ask().number, WINDOW)

    def test_long_pieces(self) -> None:
        """The window is of fewer pieces where they are long, but not of too few to spread."""
        mib = 1024 * 1024
        self.assertEqual([window(length) for length in (1, mib, 8 * mib, 64 * mib)], [128, 128, 64, 16])

    def test_beyond_the_window(self) -> None:
        """A parent that has nothing inside the window is asked for the lowest piece that it has."""
        self.join(a=[WINDOW + 9, WINDOW + 5], b=[])
        self.assertEqual(self.ask().number, WINDOW + 5)

    def test_in_order(self) -> None:
        """For a reader that takes the bytes in order the first piece comes first, however rare others are."""
        self.join(is_in_order=True, a=range(10), b=range(2))
        self.assertEqual(sorted(self.numbers(self.ask_all())), [0, 1])

    def test_alone(self) -> None:
        """From a single parent the pieces come in order, as many at once as may be."""
        self.join(a=range(10))
        self.assertEqual(self.numbers(self.ask_all()), list(range(8)))

    def test_all_have_all(self) -> None:
        """So they do from parents that all have everything."""
        self.join(count=20, a=range(20), b=range(20))
        self.assertEqual(self.numbers(self.ask_all()), list(range(8)))

    def test_out(self) -> None:
        """What a parent has that is not asked any more does not count."""
        self.join(a=[0, 1], b=[0, 1, 2], c=[2])
        self.plan.parents["c"].give_up()
        self.plan.numbers.find_orphans()
        self.assertIn(("b", 2), [(request.parent, request.number) for request in self.ask_all()])


class FromWhomTests(SwarmTestCase):
    """Which parent is asked, and for how much at once."""

    def test_seed(self) -> None:
        """A seed is asked for what no other parent has."""
        self.join(seed=range(20), a=range(19))
        self.assertEqual({request.parent: request.number for request in self.ask_all()}["seed"], 19)

    def test_partial_before_seed(self) -> None:
        """Of two idle parents the one that has announced less is asked: the seed stays free for what it alone has."""
        self.join(count=3, seed=range(3), a=range(2), b=[2], c=[2])
        first = self.ask()
        self.assertEqual((first.parent, first.number in (0, 1)), ("a", True))

    def test_faster(self) -> None:
        """Of two idle parents that have announced as much the faster one is asked."""
        self.join(slow=range(20), fast=range(20), c=[])
        requests = {request.parent: request for request in self.ask_all()}
        self.serve(requests["fast"], 0.1, 0.1)
        self.serve(requests["slow"], 0.1, 1.0)
        self.assertEqual(self.ask().parent, "fast")

    def test_one_at_first(self) -> None:
        """Before a parent has given anything it is asked for one piece at a time."""
        self.join(a=range(20), b=range(10))
        self.assertEqual(Counter(request.parent for request in self.ask_all()), {"a": 1, "b": 1})

    def test_rate_and_round_trip(self) -> None:
        """A parent is asked for as many pieces at once as come in a round trip, and one more; never for fewer."""
        for begins, ends, expected in ((0.001, 1.0, 1), (0.5, 0.5, 2), (1.0, 0.1, 2)):
            self.join(a=range(20), b=[])
            for _ in range(4):
                self.ask_all()
                self.serve(self.asked_of("a")[0], begins, ends)
            self.ask_all()
            self.assertEqual(len(self.asked_of("a")), expected, (begins, ends))

    def test_moves(self) -> None:
        """A piece that waits at a slow parent moves to a faster one that announces it, and is not asked for twice."""
        self.join(slow=range(2), fast=[5])
        (waiting,) = [request for request in self.ask_all() if request.parent == "slow"]
        (quick,) = self.asked_of("fast")
        self.serve(quick, 0.1, 0.1)
        self.wait(1.0)
        self.announce("fast", waiting.number)
        moved = self.ask()
        self.assertEqual((moved.parent, moved.number, moved.is_spare), ("fast", waiting.number, False))
        self.assertEqual(self.withdrawn(), [waiting])
        self.plan.record_cancelled(waiting)
        self.give(moved)
        self.assertEqual(self.plan.pieces.fetched_twice, 0)

    def test_not_back(self) -> None:
        """It does not move back: two silent parents would pass it to each other, and none would count as slow."""
        self.join(silent=[0], mute=[0], good=range(1, 20))
        requests = self.ask_all()
        self.serve(next(request for request in requests if request.parent == "good"), 0.1, 0.1)
        (first,) = [request for request in requests if request.number == 0]
        self.wait(1.0)
        (second,) = [request for request in self.ask_all() if request.number == 0]
        self.assertEqual(self.withdrawn(), [first])
        self.plan.record_cancelled(first)
        self.wait(1.0)
        self.assertNotIn(0, self.numbers(self.ask_all()))
        self.assertEqual((self.withdrawn(), second in self.plan.numbers.under_way[second.number]), ([], True))

    def test_not_to_a_slower_one(self) -> None:
        """It does not move to a parent that takes as long."""
        self.join(a=range(2), b=[5])
        requests = self.ask_all()
        (waiting,) = self.asked_of("a")
        self.serve(next(request for request in requests if request.parent == "b"), 0.5, 0.5)
        self.announce("b", waiting.number)
        self.wait(0.5)
        self.assertEqual(self.ask_all(), [])

    def end_game(self, count: int) -> Request:
        """A slow parent has begun with a piece, and a fast one has nothing else to give. The slow one's request."""
        self.join(count=count, slow=[0], fast=[1])
        slow, fast = sorted(self.ask_all(), key=lambda request: request.number)
        self.hear(slow)
        self.plan.timing.progress(slow, 1, 10)
        self.serve(fast, 0.1, 0.1)
        self.announce("fast", 0)
        self.wait(1.0)
        return slow

    def test_end_game(self) -> None:
        """A piece that a slow parent sends is asked of an idle fast one too; the slower is cancelled, and counted."""
        slow = self.end_game(count=200)
        second = self.ask()
        self.assertEqual((second.parent, second.number, second.is_spare), ("fast", 0, True))
        self.give(second)
        self.assertEqual(self.withdrawn(), [slow])
        self.plan.record_cancelled(slow, received=7)
        self.assertEqual(self.plan.pieces.fetched_twice, 7)

    def test_slow(self) -> None:
        """
        So it is with a piece that comes slowly, while others come: it is asked of another parent when nothing else is
        under way.
        """
        self.join(count=40, slow=[0], steady=[1], fast=[2])
        by_parent = {request.parent: request for request in self.ask_all()}
        self.serve(by_parent["fast"], 0.1, 0.1)
        self.announce("fast", 0)
        for received in range(1, 4):
            self.wait(1)
            for parent, much in (("slow", 1), ("steady", 3000)):
                self.plan.timing.progress(by_parent[parent], received * much, 10_000)
            self.assertEqual(self.ask_all(), [])
        self.give(by_parent["steady"])
        self.wait(0.5)
        (second,) = self.ask_all()
        self.assertEqual((second.parent, second.number, second.is_spare), ("fast", 0, True))

    def test_at_most(self) -> None:
        """Of a short task nothing is fetched twice that way: it would be more than 2 % of it."""
        self.end_game(count=40)
        self.assertEqual(self.ask_all(), [])
