"""A report as Markdown."""

from __future__ import annotations

import dataclasses
import itertools

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.contestant import GROUPS
from benchmarks.contestants import CONTESTANTS
from benchmarks.report import Absence, entries
from benchmarks.table import table
from test.benchmarks.reports import make_report, make_settings


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
            "dragonfly-vortex 0.1.0, Twisted 26.10.0, nginx 1.2.3",
            "a file of 1001 MB in 239 pieces of 4 MiB, 8 at once",
            "something else had 12 % of the cores' time in the median turn, 12 % in the worst",
            "150 % of their median apart in the median line, 175 % in the worst",
            f"aria2c is not installed, so these were not measured: {CONTESTANTS['aria2'].title}",
        ):
            self.assertIn(said, text)

    def test_absences(self) -> None:
        """Who lacks the same program stands in one line."""
        missing = {"one": "vortex-reference", "a third": "curl", "another": "vortex-reference"}
        absences = tuple(Absence(title=title, missing=program) for title, program in missing.items())
        said = table(dataclasses.replace(make_report(), absences=absences))
        self.assertIn("- vortex-reference is not installed, so these were not measured: one; another\n", said)
        self.assertIn("- curl is not installed, so these were not measured: a third\n", said)

    def test_results(self) -> None:
        """Each target has its line, and what is not reached stands out."""
        for line in (
            "| the whole command over TCP : over gRPC | at least 2.5 | 2.00 | 4.00 | 4.00 (2.00-4.00)"
            " | **not reached** |",
            "| our parent's processor time : nginx's, read by the same plain client | at most 1.25 | 1.00 | 1.00"
            " | 1.00 (1.00-1.00) | reached |",
            "| the whole command over TCP : nginx, aria2 and hash | at least 1.5 | ? | ? | ? | not measured |",
        ):
            self.assertIn(line, self.lines)

    def test_everyone(self) -> None:
        """A row has rate, time, processor time and memory; each group has a table."""
        self.assertIn(
            "| ours, TCP | 500 (250-1,000) | 2.00 (1.00-4.00) | 0.500 (0.250-1.000) | 1.000 (0.500-2.000)"
            " | 52 (51-54) | 62 (61-64) |",
            self.lines,
        )
        headings = [line.strip("*") for line in self.lines if line.startswith("**")]
        self.assertEqual(headings, [GROUPS["file"], GROUPS["nothing"]])

    def test_other_shapes(self) -> None:
        """Of those who fetch in other shapes there is a row for each shape, the one of all included."""
        rows = [line.split(" | ")[:3] for line in self.lines if line.startswith(("| 4 MiB", "| 64 MiB"))]
        self.assertEqual(
            rows,
            [
                ["| 4 MiB", "8", "ours, TCP"],
                ["| 4 MiB", "8", "ours, gRPC"],
                ["| 64 MiB", "1", "ours, TCP"],
                ["| 64 MiB", "1", "ours, gRPC"],
            ],
        )
        settings = dataclasses.replace(make_settings(), in_other_shapes=(), other_shapes=())
        self.assertNotIn("Other pieces", table(dataclasses.replace(make_report(), settings=settings)))

    def test_start_up(self) -> None:
        """What was taken off is told."""
        self.assertIn(
            "| ours, gRPC | 0.50 (0.50-0.50) | 0.125 (0.125-0.125) | 0.250 (0.250-0.250) | 50 (50-50) | 60 (60-60) |",
            self.lines,
        )

    def test_commands(self) -> None:
        """Every command of everyone is there, and every file that one names, with who has it."""
        report = make_report()
        more = entries(dataclasses.replace(make_settings(), contestants=("tls", "curl")))
        lines = table(dataclasses.replace(report, entries=(*report.entries, *more))).splitlines()
        for entry in (*report.entries, *more):
            for command in (f"{entry.parent} &", *entry.child):
                self.assertIn(command, lines)
        ours = "; ".join(CONTESTANTS[name].title for name in ("tcp", "plain-from-ours"))
        self.assertIn(f"`$turn/parent.yaml` ({ours})", lines)
        self.assertIn(f"`$turn/child.yaml` ({CONTESTANTS['tls'].title})", lines)
        self.assertIn("    sendfile on;", lines)

    def test_every_row_fits_its_head(self) -> None:
        """Each table has one number of columns."""
        for above, line in itertools.pairwise(self.lines):
            if above.startswith("|") and line.startswith("|"):
                self.assertEqual(above.count("|"), line.count("|"))

    def test_scatter_unknown(self) -> None:
        """What cannot be said is left out."""
        report = make_report()
        samples = tuple(dataclasses.replace(each, seconds=0.5) for each in report.samples)
        self.assertIn("scatter", table(report))
        self.assertNotIn("scatter", table(dataclasses.replace(report, samples=samples)))
