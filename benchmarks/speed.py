"""
Where is this package slow, and how far is that from what is possible? Each line is a ratio of two programs that take
turns. Lines that compare with an earlier version need a checkout of it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from time import monotonic
from typing import NamedTuple

from benchmarks.benchmark import Benchmark, Report, Run, Sample
from benchmarks.client import WIRE_FORMATS, Exchange, Reader, learn
from benchmarks.contestants import CONTESTANTS
from benchmarks.machine import processor_of_family
from benchmarks.material import Task, import_file, make_file
from benchmarks.peers import Peer, download, ours
from benchmarks.processes import Command, DidNotWork, Server, run_to_end
from benchmarks.tables import Line, best_and_median, length, ratios, table
from benchmarks.turn import START_UP_LENGTH, Case, is_here, make_tasks, take_turn
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.database import Access
from dragonfly_vortex.wire import PieceKind

__all__ = ["BENCHMARK", "LINES", "draw"]

_COMMANDS = ("stat", "list", "import")
"""Commands on a storage, whose start is measured; ``import`` is of 1 MB."""

_EARLIER = " (earlier)"
"""What stands behind the name of what an earlier version does; the report has it apart."""

LINES = (
    Line(title="whole command under TLS : plain", ours="tls", other="tcp", at_least=0.75),
    Line(title="pieces under TLS : a loop over pyOpenSSL", ours="tls-pieces", other="tls-loop", at_least=0.7),
    Line(
        title="a parent's processor time under TLS : that loop's sender",
        ours="tls-pieces",
        other="tls-loop",
        by="parent",
        at_most=1.15,
    ),
    Line(title="time of the whole command : SHA-256 of the file alone", ours="tcp", other="sha256", at_most=1.15),
    Line(title="whole command, TCP : gRPC", ours="tcp", other="grpc", at_least=2.5),
    Line(
        title="`dfvortex download` of 1 MB : `from twisted.internet import reactor`",
        ours="download",
        other="reactor",
        at_most=1.35,
    ),
    *(
        Line(title=f"{title} : the earlier version", ours=name, other=name + _EARLIER, by=by, at_most=most)
        for title, name, by, most in (
            *((f"`dfvortex {command}`", command, "processor", 0.5) for command in _COMMANDS),
            ("a parent's processor time for a request of 4 KiB, on 8 connections", "request", "parent", 0.55),
            ("a child's processor time for a piece of 4 KiB", "piece", "processor", 0.5),
        )
    ),
    Line(
        title="requests of 4 KiB beside 200 commits a second : beside none",
        ours="commits",
        other="request",
        at_least=0.8,
    ),
    Line(
        title="a parent's processor time, plain : nginx",
        ours="plain-from-ours",
        other="plain-from-nginx",
        by="parent",
        at_most=1.2,
    ),
    Line(
        title="pieces : the reference from itself, plain writes",
        ours="tcp-pieces",
        other="plain-reference",
        at_least=1.0,
    ),
    Line(title="seconds to connect where the first of two addresses refuses", ours="two addresses", at_most=0.02),
)
"""What was to be reached."""

_FILES = (
    *("tcp", "grpc", "tls", "tcp-pieces", "tls-pieces", "tls-loop", "sha256"),
    *("curl", "aria2", "s5cmd", "libtorrent", "iperf3"),
    *("plain-from-ours", "plain-from-nginx", "plain-reference"),
)
"""The contestants that fetch a file. Each turn writes it once."""

_LENGTH = 512 * 10**6
_QUICK_FILES = ("tls-loop",)
_QUICK_LENGTH = 2 * START_UP_LENGTH

_SMALL_PIECE = 4096
_PIECES, _QUICK_PIECES = 8192, 64
_HOT_PIECES = 1024
_CONNECTIONS = 8

_COMMITS = 200
"""Commits a second that reach the catalogue while pieces are served."""

_TO_RUN = 120.0
"""Seconds that a program has."""

_ROUNDS = 5


class Cost(NamedTuple):
    """
    What a turn has cost.

    :ivar seconds: how long it took.
    :ivar processor: seconds of processor time, of a child or a command.
    :ivar parent: seconds of a parent's processor time.
    :ivar length: bytes of the file, where one is fetched.
    """

    seconds: float
    processor: float = 0.0
    parent: float = 0.0
    length: int = 0


class _Version(NamedTuple):
    """
    A version of the package, with a parent of its own that runs.

    :ivar package: its checkout; None for the one that is installed.
    :ivar parent: serves ``task``, ``first`` and ``megabyte``.
    :ivar task: pieces of 4 KiB.
    :ivar first: a task of one such piece, whose download shows what the start of a child costs.
    :ivar megabyte: a task of one piece of 1 MB.
    :ivar exchanges: the requests for ``task``.
    """

    package: Path | None
    parent: Peer
    task: Task
    first: Task
    megabyte: Task
    exchanges: Sequence[Exchange]

    def run(self, directory: Path, *words: str | Path) -> Cost:
        """Run a command of this version."""
        return _run(ours("dfvortex", *words, package=self.package), directory)


_Turns = dict[tuple[str, str], Callable[[], Cost]]
"""By what is measured, and of which version; for a contestant ``file`` or ``start-up``."""


def measure(run: Run) -> Iterator[Sample]:
    """Take all turns. A sample has its round, what was measured of which version, the load average, and the cost."""
    with ExitStack() as stack:
        turns = {**_files(run), **_programs(run, stack)}
        for number, (what, version) in run.turns(list(turns), _ROUNDS):
            cost = turns[what, version]()
            load = os.getloadavg()[0]
            yield {**cost._asdict(), "round": number, "what": what, "version": version, "load": load}


def _files(run: Run) -> _Turns:
    """The turns of the contest: a file, and one of 1 MB that shows what start-up costs."""
    names = _QUICK_FILES if run.options.quick else _FILES
    size = run.options.size or (_QUICK_LENGTH if run.options.quick else _LENGTH)
    wanted = [name for name in names if is_here(run, CONTESTANTS[name])]
    cases = {
        (name, what): Case(name, each)
        for name in wanted
        for what, each in (("file", size), ("start-up", START_UP_LENGTH))
    }
    tasks = make_tasks(list(cases.values()), run.directory)

    def fetch(case: Case) -> Cost:
        took = take_turn(case, tasks, run.directory)
        return Cost(took["seconds"], took["child_processor"], took["parent_processor"], case.content_length)

    return {key: partial(fetch, case) for key, case in cases.items()}


def _programs(run: Run, stack: ExitStack) -> _Turns:
    """The turns of commands, requests and small pieces, of each version; and what is compared with no other."""
    pieces, least = (_QUICK_PIECES, 0) if run.options.quick else (_PIECES, _COMMITS // 2)
    place = run.directory
    for name, size in (("small", pieces * _SMALL_PIECE), ("first", _SMALL_PIECE), ("megabyte", START_UP_LENGTH)):
        make_file(place / name, size)
    turns: _Turns = {}
    this = _start(place, "this", None, stack)
    versions = [("this", this)]
    if run.options.against is not None:
        versions.append(("earlier", _start(place, "earlier", run.options.against, stack)))
    for name, version in versions:
        operands: dict[str, list[str | Path]] = {"stat": [version.megabyte.task_id], "import": [place / "megabyte"]}
        for command in _COMMANDS:
            words = [command, *operands.get(command, []), "--config", version.parent.config]
            turns[command, name] = partial(version.run, place, *words)
        turns["request", name] = partial(_request, version, pieces)
        turns["piece", name] = partial(_piece, version, place, pieces)
    words = download(this.megabyte.task_id, this.parent, place / "output")
    turns["download", "this"] = partial(this.run, place, *words)
    turns["commits", "this"] = partial(_request_beside_commits, this, place, pieces, least)
    turns["two addresses", "this"] = partial(_connect, this.parent.port, place)
    turns["reactor", ""] = partial(_run, [sys.executable, "-c", "from twisted.internet import reactor"], place)
    return turns


def _start(directory: Path, name: str, package: Path | None, stack: ExitStack) -> _Version:
    """A version that serves until the stack ends."""
    storage = directory / name
    task, first, megabyte = (
        import_file(directory / source, size, storage, package=package)
        for source, size in (("small", _SMALL_PIECE), ("first", _SMALL_PIECE), ("megabyte", 4 * 2**20))
    )
    parent = stack.enter_context(Peer(storage, directory / f"{name}-parent", package=package))
    size = task.source.stat().st_size
    exchanges = learn(parent.port, WIRE_FORMATS["vortex"](task.task_id), size, _SMALL_PIECE, task.task_id)
    return _Version(package, parent, task, first, megabyte, exchanges)


def _run(command: Command, directory: Path) -> Cost:
    """A command, from its start to its end."""
    ran = run_to_end(command, directory, _TO_RUN).checked(" ".join(map(str, command)))
    return Cost(ran.seconds, ran.processor)


def _request(version: _Version, count: int) -> Cost:
    """A request: its time, and the parent's processor time."""
    wanted = islice(cycle(version.exchanges[:_HOT_PIECES]), count)
    with Reader(version.parent.port, _CONNECTIONS, wanted) as reader:
        used, began = processor_of_family(version.parent.pid), monotonic()
        reader.read()
        seconds, used = monotonic() - began, processor_of_family(version.parent.pid) - used
    return Cost(seconds / count, parent=used / count)


def _request_beside_commits(version: _Version, directory: Path, count: int, least: int) -> Cost:
    """
    The same, while another process commits pieces of another task.

    :param least: commits a second without which it would not be that.
    :raises DidNotWork: it commits too few.
    """
    task_id = f"{version.first.task_id[:-1]}x"
    program: list[str | Path] = [sys.executable, "-m", "benchmarks.programs.commits", version.task.storage, task_id]
    with Catalog(version.task.storage, Access.READ) as catalog:
        before = catalog.count_pieces(PieceKind.STANDARD, task_id)
        with Server([*program, str(_COMMITS)], directory / "commits", "committing"):
            began = monotonic()
            cost = _request(version, count)
            seconds = monotonic() - began
        commits = catalog.count_pieces(PieceKind.STANDARD, task_id) - before
    if commits < seconds * least:
        raise DidNotWork(f"expected {_COMMITS} commits a second, got {commits} in {seconds:.2f} s")
    return cost


def _piece(version: _Version, directory: Path, count: int) -> Cost:
    """A small piece of a download by the command; what one of a single piece costs is taken off."""
    of_all, of_one = (
        version.run(directory, *download(task.task_id, version.parent, directory / "output"), "--no-sync")
        for task in (version.task, version.first)
    )
    seconds, processor = of_all.seconds - of_one.seconds, of_all.processor - of_one.processor
    return Cost(max(0.0, seconds) / count, max(0.0, processor) / count)


def _connect(port: int, directory: Path) -> Cost:
    """A connection to a name whose first address refuses."""
    command = [sys.executable, "-m", "benchmarks.programs.two_addresses", str(port)]
    ran = run_to_end(command, directory, _TO_RUN).checked("two addresses")
    return Cost(float(ran.output), ran.processor)


def draw(report: Report) -> str:
    """The lines, and the contestants that fetched the file."""
    loads = report.values("load")
    origin = (
        f"{report.origin}; {max(report.values('round')) + 1} rounds, a file of {length(max(report.values('length')))},"
        f" a load of {min(loads):.1f} to {max(loads):.1f}"
    )

    def costs(name: str, by: str) -> dict[int, float]:
        """What was seen in each round, less the least start-up where a file is fetched."""
        is_earlier = name.endswith(_EARLIER)
        what = name.removesuffix(_EARLIER)
        idle = min(report.values(by, what=what, version="start-up"), default=0.0)
        return {
            each["round"]: each[by] - idle
            for each in report.taken(what=what)
            if each["version"] != "start-up" and (each["version"] == "earlier") == is_earlier
        }

    size = max(report.values("length"))
    rates = {name: [size / each for each in costs(name, "seconds").values() if each > 0] for name in _FILES}
    rows = [
        [
            CONTESTANTS[name].title,
            best_and_median([each / 1e6 for each in seen], ".0f", max),
            *(f"{min(costs(name, by).values()) * 1e9 / size:.2f}" for by in ("parent", "processor")),
        ]
        for name, seen in rates.items()
        if seen
    ]
    contestants = table(["", "MB/s: best, median", "s/GB: parent", "child"], rows)
    return f"{origin}; start-up is taken off\n\n{ratios(LINES, costs)}\n\n{contestants}"


BENCHMARK = Benchmark(
    name="speed",
    question="where is it slow, beside what is possible and beside an earlier version (--against)?",
    measure=measure,
    draw=draw,
    page="performance.md",
    file="measurements/speed.json",
)
