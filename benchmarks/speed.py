"""
What do small pieces cost a parent and a child, and what did they cost in an earlier version? Both versions take turns.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from benchmarks.benchmark import Benchmark, Report, Run
from benchmarks.client import WIRE_FORMATS, Exchange, Reader, learn
from benchmarks.machine import PROGRAMS
from benchmarks.material import Task, import_file, make_file
from benchmarks.peers import Peer, download
from benchmarks.processes import processor_of_family, run_to_end
from benchmarks.text import best_and_median, table

__all__ = ["BENCHMARK", "PIECE", "REQUEST", "Sample", "draw"]

REQUEST = "parent: a request of 4 KiB, one at a time on each of 8 connections"
PIECE = "child: a piece of 4 KiB of a task, by the command over TCP"

_TARGETS = {REQUEST: 0.55, PIECE: 0.5}
"""The part of the earlier version's processor time that each may cost."""

_PIECE_LENGTH = 4096
_PIECES, _QUICK_PIECES = 8192, 64
_HOT_PIECES = 1024
_ROUNDS, _QUICK_ROUNDS = 7, 1
_TO_DOWNLOAD = 120.0
"""Seconds that a download has."""

_THIS, _EARLIER = "this", "earlier"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """
    What was seen in one turn.

    :param what: :data:`REQUEST` or :data:`PIECE`.
    :param version: ``this`` or ``earlier``.
    :param microseconds: processor time of one, of all processes and threads; a child's start is taken off.
    """

    what: str
    version: str
    microseconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Version:
    """
    A version of the package, with a parent of its own that runs.

    :param package: its checkout; None: this one.
    :param task: pieces of 4 KiB.
    :param first: a task of one piece, whose download shows what the start of a child costs.
    :param exchanges: for each piece.
    """

    package: Path | None
    parent: Peer
    task: Task
    first: Task
    exchanges: Sequence[Exchange]


def measure(run: Run) -> Iterator[Sample]:
    """Take all turns."""
    packages: dict[str, Path | None] = {_THIS: None}
    if run.options.against is not None:
        packages[_EARLIER] = run.options.against
    pieces = _QUICK_PIECES if run.options.quick else _PIECES
    make_file(run.directory / "file", pieces * _PIECE_LENGTH)
    make_file(run.directory / "first", _PIECE_LENGTH)
    with ExitStack() as stack:
        versions = {name: _start(run, name, package, stack) for name, package in packages.items()}
        cases = [(what, name) for what in (REQUEST, PIECE) for name in versions]
        for _, (what, name) in run.turns(cases, _ROUNDS, _QUICK_ROUNDS):
            seconds = (_request if what == REQUEST else _piece)(versions[name], run.directory, pieces)
            yield Sample(what=what, version=name, microseconds=seconds * 1e6)


def _start(run: Run, name: str, package: Path | None, stack: ExitStack) -> _Version:
    """A version that serves until the stack ends."""
    storage = run.directory / name
    task, first = (
        import_file(run.directory / source, _PIECE_LENGTH, storage, package=package) for source in ("file", "first")
    )
    parent = stack.enter_context(Peer(storage, run.directory / f"{name}-parent", package=package))
    length = task.source.stat().st_size
    exchanges = learn(parent.port, WIRE_FORMATS["vortex"](task.task_id), length, _PIECE_LENGTH, task.task_id)
    return _Version(package=package, parent=parent, task=task, first=first, exchanges=exchanges)


def _request(version: _Version, directory: Path, count: int) -> float:
    """Seconds of the parent's processor for a request."""
    wanted = islice(cycle(version.exchanges[:_HOT_PIECES]), count)
    with Reader(version.parent.port, 8, wanted) as reader:
        used = processor_of_family(version.parent.pid)
        reader.read()
        return (processor_of_family(version.parent.pid) - used) / count


def _piece(version: _Version, directory: Path, count: int) -> float:
    """Seconds of the child's processor for a piece."""
    of_all, of_one = (_download(version, task, directory) for task in (version.task, version.first))
    return max(0.0, of_all - of_one) / count


def _download(version: _Version, task: Task, directory: Path) -> float:
    """Seconds of the processor for a download."""
    arguments = download(task.task_id, version.parent, "tcp", directory / "output")
    command = [*version.parent.prefix, PROGRAMS / "dfvortex", *arguments, "--no-sync"]
    return run_to_end(command, directory, _TO_DOWNLOAD).checked("download").processor


def draw(report: Report[Sample]) -> str:
    """The cost of each, the best and the median; and what part that is of the earlier version's."""
    rows = []
    for what, target in _TARGETS.items():
        taken = {
            version: [each.microseconds for each in report.samples if (each.what, each.version) == (what, version)]
            for version in (_THIS, _EARLIER)
        }
        if not taken[_THIS]:
            continue
        row = [what, best_and_median(taken[_THIS], ".1f")]
        if taken[_EARLIER]:
            best = min(taken[_THIS]) / min(taken[_EARLIER])
            ratio = f"{best:.2f}" if best <= target else f"**{best:.2f}**"
            median = statistics.median(taken[_THIS]) / statistics.median(taken[_EARLIER])
            row += [best_and_median(taken[_EARLIER], ".1f"), f"{ratio}, {median:.2f}", f"at most {target:g}"]
        else:
            row += ["?", "?", f"at most {target:g}"]
        rows.append(row)
    head = ["µs of the processor: the best, the median", "this version", "the earlier one", "part", "target"]
    return f"{report.origin}\n\n" + table(head, rows)


BENCHMARK = Benchmark(
    name="speed",
    question="what do small pieces cost, and what in an earlier version (--against)?",
    sample=Sample,
    measure=measure,
    draw=draw,
)
