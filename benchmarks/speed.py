"""
Where is this package slow, and how far is that from what is possible? Each line is a ratio of two programs that take
turns. Lines that compare with an earlier version need a checkout of it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import cycle, islice
from pathlib import Path
from time import monotonic

from benchmarks.benchmark import Benchmark, Run
from benchmarks.client import WIRE_FORMATS, Exchange, Reader, learn
from benchmarks.contest import take_turn
from benchmarks.contestants import CONTESTANTS
from benchmarks.figures import START_UP_LENGTH, Case
from benchmarks.machine import PROGRAMS, find
from benchmarks.material import Task, import_file, make_certificate, make_file
from benchmarks.peers import Peer, download
from benchmarks.processes import DidNotWork, Server, processor_of_family, run_to_end
from benchmarks.speed_table import (
    COMMANDS,
    EARLIER,
    FILES,
    PIECE,
    REQUEST,
    THIS,
    Cost,
    Sample,
    draw,
)
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.database import Access
from dragonfly_vortex.wire import PieceKind

__all__ = ["BENCHMARK"]

_LENGTH = 512 * 10**6
"""Bytes of the file. Each turn writes it once."""

_QUICK_FILES = ("tls-loop",)
_QUICK_LENGTH = 2 * START_UP_LENGTH
_PIECE_LENGTH, _CONCURRENCY = 4 * 2**20, 8

_SMALL_PIECE = 4096
_PIECES, _QUICK_PIECES = 8192, 64
_HOT_PIECES = 1024
_CONNECTIONS = 8

_COMMITS = 200
"""Commits a second that reach the catalogue while pieces are served."""

_TO_RUN = 120.0
"""Seconds that a program has."""

_ROUNDS, _QUICK_ROUNDS = 5, 1

Turn = Callable[[], Cost]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Version:
    """
    A version of the package, with a parent of its own that runs.

    :param parent: serves ``task``, ``first`` and ``megabyte``.
    :param task: pieces of 4 KiB.
    :param first: a task of one such piece, whose download shows what the start of a child costs.
    :param megabyte: a task of one piece of 1 MB.
    :param exchanges: the requests for ``task``.
    """

    parent: Peer
    task: Task
    first: Task
    megabyte: Task
    exchanges: Sequence[Exchange]

    def command(self, *words: str | Path) -> list[str | Path]:
        """A command of this version."""
        return [*self.parent.prefix, PROGRAMS / "dfvortex", *words]


def measure(run: Run) -> Iterator[Sample]:
    """Take all turns."""
    with ExitStack() as stack:
        turns = {**_files(run), **_programs(run, stack)}
        for number, (what, version) in run.turns(list(turns), _ROUNDS, _QUICK_ROUNDS):
            cost = turns[what, version]()
            yield Sample(round=number, what=what, version=version, load=os.getloadavg()[0], **vars(cost))


def _files(run: Run) -> dict[tuple[str, str], Turn]:
    """The turns of the contest: a file, and one of 1 MB that shows what start-up costs."""
    names = _QUICK_FILES if run.options.quick else FILES
    length = run.options.size or (_QUICK_LENGTH if run.options.quick else _LENGTH)
    make_certificate(run.directory)
    turns: dict[tuple[str, str], Turn] = {}
    for size in (length, START_UP_LENGTH):
        place = run.directory / f"{size}"
        place.mkdir()
        make_file(place / "file", size)
        task = import_file(place / "file", _PIECE_LENGTH, place / "storage")
        for name in names:
            if _is_here(run, name):
                case = Case(contestant=name, content_length=size, piece_length=_PIECE_LENGTH, concurrency=_CONCURRENCY)
                what = "start-up" if size == START_UP_LENGTH else "file"
                turns[name, what] = partial(_fetch, case, task, run.directory)
    return turns


def _is_here(run: Run, name: str) -> bool:
    """Whether all that a contestant needs is installed."""
    contestant = CONTESTANTS[name]
    if name == "libtorrent" and find_spec(name) is None:
        run.absences[name] = [contestant.title]
    elif all(find(program) is not None or run.has(program, contestant.title) for program in contestant.programs):
        return True
    return False


def _fetch(case: Case, task: Task, directory: Path) -> Cost:
    """A turn of the contest."""
    sample = take_turn(0, case, task, directory)
    return Cost(
        seconds=sample.seconds,
        processor=sample.child_processor,
        parent=sample.parent_processor,
        length=case.content_length,
    )


def _programs(run: Run, stack: ExitStack) -> dict[tuple[str, str], Turn]:
    """The turns of commands, requests and small pieces, of each version; and what is compared with no other."""
    pieces, least = (_QUICK_PIECES, 0) if run.options.quick else (_PIECES, _COMMITS // 2)
    make_file(run.directory / "small", pieces * _SMALL_PIECE)
    make_file(run.directory / "first", _SMALL_PIECE)
    make_file(run.directory / "megabyte", START_UP_LENGTH)
    packages: dict[str, Path | None] = {THIS: None}
    if run.options.against is not None:
        packages[EARLIER] = run.options.against
    turns: dict[tuple[str, str], Turn] = {}
    for name, package in packages.items():
        version = _start(run.directory, name, package, stack)
        operands: dict[str, list[str | Path]] = {
            "stat": [version.megabyte.task_id],
            "import": [run.directory / "megabyte"],
        }
        for command in COMMANDS:
            words = version.command(command, *operands.get(command, []), "--config", version.parent.config)
            turns[command, name] = partial(_run, words, run.directory)
        turns[REQUEST, name] = partial(_request, version, pieces)
        turns[PIECE, name] = partial(_piece, version, run.directory, pieces)
        if package is None:
            output = run.directory / "output"
            words = version.command(*download(version.megabyte.task_id, version.parent, "tcp", output))
            turns["download", THIS] = partial(_run, words, run.directory)
            turns["commits", THIS] = partial(_request_beside_commits, version, run.directory, pieces, least)
            turns["two addresses", THIS] = partial(_connect, version.parent.port, run.directory)
    turns["reactor", ""] = partial(_run, [sys.executable, "-c", "from twisted.internet import reactor"], run.directory)
    return turns


def _start(directory: Path, name: str, package: Path | None, stack: ExitStack) -> _Version:
    """A version that serves until the stack ends."""
    storage = directory / name
    task, first, megabyte = (
        import_file(directory / source, length, storage, package=package)
        for source, length in (("small", _SMALL_PIECE), ("first", _SMALL_PIECE), ("megabyte", _PIECE_LENGTH))
    )
    parent = stack.enter_context(Peer(storage, directory / f"{name}-parent", package=package))
    length = task.source.stat().st_size
    exchanges = learn(parent.port, WIRE_FORMATS["vortex"](task.task_id), length, _SMALL_PIECE, task.task_id)
    return _Version(parent=parent, task=task, first=first, megabyte=megabyte, exchanges=exchanges)


def _run(command: Sequence[str | Path], directory: Path) -> Cost:
    """A command, from its start to its end."""
    ran = run_to_end(command, directory, _TO_RUN).checked(" ".join(map(str, command)))
    return Cost(seconds=ran.seconds, processor=ran.processor)


def _request(version: _Version, count: int) -> Cost:
    """A request: its time, and the parent's processor time."""
    wanted = islice(cycle(version.exchanges[:_HOT_PIECES]), count)
    with Reader(version.parent.port, _CONNECTIONS, wanted) as reader:
        used, began = processor_of_family(version.parent.pid), monotonic()
        reader.read()
        seconds, used = monotonic() - began, processor_of_family(version.parent.pid) - used
    return Cost(seconds=seconds / count, processor=0.0, parent=used / count)


def _request_beside_commits(version: _Version, directory: Path, count: int, least: int) -> Cost:
    """
    The same, while another process commits pieces of another task.

    :param least: commits a second without which it would not be that.
    :raises DidNotWork: it commits too few.
    """
    task_id = f"{version.first.task_id[:-1]}x"
    program: list[str | Path] = [sys.executable, "-m", "benchmarks.programs.commits", version.task.storage, task_id]
    place = directory / "commits"
    place.mkdir(exist_ok=True)
    with Catalog(version.task.storage, Access.READ) as catalog:
        before = catalog.count_pieces(PieceKind.STANDARD, task_id)
        with Server([*program, str(_COMMITS)], place, "committing"):
            began = monotonic()
            cost = _request(version, count)
            seconds = monotonic() - began
        commits = catalog.count_pieces(PieceKind.STANDARD, task_id) - before
    if commits < seconds * least:
        raise DidNotWork(f"expected {_COMMITS} commits a second, got {commits} in {seconds:.2f} s")
    return cost


def _piece(version: _Version, directory: Path, count: int) -> Cost:
    """A small piece of a download by the command; what one of a single piece costs is taken off."""
    words = [
        version.command(*download(task.task_id, version.parent, "tcp", directory / "output"), "--no-sync")
        for task in (version.task, version.first)
    ]
    of_all, of_one = (_run(each, directory) for each in words)
    return Cost(
        seconds=max(0.0, of_all.seconds - of_one.seconds) / count,
        processor=max(0.0, of_all.processor - of_one.processor) / count,
    )


def _connect(port: int, directory: Path) -> Cost:
    """A connection to a name whose first address refuses."""
    command = [sys.executable, "-m", "benchmarks.programs.two_addresses", str(port)]
    ran = run_to_end(command, directory, _TO_RUN).checked("two addresses")
    return Cost(seconds=float(ran.output), processor=ran.processor)


BENCHMARK = Benchmark(
    name="speed",
    question="where is it slow, beside what is possible and beside an earlier version (--against)?",
    sample=Sample,
    measure=measure,
    draw=draw,
    page="performance.md",
)
