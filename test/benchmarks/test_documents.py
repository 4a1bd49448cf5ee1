"""Every drawn figure in the documents is in the file that a run wrote, and that file says what its samples say."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.__main__ import BENCHMARKS
from benchmarks.benchmark import drawn_part, read_report, write_report
from benchmarks.contest import panels
from test.benchmarks.test_charts import texts

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"

FIGURE = re.compile(r"\d *(?:[kMGT]i?B/s|s/[kMGT]i?B)\b")
"""What reads like a measured rate."""


class DocumentTests(SynchronousTestCase):
    """The reports in ``docs/``, and the tables and the chart that are drawn from them."""

    def test_tables(self) -> None:
        """Drawn again from its file, each table is the one that its page has."""
        for benchmark in BENCHMARKS.values():
            report = read_report(DOCS / benchmark.file)
            page = (DOCS / benchmark.page).read_text(encoding="utf-8")
            self.assertEqual(drawn_part(benchmark, page), benchmark.draw(report), benchmark.name)
            self.assertNotIn("-dirty", report.commit)

    def test_files(self) -> None:
        """Each file is as a run writes it, each has a benchmark, and no page has a drawn part without one."""
        for benchmark in BENCHMARKS.values():
            again = Path(self.mktemp())
            write_report(again, read_report(DOCS / benchmark.file))
            self.assertEqual(again.read_bytes(), (DOCS / benchmark.file).read_bytes(), benchmark.name)
        reports = {*DOCS.glob("measurements/*"), *DOCS.glob("*.json")}
        self.assertEqual(reports, {DOCS / each.file for each in BENCHMARKS.values()})
        drawn = [
            line
            for page in DOCS.glob("*.md")
            for line in page.read_text(encoding="utf-8").splitlines()
            if line.startswith("<!-- drawn from ") and "python -m benchmarks" in line
        ]
        self.assertEqual(sorted(drawn), sorted(each.begin for each in BENCHMARKS.values()))

    def test_chart(self) -> None:
        """Every figure of the contest's report is in the chart."""
        contest = BENCHMARKS["contest"]
        written = texts(DOCS / "performance.svg")
        shown = panels(read_report(DOCS / contest.file))
        labels = [bar.label for bars in shown.values() for bar in bars]
        self.assertEqual(len(labels), 3 * 17)
        for label in labels:
            self.assertIn(label, written)
            written.remove(label)

    def test_no_figure_beside_it(self) -> None:
        """The text around what is drawn has no rate: it would stay when the file has another one."""
        around = page = (DOCS / "performance.md").read_text(encoding="utf-8")
        for benchmark in BENCHMARKS.values():
            if benchmark.page == "performance.md":
                around = around.replace(drawn_part(benchmark, page), "")
        self.assertNotEqual(around, page)
        self.assertEqual(FIGURE.findall(around), [])
