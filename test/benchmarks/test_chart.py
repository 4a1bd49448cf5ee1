"""The contest's report as a chart."""

from __future__ import annotations

import dataclasses
import importlib.util
import xml.etree.ElementTree as ET
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.chart import Bar, draw_chart, panels
from benchmarks.contestants import CONTESTANTS, GROUPS
from test.benchmarks.reports import contest_report


def texts(chart: Path) -> list[str]:
    """All that is written in an SVG."""
    return [element.text or "" for element in ET.parse(chart).iter("{http://www.w3.org/2000/svg}text")]


class PanelsTests(SynchronousTestCase):
    """What the chart shows."""

    def test_order(self) -> None:
        """Each panel has a bar for each contestant, those of one group together."""
        report = contest_report()
        names = ("tcp", "grpc", "plain-from-ours", "plain-from-nginx")
        for bars in panels(dataclasses.replace(report, entries=report.entries[::-1])).values():
            self.assertEqual({bar.title for bar in bars}, {CONTESTANTS[name].title for name in names})
            self.assertEqual([bar.group for bar in bars], ["file", "file", "nothing", "nothing"])

    def test_bars(self) -> None:
        """A bar is a median: of throughput with its reach, of the costs the parent's with the child's behind it."""
        title = CONTESTANTS["tcp"].title
        self.assertEqual(
            {unit: bars[0] for unit, bars in panels(contest_report()).items()},
            {
                "MB/s": Bar(title=title, group="file", parts=(500.0,), reach=(250.0, 1000.0), label="500 (250-1,000)"),
                "processor s/GB, parent + child": Bar(
                    title=title, group="file", parts=(0.5, 1.0), reach=None, label="0.50 + 1.00"
                ),
                "peak MB, parent + child": Bar(
                    title=title, group="file", parts=(52.0, 62.0), reach=None, label="52 + 62"
                ),
            },
        )

    def test_nothing_to_show(self) -> None:
        """Where there is no rate, a question mark stands in place of a bar."""
        report = contest_report()
        samples = [dataclasses.replace(each, seconds=0.5) for each in report.samples]
        bar = panels(dataclasses.replace(report, samples=samples))["MB/s"][0]
        self.assertEqual((bar.parts, bar.reach, bar.label), ((0.0,), None, "?"))


class DrawTests(SynchronousTestCase):
    """The drawing itself."""

    if importlib.util.find_spec("matplotlib") is None:
        skip = "matplotlib is not installed: it comes with the extra bench"

    def test_every_group(self) -> None:
        """A contestant of each group has its bar."""
        report = contest_report()
        for group in GROUPS:
            with self.subTest(group=group):
                entries = [dataclasses.replace(entry, group=group) for entry in report.entries]
                path = Path(self.mktemp())
                draw_chart(dataclasses.replace(report, entries=entries), path)
                self.assertIn(GROUPS[group], texts(path))

    def test_draw(self) -> None:
        """Every figure and title is written as text, and the same report gives the same bytes."""
        path = Path(self.mktemp())
        draw_chart(contest_report(), path)
        before, written = path.read_bytes(), [text.strip() for text in texts(path)]
        for unit, bars in panels(contest_report()).items():
            self.assertIn(unit, written)
            for bar in bars:
                self.assertIn(bar.label, written)
                self.assertIn(bar.title, written)
        draw_chart(contest_report(), path)
        self.assertEqual(path.read_bytes(), before)
