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
from collections.abc import Iterator, Sequence

from benchmarks.benchmark import Benchmark, Report, Run, Sample
from benchmarks.client import BUFFER, WIRE_FORMATS, connect, fetch
from benchmarks.machine import ROOT, processor_seconds
from benchmarks.material import Task, import_file, make_file
from benchmarks.peers import Peer
from benchmarks.processes import DidNotWork, started
from benchmarks.tables import table

__all__ = ["BENCHMARK", "draw", "slowest"]

_KIB, _MIB = 2**10, 2**20
_SMALL, _LARGE, _LARGE_PIECES = 64 * _KIB, 64 * _MIB, 4
_BUSY, _REQUESTS, _ROUNDS = (0, 64), 300, 3
_QUICK_LARGE, _QUICK_BUSY, _QUICK_REQUESTS = 1 * _MIB, (0, 4), 10
_PAUSE = 0.002  # seconds between two requests: they are no load


def measure(run: Run) -> Iterator[Sample]:
    """
    With and without busy connections. A sample has the number of ``busy`` connections, the ``seconds`` of each small
    piece, the ``rate`` in bytes per second on all busy connections together, what the one with the ``least`` and that
    with the ``most`` had as a part of an equal share, and the parent's ``processor`` seconds for 10⁹ bytes.
    """
    quick = run.options.quick
    large, busy, requests = (_QUICK_LARGE, _QUICK_BUSY, _QUICK_REQUESTS) if quick else (_LARGE, _BUSY, _REQUESTS)
    tasks = []
    for name, length, piece_length in (("small", _SMALL, _SMALL), ("large", large * _LARGE_PIECES, large)):
        make_file(run.directory / name, length)
        tasks.append(import_file(run.directory / name, piece_length, run.directory / "storage"))
    with Peer(run.directory / "storage", run.directory / "parent") as parent:
        for _, connections in run.turns(busy, _ROUNDS):
            sample = {"busy": connections, "seconds": [], "rate": 0.0, "least": 1.0, "most": 1.0, "processor": 0.0}
            if connections:
                yield {**sample, **_beside(parent, tasks[0], tasks[1], large, connections, requests)}
            else:
                yield {**sample, "seconds": _ask(parent, tasks[0], requests)}


def _ask(parent: Peer, task: Task, requests: int) -> list[float]:
    """Ask for the small piece, again and again; the seconds of each request."""
    wire, buffer = WIRE_FORMATS["vortex"](task.task_id), memoryview(bytearray(BUFFER))
    seconds = []
    with connect(parent.port) as connection:
        for _ in range(requests + 1):
            began = time.monotonic()
            fetch(connection, wire, 0, _SMALL, 0, buffer)
            seconds.append(time.monotonic() - began)
            time.sleep(_PAUSE)
    return seconds[1:]


def _beside(parent: Peer, small: Task, large: Task, piece_length: int, connections: int, requests: int) -> Sample:
    """The same while large pieces flow."""
    numbers = map(str, (large.source.stat().st_size, piece_length, connections))
    command = [sys.executable, "-m", "benchmarks.programs.busy", str(parent.port), large.task_id, *numbers]
    pipe = subprocess.PIPE
    with started(command, ROOT, stdin=pipe, stdout=pipe, stderr=None) as process:
        said = process.stdout.readline() if process.stdout is not None else b""
        if said != b"flowing\n":
            raise DidNotWork(f"expected bytes on {connections} connections, got {said!r}")
        used = processor_seconds(parent.pid)
        seconds = _ask(parent, small, requests)
        flow = json.loads(process.communicate()[0] or "{}")
        used = processor_seconds(parent.pid) - used
    if process.returncode:
        raise DidNotWork(f"the busy connections exited with {process.returncode}, expected 0")
    received: list[int] = flow["received"]
    least, most = (each * connections / sum(received) for each in (min(received), max(received)))
    rate, processor = sum(received) / flow["seconds"], used / sum(received) * 1e9
    return {"seconds": seconds, "rate": rate, "least": least, "most": most, "processor": processor}


def slowest(seconds: Sequence[float], part: float) -> float:
    """
    What that part of all took at most.

    :param part: up to 1, which gives the longest.
    """
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def draw(report: Report) -> str:
    """How long small pieces take, and what the busy connections have."""
    rows = []
    for (busy,) in report.cases("busy"):
        seconds = [each * 1e3 for taken in report.values("seconds", busy=busy) for each in taken]
        waits = (statistics.median(seconds), slowest(seconds, 0.95), max(seconds))
        flow = ["", "", ""]
        if busy:
            rate, cost = max(report.values("rate", busy=busy)), min(report.values("processor", busy=busy))
            least, most = min(report.values("least", busy=busy)), max(report.values("most", busy=busy))
            flow = [f"{rate / 1e6:,.0f}", f"{cost:.2f}", f"{least:.2f}, {most:.2f}"]
        rows.append([str(busy), *(f"{each:.2f}" for each in waits), *flow])
    head = ("busy connections", "a 64 KiB piece, ms: median", "95 of 100 within", "all within")
    flowing = ("busy: MB/s, best", "parent, s/GB: least", "shares: least, most")
    return f"{report.origin}\n\n" + table([*head, *flowing], rows)


BENCHMARK = Benchmark(
    name="fairness",
    question="how long does a small piece wait while large ones flow?",
    measure=measure,
    draw=draw,
    page="tuning.md",
    file="measurements/fairness.json",
)
