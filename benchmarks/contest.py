"""
The contest: each contestant fetches the same file, in turns. A turn is a fresh parent, then one child from its start to
its end, what both have used, and whether the bytes are right.
"""

from __future__ import annotations

import grp
import math
import os
import pwd
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from tempfile import TemporaryDirectory

from benchmarks.benchmark import Benchmark, Entry, Run
from benchmarks.chart import draw_chart
from benchmarks.contestants import CONTESTANTS, Contestant, Parent, fill, words_of
from benchmarks.figures import START_UP_LENGTH, Case, Sample
from benchmarks.machine import ROOT, find
from benchmarks.material import (
    Task,
    have_free_memory,
    import_file,
    is_same,
    make_certificate,
    make_file,
    read_all,
)
from benchmarks.processes import (
    DidNotWork,
    Server,
    family,
    free_port,
    peak_memory,
    processor_of_all,
    processor_of_family,
    run_in_turn,
)
from benchmarks.table import draw

__all__ = ["BENCHMARK", "START_UP_LENGTH", "cases_of", "serving", "take_turn", "values_in"]

_MIB = 2**20
_LENGTH, _QUICK_LENGTH = 10**9, 256 * 10**6
_ROUNDS, _QUICK_ROUNDS = 7, 2
_START_UPS = 2  # in each round: start-up is taken off every other figure
_PIECE_LENGTH, _CONCURRENCY = 4 * _MIB, 8
_OTHER_SHAPES = ((4 * _MIB, 1), (64 * _MIB, 1), (64 * _MIB, 8))  # bytes of a piece, and pieces at once
_IN_OTHER_SHAPES = ("tcp", "grpc")

_SPARE = 256 * 10**6
"""Bytes of memory that are free for a turn beside those of the file."""

_TO_FETCH = 120.0
"""Seconds that each of a child's commands has."""

_OURS = ("python", "twistd", "dfvortex")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """
    Where the tasks are.

    :param run: the directory that ``$run`` stands for.
    :param tasks: by content length and piece length.
    """

    run: Path
    tasks: Mapping[tuple[int, int], Task]


def measure(run: Run) -> Iterator[Sample]:
    """Take all turns."""
    names = [name for name in CONTESTANTS if not run.options.only or name in run.options.only]
    contestants = [CONTESTANTS[name] for name in names if _is_here(run, CONTESTANTS[name])]
    cases = cases_of(run, [each.name for each in contestants])
    run.entries.extend(_entry(each, cases) for each in contestants)
    run.tell(f"making files and storages in {run.directory}")
    make_certificate(run.directory)
    place = _Place(run=run.directory, tasks=_make_tasks(cases, run.directory))
    for case in dict.fromkeys(each for each in cases if each.is_start_up):
        take_turn(0, case, place.tasks[case.content_length, case.piece_length], place.run)  # what is loaded only once
    for number, case in run.turns(cases, _ROUNDS, _QUICK_ROUNDS):
        yield take_turn(number, case, place.tasks[case.content_length, case.piece_length], place.run)


def cases_of(run: Run, names: list[str]) -> list[Case]:
    """
    What is measured in each round: the file, by some in other shapes too, and start-up.

    :param names: of the contestants.
    """
    options = run.options
    length = options.size or (_QUICK_LENGTH if options.quick else _LENGTH)
    shapes = [(name, _PIECE_LENGTH, _CONCURRENCY) for name in names]
    start_ups = shapes * (1 if options.quick else _START_UPS)
    if not (options.quick or options.only):
        shapes += [(name, *shape) for shape in _OTHER_SHAPES for name in names if name in _IN_OTHER_SHAPES]
    return [
        Case(contestant=name, content_length=content_length, piece_length=piece_length, concurrency=concurrency)
        for content_length, all_of_them in ((length, shapes), (START_UP_LENGTH, start_ups))
        for name, piece_length, concurrency in all_of_them
    ]


def _is_here(run: Run, contestant: Contestant) -> bool:
    """Whether all programs of a contestant are installed."""
    return all(run.has(program, contestant.title) for program in contestant.programs if program not in _OURS)


def _entry(contestant: Contestant, cases: list[Case]) -> Entry:
    """A contestant's commands as the report has them: with the figures of what is fetched, and names for paths."""
    case = next(each for each in cases if each.contestant == contestant.name and not each.is_start_up)
    figures = _figures(case)
    return Entry(
        name=contestant.name,
        title=contestant.title,
        group=contestant.group,
        parent=Template(contestant.parent.command).safe_substitute(figures),
        child=[Template(command).safe_substitute(figures) for command in contestant.child],
        files={**contestant.parent.files, **contestant.files},
    )


def _figures(case: Case) -> dict[str, object]:
    return {
        "content_length": case.content_length,
        "piece_length": case.piece_length,
        "piece_count": math.ceil(case.content_length / case.piece_length),
        "concurrency": case.concurrency,
    }


def _make_tasks(cases: list[Case], directory: Path) -> Mapping[tuple[int, int], Task]:
    """The tasks, by content length and piece length, each in a directory of its own."""
    for length in {case.content_length for case in cases}:
        make_file(directory / f"{length}", length)
    tasks = {}
    for length, piece_length in sorted({(case.content_length, case.piece_length) for case in cases}):
        place = directory / f"{length}-{piece_length}"
        place.mkdir()
        (place / "file").hardlink_to(directory / f"{length}")
        tasks[length, piece_length] = import_file(place / "file", piece_length, place / "storage")
    return tasks


def take_turn(number: int, case: Case, task: Task, run: Path) -> Sample:
    """
    One download, from a parent that has done nothing yet.

    :param number: the number of the round.
    :param case: what is measured.
    :param task: what is fetched, in a directory of its own.
    :param run: what ``$run`` stands for; the turn's own directory is made in it, and deleted again.
    :raises DidNotWork: a program failed, or bytes came that are not the source's.
    """
    contestant = CONTESTANTS[case.contestant]
    with TemporaryDirectory(prefix="turn-", dir=run) as name:
        turn = Path(name)
        values = {**values_in(turn, task.source.parent), "run": run, "task_id": task.task_id, **_figures(case)}
        _write_files(contestant.files, values, turn)
        commands = [_command(command, values) for command in contestant.child]
        with serving(contestant.parent, values, turn) as parent:
            _make_ready(turn, task, case.content_length)
            before, all_before = processor_of_family(parent.pid), processor_of_all()
            child = run_in_turn(commands, ROOT, _TO_FETCH).checked(contestant.name)
            parent_processor = processor_of_family(parent.pid) - before
            used = processor_of_all() - all_before
            parent_peak = sum(peak_memory(pid) for pid in family(parent.pid))
        if contestant.writes and not is_same(turn / "output", task.source):
            raise DidNotWork(f"expected the bytes of {task.source}, got others from {contestant.name}")
    return Sample(
        round=number,
        contestant=case.contestant,
        content_length=case.content_length,
        piece_length=case.piece_length,
        concurrency=case.concurrency,
        seconds=child.seconds,
        parent_processor=parent_processor,
        child_processor=child.processor,
        parent_peak=parent_peak,
        child_peak=child.peak,
        others=max(0.0, used - parent_processor - child.processor),
    )


def _make_ready(turn: Path, task: Task, length: int) -> None:
    """
    Give every child the same machine, the one that measures start-up too.

    :param length: bytes that it fetches.
    """
    # No child waits for what others have left to be written to this disk.
    subprocess.run(["sync", "--file-system", turn], check=True)
    read_all(task.source.parent)  # a parent may have a copy of its own
    # Last, since a virtual machine's host takes free memory back soon.
    have_free_memory(length + _SPARE)


def values_in(turn: Path, task: Path) -> dict[str, object]:
    """
    What the names in every parent's command and files stand for.

    :param turn: an empty directory, for ``$turn``.
    :param task: the directory with what it serves, for ``$task``.
    """
    return {
        "task": task,
        "turn": turn,
        "port": free_port(),
        "user": pwd.getpwuid(os.geteuid()).pw_name,
        "group": grp.getgrgid(os.getegid()).gr_name,
    }


def serving(parent: Parent, values: Mapping[str, object], turn: Path) -> Server:
    """
    A parent, serving inside the block. Its files are written now.

    :param turn: the directory that ``$turn`` stands for.
    :raises DidNotWork: it is not installed.
    """
    _write_files(parent.files, values, turn)
    return Server(_command(parent.command, values), turn, parent.says)


def _command(command: str, values: Mapping[str, object]) -> list[str | Path]:
    """A command, with the path of its program."""
    name, *arguments = words_of(command, values)
    program = find(name)
    if program is None:
        raise DidNotWork(f"expected {name} to be installed, it is not")
    return [program, *arguments]


def _write_files(files: Mapping[str, str], values: Mapping[str, object], turn: Path) -> None:
    for name, text in files.items():
        (turn / name).write_text(fill(text, values), encoding="utf-8")


BENCHMARK = Benchmark(
    name="contest",
    question="how fast does each program fetch a file, and at which cost?",
    sample=Sample,
    measure=measure,
    draw=draw,
    page="performance.md",
    data="performance.json",
    chart=draw_chart,
)
