"""The contest's report as Markdown."""

from __future__ import annotations

import dataclasses
import itertools

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.contestants import CONTESTANTS
from benchmarks.table import draw
from test.benchmarks.reports import contest_report


class TableTests(SynchronousTestCase):
    """The tables of the made-up run."""

    def setUp(self) -> None:
        self.lines = draw(contest_report()).splitlines()

    def test_circumstances(self) -> None:
        """It says by which command, when, on what, how quiet it was, and which contestants were missing."""
        text = "\n".join(self.lines)
        for said in (
            f"{contest_report().origin}, 8,000 MB of memory",
            "dragonfly-vortex 0.1.0, Twisted 26.10.0, nginx 1.2.3",
            "rounds: 3; a file of 1001 MB in 239 pieces of 4 MiB, 8 at once",
            "other programs had 12% of the cores' time in the median turn, 12% in the worst",
            "150% of their median apart in the median line, 175% in the worst",
            f"aria2c is not installed, so these were not measured: {CONTESTANTS['aria2'].title}; another",
        ):
            self.assertIn(said, text)

    def test_results(self) -> None:
        """Each target has its line, and what is not reached stands out."""
        for line in (
            "| whole command, TCP : gRPC | at least 2.5 | **2.00** | 4.00 (2.00-4.00) |",
            "| processor time of a parent read by the plain client, ours : nginx | at most 1.2 | 1.00"
            " | 1.00 (1.00-1.00) |",
        ):
            self.assertIn(line, self.lines)
        (missing,) = (line for line in self.lines if line.startswith("Not measured: "))
        self.assertIn("; whole command : nginx, aria2, hash; ", missing)

    def test_start_up(self) -> None:
        """The targets' legend says what is subtracted."""
        self.assertIn("Start-up, the least time of a task of 1 MB, is subtracted everywhere.", "\n".join(self.lines))

    def test_other_shapes(self) -> None:
        """A contestant that fetches in other shapes has a row for each other shape."""
        rows = [line.split(" | ")[:3] for line in self.lines if line.startswith(("| 4 MiB", "| 64 MiB"))]
        self.assertEqual(
            rows,
            [
                ["| 64 MiB", "1", "ours, TCP"],
                ["| 64 MiB", "1", "ours, gRPC"],
            ],
        )
        report = contest_report()
        shared = [each for each in report.samples if each.concurrency == 8]
        self.assertNotIn("Other pieces", draw(dataclasses.replace(report, samples=shared)))

    def test_every_row_fits_its_head(self) -> None:
        """Each table has one number of columns."""
        for above, line in itertools.pairwise(self.lines):
            if above.startswith("|") and line.startswith("|"):
                self.assertEqual(above.count("|"), line.count("|"))

    def test_scatter_unknown(self) -> None:
        """What cannot be said is left out."""
        report = contest_report()
        samples = [dataclasses.replace(each, seconds=0.5) for each in report.samples]
        self.assertIn("scatter", draw(report))
        self.assertNotIn("scatter", draw(dataclasses.replace(report, samples=samples)))
