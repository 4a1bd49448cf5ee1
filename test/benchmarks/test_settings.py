"""The turns of a run: everything in each round, shuffled, and the transports side by side."""

from __future__ import annotations

import dataclasses
from collections import Counter

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.settings import START_UP_LENGTH, turns
from test.benchmarks.reports import make_settings


class TurnsTests(SynchronousTestCase):
    """The order in which things are measured."""

    def setUp(self) -> None:
        self.settings = make_settings()
        self.turns = list(turns(self.settings))

    def test_everything_in_each_round(self) -> None:
        """Each round has every case of the file once, and start-up three times for each transport."""
        for number in range(3):
            counts = Counter(case for round_number, case in self.turns if round_number == number)
            of_file = {case: count for case, count in counts.items() if not case.is_start_up}
            self.assertEqual(len(of_file), 2 * 2 * 2)
            self.assertEqual(set(of_file.values()), {1})
            of_start_up = {case.transport: count for case, count in counts.items() if case.is_start_up}
            self.assertEqual(of_start_up, {"tcp": 3, "grpc": 3})

    def test_rounds_follow_each_other(self) -> None:
        """A round begins when the one before has ended."""
        numbers = [number for number, _ in self.turns]
        self.assertEqual(numbers, sorted(numbers))

    def test_transports_side_by_side(self) -> None:
        """The same task is fetched over one transport and then over the other, and not always in the same order."""
        firsts = set()
        for (_, one), (_, other) in zip(self.turns[::2], self.turns[1::2], strict=True):
            self.assertEqual(dataclasses.replace(one, transport=other.transport), other)
            self.assertNotEqual(one.transport, other.transport)
            firsts.add(one.transport)
        self.assertEqual(firsts, {"tcp", "grpc"})

    def test_shuffled_by_the_seed(self) -> None:
        """The same seed gives the same order, another seed another one; no two rounds have the same."""
        self.assertEqual(list(turns(self.settings)), self.turns)
        self.assertNotEqual(list(turns(dataclasses.replace(self.settings, seed=8))), self.turns)
        rounds = [
            [
                (case.content_length, case.piece_length, case.concurrency)
                for number, case in self.turns
                if number == each
            ]
            for each in range(3)
        ]
        self.assertNotEqual(rounds[0], rounds[1])
        self.assertNotEqual(rounds[1], rounds[2])

    def test_start_up(self) -> None:
        """Start-up is the task of a megabyte, and no other."""
        self.assertEqual({case.content_length for _, case in self.turns if case.is_start_up}, {START_UP_LENGTH})
        self.assertEqual(START_UP_LENGTH, 1_000_000)
