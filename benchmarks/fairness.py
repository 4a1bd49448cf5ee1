"""
How long does a small request wait while large pieces flow, and do those get equal shares?
``python -m benchmarks.fairness`` measures it, for steps of several lengths: what a parent sends at once on a connection
before it turns to the next.
"""

from __future__ import annotations

import random
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bystander import Busy, bystander, paced_parent, slowest
from benchmarks.markdown import head, row
from benchmarks.material import Task, import_file, make_file
from benchmarks.measurement import Measurement
from benchmarks.processes import processor_seconds
from benchmarks.servers import Server

__all__ = ["MEASUREMENT", "STEPS", "Sample", "draw"]

_KIB, _MIB = 2**10, 2**20

STEPS = (64 * _KIB, 512 * _KIB, 2 * _MIB, 8 * _MIB, 1 << 30)
"""Bytes; the last is all that a socket takes."""

_DEFAULT = 2 * _MIB

_SMALL, _LARGE, _LARGE_PIECES, _BUSY = 64 * _KIB, 64 * _MIB, 4, 64
_REQUESTS, _ROUNDS = 300, 3
_QUICK_LARGE, _QUICK_BUSY, _QUICK_REQUESTS = 1 * _MIB, 8, 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """
    What was seen in one turn.

    :param step: bytes that the parent sends at once.
    :param busy: connections on which large pieces flow.
    :param seconds: that each small piece took.
    :param rate: bytes per second on all busy connections together.
    :param least: what the busy connection with the least has had, as a part of an equal share.
    :param most: and the one with the most.
    :param processor: seconds of processor time of the parent for 10⁹ bytes; 0.0 where none are busy.
    """

    step: int
    busy: int
    seconds: list[float]
    rate: float
    least: float
    most: float
    processor: float


def _measure(directory: Path, quick: bool, tell: Callable[[str], None]) -> Iterator[Sample]:
    """All steps, with and without busy connections, in shuffled turns."""
    large, busy, requests, rounds = (
        (_QUICK_LARGE, _QUICK_BUSY, _QUICK_REQUESTS, 1) if quick else (_LARGE, _BUSY, _REQUESTS, _ROUNDS)
    )
    storage = directory / "storage"
    tasks = []
    for name, length, piece_length in (("small", _SMALL, _SMALL), ("large", large * _LARGE_PIECES, large)):
        make_file(directory / name, length)
        tasks.append(import_file(directory / name, piece_length, storage))
    with ExitStack() as stack:
        parents = {
            step: stack.enter_context(paced_parent(storage, directory / str(step), "--step", str(step)))
            for step in STEPS
        }
        for number in range(rounds):
            turns = [(step, connections) for step in STEPS for connections in (0, busy)]
            tell(f"round {number + 1} of {rounds}: {len(turns)} turns of {requests} small pieces")
            random.Random(number).shuffle(turns)
            for step, connections in turns:
                yield _take_turn(parents[step], step, tasks, connections, requests)


def _take_turn(parent: Server, step: int, tasks: Sequence[Task], connections: int, requests: int) -> Sample:
    """Ask for the small piece, again and again."""
    small, large = tasks
    port = int(parent.said[1])
    with bystander(port, small) as child:
        if not connections:
            seconds = child.ask_while(lambda count: count < requests)
            return Sample(step=step, busy=0, seconds=seconds, rate=0.0, least=1.0, most=1.0, processor=0.0)
        with Busy(port, large, _LARGE_PIECES, connections, endless=True) as busy:
            used = processor_seconds(parent.pid)
            seconds = child.ask_while(lambda count: count < requests)
            fetched = busy.end()
            used = processor_seconds(parent.pid) - used
    total = sum(fetched.received)
    return Sample(
        step=step,
        busy=connections,
        seconds=seconds,
        rate=total / fetched.seconds,
        least=min(fetched.received) * connections / total,
        most=max(fetched.received) * connections / total,
        processor=used / total * 1e9,
    )


def draw(samples: Sequence[Sample]) -> str:
    """The table: how long small pieces take, and what the large ones have, for each step with and without them."""
    lines = [
        *head(
            "a step, at most",
            "busy",
            "a 64 KiB piece, ms: median",
            "95 of 100 within",
            "all within",
            "busy: MB/s, best",
            "parent, s/GB: least",
            "shares: least, most",
        )
    ]
    for step, busy in sorted({(sample.step, sample.busy) for sample in samples}):
        taken = [sample for sample in samples if (sample.step, sample.busy) == (step, busy)]
        seconds = [each * 1e3 for sample in taken for each in sample.seconds]
        shares = ", ".join(f"{each:.2f}" for each in (min(s.least for s in taken), max(s.most for s in taken)))
        flow = [f"{max(s.rate for s in taken) / 1e6:,.0f}", f"{min(s.processor for s in taken):.2f}", shares]
        cells = [_words(step), str(busy), f"{statistics.median(seconds):.2f}", f"{slowest(seconds, 0.95):.2f}"]
        lines.append(row(*cells, f"{max(seconds):.2f}", *(flow if busy else ("", "", ""))))
    return "\n".join(lines)


def _words(step: int) -> str:
    """A step's length, and whether it is the default."""
    words = "all that fits" if step == STEPS[-1] else f"{step // _KIB} KiB"
    return f"**{words}**" if step == _DEFAULT else words


MEASUREMENT = Measurement(name="fairness", sample=Sample, measure=_measure, draw=draw)

if __name__ == "__main__":
    sys.exit(MEASUREMENT.main())
