"""Workers, memory and fair shares: tiny runs, and the tables."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from benchmarks import fairness, memory, workers
from benchmarks.benchmark import Sample
from benchmarks.peers import Peer
from benchmarks.processes import DidNotWork
from test.benchmarks.reports import quick_samples, report_of


def workers_sample(piece_length: int, seconds: float, connections: int = 4) -> Sample:
    """A turn of two workers that have read a gigabyte."""
    case = {"workers": 2, "connections": connections, "piece_length": piece_length, "content_length": 10**9}
    return {**case, "seconds": seconds, "processor_seconds": seconds / 4}


class WorkersTests(SynchronousTestCase):
    """Several workers."""

    def test_measure(self) -> None:
        """Pieces of both lengths come from one process and from two workers."""
        samples = quick_samples(self, workers.BENCHMARK.measure)
        self.assertEqual(
            {(each["workers"], each["piece_length"]) for each in samples},
            {(1, 4096), (2, 4096), (1, 1 << 20), (2, 1 << 20)},
        )
        self.assertTrue(all(each["seconds"] > 0 and each["processor_seconds"] > 0 for each in samples))

    def test_draw(self) -> None:
        """For each length of pieces the best and the median rate, and the least cost, of the middle connections."""
        samples = [*(workers_sample(1 << 20, seconds) for seconds in (1.0, 2.0, 4.0)), workers_sample(1 << 16, 5.0)]
        samples.append(workers_sample(1 << 20, 1.0, connections=1))
        self.assertEqual(
            workers.draw(report_of(samples)).splitlines()[4:], ["| 2 | 4 | 1000, 500 | 0.25 | 200, 200 | 1.25 |"]
        )


class MemoryTests(SynchronousTestCase):
    """Memory."""

    def test_measure(self) -> None:
        """Both processes have had memory, and never less than when idle."""
        (sample,) = quick_samples(self, memory.BENCHMARK.measure)
        self.assertGreater(min(sample["parent_idle"], sample["child_idle"]), 10_000_000)
        self.assertGreaterEqual(sample["parent_peak"], sample["parent_idle"])

    def test_draw(self) -> None:
        """Of all rounds: the median when idle, the most of what it grows by."""
        case = {"connections": 8, "piece_length": 4 << 20, "content_length": 64 << 20}
        samples = [
            {
                **case,
                **{"parent_idle": 10_000_000 + idle, "parent_peak": 10_500_000 + idle},
                **{"child_idle": 20_000_000, "child_peak": 20_000_000 + idle},
            }
            for idle in (0, 3_000_000, 1_000_000)
        ]
        lines = memory.draw(report_of(samples)).splitlines()
        self.assertEqual(lines[2], "Idle, the parent has 11.0 MB and the child 20.0 MB.")
        self.assertEqual(lines[6:], ["| 8 | 4 MiB | 64 MiB | 0.5 | 3.0 |"])


class FairnessTests(SynchronousTestCase):
    """Fair shares."""

    def test_measure(self) -> None:
        """Small pieces come with and without busy connections, all of which have had something."""
        samples = quick_samples(self, fairness.BENCHMARK.measure)
        idle, busy = sorted(samples, key=lambda each: int(each["busy"]))
        self.assertEqual((idle["busy"], busy["busy"]), (0, 4))
        self.assertEqual((len(idle["seconds"]), len(busy["seconds"])), (10, 10))
        self.assertGreater(min(idle["seconds"] + busy["seconds"]), 0)
        self.assertTrue(busy["rate"] > 0 and busy["processor"] > 0)
        self.assertTrue(0 < busy["least"] <= 1 <= busy["most"])

    def test_slowest(self) -> None:
        """What the part of all took at most."""
        seconds = [float(each) for each in range(100, 0, -1)]
        self.assertEqual([fairness.slowest(seconds, part) for part in (0.5, 0.95, 1)], [51.0, 96.0, 100.0])

    def test_draw(self) -> None:
        """A line with and one without busy connections."""
        keys = ("busy", "seconds", "rate", "least", "most", "processor")
        rows = (
            (0, [0.001], 0.0, 1.0, 1.0, 0.0),
            (8, [0.001, 0.002], 1e9, 0.9, 1.1, 0.3),
            (8, [0.003, 0.004], 2e9, 0.8, 1.0, 0.2),
        )
        self.assertEqual(
            fairness.draw(report_of([dict(zip(keys, row, strict=True)) for row in rows])).splitlines()[4:],
            ["| 0 | 1.00 | 1.00 | 1.00 | | | |", "| 8 | 2.50 | 4.00 | 4.00 | 2,000 | 0.20 | 0.80, 1.10 |"],
        )


class PeerTests(SynchronousTestCase):
    """A parent that cannot serve; the tiny runs have those that can."""

    def test_fails(self) -> None:
        """For one that ends before it serves, the error has its log."""
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        (directory / "storage").write_text("not a directory")
        error = self.assertRaises(DidNotWork, Peer(directory / "storage", directory / "peer").__enter__)
        self.assertIn("expected 'serving Vortex on", str(error))
        self.assertIn("dfvortex: ", str(error))
