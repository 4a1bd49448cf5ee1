"""A swarm of real peers: a tiny run."""

from __future__ import annotations

import importlib.util

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.swarm import BENCHMARK
from benchmarks.swarm_figures import KILLED, OURS, SIMULATED, TORRENT
from test.benchmarks.tiny import quick_samples


class SwarmTests(SynchronousTestCase):
    """The benchmark."""

    def test_measure(self) -> None:
        """Peers alone and together, killed ones and liars: all that live have the file, and no wrong byte is kept."""
        samples = quick_samples(self, BENCHMARK.measure)
        programs = [OURS, SIMULATED]
        if importlib.util.find_spec(TORRENT) is not None:
            programs.append(TORRENT)
        self.assertEqual(
            {(each.program, each.peers, each.harm) for each in samples},
            {(program, peers, "") for program in programs for peers in (1, 2)}
            | {(OURS, 2, KILLED), (OURS, 1, "FORGED")},
        )
        for each in samples:
            self.assertEqual((each.unfinished, each.wrong), (0, 0))
            self.assertGreater(each.seconds, 0.0)
            self.assertGreater(each.first_sent, 0)
