"""The part of a document that is drawn."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.page import BEGIN, END, drawn_part, redraw


class PageTests(SynchronousTestCase):
    """What stands between the markers, and nothing else, is replaced."""

    def test_redraw(self) -> None:
        """The text around the markers stays, and what is drawn can be read and drawn again."""
        path = Path(self.mktemp())
        path.write_text(f"before\n\n{BEGIN}\n\n{END}\n\nafter\n", encoding="utf-8")
        for part in ("a\nb", "c"):
            redraw(path, part)
            page = path.read_text(encoding="utf-8")
            self.assertEqual(page, f"before\n\n{BEGIN}\n{part}\n{END}\n\nafter\n")
            self.assertEqual(drawn_part(page), part)

    def test_markers_missing(self) -> None:
        """Without both markers, once and in order, nothing is written."""
        path = Path(self.mktemp())
        for page in ("", f"{BEGIN}\na\n", f"a\n{END}\n", f"{END}\n{BEGIN}\n", f"{BEGIN}\n{BEGIN}\n\n{END}\n"):
            path.write_text(page, encoding="utf-8")
            self.assertRaises(ValueError, redraw, path, "b")
            self.assertEqual(path.read_text(encoding="utf-8"), page)
