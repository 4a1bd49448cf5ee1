"""Receiving: the measurement works."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from benchmarks import receiving
from benchmarks.receiving import MEASUREMENT, NETWORKS, TECHNIQUES, Sample, draw


class ReceivingTests(SynchronousTestCase):
    """The measurement, its samples and its table."""

    def test_draw(self) -> None:
        """A cell has the best and the median of the rate, and of what a gigabyte costs."""
        samples = [
            Sample(
                network=network.name,
                technique=technique.name,
                length=500_000_000,
                seconds=seconds,
                processor=processor,
            )
            for network in NETWORKS
            for technique in TECHNIQUES
            for seconds, processor in ((0.5, 0.4), (0.25, 0.2), (1.0, 0.9))
        ]
        lines = draw(samples).splitlines()
        self.assertEqual(lines[2], f"| {TECHNIQUES[0].name} |" + " 2000, 1000; 0.40, 0.80 |" * len(NETWORKS))
        self.assertEqual(len(lines), 2 + len(TECHNIQUES))

    def test_measure(self) -> None:
        """A technique is measured over a paced network, with all its bytes."""
        self.patch(receiving, "NETWORKS", NETWORKS[-1:])
        self.patch(receiving, "TECHNIQUES", TECHNIQUES[-1:])
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        (sample,) = MEASUREMENT.measure(directory, True, lambda line: None)
        self.assertEqual((sample.network, sample.length), (NETWORKS[-1].name, 8 * 4 * 2**20))
        self.assertTrue(sample.processor > 0)
