"""The values of options, and what is said of a text that is none."""

from __future__ import annotations

from argparse import ArgumentTypeError

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.cli import values


class ValueTests(SynchronousTestCase):
    """Texts that are values, and others. Most are read in ``test_arguments``, by the whole parser."""

    def test_durations(self) -> None:
        """A duration has units, as for dfget; without one it is refused, as there."""
        self.assertEqual([values.duration(text) for text in ("2h", "1m 30s", "500ms", "0")], [7200.0, 90.0, 0.5, 0.0])
        for text in ("5", "", "-1s", "2 hours ago", "9" * 5000 + "s"):
            with self.assertRaisesRegex(ArgumentTypeError, "expected a duration with a unit, such as 90s or 2h, got"):
                values.duration(text)

    def test_flags(self) -> None:
        """A flag of the environment is one of the two words that dfget takes."""
        self.assertEqual([values.flag("true"), values.flag("false")], [True, False])
        for text in ("1", "yes", "", "True"):
            with self.assertRaisesRegex(ArgumentTypeError, f"expected true or false, got '{text}'"):
                values.flag(text)
