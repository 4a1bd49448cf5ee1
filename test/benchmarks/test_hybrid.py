"""Both transports at once: the measurement works."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.hybrid import WAYS, Turn, draw, measure


class HybridTests(SynchronousTestCase):
    """The measurement, its samples and its table."""

    def test_draw(self) -> None:
        """A line has the least and the median of each way, and how they compare."""
        seconds = {"TCP alone": (2.0, 1.0, 4.0), "both": (3.0, 8.0, 2.0)}
        turns = [
            Turn(way=way, piece_length=4 << 20, concurrency=8, seconds=each, processor_seconds=0.0)
            for way in WAYS
            for each in seconds[way]
        ]
        self.assertEqual(draw(turns).splitlines()[2:], ["| 4 MiB | 8 | 1.00, 2.00 | 2.00, 3.00 | 2.00, 1.50 |"])

    def test_measure(self) -> None:
        """Each way fetches the file from two real parents, in each round."""
        directory = Path(self.mktemp())
        directory.mkdir()
        turns = measure(1_000_000, 1, [(65536, 2)], directory.resolve())
        self.assertEqual({turn.way for turn in turns}, set(WAYS))
        self.assertTrue(all(turn.seconds > 0 and turn.processor_seconds > 0 for turn in turns))
