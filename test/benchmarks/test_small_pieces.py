"""Small pieces: a tiny run, and the table."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.machine import find
from benchmarks.small_pieces import BENCHMARK, WAYS, Sample, draw
from test.benchmarks.reports import report_of
from test.benchmarks.tiny import quick_samples


class SmallPiecesTests(SynchronousTestCase):
    """The benchmark."""

    def test_measure(self) -> None:
        """Each way is taken with each server that is installed, and all requests are answered."""
        samples = quick_samples(self, BENCHMARK.measure)
        servers = {"dfvortex", "nginx"} if find("nginx") else {"dfvortex"}
        self.assertEqual(
            {(each.server, each.way) for each in samples}, {(s, way.name) for s in servers for way in WAYS}
        )
        self.assertTrue(all(each.requests == 256 and each.processor > 0 for each in samples))

    def test_draw(self) -> None:
        """A line has the most and the median of the requests in a second, and the least and the median of the cost."""
        samples = [
            Sample(server="dfvortex", way=WAYS[1].name, requests=1000, seconds=seconds, processor=processor)
            for seconds, processor in ((0.5, 0.04), (0.125, 0.02), (1.0, 0.09))
        ]
        self.assertEqual(draw(report_of(samples)).splitlines()[6:], [f"| {WAYS[1].name} | 8,000, 2,000 | 20.0, 40.0 |"])
