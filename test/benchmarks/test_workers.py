"""Several workers: a tiny run, and the table."""

from __future__ import annotations

import dataclasses

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.workers import BENCHMARK, Sample, draw
from test.benchmarks.reports import report_of
from test.benchmarks.tiny import quick_samples


def sample(piece_length: int, seconds: float) -> Sample:
    """A turn of two workers and four connections that have read a gigabyte."""
    return Sample(
        workers=2,
        connections=4,
        piece_length=piece_length,
        content_length=10**9,
        seconds=seconds,
        processor_seconds=seconds / 4,
    )


class WorkersTests(SynchronousTestCase):
    """The benchmark."""

    def test_measure(self) -> None:
        """Pieces of both lengths come from one process and from two workers."""
        samples = quick_samples(self, BENCHMARK.measure)
        self.assertEqual(
            {(each.workers, each.piece_length) for each in samples}, {(1, 4096), (2, 4096), (1, 1 << 20), (2, 1 << 20)}
        )
        self.assertTrue(all(each.seconds > 0 and each.processor_seconds > 0 for each in samples))

    def test_draw(self) -> None:
        """For each length of pieces the best and the median rate, and the least cost, of the middle connections."""
        samples = [*(sample(1 << 20, seconds) for seconds in (1.0, 2.0, 4.0)), sample(1 << 16, 5.0)]
        samples.append(dataclasses.replace(samples[0], connections=1))
        self.assertEqual(draw(report_of(samples)).splitlines()[4:], ["| 2 | 4 | 1000, 500 | 0.25 | 200, 200 | 1.25 |"])
