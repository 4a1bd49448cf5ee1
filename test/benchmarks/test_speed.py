"""The cost of small pieces: a tiny run, and the table."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.speed import BENCHMARK, PIECE, REQUEST, Sample, draw
from test.benchmarks.reports import report_of
from test.benchmarks.tiny import quick_samples


class SpeedTests(SynchronousTestCase):
    """The benchmark."""

    def test_measure(self) -> None:
        """A parent's request and a child's piece are measured; without an earlier version only this one."""
        samples = quick_samples(self, BENCHMARK.measure)
        self.assertEqual({(each.what, each.version) for each in samples}, {(REQUEST, "this"), (PIECE, "this")})
        self.assertTrue(all(each.microseconds >= 0 for each in samples))

    def test_draw(self) -> None:
        """A line has what each version costs, the part of the best and of the medians, and whether that is reached."""
        samples = [
            Sample(what=what, version=version, microseconds=microseconds)
            for what, version, costs in (
                (REQUEST, "this", (10.0, 30.0, 20.0)),
                (REQUEST, "earlier", (20.0, 40.0, 60.0)),
                (PIECE, "this", (90.0,)),
                (PIECE, "earlier", (100.0,)),
            )
            for microseconds in costs
        ]
        self.assertEqual(
            draw(report_of(samples)).splitlines()[4:],
            [
                f"| {REQUEST} | 10.0, 20.0 | 20.0, 40.0 | 0.50, 0.50 | at most 0.55 |",
                f"| {PIECE} | 90.0, 90.0 | 100.0, 100.0 | **0.90**, 0.90 | at most 0.5 |",
            ],
        )
        self.assertIn("| ? | ? | at most 0.5 |", draw(report_of(samples[6:7])))
