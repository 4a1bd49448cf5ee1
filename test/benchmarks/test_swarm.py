"""Swarms: tiny runs of real and simulated peers, the tables and the chart."""

from __future__ import annotations

import importlib.util

from twisted.trial.unittest import SynchronousTestCase

from benchmarks import swarm, swarm_simulated
from benchmarks.benchmark import Sample
from benchmarks.swarm_table import KILLED, OURS, SIMULATED, TORRENT, Case, curves, draw
from test.benchmarks.reports import quick_samples, report_of

_MIB = 1 << 20


def sample(program: str, peers: int, seconds: float, harm: str = "", piece_length: int = _MIB) -> Sample:
    """A turn in which the first peer has sent one and a half copies of a file of eight pieces."""
    size = 8 * _MIB
    sent = {"unfinished": 0, "first_sent": size * 3 // 2, "sent": size * peers, "wrong": 0}
    made = Case(program, peers, piece_length, harm).sample(size, _MIB)
    return {**made, "seconds": seconds, **sent, "load": 2.0, "busy": 0.5}


class SwarmTests(SynchronousTestCase):
    """The benchmarks."""

    def test_measure(self) -> None:
        """Peers alone and together, killed ones and liars: all that live have the file, and no wrong byte is kept."""
        samples = quick_samples(self, swarm.BENCHMARK.measure)
        programs = [OURS, SIMULATED]
        if importlib.util.find_spec(TORRENT) is not None:
            programs.append(TORRENT)
        self.assertEqual(
            {(each["program"], each["peers"], each["harm"]) for each in samples},
            {(program, peers, "") for program in programs for peers in (1, 2)}
            | {(OURS, 2, KILLED), (OURS, 1, "FORGED")},
        )
        for each in samples:
            self.assertEqual((each["unfinished"], each["wrong"]), (0, 0))
            self.assertGreater(each["seconds"], 0.0)
            self.assertGreater(each["first_sent"], 0)

    def test_simulated(self) -> None:
        """All simulated children have the task."""
        samples = quick_samples(self, swarm_simulated.BENCHMARK.measure)
        self.assertEqual(sorted(each["peers"] for each in samples), [1, 4])
        self.assertEqual({each["unfinished"] for each in samples}, {0})


class DrawTests(SynchronousTestCase):
    """Made-up samples."""

    def test_draw(self) -> None:
        """Each swarm has a line with its median and what was sent; each target has its ratio."""
        samples = [
            *(sample(OURS, 8, seconds) for seconds in (12.0, 9.0, 15.0)),
            *(sample(OURS, 1, 8.0), sample(TORRENT, 8, 24.0), sample(OURS, 8, 30.0, KILLED)),
            sample(OURS, 6, 10.0, "FORGED"),
        ]
        lines = draw(report_of(samples)).splitlines()
        for line in (
            *("| dfvortex | 8 | 12.0 (9.0-15.0) | 1.50 |", "| N = 8 : N = 1 | 1.50 | 1.6 |"),
            *("| N = 8, ours : libtorrent | 0.50 | 0.7 |", "| N = 8, one in four killed : none | **2.50** | 1.5 |"),
            "| N = 16 : N = 1 | ? | 1.8 |",
        ):
            self.assertIn(line, lines)
        self.assertIn(
            "N = 8: `FORGED` 10.0, killed with 1 MiB 30.0. Honest peers without the file at the end: 0; ", lines[-1]
        )

    def test_two_lengths(self) -> None:
        """Each length of pieces has its own limit beside its figure."""
        samples = [sample(OURS, peers, peers, piece_length=size) for peers in (1, 8) for size in (_MIB, 4 * _MIB)]
        lines = draw(report_of([*samples, sample(OURS, 4, 4.0)])).splitlines()
        self.assertIn("| N = 8 : N = 1 | **8.00** | 1.6 | **8.00** | 2 |", lines)
        self.assertIn("| dfvortex | 4 | 4.0 (4.0-4.0) | 1.50 | | |", lines)

    def test_simulated(self) -> None:
        """For the largest number of peers the time as a multiple of one's, and what the first has sent."""
        samples = [sample(SIMULATED, peers, float(max(8, peers))) for peers in (1, 4, 16)]
        verdict = "N = 16 : N = 1, at most 3: reached. 1 MiB, N = 16: 2.00, and the first sends 1.50 copies."
        self.assertEqual(swarm_simulated.draw(report_of(samples)).splitlines()[2:], [verdict])

    def test_curves(self) -> None:
        """A curve has the median of each number of peers, and the least and the most behind it."""
        samples = [*(sample(OURS, 8, seconds) for seconds in (12.0, 9.0, 15.0)), sample(OURS, 1, 8.0)]
        (curve,) = curves(report_of([*samples, sample(OURS, 8, 99.0, KILLED)]))
        self.assertEqual(curve.points, [(1, 8.0), (8, 12.0)])
        self.assertEqual(curve.reaches, [(8.0, 8.0), (9.0, 15.0)])
