"""What the plan of a download costs as a task grows, in lines and bytes, which no load of the machine changes."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from functools import partial

from dragonfly_vortex.model import ByteRange
from dragonfly_vortex.task.scheduler import Plan
from dragonfly_vortex.testing.simulation import Swarm
from dragonfly_vortex.testing.swarm import simulate
from test.lines import LineCount
from test.task.planning import TASK_ID, PlanTestCase, piece

FEW, MANY = 60, 300
SLACK = 1.1
"""Five times as many pieces may cost so many times five times as much."""


MOST_LINES = 600
"""Of the package ``task``, for each piece."""


def lines(act: Callable[[], object], part: str = "") -> int:
    """How many lines of the package, or of a part of it, something runs."""
    with LineCount(part) as lines:
        act()
    return lines.count


def fetch(count: int, piece_length: int = 1 << 20, mute: frozenset[int] = frozenset()) -> None:
    """Fetch a task of so many pieces from one parent, in simulated time; each piece takes a hundredth of a second."""
    length, rate = count * piece_length, 100.0 * piece_length
    outcome = simulate(Swarm(peers=1, content_length=length, piece_length=piece_length, rate=rate, mute=mute))
    if set(outcome.finished) != {1}:
        raise AssertionError(f"expected that the child has the task, got {outcome.failed}")


class GrowthTests(PlanTestCase):
    """Tasks of a few pieces, and of five times as many."""

    def assert_linear(self, cost: Callable[[int], int], few: int = FEW, many: int = MANY, slack: float = SLACK) -> None:
        """The cost grows no faster than what it is the cost of."""
        self.assertLessEqual(cost(many), slack * many / few * cost(few))

    def announced(self, count: int) -> Plan:
        """A plan that has heard of all pieces by one parent."""
        plan = Plan(TASK_ID, ["a"], 8)
        plan.advance(100.0)
        plan.announcements.begin("a")
        plan.announcements.learn("a", count * 10, 10)
        for number in range(count):
            plan.announcements.add("a", number, number * 10, 10)
        plan.announcements.end("a", True)
        return plan

    def test_pieces(self) -> None:
        """A download's plan takes no more lines a piece for many pieces than for few."""
        self.assert_linear(lambda count: lines(lambda: fetch(count)))

    def test_piece(self) -> None:
        """
        The plan takes a bounded number of lines for a piece, from a parent that announces and from one that does not:
        what all of its decisions need, such as the length that parents say, is not worked out for each of them.
        """
        for mute in (frozenset[int](), frozenset({0})):
            few, many = (lines(partial(fetch, count, mute=mute), "task") for count in (FEW, MANY))
            self.assertLessEqual((many - few) / (MANY - FEW), MOST_LINES)

    def test_announcements(self) -> None:
        """Neither does what a parent announces, and in memory it takes no more bytes a piece."""
        self.assert_linear(lambda count: lines(lambda: self.announced(count)))

        def memory(count: int) -> int:
            tracemalloc.start()
            try:
                plan = self.announced(count)
                return tracemalloc.get_traced_memory()[1] if plan.parents else 0
            finally:
                tracemalloc.stop()

        self.assert_linear(memory, 2000, 10_000, 1.5)  # dictionaries grow in leaps

    def test_beside_a_source(self) -> None:
        """Neither does a download from a parent that announces piece by piece, while a source waits for that."""

        def fetch_beside_source(count: int) -> None:
            self.begin("a", "source", source="source")
            self.plan.announcements.begin("a")
            self.plan.announcements.begin("source")
            self.plan.announcements.learn("source", count * 10, 10)
            for number in range(count):
                self.plan.announcements.add("source", number, number * 10, 10)
            self.plan.announcements.end("source", True)
            for number in range(count):
                self.plan.announcements.add("a", number, number * 10, 10)
                (request,) = self.ask_all()
                self.wait(0.5)
                self.give(request)
            self.assertFalse(self.from_source)

        self.assert_linear(lambda count: lines(lambda: fetch_beside_source(count)))

    def test_gigabytes(self) -> None:
        """As many pieces of a hundred times as many bytes, 107 GB in all, take as many lines."""
        short = lines(lambda: fetch(100, 10 << 20))
        self.assertLessEqual(lines(lambda: fetch(100, 1 << 30)), SLACK * short)

    def test_ranges(self) -> None:
        """A range of a task takes no more lines a piece where it is long."""

        def fetch_range(count: int) -> None:
            self.begin("a")
            self.wanted.ranges, self.wanted.is_all = (ByteRange(start=0, length=count * 10),), False
            self.plan.announcements.learn("a", 2 * count * 10, 10)
            while not self.plan.numbers.has_all_wanted:
                self.plan.record_verified(request := self.ask(), piece(request.number))

        self.assert_linear(lambda count: lines(lambda: fetch_range(count)))
