"""The values of options, and what is said of a text that is none."""

from __future__ import annotations

import sys
from argparse import ArgumentTypeError

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.cli import values


class ValueTests(SynchronousTestCase):
    """Texts that are values, and others. Most are read in ``test_arguments``, by the whole parser."""

    def test_durations(self) -> None:
        """A duration is written as for dfget, or as a plain number of seconds, in each option."""
        texts = ("2h", "1m 30s", "500ms", "0", "0s", "90", "0.5", "10y")
        self.assertEqual(
            [values.duration(text) for text in texts], [7200.0, 90.0, 0.5, 0.0, 0.0, 90.0, 0.5, 315_576_000.0]
        )
        self.assertEqual([values.ttl(text) for text in ("2h", "0.5", "0", "0s", "5")], [7200, 1, 0, 0, 5])
        for text in ("", "-1s", "-1", "2 hours ago", "101y", "inf", "9" * 5000 + "s", "9" * 5000):
            for read in (values.duration, values.ttl):
                with self.assertRaisesRegex(
                    ArgumentTypeError, r"expected a duration of at most 100y, such as 90s, 1h30m or 90 \(seconds\), got"
                ):
                    read(text)

    def test_rates(self) -> None:
        """A rate is written as in the configuration."""
        self.assertEqual([values.rate(text) for text in ("10MB", "1MiB", "500")], [10_000_000, 1 << 20, 500])
        for text in ("", "fast", "-1"):
            with self.assertRaisesRegex(ArgumentTypeError, f"^expected a size from 1 to .*, got '{text}'$"):
                values.rate(text)

    def test_closed_output(self) -> None:
        """Standard output can be the output where it is open."""
        self.assertEqual(values.output("-"), "-")
        self.patch(sys, "stdout", None)
        with self.assertRaisesRegex(ArgumentTypeError, "expected standard output to be open, it is closed"):
            values.output("-")

    def test_flags(self) -> None:
        """A flag of the environment is one of the two words that dfget takes."""
        self.assertEqual([values.flag("true"), values.flag("false")], [True, False])
        for text in ("1", "yes", "", "True"):
            with self.assertRaisesRegex(ArgumentTypeError, f"expected true or false, got '{text}'"):
                values.flag(text)
