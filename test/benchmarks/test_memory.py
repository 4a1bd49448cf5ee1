"""Memory: a tiny run, and the table."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.memory import BENCHMARK, Sample, draw
from test.benchmarks.reports import report_of
from test.benchmarks.tiny import quick_samples


class MemoryTests(SynchronousTestCase):
    """The benchmark."""

    def test_measure(self) -> None:
        """Both processes have had memory, and never less than when idle."""
        (sample,) = quick_samples(self, BENCHMARK.measure)
        self.assertGreater(min(sample.parent_idle, sample.child_idle), 10_000_000)
        self.assertGreaterEqual(sample.parent_peak, sample.parent_idle)

    def test_draw(self) -> None:
        """Of all rounds: the median when idle, the most of what it grows by."""
        samples = [
            Sample(
                connections=8,
                piece_length=4 << 20,
                content_length=64 << 20,
                parent_idle=10_000_000 + idle,
                parent_peak=10_500_000 + idle,
                child_idle=20_000_000,
                child_peak=20_000_000 + idle,
            )
            for idle in (0, 3_000_000, 1_000_000)
        ]
        self.assertEqual(
            draw(report_of(samples)).splitlines()[2:],
            [
                "Idle, the parent has 11.0 MB and the child 20.0 MB.",
                "",
                "| connections | pieces of | a file of | parent grows by, MB | child |",
                "|---|---|---|---|---|",
                "| 8 | 4 MiB | 64 MiB | 0.5 | 3.0 |",
            ],
        )
