"""Tables in Markdown."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.markdown import head, row


class MarkdownTests(SynchronousTestCase):
    """The lines of a table."""

    def test_lines(self) -> None:
        """A head has as many columns as names; a cell may be empty."""
        self.assertEqual(head("", "one"), ("| | one |", "|---|---|"))
        self.assertEqual(row("two", "", "3"), "| two | | 3 |")
