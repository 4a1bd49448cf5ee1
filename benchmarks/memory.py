"""
What do a parent and a child have in memory at most?

Both are the real programs with gRPC loaded: the parent opens both ports, and the child knows it by its gRPC address and
takes content over TCP. What they need when idle is what they need for a file of next to nothing; what they grow by is
the cost of files, pieces and connections. The files are sparse.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path

from benchmarks.benchmark import Benchmark, Report, Run, Sample
from benchmarks.machine import peak_memory
from benchmarks.material import Task, import_zeros
from benchmarks.peers import Peer, download, ours
from benchmarks.processes import run_to_end
from benchmarks.tables import table

__all__ = ["BENCHMARK", "draw"]

_MIB = 1 << 20
_CASES = (
    *((1, 64 * _MIB, 2048 * _MIB), (8, 4 * _MIB, 256 * _MIB), (8, 4 * _MIB, 2048 * _MIB)),
    *((32, 4 * _MIB, 2048 * _MIB), (32, 64 * _MIB, 2048 * _MIB), (256, _MIB, 512 * _MIB)),
)
"""Connections, each with a piece under way, bytes of a piece, bytes of the file."""

_QUICK_CASES = ((4, _MIB, 16 * _MIB),)
_ROUNDS = 3
_NEXT_TO_NOTHING = 100  # bytes
_TO_FETCH = 120.0  # seconds that a child has

_KEYS = ("connections", "piece_length", "content_length")


def measure(run: Run) -> Iterator[Sample]:
    """
    Take all cases, each with a fresh parent and fresh children. A sample has the most bytes of memory that the parent
    and the child had: ``_idle`` when next to nothing was fetched, ``_peak`` when the file was.
    """
    cases = _QUICK_CASES if run.options.quick else _CASES
    tasks: dict[tuple[int, int], list[Task]] = {}
    for _, piece_length, content_length in cases:
        if (piece_length, content_length) not in tasks:
            run.tell(f"a file of {content_length} bytes, in pieces of {piece_length}")
            storage = run.directory / f"storage-{content_length}-{piece_length}"
            lengths = (_NEXT_TO_NOTHING, content_length)
            tasks[piece_length, content_length] = [import_zeros(each, piece_length, storage) for each in lengths]
    for _, case in run.turns(cases, _ROUNDS):
        sample: Sample = dict(zip(_KEYS, case, strict=True))
        nothing, file = tasks[case[1:]]
        with Peer(file.storage, run.directory / "parent", "all") as parent:
            for name, task in (("idle", nothing), ("peak", file)):
                sample[f"child_{name}"] = _fetch(parent, task, case[0], run.directory)
                sample[f"parent_{name}"] = peak_memory(parent.pid)
        yield sample


def _fetch(parent: Peer, task: Task, connections: int, directory: Path) -> int:
    """Fetch a task by ``dfvortex download``; the most bytes that the child has had in memory."""
    config = directory / "child.yaml"
    config.write_text(f"download: {{tcp: {{connections_per_address: {connections}}}}}\n", encoding="utf-8")
    words = download(task.task_id, parent, directory / "output", "--concurrency", str(connections), "--config", config)
    return run_to_end(ours("dfvortex", *words), directory, _TO_FETCH).checked("download").peak


def draw(report: Report) -> str:
    """What both need when idle, as the median of all rounds, and the most that they grow by."""
    rows = []
    for case in report.cases(*_KEYS):
        mine = report.taken(**dict(zip(_KEYS, case, strict=True)))
        grown = (max(each[f"{side}_peak"] - each[f"{side}_idle"] for each in mine) for side in ("parent", "child"))
        lengths = (f"{each // _MIB} MiB" for each in case[1:])
        rows.append([str(case[0]), *lengths, *(f"{each / 10**6:.1f}" for each in grown)])
    parent, child = (statistics.median(report.values(f"{side}_idle")) / 10**6 for side in ("parent", "child"))
    idle = f"Idle, the parent has {parent:.1f} MB and the child {child:.1f} MB."
    head = ("connections", "pieces of", "a file of", "parent grows by, MB", "child")
    return f"{report.origin}\n\n{idle}\n\n{table(head, rows)}"


BENCHMARK = Benchmark(
    name="memory",
    question="how much memory do a parent and a child need?",
    measure=measure,
    draw=draw,
    page="tuning.md",
    file="measurements/memory.json",
)
