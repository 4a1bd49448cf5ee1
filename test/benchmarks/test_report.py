"""The JSON file of a run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.report import read_report, write_report
from test.benchmarks.reports import make_report


class ReportTests(SynchronousTestCase):
    """What is written is read."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.report = make_report()

    def test_round_trip(self) -> None:
        """What is read is what was written, types and all."""
        write_report(self.path, self.report)
        self.assertEqual(read_report(self.path), self.report)

    def test_nothing_to_say(self) -> None:
        """What is None stays so."""
        figures = dataclasses.replace(
            self.report.figures,
            scatter=None,
            cells=tuple(dataclasses.replace(cell, rate=None) for cell in self.report.figures.cells),
        )
        report = dataclasses.replace(self.report, figures=figures)
        write_report(self.path, report)
        self.assertEqual(read_report(self.path), report)

    def test_is_json(self) -> None:
        """It is JSON in which everything has its name, also for whoever does not know these classes."""
        write_report(self.path, self.report)
        data = json.loads(self.path.read_text(encoding="utf-8"))
        self.assertEqual(data["figures"]["cells"][0]["seconds"], {"minimum": 1.0, "median": 2.0, "maximum": 4.0})
        self.assertEqual(data["machine"]["packages"]["Twisted"], "26.10.0")
        self.assertEqual(len(data["samples"]), len(self.report.samples))

    def test_a_line_for_each(self) -> None:
        """Each sample has a line of its own, without needless decimals."""
        samples = (dataclasses.replace(self.report.samples[0], seconds=1 / 3), *self.report.samples[1:])
        write_report(self.path, dataclasses.replace(self.report, samples=samples))
        lines = [line for line in self.path.read_text(encoding="utf-8").splitlines() if '"round":' in line]
        self.assertEqual(len(lines), len(samples))
        self.assertIn('"seconds": 0.333333,', lines[0])

    def test_something_missing(self) -> None:
        """A file that lacks something is no report."""
        write_report(self.path, self.report)
        data = json.loads(self.path.read_text(encoding="utf-8"))
        del data["machine"]["kernel"]
        self.path.write_text(json.dumps(data), encoding="utf-8")
        self.assertRaises(KeyError, read_report, self.path)
