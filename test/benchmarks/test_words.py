"""Figures in words."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from benchmarks import words
from benchmarks.figures import Spread


class WordsTests(SynchronousTestCase):
    """Units, and as many digits as are worth reading."""

    def test_length(self) -> None:
        """A length is told in the unit in which somebody chose it."""
        self.assertEqual(
            [words.length(each) for each in (10**9, 2**30, 256 * 10**6, 4 * 2**20, 12_000, 2048, 12_345)],
            ["1 GB", "1 GiB", "256 MB", "4 MiB", "12 kB", "2 KiB", "12345 bytes"],
        )

    def test_figures(self) -> None:
        """Rates and memory are in whole megabytes, times in hundredths of a second."""
        self.assertEqual(words.rate(1_234_567_890.0), "1,235")
        self.assertEqual(words.megabytes(54_321_000), "54")
        self.assertEqual(words.seconds(0.125), "0.12")
        self.assertEqual(words.percent(0.256), "26 %")
        self.assertEqual(words.times(2.449), "2.45")
        self.assertEqual(words.processor(0.0625), "0.062")

    def test_range(self) -> None:
        """A median is followed by the least and the most."""
        self.assertEqual(words.with_range(Spread(minimum=1, median=2, maximum=4), words.seconds), "2.00 (1.00-4.00)")

    def test_nothing(self) -> None:
        """Where nothing can be said stands a question mark."""
        self.assertEqual((words.times(None), words.with_range(None, words.rate)), ("?", "?"))
