"""Small pieces: the measurement works."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.installed import find
from benchmarks.small_pieces import MEASUREMENT, WAYS, Sample, draw


class SmallPiecesTests(SynchronousTestCase):
    """The measurement, its samples and its table."""

    def test_draw(self) -> None:
        """A line has the most and the median of the requests in a second, and the least and the median of the cost."""
        samples = [
            Sample(server="dfvortex", way=WAYS[1].name, requests=1000, seconds=seconds, processor=processor)
            for seconds, processor in ((0.5, 0.04), (0.125, 0.02), (1.0, 0.09))
        ]
        self.assertEqual(draw(samples).splitlines()[2:], [f"| {WAYS[1].name} | dfvortex | 8,000, 2,000 | 20.0, 40.0 |"])

    def test_measure(self) -> None:
        """Each way is taken with each server that is there, and all requests are answered."""
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        samples = list(MEASUREMENT.measure(directory, True, lambda line: None))
        servers = {"dfvortex", "nginx"} if find("nginx") else {"dfvortex"}
        self.assertEqual(
            {(sample.server, sample.way) for sample in samples}, {(s, way.name) for s in servers for way in WAYS}
        )
        self.assertTrue(all(sample.requests >= 256 and sample.processor > 0 for sample in samples))
