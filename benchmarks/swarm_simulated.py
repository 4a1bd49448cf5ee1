"""
How does the time grow with the number of peers, up to hundreds? In the simulator, beside the least time that is
possible. The plans are the real ones; the links between peers are a model.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, floor, log2
from pathlib import Path
from statistics import median

from benchmarks.benchmark import Benchmark, Report, Run, Sample
from benchmarks.charts import Curve, draw_curves
from benchmarks.swarm_table import SIMULATED, Case, simulated
from benchmarks.tables import length

__all__ = ["BENCHMARK", "draw"]

_MIB = 1 << 20
_LENGTH, _QUICK_LENGTH = 80 * 10**6, 8 * 10**6
_LIMIT = 10 * 10**6
_COUNTS: dict[int, tuple[int, ...]] = {
    _MIB: (1, 2, 4, 8, 16, 32, 64, 128),
    4 * _MIB: (1, 2, 4, 8, 16, 32, 64, 128, 250, 500),
}
_QUICK_COUNTS: dict[int, tuple[int, ...]] = {4 * _MIB: (1, 4)}
"""Numbers of peers, by bytes of a piece; four times as many pieces take four times as long to simulate."""

_NEIGHBOURS = 16
"""Peers that each child knows besides the first: a child of hundreds would not ask them all."""

_MOST = 3.0
"""What the time of the largest swarm is to be at most, as a multiple of that of one."""


def measure(run: Run) -> Iterator[Sample]:
    """Each swarm, each time with other chances."""
    quick = run.options.quick
    size = _QUICK_LENGTH if quick else _LENGTH
    chosen = _QUICK_COUNTS if quick else _COUNTS
    cases = [Case(SIMULATED, peers, piece_length) for piece_length, counts in chosen.items() for peers in counts]
    for number, case in run.turns(cases, 1):
        yield simulated(case, size, _LIMIT, seed=number, neighbours=_NEIGHBOURS)


def draw(report: Report) -> str:
    """The largest swarm with each length of pieces: its time, and what the first has sent. The chart has all times."""
    found, ratios = [], []
    most = max(report.values("peers"))
    for (piece_length,) in report.cases("piece_length"):
        peers, times = _times(report, piece_length)[-1]
        taken = report.taken(piece_length=piece_length, peers=peers)
        sent = median(each["first_sent"] for each in taken) / taken[0]["content_length"]
        found.append(f"{length(piece_length)}, N = {peers}: {times:.2f}, and the first sends {sent:.2f} copies")
        if peers == most:
            ratios.append(times)
    reached = "reached" if max(ratios) <= _MOST else "**not reached**"
    return f"{report.origin}\n\nN = {most} : N = 1, at most {_MOST:g}: {reached}. {'; '.join(found)}."


def _times(report: Report, piece_length: int) -> list[tuple[int, float]]:
    """Numbers of peers, and the median time of such a swarm as a multiple of that of one peer."""
    counts = [count for (count,) in report.cases("peers", piece_length=piece_length)]
    seconds = [median(report.values("seconds", piece_length=piece_length, peers=count)) for count in counts]
    return [(count, each / seconds[0]) for count, each in zip(counts, seconds, strict=True)]


def _draw_chart(report: Report, path: Path) -> None:
    """
    The times, and the least that is possible: with N peers of equal rates and M pieces 1 + floor(log2 N) / M
    (Mundinger, Weber, Weiss: Optimal scheduling of peer-to-peer file dissemination, 2008).
    """
    size, curves = report.samples[0]["content_length"], []
    for (piece_length,) in report.cases("piece_length"):
        title, times = f"pieces of {length(piece_length)}", _times(report, piece_length)
        least = [(count, 1 + floor(log2(count)) / ceil(size / piece_length)) for count, _ in times]
        curves.append(Curve(title=title, points=times))
        curves.append(Curve(title=f"{title}, the least possible", points=least, is_dashed=True))
    draw_curves(curves, path, "peers that fetch", "times as long as one")


BENCHMARK = Benchmark(
    name="swarm_simulated",
    question="how does a swarm's time grow up to hundreds of peers, in the simulator?",
    measure=measure,
    draw=draw,
    page="performance.md",
    file="swarm_simulated.json",
    chart=_draw_chart,
)
