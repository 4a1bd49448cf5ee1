"""
How many small pieces can a parent serve in a second, and what does each cost it? Beside nginx, which serves ranges of
the same file. The child is the same plain client for both.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle, islice

from benchmarks.benchmark import Benchmark, Report, Run
from benchmarks.client import WIRE_FORMATS, Exchange, Reader, batches, learn
from benchmarks.contest import serving, values_in
from benchmarks.contestants import nginx
from benchmarks.material import import_file, make_file
from benchmarks.peers import Peer
from benchmarks.processes import processor_of_family
from benchmarks.text import best_and_median, table

__all__ = ["BENCHMARK", "WAYS", "Sample", "Way", "draw"]

_PIECE_LENGTH = 4096
_PIECES, _REQUESTS, _ROUNDS = 16384, 4096, 12  # twice as many pieces as a parent has rows in memory
_QUICK_PIECES, _QUICK_REQUESTS, _QUICK_ROUNDS = 64, 256, 1
_HOT_PIECES = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """
    How the child asks.

    :param name: in the table.
    :param connections: connections at once.
    :param ahead: requests that are sent at once on each; the next are sent when all their replies have arrived.
    :param hot: whether the same pieces are asked for again and again. If not, each is asked for when the parent has
        long forgotten it: as a child does that wants every piece once.
    """

    name: str
    connections: int
    ahead: int
    hot: bool = True

    def __str__(self) -> str:
        return self.name


WAYS = (
    Way(name="1 connection, one request at a time", connections=1, ahead=1),
    Way(name="8 connections, one request at a time on each", connections=8, ahead=1),
    Way(name="1 connection, 16 requests sent ahead", connections=1, ahead=16),
    Way(name="1 connection, one request at a time, each piece once", connections=1, ahead=1, hot=False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """
    What was seen in one turn.

    :param server: ``dfvortex`` or ``nginx``.
    :param way: the name of one of :data:`WAYS`.
    :param requests: how many were answered.
    :param seconds: from the first request to the last byte.
    :param processor: seconds of processor time of the server, of all its processes and threads.
    """

    server: str
    way: str
    requests: int
    seconds: float
    processor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Server:
    """
    A server that runs.

    :param pid: its process, or the one that has started it.
    :param port: on 127.0.0.1.
    :param exchanges: for each piece.
    """

    pid: int
    port: int
    exchanges: Sequence[Exchange]


def measure(run: Run) -> Iterator[Sample]:
    """All ways with both servers."""
    pieces, requests = (_QUICK_PIECES, _QUICK_REQUESTS) if run.options.quick else (_PIECES, _REQUESTS)
    with ExitStack() as stack:
        servers = _start(run, pieces * _PIECE_LENGTH, stack)
        cases = [(name, way) for name in servers for way in WAYS]
        for number, (name, way) in run.turns(cases, _ROUNDS, _QUICK_ROUNDS):
            yield _take_turn(name, servers[name], way, number * requests, requests)


def _start(run: Run, length: int, stack: ExitStack) -> dict[str, _Server]:
    """The servers by name, until the stack ends."""
    source = run.directory / "file"
    make_file(source, length)
    task = import_file(source, _PIECE_LENGTH, run.directory / "storage")

    def learned(pid: int, port: int, wire: str, target: str) -> _Server:
        exchanges = learn(port, WIRE_FORMATS[wire](target), length, _PIECE_LENGTH, task.task_id)
        return _Server(pid=pid, port=port, exchanges=exchanges)

    parent = stack.enter_context(Peer(task.storage, run.directory / "parent"))
    servers = {"dfvortex": learned(parent.pid, parent.port, "vortex", task.task_id)}
    if run.has("nginx", "small pieces from nginx"):
        place = run.directory / "nginx"
        place.mkdir()
        values = values_in(place, source.parent)
        other = stack.enter_context(serving(nginx(nopush=False), values, place))
        servers["nginx"] = learned(other.pid, int(str(values["port"])), "http", "/file")
    return servers


def _take_turn(name: str, server: _Server, way: Way, done: int, requests: int) -> Sample:
    """
    Ask for one piece after the other, and round again.

    :param done: how many were asked for in the same way before.
    """
    exchanges = server.exchanges[:_HOT_PIECES]
    if not way.hot:
        start = done % len(server.exchanges)
        exchanges = [*server.exchanges[start:], *server.exchanges[:start]]
    wanted = islice(cycle(batches(exchanges, way.ahead)), requests // way.ahead)
    with Reader(server.port, way.connections, wanted) as reader:
        used, began = processor_of_family(server.pid), time.monotonic()
        reader.read()
        seconds = time.monotonic() - began
        processor = processor_of_family(server.pid) - used
    return Sample(server=name, way=way.name, requests=requests, seconds=seconds, processor=processor)


def draw(report: Report[Sample]) -> str:
    """Requests per second and the processor time of one: the best and the median of each way, server by server."""
    servers = sorted({each.server for each in report.samples})
    head = ["4 KiB pieces"]
    for server in servers:
        head += [f"{server}: requests/s", "µs each"]
    rows = []
    for way in (each.name for each in WAYS if each.name in {sample.way for sample in report.samples}):
        row = [way]
        for server in servers:
            taken = [each for each in report.samples if (each.way, each.server) == (way, server)]
            if taken:
                row.append(best_and_median([each.requests / each.seconds for each in taken], ",.0f", max))
                row.append(best_and_median([each.processor / each.requests * 1e6 for each in taken], ".1f"))
            else:
                row += ["?", "?"]
        rows.append(row)
    return f"{report.origin}\n\nThe best and the median; µs of the server's processor.\n\n" + table(head, rows)


BENCHMARK = Benchmark(
    name="small_pieces",
    question="how many small pieces does a parent serve, at which cost?",
    sample=Sample,
    measure=measure,
    draw=draw,
)
