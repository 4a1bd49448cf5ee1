"""Simulated swarms: a tiny run, and the table."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.swarm_figures import SIMULATED
from benchmarks.swarm_simulated import BENCHMARK, draw
from test.benchmarks.reports import report_of
from test.benchmarks.test_swarm_figures import sample
from test.benchmarks.tiny import quick_samples


class SwarmSimulatedTests(SynchronousTestCase):
    """The benchmark."""

    def test_measure(self) -> None:
        """All children have the task."""
        samples = quick_samples(self, BENCHMARK.measure)
        self.assertEqual([each.peers for each in sorted(samples, key=lambda each: each.peers)], [1, 4])
        self.assertEqual({each.unfinished for each in samples}, {0})

    def test_draw(self) -> None:
        """For the largest number of peers the time as a multiple of one's, and what the first has sent."""
        samples = [sample(SIMULATED, peers, float(max(8, peers))) for peers in (1, 4, 16)]
        lines = draw(report_of(samples)).splitlines()
        verdict = "N = 16 : N = 1, at most 3: reached. 1 MiB, N = 16: 2.00, and the first sends 1.50 copies."
        self.assertEqual(lines[2:], [verdict])
