"""Tests of the measurement of fair shares."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.fairness import STEPS, Sample, draw


class DrawTests(SynchronousTestCase):
    """The table."""

    def test_table(self) -> None:
        """A line for each step with and without busy connections; the default stands out."""
        samples = [
            Sample(step=STEPS[-1], busy=0, seconds=[0.001], rate=0.0, least=1.0, most=1.0, processor=0.0),
            Sample(step=2 * 2**20, busy=8, seconds=[0.001, 0.002], rate=1e9, least=0.9, most=1.1, processor=0.3),
            Sample(step=2 * 2**20, busy=8, seconds=[0.003, 0.004], rate=2e9, least=0.8, most=1.0, processor=0.2),
        ]
        self.assertEqual(
            draw(samples).splitlines()[2:],
            [
                "| **2048 KiB** | 8 | 2.50 | 4.00 | 4.00 | 2,000 | 0.20 | 0.80, 1.10 |",
                "| all that fits | 0 | 1.00 | 1.00 | 1.00 | | | |",
            ],
        )
