"""Lines in a chart."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.curves import Curve, draw_curves
from test.benchmarks.test_chart import texts


class CurvesTests(SynchronousTestCase):
    """The drawing itself."""

    if importlib.util.find_spec("matplotlib") is None:
        skip = "matplotlib is not installed: it comes with the extra bench"

    def test_draw(self) -> None:
        """Titles, axes and numbers of peers are written as text, and the same curves give the same bytes."""
        curves = [
            Curve(title="measured", points=[(1, 8.0), (500, 20.0)], reaches=[(7.0, 9.0), (18.0, 22.0)]),
            Curve(title="calculated", points=[(1, 8.0), (16, 9.0)], is_dashed=True),
        ]
        path = Path(self.mktemp())
        draw_curves(curves, path, "peers", "seconds")
        before, written = path.read_bytes(), [text.strip() for text in texts(path)]
        for text in ("measured", "calculated", "peers", "seconds", "1", "16", "500"):
            self.assertIn(text, written)
        draw_curves(curves, path, "peers", "seconds")
        self.assertEqual(path.read_bytes(), before)
