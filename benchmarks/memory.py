"""
What do a parent and a child have in memory at the most? ``python -m benchmarks.memory`` measures it.

Both are the real programs with gRPC loaded: the parent opens both doors, the child knows it by its gRPC address and
takes content over TCP. What they need when idle is what they need for a file of next to nothing; what they grow by is
what files, pieces and connections cost. The files are sparse, which their content does not tell.
"""

from __future__ import annotations

import random
import re
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.markdown import head, row
from benchmarks.material import Task, import_zeros
from benchmarks.measurement import Measurement
from benchmarks.peers import Parent, Transport
from benchmarks.processes import peak_memory, run_to_end
from benchmarks.servers import DidNotWork

__all__ = ["MEASUREMENT", "Sample"]

_MIB = 1 << 20
_CASES = (
    (1, 64 * _MIB, 2048 * _MIB),
    (8, 4 * _MIB, 256 * _MIB),
    (8, 4 * _MIB, 2048 * _MIB),
    (32, 4 * _MIB, 2048 * _MIB),
    (32, 64 * _MIB, 2048 * _MIB),
    (256, _MIB, 512 * _MIB),
)
"""Connections, each with a piece under way, bytes of a piece, bytes of the file."""

_ROUNDS = 3
_QUICK_CASES, _QUICK_ROUNDS = ((4, _MIB, 16 * _MIB),), 1
_NEXT_TO_NOTHING = 100  # bytes
_TO_FETCH = 120.0  # seconds that a child has

_BOTH_DOORS = Transport(name="all", title="both", door=r"serving gRPC on .*port=(\d+)\)")

_COMMAND = """
import sys
from pathlib import Path
from dragonfly_vortex.cli import main
status = main()
print(Path("/proc/self/status").read_text())
sys.exit(status)
"""
"""The command, and when it has run what the kernel says of its process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """
    One download, by a fresh child from a fresh parent.

    :param connections: of the child to the parent, each with a piece under way.
    :param piece_length: bytes.
    :param content_length: bytes of the file.
    :param parent_idle: the most bytes that the parent has had in memory when it had served next to nothing.
    :param parent_peak: and when it had served the file.
    :param child_idle: the most bytes that a child has had in memory which fetched next to nothing.
    :param child_peak: and one that fetched the file.
    """

    connections: int
    piece_length: int
    content_length: int
    parent_idle: int
    parent_peak: int
    child_idle: int
    child_peak: int


def measure(directory: Path, quick: bool, tell: Callable[[str], None]) -> Iterator[Sample]:
    """Take all cases in shuffled turns."""
    cases, rounds = (_QUICK_CASES, _QUICK_ROUNDS) if quick else (_CASES, _ROUNDS)
    tasks: dict[tuple[int, int], tuple[Task, Task]] = {}
    for _, piece_length, content_length in cases:
        if (piece_length, content_length) not in tasks:
            tell(f"a file of {content_length // _MIB} MiB, in pieces of {piece_length // _MIB} MiB")
            storage = directory / f"storage-{content_length}-{piece_length}"
            tasks[piece_length, content_length] = (
                import_zeros(content_length, piece_length, storage),
                import_zeros(_NEXT_TO_NOTHING, piece_length, storage),
            )
    turns = [case for case in cases for _ in range(rounds)]
    random.Random(0).shuffle(turns)
    for number, (connections, piece_length, content_length) in enumerate(turns):
        tell(f"{number + 1} of {len(turns)}: {connections} connections, pieces of {piece_length // _MIB} MiB")
        task, nothing = tasks[piece_length, content_length]
        with Parent(task.storage, directory, _BOTH_DOORS) as parent:
            child_idle = _fetch(parent, nothing, connections, directory)
            parent_idle = peak_memory(parent.pid)
            child_peak = _fetch(parent, task, connections, directory)
            yield Sample(
                connections=connections,
                piece_length=piece_length,
                content_length=content_length,
                parent_idle=parent_idle,
                parent_peak=peak_memory(parent.pid),
                child_idle=child_idle,
                child_peak=child_peak,
            )


def draw(samples: Sequence[Sample]) -> str:
    """The table: what both need when idle, in the middle of all rounds, and what they grow by at the most."""
    lines = [
        *head("connections", "pieces of", "a file of", "parent idle, MB", "grows by", "child idle, MB", "grows by"),
    ]
    cases = sorted({(each.connections, each.piece_length, each.content_length) for each in samples})
    for connections, piece_length, content_length in cases:
        rounds = [
            each
            for each in samples
            if (each.connections, each.piece_length, each.content_length) == (connections, piece_length, content_length)
        ]
        parent = max(each.parent_peak - each.parent_idle for each in rounds)
        child = max(each.child_peak - each.child_idle for each in rounds)
        cells = [str(connections), f"{piece_length // _MIB} MiB", f"{content_length // _MIB} MiB"]
        cells += [_megabytes(statistics.median(each.parent_idle for each in rounds)), _megabytes(parent)]
        cells += [_megabytes(statistics.median(each.child_idle for each in rounds)), _megabytes(child)]
        lines.append(row(*cells))
    return "\n".join(lines)


def _megabytes(length: float) -> str:
    return f"{length / 10**6:.1f}"


def _fetch(parent: Parent, task: Task, connections: int, directory: Path) -> int:
    """
    Fetch a task by ``dfvortex download``.

    :returns: the most bytes that the child has had in memory.
    :raises DidNotWork: it failed.
    """
    config = directory / "child.yaml"
    config.write_text(f"download: {{tcp: {{connections_per_address: {connections}}}}}\n", encoding="utf-8")
    address = f"grpc://{parent.address.partition('://')[2]}"
    ran = run_to_end(
        [
            *(sys.executable, "-c", _COMMAND, "download", task.task_id, "--parent", address, "--protocol", "tcp"),
            *("--concurrency", str(connections), "--config", config, "--output", directory / "output", "--overwrite"),
        ],
        directory,
        _TO_FETCH,
    )
    peak = re.search(r"^VmHWM:\s+(\d+) kB$", ran.output, re.MULTILINE)
    if ran.status or peak is None:
        raise DidNotWork(f"download exited with {ran.status}, expected 0: {ran.output}")
    return int(peak[1]) * 1024


MEASUREMENT = Measurement(name="memory", sample=Sample, measure=measure, draw=draw)

if __name__ == "__main__":
    sys.exit(MEASUREMENT.main())
