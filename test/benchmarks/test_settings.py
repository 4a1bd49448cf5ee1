"""The turns of a run: everything in each round, shuffled."""

from __future__ import annotations

import dataclasses
from collections import Counter

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.settings import START_UP_LENGTH, Shape, cases, turns
from test.benchmarks.reports import make_settings


class TurnsTests(SynchronousTestCase):
    """The order in which things are measured."""

    def setUp(self) -> None:
        self.settings = make_settings()
        self.turns = list(turns(self.settings))

    def test_cases(self) -> None:
        """Everyone fetches the file in the one shape, and those who are named in the others too."""
        self.assertEqual(
            [(case.contestant, case.shape.concurrency) for case in cases(self.settings)],
            [("tcp", 8), ("grpc", 8), ("plain-from-ours", 8), ("plain-from-nginx", 8), ("tcp", 1), ("grpc", 1)],
        )

    def test_everything_in_each_round(self) -> None:
        """Each round has every case of the file once, and start-up twice for each contestant."""
        for number in range(3):
            counts = Counter(case for round_number, case in self.turns if round_number == number)
            self.assertEqual(
                {case: count for case, count in counts.items() if not case.is_start_up},
                dict.fromkeys(cases(self.settings), 1),
            )
            self.assertEqual(
                {case.contestant: count for case, count in counts.items() if case.is_start_up},
                dict.fromkeys(self.settings.contestants, 2),
            )

    def test_rounds_follow_each_other(self) -> None:
        """A round begins when the one before has ended."""
        numbers = [number for number, _ in self.turns]
        self.assertEqual(numbers, sorted(numbers))

    def test_shuffled_by_the_seed(self) -> None:
        """The same seed gives the same order, another seed another one; no two rounds have the same."""
        self.assertEqual(list(turns(self.settings)), self.turns)
        self.assertNotEqual(list(turns(dataclasses.replace(self.settings, seed=8))), self.turns)
        rounds = [[case for number, case in self.turns if number == each] for each in range(3)]
        self.assertNotEqual(rounds[0], rounds[1])
        self.assertNotEqual(rounds[1], rounds[2])

    def test_start_up(self) -> None:
        """Start-up is the task of a megabyte, and no other."""
        self.assertEqual({case.content_length for _, case in self.turns if case.is_start_up}, {START_UP_LENGTH})
        self.assertEqual(START_UP_LENGTH, 1_000_000)

    def test_piece_count(self) -> None:
        """The last piece may be shorter."""
        settings = dataclasses.replace(self.settings, content_length=10_000_001)
        counts = [settings.piece_count(Shape(piece_length=each, concurrency=1)) for each in (10_000_001, 10_000_000)]
        self.assertEqual(counts, [1, 2])
