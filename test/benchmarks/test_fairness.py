"""Fair shares: a tiny run, and the table."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.fairness import BENCHMARK, Sample, draw, slowest
from test.benchmarks.reports import report_of
from test.benchmarks.tiny import quick_samples


class FairnessTests(SynchronousTestCase):
    """The benchmark."""

    def test_measure(self) -> None:
        """Small pieces come with and without busy connections, all of which have had something."""
        idle, busy = sorted(quick_samples(self, BENCHMARK.measure), key=lambda each: each.busy)
        self.assertEqual((idle.busy, busy.busy), (0, 4))
        self.assertEqual((len(idle.seconds), len(busy.seconds)), (10, 10))
        self.assertGreater(min(idle.seconds + busy.seconds), 0)
        self.assertTrue(busy.rate > 0 and busy.processor > 0)
        self.assertTrue(0 < busy.least <= 1 <= busy.most)

    def test_slowest(self) -> None:
        """What the part of all took at most."""
        seconds = [float(each) for each in range(100, 0, -1)]
        self.assertEqual([slowest(seconds, part) for part in (0.5, 0.95, 1)], [51.0, 96.0, 100.0])

    def test_draw(self) -> None:
        """A line with and one without busy connections."""
        samples = [
            Sample(busy=0, seconds=[0.001], rate=0.0, least=1.0, most=1.0, processor=0.0),
            Sample(busy=8, seconds=[0.001, 0.002], rate=1e9, least=0.9, most=1.1, processor=0.3),
            Sample(busy=8, seconds=[0.003, 0.004], rate=2e9, least=0.8, most=1.0, processor=0.2),
        ]
        self.assertEqual(
            draw(report_of(samples)).splitlines()[4:],
            ["| 0 | 1.00 | 1.00 | 1.00 | | | |", "| 8 | 2.50 | 4.00 | 4.00 | 2,000 | 0.20 | 0.80, 1.10 |"],
        )
