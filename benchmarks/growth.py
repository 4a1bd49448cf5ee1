"""
How do processor time and memory grow with the tasks in a storage, the pieces of a task, the children at once, and the
bytes of a task? Each step runs in a process of its own (:mod:`benchmarks.programs.growth`), so that one leaves nothing
to the next.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from benchmarks.benchmark import Benchmark, Report, Run, Sample
from benchmarks.machine import ROOT
from benchmarks.processes import run_to_end
from benchmarks.tables import table

__all__ = ["BENCHMARK", "Subject", "draw", "slope"]

_TO_END = 900.0  # seconds that a step has

_LINEAR = 1.15
"""The slope up to which growth counts as linear: one run differs from another by as much."""

_FAR_ENOUGH = 5
"""How many times as large a size is at least than the one that it is compared with: closer ones differ by noise."""

_ON_TASKS = ("start", "list", "open", "collect")
"""Steps on a storage of many tasks, which they do not change: they share it."""

_LEAST_TIME, _LEAST_MEMORY = 0.002, 500_000
"""Seconds and bytes below which a figure is noise, and has no slope."""


class Subject(NamedTuple):
    """
    What grows.

    :ivar title: the name in tables.
    :ivar sizes: how many there are of it.
    :ivar quick_sizes: the same for a quick run.
    :ivar steps: the steps that are measured, by the name that the program has for them, with their titles.
    """

    title: str
    sizes: Sequence[int]
    quick_sizes: Sequence[int]
    steps: Mapping[str, str]


_STORAGE_STEPS = {
    "start": "open the storage, as a peer does",
    "list": "list the tasks",
    "open": "open a piece of each of 100 tasks",
    "collect": "collect garbage; nothing is removed",
}
_PIECE_STEPS = {
    "write": "write all rows",
    "read": "read all rows",
    "announce": "take in the announcements of a parent",
}
_PLAN = "plan a download from one parent, in simulated time"
_CHILDREN = "serve and fetch four pieces of 4 KiB for each child, in one process"

_SUBJECTS = (
    Subject("tasks in a storage", (10**2, 10**3, 10**4, 10**5), (100, 200), _STORAGE_STEPS),
    Subject("pieces of a task", (10**3, 10**4, 10**5, 10**6), (100, 200), _PIECE_STEPS),
    Subject("pieces of a download", (10**3, 10**4, 10**5), (100, 200), {"plan": _PLAN}),  # a million take minutes
    Subject("children at once", (10, 100, 1000, 2000), (2, 4), {"children": _CHILDREN}),
    Subject(
        *("gigabytes of a task", (1, 10, 100, 1000), (1, 2)),
        {"gigabytes": _PLAN, "sparse": "open 100 pieces of a sparse file"},
    ),
)
"""All that is measured."""


def measure(run: Run) -> Iterator[Sample]:
    """
    Take each step at each size. A sample has both, the load average, the ``processor`` seconds, and the bytes by which
    the process's memory has ``grown`` at most.
    """
    cases = [
        (step, size)
        for subject in _SUBJECTS
        for size in (subject.quick_sizes if run.options.quick else subject.sizes)
        for step in subject.steps
    ]
    for number, (step, size) in run.turns(cases, 3):
        kind = "tasks" if step in _ON_TASKS else f"{step}-{number}"
        directory = run.directory / f"{kind}-{size}"
        command = [sys.executable, "-m", "benchmarks.programs.growth", step, str(size), str(directory)]
        load = os.getloadavg()[0]
        found = json.loads(run_to_end(command, ROOT, _TO_END).checked(step).output)
        yield {"step": step, "size": size, **found, "load": load}


def slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """
    The exponent with which values grow up to the largest size, from the largest one that is at most a fifth of it: 1
    for linear growth. At smaller sizes the parts that do not grow would hide those that do.

    :param sizes: in order, at least two.
    :param values: one for each, more than 0.
    """
    before = _before_last(sizes)
    return math.log(values[-1] / values[before]) / math.log(sizes[-1] / sizes[before])


def _before_last(sizes: Sequence[float]) -> int:
    """The index of the largest size that is far enough from the last one; 0 where none is."""
    return max((at for at, size in enumerate(sizes) if _FAR_ENOUGH * size <= sizes[-1]), default=0)


def draw(report: Report) -> str:
    """For each subject the median time and most memory of each step, at the least and largest size, and the slopes."""
    loads = report.values("load")
    legend = (
        "Median processor time in ms, and the MB by which memory grows. Slopes of both up to the largest size, from one"
        f" that is at most 1/{_FAR_ENOUGH} of it: 1 is linear, none where a figure is too small. The load average was"
        f" {min(loads):.1f} to {max(loads):.1f}."
    )
    parts = [report.origin, legend]
    for subject in _SUBJECTS:
        steps = {step: title for step, title in subject.steps.items() if report.taken(step=step)}
        if steps:
            sizes = sorted({size for step in steps for size in report.values("size", step=step)})
            head = [subject.title, f"{sizes[0]:,}", f"{sizes[-1]:,}", "slopes"]
            parts.append(table(head, [_row(report, step, title) for step, title in steps.items()]))
    return "\n\n".join(parts)


def _row(report: Report, step: str, title: str) -> list[str]:
    """A step's figures at the least and the largest size."""
    sizes = [size for (size,) in report.cases("size", step=step)]
    times = [statistics.median(report.values("processor", step=step, size=size)) for size in sizes]
    memory = [max(report.values("grown", step=step, size=size)) for size in sizes]
    figures = [f"{times[at] * 1e3:,.0f}, {memory[at] / 1e6:.1f}" for at in (0, -1)]
    return [title, *figures, f"{_slope_text(sizes, times, _LEAST_TIME)}, {_slope_text(sizes, memory, _LEAST_MEMORY)}"]


def _slope_text(sizes: Sequence[int], values: Sequence[float], least: float) -> str:
    """A slope, in bold where growth is worse than linear."""
    if min(values[-1], values[_before_last(sizes)]) < least:
        return "-"
    found = slope(sizes, values)
    return f"{found:.2f}" if found <= _LINEAR else f"**{found:.2f}**"


BENCHMARK = Benchmark(
    name="growth",
    question="how do time and memory grow with tasks, pieces, children and gigabytes?",
    measure=measure,
    draw=draw,
    page="tuning.md",
    file="measurements/growth.json",
)
