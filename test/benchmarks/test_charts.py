"""Charts."""

from __future__ import annotations

import dataclasses
import importlib.util
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.charts import Curve, draw_bars, draw_curves
from benchmarks.contest import panels
from benchmarks.contestants import GROUPS
from test.benchmarks.reports import contest_report


def texts(chart: Path) -> list[str]:
    """All that is written in an SVG."""
    return [(element.text or "").strip() for element in ET.parse(chart).iter("{http://www.w3.org/2000/svg}text")]


class DrawTests(SynchronousTestCase):
    """Figures and titles are written as text, and the same figures give the same bytes."""

    if importlib.util.find_spec("matplotlib") is None:
        skip = "matplotlib is not installed: it comes with the extra bench"

    def drawn(self, draw: Callable[[Path], None]) -> list[str]:
        """What is written in a chart."""
        path = Path(self.mktemp())
        draw(path)
        before = path.read_bytes()
        draw(path)
        self.assertEqual(path.read_bytes(), before)
        return texts(path)

    def test_bars(self) -> None:
        """Panels have their units, bars their titles and labels, and each group its legend."""
        shown = panels(contest_report())
        for group in GROUPS:
            recoloured = {unit: [dataclasses.replace(bar, group=group) for bar in bars] for unit, bars in shown.items()}
            written = self.drawn(lambda path, panels=recoloured: draw_bars(panels, path))  # type: ignore[misc]
            self.assertIn(GROUPS[group], written)
        for unit, bars in shown.items():
            for text in (unit, *(bar.label for bar in bars), *(bar.title for bar in bars)):
                self.assertIn(text, written)

    def test_curves(self) -> None:
        """Curves have their titles, axes and numbers of peers."""
        curves = [
            Curve(title="measured", points=[(1, 8.0), (500, 20.0)], reaches=[(7.0, 9.0), (18.0, 22.0)]),
            Curve(title="calculated", points=[(1, 8.0), (16, 9.0)], is_dashed=True),
        ]
        written = self.drawn(lambda path: draw_curves(curves, path, "peers", "seconds"))
        for text in ("measured", "calculated", "peers", "seconds", "1", "16", "500"):
            self.assertIn(text, written)
