"""
Do several processes serve faster than one? A plain client reads a file from a peer with ``storage.server.workers``,
over kept connections and in one thread, small pieces with requests sent ahead, and throws it away.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks.benchmark import Benchmark, Report, Run
from benchmarks.client import WIRE_FORMATS, Exchange, Reader, batches, learn
from benchmarks.material import import_file, make_file
from benchmarks.peers import Peer
from benchmarks.processes import processor_of_family
from benchmarks.text import best_and_median, length, table

__all__ = ["BENCHMARK", "Sample", "draw"]

_MIB = 1 << 20
_KINDS = ((4 * _MIB, 1024 * _MIB), (4096, 32 * _MIB))  # bytes of a piece, bytes of the file
_QUICK_KINDS = ((_MIB, 8 * _MIB), (4096, _MIB))
_WORKERS, _QUICK_WORKERS = (1, 2, 4), (1, 2)
_CONNECTIONS, _QUICK_CONNECTIONS = (4, 8, 32), (4,)
_ROUNDS, _QUICK_ROUNDS = 4, 1
_SMALL, _AHEAD = 65536, 16
"""Bytes of pieces that are asked for ahead, and how many at once: else the client works as much as the parent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """
    One file, read once.

    :param workers: how many the parent has; 1 is the parent itself.
    :param connections: of the client, each with a piece under way.
    :param piece_length: bytes.
    :param content_length: bytes of the file.
    :param seconds: from the first request to the last byte, on connections that were there before.
    :param processor_seconds: of all the parent's processes.
    """

    workers: int
    connections: int
    piece_length: int
    content_length: int
    seconds: float
    processor_seconds: float


def measure(run: Run) -> Iterator[Sample]:
    """Read from parents that run all the time."""
    quick = run.options.quick
    kinds, counts = (_QUICK_KINDS, _QUICK_WORKERS) if quick else (_KINDS, _WORKERS)
    tasks = {}
    for piece_length, content_length in kinds:
        source = run.directory / f"file-{piece_length}"
        make_file(source, content_length)
        tasks[piece_length, content_length] = import_file(source, piece_length, run.directory / "storage")
    with ExitStack() as stack:
        parents = {
            count: stack.enter_context(Peer(run.directory / "storage", run.directory / f"parent-{count}", "tcp", count))
            for count in counts
        }
        exchanges = {
            kind: learn(parents[counts[0]].port, WIRE_FORMATS["vortex"](task.task_id), kind[1], kind[0], task.task_id)
            for kind, task in tasks.items()
        }
        cases = [
            (count, connections, kind)
            for count in counts
            for connections in (_QUICK_CONNECTIONS if quick else _CONNECTIONS)
            for kind in kinds
        ]
        for _, (count, connections, kind) in run.turns(cases, _ROUNDS, _QUICK_ROUNDS):
            yield _take_turn(parents[count], count, connections, kind, exchanges[kind])


def _take_turn(
    parent: Peer, workers: int, connections: int, kind: tuple[int, int], exchanges: Sequence[Exchange]
) -> Sample:
    """Read one file."""
    wanted = batches(exchanges, _AHEAD if kind[0] <= _SMALL else 1)
    with Reader(parent.port, connections, iter(wanted)) as reader:
        used, began = processor_of_family(parent.pid), time.monotonic()
        reader.read()
        seconds = time.monotonic() - began
        used = processor_of_family(parent.pid) - used
    return Sample(
        workers=workers,
        connections=connections,
        piece_length=kind[0],
        content_length=kind[1],
        seconds=seconds,
        processor_seconds=used,
    )


def draw(report: Report[Sample]) -> str:
    """
    For each length of pieces the rate, and what it cost. The report has other numbers of connections than the middle
    one, which show the same.
    """
    counts = sorted({each.connections for each in report.samples})
    samples = [each for each in report.samples if each.connections == counts[len(counts) // 2]]
    lengths = sorted({each.piece_length for each in samples}, reverse=True)
    head = ["workers", "connections"]
    for piece_length in lengths:
        head += [f"{length(piece_length)}: MB/s, best, median", "parent, s/GB: least"]
    rows = []
    for workers, connections in sorted({(each.workers, each.connections) for each in samples}):
        cells = [str(workers), str(connections)]
        for piece_length in lengths:
            case = (workers, connections, piece_length)
            mine = [each for each in samples if (each.workers, each.connections, each.piece_length) == case]
            rates = [each.content_length / each.seconds / 10**6 for each in mine]
            cost = min(each.processor_seconds / each.content_length * 10**9 for each in mine)
            cells += [best_and_median(rates, ".0f", max), f"{cost:.2f}"]
        rows.append(cells)
    return f"{report.origin}\n\n" + table(head, rows)


BENCHMARK = Benchmark(
    name="workers",
    question="do several processes serve faster than one?",
    sample=Sample,
    measure=measure,
    draw=draw,
)
