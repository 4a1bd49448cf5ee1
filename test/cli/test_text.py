"""How things are put in words."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.cli.text import counted, one_line


class LineTests(SynchronousTestCase):
    """Texts for a terminal."""

    def test_counted(self) -> None:
        """One thing is one, none and several are many."""
        self.assertEqual([counted(number, "piece") for number in (0, 1, 2)], ["0 pieces", "1 piece", "2 pieces"])

    def test_what_can_be_printed_stays(self) -> None:
        """Text in any language is left alone."""
        self.assertEqual(one_line("/tmp/übergröße 文件: 'x'"), "/tmp/übergröße 文件: 'x'")

    def test_what_cannot_be_printed_is_escaped(self) -> None:
        """Ends of lines, what a terminal would obey, and bytes that are no text are shown as escapes."""
        self.assertEqual(one_line("a\nb\r\tc\x1b[31m\x7f\udcff\u2028\x85"), r"a\nb\r\tc\x1b[31m\x7f\udcff\u2028\x85")
