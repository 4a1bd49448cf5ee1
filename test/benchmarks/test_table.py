"""A report as Markdown."""

from __future__ import annotations

import dataclasses

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.table import table
from test.benchmarks.reports import make_report


class TableTests(SynchronousTestCase):
    """The tables of the made-up run."""

    def setUp(self) -> None:
        self.lines = table(make_report()).splitlines()

    def test_circumstances(self) -> None:
        """It says by which command, when, on what, and how quiet it was."""
        text = "\n".join(self.lines)
        for said in (
            "`python -m benchmarks --seed 7`, 2026-01-02, in 3 rounds.",
            "Linux 6.1, 2 cores (a processor), 8,000 MB of memory, CPython 3.12.1",
            "dragonfly-vortex 0.1.0, Twisted 26.10.0",
            "a file of 1001 MB: 239 pieces of 4 MiB, 15 pieces of 64 MiB",
            "something else had 12 % of the cores' time in the median turn, 12 % in the worst",
            "162 % of their median apart in the median line, 175 % in the worst",
        ):
            self.assertIn(said, text)

    def test_rates(self) -> None:
        """A row has both transports, and how many times as fast the first is."""
        self.assertIn("| 4 MiB | 1 | 500 (250-1,000) | 125 (62-500) | 2.0 | 4.0 |", self.lines)

    def test_costs(self) -> None:
        """A row has the parent and the child of each transport: processor time, and memory."""
        self.assertIn(
            "| 64 MiB | 8 | 0.50 (0.25-1.00) | 1.00 (0.50-2.00) | 2.00 (0.50-4.00) | 4.00 (1.00-8.00) |", self.lines
        )
        self.assertIn("| 64 MiB | 8 | 52 (51-54) | 62 (61-64) | 58 (52-66) | 68 (62-76) |", self.lines)

    def test_start_up(self) -> None:
        """What was taken off is told."""
        self.assertIn(
            "| gRPC | 0.50 (0.50-0.50) | 0.12 (0.12-0.12) | 0.25 (0.25-0.25) | 50 (50-50) | 60 (60-60) |", self.lines
        )

    def test_every_row_fits_its_head(self) -> None:
        """Each table has one number of columns, and a row for each combination."""
        fields = [line.count("|") for line in self.lines if line.startswith("|")]
        self.assertEqual(fields, [7] * (2 + 4) + [7] * 2 * (2 + 4) + [7] * (2 + 2))

    def test_scatter_unknown(self) -> None:
        """What cannot be said is left out."""
        report = make_report()
        figures = dataclasses.replace(report.figures, scatter=None)
        self.assertNotIn("scatter", table(dataclasses.replace(report, figures=figures)))
