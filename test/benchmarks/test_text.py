"""Figures as text."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.text import best_and_median, length, spread, spread_text, table


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
