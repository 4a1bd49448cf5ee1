"""
Does a child whose disk is slower than its network stop? ``python -m benchmarks.writing`` measures it.

A child fetches a file onto a disk that is held down to a pace, and its reactor's heart beats every ten milliseconds:
whatever stops the reactor makes a beat late. The file is sparse at the parent, which its content does not tell.
"""

from __future__ import annotations

import random
import shutil
import signal
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.embedded import Done, Order, carry_out, order_of_zeros
from benchmarks.markdown import head, row
from benchmarks.measurement import Measurement
from benchmarks.slow_disk import slow_disk

__all__ = ["MEASUREMENT", "Sample"]

_LENGTH, _PACE, _ROUNDS = 5 * 10**9, 250 * 10**6, 2
_QUICK_LENGTH, _QUICK_PACE, _QUICK_ROUNDS = 200 * 10**6, 200 * 10**6, 1
_ROOM = 512 << 20  # bytes of the disk that are not the file's
_TO_FETCH = 300.0  # seconds that a child has
_LATE = 0.01  # seconds from which on a beat is late
_NO_BOUND = 1 << 60

_WAYS: Mapping[str, Callable[[Order], Order]] = {
    "left to the kernel": lambda order: replace(order, writes_early=False),
    "early": lambda order: replace(order, most_unwritten=_NO_BOUND),
    "early, with a bound": lambda order: order,
    "into the storage": lambda order: replace(order, is_stored=True),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """
    One download.

    :param way: what was done with the bytes.
    :param content_length: bytes of the file.
    :param pace: bytes that the disk writes in a second.
    :param seconds: until the file was on the disk.
    :param processor_seconds: of the child.
    :param usual: lateness that half of the beats had at the most, in seconds.
    :param rare: lateness that 99 of 100 beats had at the most, in seconds.
    :param worst: lateness of the latest beat, in seconds.
    :param late_seconds: lateness of all that were late by more than ten milliseconds, together.
    """

    way: str
    content_length: int
    pace: int
    seconds: float
    processor_seconds: float
    usual: float
    rare: float
    worst: float
    late_seconds: float


def _sample(way: str, order: Order, pace: int, done: Done) -> Sample:
    """What is told of a download."""
    lateness = sorted(done.lateness)
    return Sample(
        way=way,
        content_length=order.content_length,
        pace=pace,
        seconds=done.seconds,
        processor_seconds=done.processor_seconds,
        usual=lateness[len(lateness) // 2],
        rare=lateness[len(lateness) * 99 // 100],
        worst=lateness[-1],
        late_seconds=sum(late for late in lateness if late > _LATE),
    )


def measure(directory: Path, quick: bool, tell: Callable[[str], None]) -> Iterator[Sample]:
    """Run all ways in shuffled turns."""
    length, pace, rounds = (_QUICK_LENGTH, _QUICK_PACE, _QUICK_ROUNDS) if quick else (_LENGTH, _PACE, _ROUNDS)
    (directory / "slow").mkdir()
    turns = [way for way in _WAYS for _ in range(rounds)]
    random.Random(0).shuffle(turns)
    # The disk first: where it cannot be made that is told at once.
    with slow_disk(directory / "slow", length + _ROOM, pace) as disk:
        place = disk / "place"
        with order_of_zeros(directory, length, place) as usual:
            for number, way in enumerate(turns, 1):
                tell(f"{number} of {len(turns)}: {length} bytes onto a disk of {pace} bytes a second, {way}")
                order = _WAYS[way](usual)
                yield _sample(way, order, pace, carry_out(order, _TO_FETCH))
                if order.is_stored:
                    shutil.rmtree(place)
                else:
                    place.unlink()


def draw(samples: Sequence[Sample]) -> str:
    """The table: a line for each way."""
    first = samples[0]
    lines = [
        f"{first.content_length / 1e9:g} GB onto a disk that writes {first.pace / 1e6:g} MB/s,"
        " and how late the reactor's heart beats:",
        "",
        *head(
            "the bytes are",
            "runs",
            "s, least, median",
            "half of the beats, ms",
            "99 of 100, ms",
            "the worst, ms",
            "all above 10 ms, s",
            "child, processor s/GB",
        ),
    ]
    for way in _WAYS:
        of_way = [sample for sample in samples if sample.way == way]
        seconds = [sample.seconds for sample in of_way]
        cells = [
            way,
            str(len(of_way)),
            f"{min(seconds):.1f}, {statistics.median(seconds):.1f}",
            f"{statistics.median(sample.usual for sample in of_way) * 1e3:.1f}",
            f"{statistics.median(sample.rare for sample in of_way) * 1e3:.0f}",
            f"{max(sample.worst for sample in of_way) * 1e3:.0f}",
            f"{statistics.median(sample.late_seconds for sample in of_way):.1f}",
            f"{min(sample.processor_seconds for sample in of_way) / first.content_length * 1e9:.2f}",
        ]
        lines.append(row(*cells))
    return "\n".join(lines)


MEASUREMENT = Measurement(name="writing", sample=Sample, measure=measure, draw=draw)

if __name__ == "__main__":
    # As any other end: the disk is unmounted.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(MEASUREMENT.main())
