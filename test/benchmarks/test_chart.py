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
from benchmarks.contestants import CONTESTANTS
from test.benchmarks.reports import make_report, make_settings

ROOT = Path(__file__).resolve().parent.parent.parent


def texts(chart: Path) -> list[str]:
    """All that is written in an SVG."""
    return [element.text or "" for element in ET.parse(chart).iter("{http://www.w3.org/2000/svg}text")]


class PanelsTests(SynchronousTestCase):
    """What the chart shows."""

    def setUp(self) -> None:
        self.panels = panels(make_report())

    def test_fields(self) -> None:
        """There is a field for each measure, and in each a bar for everyone, in the same order."""
        self.assertEqual([panel.unit.split(",")[0] for panel in self.panels], ["MB/s", "processor s/GB", "peak MB"])
        for panel in self.panels:
            self.assertEqual(
                [bar.title for bar in panel.bars], [CONTESTANTS[name].title for name in make_settings().contestants]
            )

    def test_order(self) -> None:
        """Those who do the same with the bytes stand together."""
        report = make_report()
        shuffled = dataclasses.replace(report, entries=report.entries[::-1])
        groups = [bar.group for bar in panels(shuffled)[0].bars]
        self.assertEqual(groups, ["file", "file", "nothing", "nothing"])

    def test_bars(self) -> None:
        """A bar is a median: of throughput with its reach, of the costs the parent's with the child's behind it."""
        title = CONTESTANTS["tcp"].title
        self.assertEqual(
            [panel.bars[0] for panel in self.panels],
            [
                Bar(title=title, group="file", parts=(500.0,), reach=(250.0, 1000.0), label="500 (250-1,000)"),
                Bar(title=title, group="file", parts=(0.5, 1.0), reach=None, label="0.50 + 1.00"),
                Bar(title=title, group="file", parts=(52.0, 62.0), reach=None, label="52 + 62"),
            ],
        )

    def test_nothing_to_show(self) -> None:
        """Where there is no rate, a question mark stands in place of a bar."""
        report = make_report()
        samples = tuple(dataclasses.replace(each, seconds=0.5) for each in report.samples)
        shown = panels(dataclasses.replace(report, samples=samples))
        bar = shown[0].bars[0]
        self.assertEqual((bar.parts, bar.reach, bar.label), ((0.0,), None, "?"))


class DrawTests(SynchronousTestCase):
    """The drawing itself."""

    if importlib.util.find_spec("matplotlib") is None:
        skip = "matplotlib is not installed: it comes with the extra bench"

    def test_figures_are_text(self) -> None:
        """Every figure and every title is written in the chart."""
        path = Path(self.mktemp())
        draw(make_report(), path)
        written = [text.strip() for text in texts(path)]
        for panel in panels(make_report()):
            self.assertIn(panel.unit, written)
            for bar in panel.bars:
                self.assertIn(bar.label, written)
                self.assertIn(bar.title, written)

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
