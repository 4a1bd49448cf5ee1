"""
What do a parent and a child have in memory at most?

Both are the real programs with gRPC loaded: the parent opens both ports, and the child knows it by its gRPC address and
takes content over TCP. What they need when idle is what they need for a file of next to nothing; what they grow by is
the cost of files, pieces and connections. The files are sparse.
"""

from __future__ import annotations

import re
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.benchmark import Benchmark, Report, Run
from benchmarks.material import Task, import_zeros
from benchmarks.peers import Peer, download
from benchmarks.processes import DidNotWork, peak_memory, run_to_end
from benchmarks.text import table

__all__ = ["BENCHMARK", "Sample", "draw"]

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

_QUICK_CASES = ((4, _MIB, 16 * _MIB),)
_ROUNDS, _QUICK_ROUNDS = 3, 1
_NEXT_TO_NOTHING = 100  # bytes
_TO_FETCH = 120.0  # seconds that a child has

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


def measure(run: Run) -> Iterator[Sample]:
    """Take all cases."""
    cases = _QUICK_CASES if run.options.quick else _CASES
    tasks: dict[tuple[int, int], tuple[Task, Task]] = {}
    for _, piece_length, content_length in cases:
        storage = run.directory / f"storage-{content_length}-{piece_length}"
        if (piece_length, content_length) not in tasks:
            run.tell(f"a file of {content_length} bytes, in pieces of {piece_length}")
            file, nothing = (import_zeros(each, piece_length, storage) for each in (content_length, _NEXT_TO_NOTHING))
            tasks[piece_length, content_length] = file, nothing
    for _, (connections, piece_length, content_length) in run.turns(cases, _ROUNDS, _QUICK_ROUNDS):
        file, nothing = tasks[piece_length, content_length]
        with Peer(file.storage, run.directory / "parent", "all") as parent:
            child_idle = _fetch(parent, nothing, connections, run.directory)
            parent_idle = peak_memory(parent.pid)
            child_peak = _fetch(parent, file, connections, run.directory)
            yield Sample(
                connections=connections,
                piece_length=piece_length,
                content_length=content_length,
                parent_idle=parent_idle,
                parent_peak=peak_memory(parent.pid),
                child_idle=child_idle,
                child_peak=child_peak,
            )


def _fetch(parent: Peer, task: Task, connections: int, directory: Path) -> int:
    """Fetch a task by ``dfvortex download``; the most bytes that the child has had in memory."""
    config = directory / "child.yaml"
    config.write_text(f"download: {{tcp: {{connections_per_address: {connections}}}}}\n", encoding="utf-8")
    command = [sys.executable, "-c", _COMMAND, *download(task.task_id, parent, "tcp", directory / "output")]
    command += ["--concurrency", str(connections), "--config", config]
    ran = run_to_end(command, directory, _TO_FETCH).checked("download")
    peak = re.search(r"^VmHWM:\s+(\d+) kB$", ran.output, re.MULTILINE)
    if peak is None:
        raise DidNotWork(f"expected the child's peak memory, got {ran.output}")
    return int(peak[1]) * 1024


def draw(report: Report[Sample]) -> str:
    """What both need when idle, as the median of all rounds, and the most that they grow by."""
    samples, rows = report.samples, []
    for case in sorted({(each.connections, each.piece_length, each.content_length) for each in samples}):
        mine = [each for each in samples if (each.connections, each.piece_length, each.content_length) == case]
        grown = (
            max(each.parent_peak - each.parent_idle for each in mine),
            max(each.child_peak - each.child_idle for each in mine),
        )
        lengths = [f"{each // _MIB} MiB" for each in case[1:]]
        rows.append([str(case[0]), *lengths, *(f"{each / 10**6:.1f}" for each in grown)])
    parent, child = (
        statistics.median(getattr(each, name) for each in samples) / 10**6 for name in ("parent_idle", "child_idle")
    )
    idle = f"Idle, the parent has {parent:.1f} MB and the child {child:.1f} MB."
    head = ("connections", "pieces of", "a file of", "parent grows by, MB", "child")
    return f"{report.origin}\n\n{idle}\n\n{table(head, rows)}"


BENCHMARK = Benchmark(
    name="memory",
    question="how much memory do a parent and a child need?",
    sample=Sample,
    measure=measure,
    draw=draw,
)
