"""The part of a document that is drawn."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.page import END, DrawnPart

PART = DrawnPart("figures.json", "python -m figures")
OTHER = DrawnPart("others.json", "python -m others")


class DrawnPartTests(SynchronousTestCase):
    """What stands between a part's markers, and nothing else, is replaced."""

    def test_redraw(self) -> None:
        """The text around the markers stays, another part too, and what is drawn can be read and drawn again."""
        path = Path(self.mktemp())
        other = f"{OTHER.begin}\nold\n{END}\n"
        path.write_text(f"before\n\n{other}\n{PART.begin}\n\n{END}\n\nafter\n", encoding="utf-8")
        for part in ("a\nb", "c"):
            PART.redraw(path, part)
            page = path.read_text(encoding="utf-8")
            self.assertEqual(page, f"before\n\n{other}\n{PART.begin}\n{part}\n{END}\n\nafter\n")
            self.assertEqual((PART.read(page), OTHER.read(page)), (part, "old"))

    def test_markers_missing(self) -> None:
        """Without both markers, once and in order, nothing is written."""
        path = Path(self.mktemp())
        begin = PART.begin
        twice, open_ended = f"{begin}\n{begin}\n\n{END}\n", f"{begin}\n{OTHER.begin}\nb\n{END}\n"
        for page in ("", f"{begin}\na\n", f"a\n{END}\n", f"{END}\n{begin}\n", twice, open_ended):
            path.write_text(page, encoding="utf-8")
            self.assertRaises(ValueError, PART.redraw, path, "b")
            self.assertEqual(path.read_text(encoding="utf-8"), page)
