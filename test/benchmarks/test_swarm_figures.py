"""What is measured of a swarm, its table and its chart."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.swarm_figures import KILLED, OURS, TORRENT, Case, Sample, curves, draw, simulated
from test.benchmarks.reports import report_of

_MIB = 1 << 20


def sample(program: str, peers: int, seconds: float, harm: str = "", piece_length: int = _MIB) -> Sample:
    """A turn in which the first peer has sent one and a half copies of a file of eight pieces."""
    size = 8 * _MIB
    return Sample(
        program=program,
        peers=peers,
        piece_length=piece_length,
        harm=harm,
        content_length=size,
        upload_limit=_MIB,
        seconds=seconds,
        unfinished=0,
        first_sent=size * 3 // 2,
        sent=size * peers,
        wrong=0,
        load=2.0,
        busy=0.5,
    )


class FiguresTests(SynchronousTestCase):
    """Made-up samples."""

    def test_least(self) -> None:
        """The least time grows by a piece with each doubling of the peers."""
        times = [sample(OURS, peers, 1.0).least_times for peers in (1, 2, 3, 4, 16)]
        self.assertEqual(times, [1.0, 1.125, 1.125, 1.25, 1.5])

    def test_draw(self) -> None:
        """Each swarm has a line with its median and what was sent; each target has its ratio."""
        samples = [
            *(sample(OURS, 8, seconds) for seconds in (12.0, 9.0, 15.0)),
            sample(OURS, 1, 8.0),
            sample(TORRENT, 8, 24.0),
            sample(OURS, 8, 30.0, KILLED),
            sample(OURS, 6, 10.0, "FORGED"),
        ]
        lines = draw(report_of(samples)).splitlines()
        self.assertIn("| dfvortex | 8 | 12.0 (9.0-15.0) | 1.50 |", lines)
        self.assertIn("| N = 8 : N = 1 | 1.50 | 1.6 |", lines)
        self.assertIn("| N = 8, ours : libtorrent | 0.50 | 0.7 |", lines)
        self.assertIn("| N = 8, one in four killed : none | **2.50** | 1.5 |", lines)
        self.assertIn("| N = 16 : N = 1 | ? | 1.8 |", lines)
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
        """The simulator gives a sample of the same kind."""
        case = Case(program="simulated", peers=2, piece_length=_MIB)
        found = simulated(case, 4 * _MIB, _MIB, seed=1)
        self.assertEqual((found.unfinished, found.wrong, found.peers), (0, 0, 2))
        self.assertGreater(found.seconds, 4.0)

    def test_curves(self) -> None:
        """A curve has the median of each number of peers, and the least and the most behind it."""
        samples = [*(sample(OURS, 8, seconds) for seconds in (12.0, 9.0, 15.0)), sample(OURS, 1, 8.0)]
        (curve,) = curves(report_of([*samples, sample(OURS, 8, 99.0, KILLED)]))
        self.assertEqual(curve.points, [(1, 8.0), (8, 12.0)])
        self.assertEqual(curve.reaches, [(8.0, 8.0), (9.0, 15.0)])
