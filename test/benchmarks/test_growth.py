"""Growth: a tiny run, and the tables."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from benchmarks import growth
from benchmarks.benchmark import Sample
from benchmarks.growth import BENCHMARK, Subject, draw, slope
from test.benchmarks.reports import quick_samples, report_of


class GrowthTests(SynchronousTestCase):
    """The benchmark."""

    def test_measure(self) -> None:
        """Each step runs in a process of its own, and says what it needed."""
        one = Subject("", (), (2,), {"plan": "", "children": ""})
        self.patch(growth, "_SUBJECTS", (one,))
        samples = quick_samples(self, BENCHMARK.measure)
        self.assertEqual(sorted((each["step"], each["size"]) for each in samples), [("children", 2), ("plan", 2)])
        self.assertTrue(all(each["processor"] > 0 and each["grown"] >= 0 for each in samples))

    def test_slope(self) -> None:
        """The slope is the exponent up to the largest size, from one that is far enough from it."""
        self.assertAlmostEqual(slope([10, 100, 1000], [5, 3, 30]), 1.0)
        self.assertAlmostEqual(slope([10, 100, 1000, 2000], [5, 3, 7, 60]), 1.0)
        self.assertAlmostEqual(slope([10, 20], [1, 4]), 2.0)

    def test_draw(self) -> None:
        """Times are medians, memory is the most; growth that is worse than linear is bold, what is small has none."""
        samples: list[Sample] = [
            dict(step="children", size=size, processor=seconds, grown=grown, load=load)
            for size, grown, load in ((10, 1_000_000, 0.5), (100, 10_000_000, 2.0))
            for seconds in (size**2 / 100, size**2 / 50, size**2 / 200)
        ]
        samples += [dict(step="sparse", size=size, processor=0.001, grown=0, load=1.0) for size in (1, 5, 10)]
        text = draw(report_of(samples))
        self.assertIn("load average was 0.5 to 2.0", text)
        self.assertIn("| 1,000, 1.0 | 100,000, 10.0 | **2.00**, 1.00 |", text)
        self.assertIn("| gigabytes of a task | 1 | 10 | slopes |\n|---|---|---|---|\n| open 100", text)
        self.assertIn("| 1, 0.0 | 1, 0.0 | -, - |", text)
