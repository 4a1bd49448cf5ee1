"""
Do several processes serve faster than one? A plain client reads a file from a peer with ``storage.server.workers``,
over kept connections and in one thread, small pieces with requests sent ahead, and throws it away.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack

from benchmarks.benchmark import Benchmark, Report, Run, Sample
from benchmarks.client import WIRE_FORMATS, Reader, batches, learn
from benchmarks.machine import processor_of_family
from benchmarks.material import import_file, make_file
from benchmarks.peers import Peer
from benchmarks.tables import best_and_median, length, table

__all__ = ["BENCHMARK", "draw"]

_MIB = 1 << 20
_KINDS = ((4 * _MIB, 1024 * _MIB), (4096, 32 * _MIB))  # bytes of a piece, bytes of the file
_QUICK_KINDS = ((_MIB, 8 * _MIB), (4096, _MIB))
_WORKERS, _QUICK_WORKERS = (1, 2, 4), (1, 2)
_CONNECTIONS, _QUICK_CONNECTIONS = (4, 8, 32), (4,)
_ROUNDS = 4
_SMALL, _AHEAD = 65536, 16
"""Bytes of pieces that are asked for ahead, and how many at once: else the client works as much as the parent."""


def measure(run: Run) -> Iterator[Sample]:
    """
    Read from parents that run all the time. A sample has the number of workers and of connections, the bytes of a piece
    and of the file, ``seconds`` from the first request to the last byte, and ``processor_seconds`` of the parent.
    """
    quick = run.options.quick
    kinds, counts = (_QUICK_KINDS, _QUICK_WORKERS) if quick else (_KINDS, _WORKERS)
    storage = run.directory / "storage"
    with ExitStack() as stack:
        tasks = {}
        for piece_length, content_length in kinds:
            source = run.directory / f"file-{piece_length}"
            make_file(source, content_length)
            tasks[piece_length, content_length] = import_file(source, piece_length, storage)
        parents = {
            count: stack.enter_context(Peer(storage, run.directory / f"parent-{count}", workers=count))
            for count in counts
        }
        wanted = {}
        for kind, task in tasks.items():
            wire = WIRE_FORMATS["vortex"](task.task_id)
            exchanges = learn(parents[counts[0]].port, wire, kind[1], kind[0], task.task_id)
            wanted[kind] = batches(exchanges, _AHEAD if kind[0] <= _SMALL else 1)
        connections = _QUICK_CONNECTIONS if quick else _CONNECTIONS
        cases = [(count, each, kind) for count in counts for each in connections for kind in kinds]
        for _, (count, each, kind) in run.turns(cases, _ROUNDS):
            pid = parents[count].pid
            with Reader(parents[count].port, each, iter(wanted[kind])) as reader:
                used, began = processor_of_family(pid), time.monotonic()
                reader.read()
                seconds, used = time.monotonic() - began, processor_of_family(pid) - used
            sample = {"workers": count, "connections": each, "piece_length": kind[0], "content_length": kind[1]}
            yield {**sample, "seconds": seconds, "processor_seconds": used}


def draw(report: Report) -> str:
    """
    For each length of pieces the rate, and what it cost. The report has other numbers of connections than the middle
    one, which show the same.
    """
    counts = report.cases("connections")
    (connections,) = counts[len(counts) // 2]
    lengths = [each for (each,) in reversed(report.cases("piece_length"))]
    head = ["workers", "connections"]
    for piece_length in lengths:
        head += [f"{length(piece_length)}: MB/s, best, median", "parent, s/GB: least"]
    rows = []
    for (workers,) in report.cases("workers"):
        cells = [str(workers), str(connections)]
        for piece_length in lengths:
            mine = report.taken(workers=workers, connections=connections, piece_length=piece_length)
            rates = [each["content_length"] / each["seconds"] / 10**6 for each in mine]
            cost = min(each["processor_seconds"] / each["content_length"] * 10**9 for each in mine)
            cells += [best_and_median(rates, ".0f", max), f"{cost:.2f}"]
        rows.append(cells)
    return f"{report.origin}\n\n" + table(head, rows)


BENCHMARK = Benchmark(
    name="workers",
    question="do several processes serve faster than one?",
    measure=measure,
    draw=draw,
    page="tuning.md",
    file="measurements/workers.json",
)
