"""Tests of the measurement of the whole file's hash: its table, and that all ways find the same hash."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from benchmarks import file_hash
from benchmarks.file_hash import MEASUREMENT, Sample


class FileHashTests(SynchronousTestCase):
    """The measurement and its tables."""

    def test_hashes(self) -> None:
        """All ways are measured, alone and beside a busy thread, and find one hash."""
        directory = Path(self.mktemp())
        directory.mkdir()
        self.patch(file_hash, "_QUICK_FILE_LENGTH", 1 << 20)
        cases = len(file_hash._CASES)
        samples: Iterator[Sample] = iter(MEASUREMENT.measure(directory, True, lambda _: None))
        seen = {(sample.what, sample.beside) for sample in islice(samples, cases)}
        self.assertEqual(seen, set(file_hash._CASES))
        self.assertEqual(os.listdir(directory).count("hashed"), 1)

    def test_draw(self) -> None:
        """A line has the least and the median for a gigabyte."""
        cases = [*file_hash._CASES, *((what, "a download") for what in file_hash._WHATS)]
        samples = [
            Sample(what=what, beside=beside, length=2 * 10**9, seconds=seconds, processor_seconds=seconds / 2)
            for what, beside in cases
            for seconds in (2.0, 3.0, 1.0)
        ]
        lines = MEASUREMENT.draw(samples).splitlines()
        self.assertIn("| mapped, 4 MiB | nobody | 0.50, 1.00 | 0.25, 0.50 |", lines)
        self.assertEqual(lines[-2], "| without the hash | 0.50, 1.00 | 0.25, 0.50 |")
