"""
How does the time grow with the number of peers, up to hundreds? In the simulator, beside the least time that is
possible. The plans are the real ones; the links between peers are a model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from benchmarks.benchmark import Benchmark, Report, Run
from benchmarks.curves import Curve, draw_curves
from benchmarks.swarm_figures import SIMULATED, Case, Sample, simulated
from benchmarks.text import length

__all__ = ["BENCHMARK", "draw", "draw_chart"]

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

_ROUNDS, _QUICK_ROUNDS = 1, 1
_MOST = 3.0
"""What the time of the largest swarm is to be at most, as a multiple of that of one."""


def measure(run: Run) -> Iterator[Sample]:
    """Each swarm, each time with other chances."""
    quick = run.options.quick
    chosen = _QUICK_COUNTS if quick else _COUNTS
    cases = [
        Case(program=SIMULATED, peers=peers, piece_length=piece_length)
        for piece_length, counts in chosen.items()
        for peers in counts
    ]
    for number, case in run.turns(cases, _ROUNDS, _QUICK_ROUNDS):
        yield simulated(case, _QUICK_LENGTH if quick else _LENGTH, _LIMIT, seed=number, neighbours=_NEIGHBOURS)


def draw(report: Report[Sample]) -> str:
    """The largest swarm with each length of pieces: its time, and what the first has sent. The chart has all times."""
    samples = report.samples
    most = max(each.peers for each in samples)
    lengths = sorted({each.piece_length for each in samples})
    reached = all(_times(samples, most, each.piece_length) <= _MOST for each in samples if each.peers == most)
    verdict = f"N = {most} : N = 1, at most {_MOST:g}: {'reached' if reached else '**not reached**'}."
    return f"{report.origin}\n\n{verdict} {'; '.join(_largest(samples, each) for each in lengths)}."


def _largest(samples: Sequence[Sample], piece_length: int) -> str:
    """The time of the largest swarm with a length of pieces, and what its first peer has sent."""
    peers = max(each.peers for each in samples if each.piece_length == piece_length)
    taken = [each for each in samples if (each.peers, each.piece_length) == (peers, piece_length)]
    sent = median([each.first_sent for each in taken]) / taken[0].content_length
    times = _times(samples, peers, piece_length)
    return f"{length(piece_length)}, N = {peers}: {times:.2f}, and the first sends {sent:.2f} copies"


def _times(samples: Sequence[Sample], peers: int, piece_length: int) -> float:
    """The median time of a swarm, as a multiple of that of one peer."""

    def seconds(count: int) -> float:
        return median([each.seconds for each in samples if (each.peers, each.piece_length) == (count, piece_length)])

    return seconds(peers) / seconds(1)


def draw_chart(report: Report[Sample], path: Path) -> None:
    """
    Draw the chart.

    :param path: an SVG file.
    :raises ImportError: matplotlib is not installed.
    """
    curves = []
    for piece_length in sorted({each.piece_length for each in report.samples}):
        mine = sorted(
            (each for each in report.samples if each.piece_length == piece_length), key=lambda each: each.peers
        )
        title = f"pieces of {length(piece_length)}"
        times = [(each, _times(report.samples, each, piece_length)) for each in sorted({each.peers for each in mine})]
        curves.append(Curve(title=title, points=times))
        least = dict.fromkeys((each.peers, each.least_times) for each in mine)
        curves.append(Curve(title=f"{title}, the least possible", points=list(least), is_dashed=True))
    draw_curves(curves, path, "peers that fetch", "times as long as one")


BENCHMARK = Benchmark(
    name="swarm_simulated",
    question="how does a swarm's time grow up to hundreds of peers, in the simulator?",
    sample=Sample,
    measure=measure,
    draw=draw,
    page="performance.md",
    data="swarm_simulated.json",
    chart=draw_chart,
)
