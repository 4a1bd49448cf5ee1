"""A report as a chart."""

from __future__ import annotations

import dataclasses
import importlib.util
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.chart import Bar, draw, panels
from test.benchmarks.reports import make_report

ROOT = Path(__file__).resolve().parent.parent.parent


def texts(chart: Path) -> list[str]:
    """All that is written in an SVG."""
    return [element.text or "" for element in ET.parse(chart).iter("{http://www.w3.org/2000/svg}text")]


class PanelsTests(SynchronousTestCase):
    """What the chart shows."""

    def setUp(self) -> None:
        self.rows = panels(make_report())

    def test_fields(self) -> None:
        """There is a row for each measure, a column for each piece length, a group for each concurrency."""
        self.assertEqual([row[0].unit.split(",")[0] for row in self.rows], ["MB/s", "processor s/GB", "peak MB"])
        for row in self.rows:
            self.assertEqual([panel.title for panel in row], ["pieces of 4 MiB", "pieces of 64 MiB"])
            for panel in row:
                self.assertEqual([concurrency for concurrency, _ in panel.groups], [1, 8])
                for _, bars in panel.groups:
                    self.assertEqual([bar.transport for bar in bars], ["tcp", "grpc"])

    def test_bars(self) -> None:
        """A bar is a median: of throughput with its reach, of the costs the parent's with the child's on top."""
        tcp = [row[0].groups[0][1][0] for row in self.rows]
        self.assertEqual(
            tcp,
            [
                Bar(transport="tcp", parts=(500.0,), reach=(250.0, 1000.0), label="500"),
                Bar(transport="tcp", parts=(0.5, 1.0), reach=None, label="0.50 + 1.00"),
                Bar(transport="tcp", parts=(52.0, 62.0), reach=None, label="52 + 62"),
            ],
        )

    def test_nothing_to_show(self) -> None:
        """Where there is no rate, a question mark stands in place of a bar."""
        report = make_report()
        cells = tuple(dataclasses.replace(cell, rate=None) for cell in report.figures.cells)
        rows = panels(dataclasses.replace(report, figures=dataclasses.replace(report.figures, cells=cells)))
        self.assertEqual(rows[0][0].groups[0][1][0], Bar(transport="tcp", parts=(0.0,), reach=None, label="?"))


class DrawTests(SynchronousTestCase):
    """The drawing itself."""

    if importlib.util.find_spec("matplotlib") is None:
        skip = "matplotlib is not installed: it comes with the extra bench"

    def test_figures_are_text(self) -> None:
        """Every figure and every title is written in the chart."""
        path = Path(self.mktemp())
        draw(make_report(), path)
        written = texts(path)
        for row in panels(make_report()):
            for panel in row:
                self.assertIn(panel.title, written)
                for concurrency, bars in panel.groups:
                    self.assertIn(str(concurrency), written)
                    for bar in bars:
                        self.assertIn(bar.label, written)

    def test_the_same_again(self) -> None:
        """Drawn again from the same report, the chart is the same."""
        directory = Path(self.mktemp())
        directory.mkdir()
        draw(make_report(), directory / "chart.svg")
        before = (directory / "chart.svg").read_bytes()
        draw(make_report(), directory / "chart.svg")
        self.assertEqual((directory / "chart.svg").read_bytes(), before)


class ImportTests(SynchronousTestCase):
    """What is loaded when."""

    def test_not_loaded_at_import(self) -> None:
        """Nothing that measures or says something needs matplotlib, and nothing needs gRPC or Twisted."""
        program = "import sys, benchmarks.__main__\nprint(*{name.partition('.')[0] for name in sys.modules})"
        ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
        loaded = set(ran.stdout.split())
        self.assertIn("benchmarks", loaded)
        self.assertEqual(loaded & {"matplotlib", "numpy", "grpc", "twisted"}, set())
