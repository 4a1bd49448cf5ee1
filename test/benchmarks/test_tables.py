"""Figures as text, tables, and lines that compare two programs."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.tables import Line, best_and_median, length, spread, spread_text, table


class TextTests(SynchronousTestCase):
    """Units, spreads and tables."""

    def test_length(self) -> None:
        """A length is in the largest unit in which it is a whole number."""
        self.assertEqual(
            [length(each) for each in (10**9, 2**30, 256 * 10**6, 4 * 2**20, 12_000, 2048, 12_345)],
            ["1 GB", "1 GiB", "256 MB", "4 MiB", "12 kB", "2 KiB", "12345 bytes"],
        )

    def test_spread(self) -> None:
        """A median has the least and the most behind it; nothing is a question mark."""
        self.assertEqual(spread_text(spread([4000, 1000, 2000]), ",.1f", 1000), "2.0 (1.0-4.0)")
        self.assertEqual(spread_text(None, ".2f"), "?")

    def test_best(self) -> None:
        """The best is the least of costs, and the most of rates."""
        self.assertEqual(best_and_median([3, 1, 2], ".1f"), "1.0, 2.0")
        self.assertEqual(best_and_median([3000, 1000, 2000], ",.0f", max), "3,000, 2,000")

    def test_table(self) -> None:
        """A head has as many columns as names; a cell may be empty."""
        self.assertEqual(table(["", "one"], [["two", "3"], ["", ""]]), "| | one |\n|---|---|\n| two | 3 |\n| | |")


class LineTests(SynchronousTestCase):
    """A ratio, by the best of both and by the median of the rounds."""

    def row(self, line: Line, *, ours: list[float], other: list[float]) -> list[str]:
        """The cells behind the title."""
        seen = {line.ours: dict(enumerate(ours)), line.other: dict(enumerate(other))}
        return line.row(lambda name, by: seen[name] if by == line.by else {})[1:]

    def test_cost(self) -> None:
        """A cost is a part of the other's."""
        line = Line(title="", ours="a", other="b", by="parent", at_most=0.55)
        self.assertEqual(
            self.row(line, ours=[40e-6, 50e-6, 60e-6], other=[80e-6, 100e-6, 90e-6]),
            ["at most 0.55", "0.50", "0.50 (0.50-0.67)", "40 µs, 80 µs"],
        )

    def test_rate(self) -> None:
        """A rate is the other's time by ours; one that is missed is bold. Rounds that one side lacks do not count."""
        line = Line(title="", ours="a", other="b", at_least=0.75)
        self.assertEqual(
            self.row(line, ours=[2.0, 4.0], other=[1.0]),
            ["at least 0.75", "**0.50**", "0.50 (0.50-0.50)", "2 s, 1 s"],
        )

    def test_time(self) -> None:
        """A time that is compared with no other is shown as it is."""
        line = Line(title="", ours="a", at_most=0.02)
        self.assertEqual(
            self.row(line, ours=[0.0005], other=[]), ["at most 0.02", "0.0005", "0.0005 (0.0005-0.0005)", "500 µs"]
        )

    def test_not_measured(self) -> None:
        """A line says so where a side was not measured, or cannot be told from start-up."""
        line = Line(title="", ours="a", other="b", at_least=0.75)
        for ours in ([], [0.0]):
            self.assertEqual(self.row(line, ours=ours, other=[1.0]), ["at least 0.75", "not measured", "?", ""])
