"""Every figure in the documents stands in the file that a run wrote, and that file says what its samples say."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.__main__ import PART
from benchmarks.chart import panels
from benchmarks.report import read_report, write_report
from benchmarks.table import table
from test.benchmarks.test_chart import texts

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = ROOT / "docs"

FIGURE = re.compile(r"\d *(?:[kMGT]i?B/s|s/[kMGT]i?B)\b")
"""What reads like something that was measured."""


class DocumentTests(SynchronousTestCase):
    """``docs/performance.json`` and what is drawn from it."""

    def setUp(self) -> None:
        self.report = read_report(DOCS / "performance.json")

    def test_table(self) -> None:
        """Drawn again from the file, the tables are those of the page."""
        page = (DOCS / "performance.md").read_text(encoding="utf-8")
        self.assertEqual(PART.read(page), table(self.report))

    def test_chart(self) -> None:
        """Every figure of the file's chart is in the chart."""
        written = [text.strip() for text in texts(DOCS / "performance.svg")]
        labels = [bar.label for panel in panels(self.report) for bar in panel.bars]
        self.assertNotEqual(labels, [])
        for label in labels:
            self.assertIn(label, written)
            written.remove(label)

    def test_figures(self) -> None:
        """Calculated again from the file's samples, its figures are the same."""
        again = Path(self.mktemp())
        write_report(again, self.report)
        self.assertEqual(again.read_bytes(), (DOCS / "performance.json").read_bytes())

    def test_no_figure_beside_it(self) -> None:
        """The text around what is drawn tells no rate: it would stand there when the file has another one."""
        page = (DOCS / "performance.md").read_text(encoding="utf-8")
        around = page.replace(PART.read(page), "")
        self.assertNotEqual(around, page)
        self.assertEqual(FIGURE.findall(around), [])
