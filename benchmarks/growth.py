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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.benchmark import Benchmark, Report, Run
from benchmarks.processes import run_to_end
from benchmarks.text import table

__all__ = ["BENCHMARK", "SUBJECTS", "Sample", "Subject", "draw", "slope"]

_ROUNDS, _QUICK_ROUNDS = 3, 1
_TO_END = 900.0  # seconds that a step has

_HERE = Path(__file__).resolve().parent.parent
"""The directory in which the benchmarks can be imported."""

_LINEAR = 1.15
"""The slope up to which growth counts as linear: one run differs from another by as much."""

_FAR_ENOUGH = 5
"""How many times as large a size is at least than the one that it is compared with: closer ones differ by noise."""

_ON_TASKS = ("start", "list", "open", "collect")
"""Steps on a storage of many tasks, which they do not change: they share it."""

_LEAST_TIME, _LEAST_MEMORY = 0.002, 500_000
"""Seconds and bytes below which a figure is noise, and has no slope."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """
    What grows.

    :param title: the name in tables.
    :param sizes: how many there are of it.
    :param quick_sizes: the same for a quick run.
    :param steps: the steps that are measured, by the name that the program has for them, with their titles.
    """

    title: str
    sizes: Sequence[int]
    quick_sizes: Sequence[int]
    steps: dict[str, str]


SUBJECTS = (
    Subject(
        title="tasks in a storage",
        sizes=(10**2, 10**3, 10**4, 10**5),
        quick_sizes=(100, 200),
        steps={
            "start": "open the storage, as a peer does",
            "list": "list the tasks",
            "open": "open a piece of each of 100 tasks",
            "collect": "collect garbage; nothing is removed",
        },
    ),
    Subject(
        title="pieces of a task",
        sizes=(10**3, 10**4, 10**5, 10**6),
        quick_sizes=(100, 200),
        steps={
            "write": "write all rows",
            "read": "read all rows",
            "announce": "take in the announcements of a parent",
        },
    ),
    Subject(
        title="pieces of a download",
        sizes=(10**3, 10**4, 10**5),  # a million take minutes
        quick_sizes=(100, 200),
        steps={"plan": "plan a download from one parent, in simulated time"},
    ),
    Subject(
        title="children at once",
        sizes=(10, 100, 1000, 2000),
        quick_sizes=(2, 4),
        steps={"children": "serve and fetch four pieces of 4 KiB for each child, in one process"},
    ),
    Subject(
        title="gigabytes of a task",
        sizes=(1, 10, 100, 1000),
        quick_sizes=(1, 2),
        steps={
            "gigabytes": "plan a download from one parent, in simulated time",
            "sparse": "open 100 pieces of a sparse file",
        },
    ),
)
"""All that is measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """
    One step at one size.

    :param step: its name.
    :param size: how many there are of what grows.
    :param processor: seconds of processor time.
    :param grown: bytes by which the process's memory has grown at most.
    :param load: how many processes of the machine ran or wanted to, in the minute before.
    """

    step: str
    size: int
    processor: float
    grown: int
    load: float


def measure(run: Run) -> Iterator[Sample]:
    """Take each step at each size."""
    cases = [
        (step, size)
        for subject in SUBJECTS
        for size in (subject.quick_sizes if run.options.quick else subject.sizes)
        for step in subject.steps
    ]
    for number, (step, size) in run.turns(cases, _ROUNDS, _QUICK_ROUNDS):
        kind = "tasks" if step in _ON_TASKS else f"{step}-{number}"
        directory = run.directory / f"{kind}-{size}"
        command = [sys.executable, "-m", "benchmarks.programs.growth", step, str(size), str(directory)]
        load = os.getloadavg()[0]
        found = json.loads(run_to_end(command, _HERE, _TO_END).checked(step).output)
        yield Sample(step=step, size=size, load=load, **found)


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


def draw(report: Report[Sample]) -> str:
    """For each subject the median time and most memory of each step, at the least and largest size, and the slopes."""
    loads = [each.load for each in report.samples]
    legend = (
        "Median processor time in ms, and the MB by which memory grows. Slopes of both up to the largest size, from one"
        f" that is at most 1/{_FAR_ENOUGH} of it: 1 is linear, none where a figure is too small. The load average was"
        f" {min(loads):.1f} to {max(loads):.1f}."
    )
    parts = [report.origin, legend]
    for subject in SUBJECTS:
        mine = [each for each in report.samples if each.step in subject.steps]
        sizes = sorted({each.size for each in mine})
        if mine:
            seen = {each.step for each in mine}
            rows = [
                _row(title, [each for each in mine if each.step == step])
                for step, title in subject.steps.items()
                if step in seen
            ]
            parts.append(table([subject.title, f"{sizes[0]:,}", f"{sizes[-1]:,}", "slopes"], rows))
    return "\n\n".join(parts)


def _row(title: str, samples: Sequence[Sample]) -> list[str]:
    """A step's figures by size."""
    sizes = sorted({each.size for each in samples})
    times = [statistics.median(each.processor for each in samples if each.size == size) for size in sizes]
    memory = [max(each.grown for each in samples if each.size == size) for size in sizes]
    figures = [f"{time * 1e3:,.0f}, {grown / 1e6:.1f}" for time, grown in zip(times, memory, strict=True)]
    slopes = f"{_slope_text(sizes, times, _LEAST_TIME)}, {_slope_text(sizes, memory, _LEAST_MEMORY)}"
    return [title, figures[0], figures[-1], slopes]


def _slope_text(sizes: Sequence[int], values: Sequence[float], least: float) -> str:
    """A slope, in bold where growth is worse than linear."""
    if min(values[-1], values[_before_last(sizes)]) < least:
        return "-"
    found = slope(sizes, values)
    return f"{found:.2f}" if found <= _LINEAR else f"**{found:.2f}**"


BENCHMARK = Benchmark(
    name="growth",
    question="how do time and memory grow with tasks, pieces, children and gigabytes?",
    sample=Sample,
    measure=measure,
    draw=draw,
)
