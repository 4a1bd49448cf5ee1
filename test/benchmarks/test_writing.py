"""Tests of the measurement of a slow disk: its table, and what is said where there can be no such disk."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from benchmarks import slow_disk
from benchmarks.servers import DidNotWork
from benchmarks.writing import MEASUREMENT, Sample


class WritingTests(SynchronousTestCase):
    """The measurement and its table."""

    def test_draw(self) -> None:
        """A line has the usual of the usual, and the worst of all."""
        samples = [
            Sample(
                way=way,
                content_length=10**9,
                pace=10**8,
                seconds=seconds,
                processor_seconds=2.0,
                usual=0.001,
                rare=0.03,
                worst=seconds,
                late_seconds=0.5,
            )
            for way in ("left to the kernel", "early", "early, with a bound", "into the storage")
            for seconds in (3.0, 4.0)
        ]
        lines = MEASUREMENT.draw(samples).splitlines()
        self.assertEqual(lines[0], "1 GB onto a disk that writes 100 MB/s, and how late the reactor's heart beats:")
        self.assertEqual(lines[5], "| early | 2 | 3.0, 3.5 | 1.0 | 30 | 4000 | 0.5 | 2.00 |")
        self.assertEqual(len(lines), 8)

    def test_no_slow_disk(self) -> None:
        """Where a disk cannot be held down that is said before anything is done."""
        directory = Path(self.mktemp())
        directory.mkdir()
        self.patch(slow_disk, "_THROTTLE", directory / "none")
        error = self.assertRaises(DidNotWork, lambda: next(iter(MEASUREMENT.measure(directory, True, lambda _: None))))
        self.assertIn("a slow disk cannot be made here", str(error))
        self.assertEqual(list((directory / "slow").iterdir()), [])
