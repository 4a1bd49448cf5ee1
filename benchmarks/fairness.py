"""
How long does a small request wait while large pieces flow, and do the busy connections get equal shares?

A child on a kept connection asks for a small piece, again and again, while a process of its own reads large pieces over
many connections.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.benchmark import Benchmark, Report, Run
from benchmarks.client import BUFFER, WIRE_FORMATS, connect, fetch
from benchmarks.material import Task, import_file, make_file
from benchmarks.peers import Peer
from benchmarks.processes import DidNotWork, processor_seconds
from benchmarks.text import table

__all__ = ["BENCHMARK", "Sample", "draw", "slowest"]

_KIB, _MIB = 2**10, 2**20
_SMALL, _LARGE, _LARGE_PIECES = 64 * _KIB, 64 * _MIB, 4
_BUSY, _REQUESTS, _ROUNDS = (0, 64), 300, 3
_QUICK_LARGE, _QUICK_BUSY, _QUICK_REQUESTS, _QUICK_ROUNDS = 1 * _MIB, (0, 4), 10, 1
_PAUSE = 0.002  # seconds between two requests: they are no load


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """
    What was seen in one turn.

    :param busy: connections on which large pieces flow.
    :param seconds: of each small piece.
    :param rate: bytes per second on all busy connections together.
    :param least: what the busy connection with the least has had, as a part of an equal share.
    :param most: and the one with the most.
    :param processor: seconds of processor time of the parent for 10⁹ bytes; 0.0 where none are busy.
    """

    busy: int
    seconds: list[float]
    rate: float
    least: float
    most: float
    processor: float


def measure(run: Run) -> Iterator[Sample]:
    """With and without busy connections."""
    quick = run.options.quick
    large, busy, requests = (_QUICK_LARGE, _QUICK_BUSY, _QUICK_REQUESTS) if quick else (_LARGE, _BUSY, _REQUESTS)
    tasks = []
    for name, length, piece_length in (("small", _SMALL, _SMALL), ("large", large * _LARGE_PIECES, large)):
        make_file(run.directory / name, length)
        tasks.append(import_file(run.directory / name, piece_length, run.directory / "storage"))
    with Peer(run.directory / "storage", run.directory / "parent") as parent:
        for _, connections in run.turns(busy, _ROUNDS, _QUICK_ROUNDS):
            yield _take_turn(parent, tasks[0], tasks[1], large, connections, requests)


def _take_turn(parent: Peer, small: Task, large: Task, piece_length: int, connections: int, requests: int) -> Sample:
    """Ask for the small piece, again and again."""
    wire, buffer = WIRE_FORMATS["vortex"](small.task_id), memoryview(bytearray(BUFFER))

    def ask() -> float:
        began = time.monotonic()
        fetch(connection, wire, 0, _SMALL, 0, buffer)
        return time.monotonic() - began

    def ask_often() -> Iterator[float]:
        for _ in range(requests):
            yield ask()
            time.sleep(_PAUSE)

    with connect(parent.port) as connection:
        ask()
        if not connections:
            return Sample(busy=0, seconds=list(ask_often()), rate=0.0, least=1.0, most=1.0, processor=0.0)
        with _busy(parent.port, large, piece_length, connections) as process:
            used = processor_seconds(parent.pid)
            seconds = list(ask_often())
            flow = json.loads(process.communicate()[0] or "{}")
            used = processor_seconds(parent.pid) - used
    if process.returncode:
        raise DidNotWork(f"the busy connections exited with {process.returncode}, expected 0")
    received: list[int] = flow["received"]
    return Sample(
        busy=connections,
        seconds=seconds,
        rate=sum(received) / flow["seconds"],
        least=min(received) * connections / sum(received),
        most=max(received) * connections / sum(received),
        processor=used / sum(received) * 1e9,
    )


@contextmanager
def _busy(port: int, task: Task, piece_length: int, connections: int) -> Iterator[subprocess.Popen[str]]:
    """Large pieces flow inside the block, until the process's standard input is closed."""
    numbers = map(str, (task.source.stat().st_size, piece_length, connections))
    command = [sys.executable, "-m", "benchmarks.programs.busy", str(port), task.task_id, *numbers]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            said: Any = process.stdout.readline() if process.stdout is not None else ""
            if said != "flowing\n":
                raise DidNotWork(f"expected bytes on {connections} connections, got {said!r}")
            yield process
        finally:
            process.kill()


def slowest(seconds: list[float], part: float) -> float:
    """
    What that part of all took at most.

    :param part: up to 1, which gives the longest.
    """
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def draw(report: Report[Sample]) -> str:
    """How long small pieces take, and what the busy connections have."""
    rows = []
    for busy in sorted({each.busy for each in report.samples}):
        taken = [each for each in report.samples if each.busy == busy]
        seconds = [each * 1e3 for sample in taken for each in sample.seconds]
        row = [str(busy), *(f"{each:.2f}" for each in (statistics.median(seconds), slowest(seconds, 0.95)))]
        row.append(f"{max(seconds):.2f}")
        if busy:
            shares = f"{min(each.least for each in taken):.2f}, {max(each.most for each in taken):.2f}"
            row += [f"{max(each.rate for each in taken) / 1e6:,.0f}", f"{min(each.processor for each in taken):.2f}"]
            row.append(shares)
        rows.append(row if busy else [*row, "", "", ""])
    head = ("busy connections", "a 64 KiB piece, ms: median", "95 of 100 within", "all within")
    flow = ("busy: MB/s, best", "parent, s/GB: least", "shares: least, most")
    return f"{report.origin}\n\n" + table([*head, *flow], rows)


BENCHMARK = Benchmark(
    name="fairness",
    question="how long does a small piece wait while large ones flow?",
    sample=Sample,
    measure=measure,
    draw=draw,
)
