"""
Would pieces over both transports at once be faster than over TCP alone? ``python -m benchmarks.hybrid`` measures it.

A child fetches one file by TCP from two parents, or by TCP from one and by gRPC from the other: it asks whichever has
least to do, which is how pieces would be shared between the transports of one parent.
"""

from __future__ import annotations

import random
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.installed import PROGRAMS
from benchmarks.markdown import head, row
from benchmarks.material import import_file, is_same, make_file
from benchmarks.measurement import Measurement
from benchmarks.peers import TRANSPORTS, Parent
from benchmarks.processes import run_to_end
from benchmarks.servers import DidNotWork

__all__ = ["MEASUREMENT", "WAYS", "Turn", "draw", "measure"]

WAYS: Mapping[str, tuple[str, str]] = {"TCP alone": ("tcp", "tcp"), "both": ("tcp", "grpc")}
"""What the two parents serve by."""

_LENGTH, _ROUNDS = 512 * 10**6, 5
_QUICK_LENGTH, _QUICK_ROUNDS = 64 * 10**6, 2
_CASES = ((4 << 20, 8), (4 << 20, 32), (16 << 20, 8))  # bytes of a piece, pieces at once
_TO_FETCH = 120.0  # seconds that a child has


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """
    One download.

    :param way: one of :data:`WAYS`.
    :param piece_length: bytes of a piece.
    :param concurrency: pieces under way at once.
    :param seconds: from the child's start to its end, with the start of Python.
    :param processor_seconds: of the child.
    """

    way: str
    piece_length: int
    concurrency: int
    seconds: float
    processor_seconds: float


def measure(length: int, rounds: int, cases: Sequence[tuple[int, int]], directory: Path) -> list[Turn]:
    """
    Run all ways in shuffled turns.

    :param length: bytes of the file.
    :param rounds: how often each way is run.
    :param cases: piece length in bytes, and pieces at once.
    :param directory: an empty one.
    :raises DidNotWork: a download failed, or gave other bytes.
    """
    source = directory / "file"
    make_file(source, length)
    tasks = {size: import_file(source, size, directory / f"storage-{size}") for size, _ in cases}
    turns = [(way, case) for way in WAYS for case in cases] * rounds
    random.Random(0).shuffle(turns)
    measured = []
    for way, (size, concurrency) in turns:
        with ExitStack() as stack:
            addresses = []
            for number, transport in enumerate(WAYS[way]):
                place = directory / f"parent-{number}"
                place.mkdir(exist_ok=True)
                parent = stack.enter_context(Parent(tasks[size].storage, place, TRANSPORTS[transport]))
                addresses.append(parent.address)
            output = directory / "output"
            command: list[str | Path] = [
                PROGRAMS / "dfvortex",
                "download",
                tasks[size].task_id,
                "--output",
                output,
                "--overwrite",
            ]
            for address in addresses:
                command += ["--parent", address]
            ran = run_to_end([*command, "--concurrency", str(concurrency)], directory, _TO_FETCH)
        if ran.status or not is_same(source, output):
            raise DidNotWork(f"download exited with {ran.status}, expected 0 and the same bytes: {ran.output}")
        measured.append(
            Turn(
                way=way,
                piece_length=size,
                concurrency=concurrency,
                seconds=ran.seconds,
                processor_seconds=ran.processor,
            )
        )
    return measured


def draw(turns: Sequence[Turn]) -> str:
    """The table: how long each way takes, least and median, and how they compare."""
    lines = [
        *head("pieces", "at once", "TCP alone, s: least, median", "both, s: least, median", "both to TCP alone"),
    ]
    for size, concurrency in dict.fromkeys((turn.piece_length, turn.concurrency) for turn in turns):
        least, median = {}, {}
        for way in WAYS:
            seconds = [
                turn.seconds
                for turn in turns
                if (turn.way, turn.piece_length, turn.concurrency) == (way, size, concurrency)
            ]
            least[way], median[way] = min(seconds), statistics.median(seconds)
        cells = [f"{size >> 20} MiB", str(concurrency)]
        cells += [f"{least[way]:.2f}, {median[way]:.2f}" for way in WAYS]
        cells.append(f"{least['both'] / least['TCP alone']:.2f}, {median['both'] / median['TCP alone']:.2f}")
        lines.append(row(*cells))
    return "\n".join(lines)


def _measure_all(directory: Path, quick: bool, tell: Callable[[str], None]) -> list[Turn]:
    """All cases, sorted: by the lengths of their pieces, and how many are fetched at once."""
    length, rounds = (_QUICK_LENGTH, _QUICK_ROUNDS) if quick else (_LENGTH, _ROUNDS)
    tell(f"{len(WAYS) * len(_CASES) * rounds} downloads of {length} bytes")
    turns = measure(length, rounds, _CASES, directory)
    return sorted(turns, key=lambda turn: (turn.piece_length, turn.concurrency))


MEASUREMENT = Measurement(name="hybrid", sample=Turn, measure=_measure_all, draw=draw, page="negotiation.md")

if __name__ == "__main__":
    sys.exit(MEASUREMENT.main())
