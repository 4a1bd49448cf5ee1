"""Tests of the measurement of pieces that are not in memory."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.cold_reads import Sample, draw, resident_part
from test.transport.cold import cold_file, make_hole

KIB = 1024


class ResidentPartTests(SynchronousTestCase):
    """What is in memory of a real file."""

    def test_parts(self) -> None:
        """All, half and nothing of a file are told from each other."""
        path = Path(self.mktemp())
        cold_file(path, 512 * KIB)
        self.assertEqual(resident_part(path), 0.0)
        path.read_bytes()
        self.assertEqual(resident_part(path), 1.0)
        make_hole(path, 0, 256 * KIB)
        self.assertAlmostEqual(resident_part(path), 0.5, delta=0.02)


class DrawTests(SynchronousTestCase):
    """The table."""

    def test_table(self) -> None:
        """A line for each disk that was there and each way to wait for it, with the extremes of all its turns."""
        samples = [
            Sample(disk="memory", read_ahead=True, length=10**9, duration=2.0, seconds=[0.001, 0.003]),
            Sample(disk="memory", read_ahead=True, length=10**9, duration=1.0, seconds=[0.002, 0.009]),
            Sample(disk="slow disk", read_ahead=False, length=10**9, duration=4.0, seconds=[1.0]),
        ]
        self.assertEqual(
            draw(samples).splitlines()[2:],
            [
                "| slow disk | the reactor | 250, 250 | 1000.00 | 1000.00 | 1000.0 | 1000.0 |",
                "| memory | a thread | 1,000, 750 | 2.50 | 9.00 | 3.0 | 9.0 |",
            ],
        )
