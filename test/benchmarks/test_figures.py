"""What is calculated from samples, by numbers that can be checked in the head."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.contestants import TARGETS
from benchmarks.figures import Result, Sample, cells, others, results, scatter
from benchmarks.text import Spread
from test.benchmarks.reports import contest_samples


def change(contestant: str, start_up: bool = False, **times: Sequence[Any]) -> list[Sample]:
    """The samples with other figures for one contestant, by field, one for each round."""
    return [
        dataclasses.replace(each, **{name: values[each.round] for name, values in times.items()})
        if (each.contestant, each.is_start_up) == (contestant, start_up)
        else each
        for each in contest_samples()
    ]


class CellTests(SynchronousTestCase):
    """The made-up run: a thousand megabytes more than start-up, in 1, 2 and 4 s over TCP."""

    def setUp(self) -> None:
        self.cells = cells(contest_samples())
        self.tcp, _, self.grpc = self.cells[:3]

    def test_order(self) -> None:
        """Contestants in the order of the report, each with its shapes."""
        self.assertEqual(
            [(cell.contestant, cell.concurrency) for cell in self.cells],
            [("tcp", 8), ("tcp", 1), ("grpc", 8), ("grpc", 1), ("plain-from-ours", 8), ("plain-from-nginx", 8)],
        )

    def test_figures(self) -> None:
        """Start-up is subtracted from times, nothing from memory; the longest time is the lowest rate."""
        self.assertEqual(self.tcp.start_up, 0.5)
        self.assertEqual(self.tcp.seconds, Spread(minimum=1.0, median=2.0, maximum=4.0))
        self.assertEqual(self.grpc.seconds, Spread(minimum=2.0, median=8.0, maximum=16.0))
        self.assertEqual(self.tcp.rate, Spread(minimum=250e6, median=500e6, maximum=1000e6))
        self.assertEqual(self.tcp.parent_processor, Spread(minimum=0.25, median=0.5, maximum=1.0))
        self.assertEqual(self.tcp.child_processor, Spread(minimum=0.5, median=1.0, maximum=2.0))
        self.assertEqual(self.tcp.parent_peak, Spread(minimum=51e6, median=52e6, maximum=54e6))
        self.assertEqual(self.tcp.child_peak, Spread(minimum=61e6, median=62e6, maximum=64e6))

    def test_noisy_start_up(self) -> None:
        """The least start-up is subtracted: a slow one makes nothing look faster."""
        noisy = change("tcp", start_up=True, seconds=(0.5, 9.0, 9.0), child_processor=(9.0, 0.25, 9.0))
        self.assertEqual(cells(noisy), self.cells)

    def test_noise(self) -> None:
        """The rounds are 1.5 to 1.75 of a median apart; other programs had an eighth of the cores."""
        self.assertEqual(scatter(self.cells), Spread(minimum=1.5, median=1.5, maximum=1.75))
        self.assertEqual(others(contest_samples(), 2), Spread(minimum=0.125, median=0.125, maximum=0.125))

    def test_too_short(self) -> None:
        """Where the file takes no longer than start-up there is no rate, no ratio and no scatter."""
        samples = [dataclasses.replace(each, seconds=0.5) for each in contest_samples()]
        found = cells(samples)
        self.assertEqual({cell.rate for cell in found}, {None})
        self.assertIsNone(scatter(found))
        self.assertEqual({each.of_minima for each in results(samples) if each.target.at_least is not None}, {None})


class ResultTests(SynchronousTestCase):
    """What comes of the targets."""

    def of(self, samples: Sequence[Sample], ours: str, other: str) -> Result:
        """The result of the target with these sides."""
        (result,) = (each for each in results(samples) if (each.target.ours, each.target.other) == (ours, other))
        return result

    def test_all(self) -> None:
        """Each target has a result, and the best turns decide."""
        self.assertEqual([each.target for each in results(contest_samples())], list(TARGETS))
        result = self.of(contest_samples(), "tcp", "grpc")
        self.assertEqual((result.of_minima, result.is_reached), (2.0, False))
        self.assertEqual(result.of_rounds, Spread(minimum=2.0, median=4.0, maximum=4.0))

    def test_rounds(self) -> None:
        """A round that is slow for both sides counts as any; one that is slow for one side is at the edge."""
        seconds = {"tcp": (8.5, 1.5, 1.5), "grpc": (24.5, 2.5, 4.5)}
        samples = [
            dataclasses.replace(each, seconds=seconds[each.contestant][each.round])
            if each.contestant in seconds and not each.is_start_up
            else each
            for each in contest_samples()
        ]
        self.assertEqual(self.of(samples, "tcp", "grpc").of_rounds, Spread(minimum=2.0, median=3.0, maximum=4.0))

    def test_processor(self) -> None:
        """A parent's processor time is compared the other way round: less is better."""
        result = self.of(contest_samples(), "plain-from-ours", "plain-from-nginx")
        self.assertEqual((result.of_minima, result.is_reached), (1.0, True))
        dear = change("plain-from-ours", parent_processor=(0.455, 0.78, 1.43))
        result = self.of(dear, "plain-from-ours", "plain-from-nginx")
        self.assertAlmostEqual(result.of_minima or 0, 1.32)
        self.assertIs(result.is_reached, False)

    def test_not_measured(self) -> None:
        """Where a side did not take part, nothing is said."""
        result = self.of(contest_samples(), "tcp", "curl")
        self.assertEqual((result.of_minima, result.of_rounds), (None, None))
        self.assertIsNone(result.is_reached)
