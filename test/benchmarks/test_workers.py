"""Several workers: the table, and a turn with two of them."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.material import import_file, make_file
from benchmarks.workers import WAYS, Sample, Workers, draw


def sample(accepted: tuple[int, ...], piece_length: int, seconds: float) -> Sample:
    """A turn of two workers, who have read a gigabyte."""
    return Sample(
        way=WAYS[0],
        workers=len(accepted),
        connections=sum(accepted),
        piece_length=piece_length,
        content_length=10**9,
        seconds=seconds,
        processor_seconds=seconds / 4,
        accepted=accepted,
    )


class WorkersTests(SynchronousTestCase):
    """The measurement, its samples and its table."""

    def test_draw(self) -> None:
        """A line has how connections were distributed, and for each length of pieces the rate and what it cost."""
        samples = [
            sample(accepted, 1 << 20, seconds) for accepted, seconds in (((2, 2), 1.0), ((3, 1), 2.0), ((4, 0), 4.0))
        ]
        samples.append(sample((2, 2), 1 << 16, 5.0))
        self.assertEqual(
            draw(samples).splitlines()[2:],
            ["| 2 | one socket, in turns | 4 | 3; 4 | 1 of 4 | 1000; 500 | 0.25 | 200; 200 | 1.25 |"],
        )

    def test_turn(self) -> None:
        """Both workers accept, and the task comes from them."""
        directory = Path(self.mktemp()).resolve()
        directory.mkdir()
        make_file(directory / "file", 1 << 20)
        task = import_file(directory / "file", 1 << 16, directory / "storage")
        with Workers(WAYS[0], 2, directory / "storage") as workers:
            seen = workers.read(task, 8, 1 << 16, 1 << 20)
        self.assertEqual(sum(seen.accepted), 8)
        self.assertNotIn(0, seen.accepted)
        self.assertTrue(seen.seconds > 0 and seen.processor_seconds > 0)
