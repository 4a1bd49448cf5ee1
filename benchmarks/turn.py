"""
A turn of the contest: a fresh parent, then one child from its start to its end, what both have used, and whether the
bytes are right.
"""

from __future__ import annotations

import filecmp
import grp
import math
import os
import pwd
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from benchmarks.benchmark import Run, Sample
from benchmarks.contestants import CONTESTANTS, Contestant, fill, words_of
from benchmarks.machine import ROOT, family, find, peak_memory, processor_of_all, processor_of_family
from benchmarks.material import (
    Task,
    have_free_memory,
    import_file,
    make_certificate,
    make_file,
    read_all,
)
from benchmarks.processes import DidNotWork, Server, free_port, run_in_turn

__all__ = ["START_UP_LENGTH", "Case", "is_here", "make_tasks", "take_turn"]

START_UP_LENGTH = 1_000_000
"""Bytes of the task on which start-up is measured: processes, imports, a connection, and next to no content."""

_SPARE = 256 * 10**6
"""Bytes of memory that are free for a turn beside those of the file."""

_TO_FETCH = 120.0
"""Seconds that each of a child's commands has."""

_OURS = ("python", "twistd", "dfvortex")


class Case(NamedTuple):
    """
    What is measured once in each round.

    :ivar contestant: a name in :data:`~benchmarks.contestants.CONTESTANTS`.
    :ivar content_length: bytes of the task.
    :ivar piece_length: bytes of every piece but the last.
    :ivar concurrency: pieces, or connections, that the child has under way at once.
    """

    contestant: str
    content_length: int
    piece_length: int = 4 * 2**20
    concurrency: int = 8

    @property
    def values(self) -> dict[str, object]:
        """What names in commands stand for."""
        return {**self._asdict(), "piece_count": math.ceil(self.content_length / self.piece_length)}


def is_here(run: Run, contestant: Contestant) -> bool:
    """Whether all that a contestant needs is installed."""
    programs = [program for program in contestant.programs if program not in _OURS]
    return all(run.has(each, contestant.title) for each in programs) and (
        not contestant.package or run.has(contestant.package, contestant.title, is_package=True)
    )


def make_tasks(cases: Sequence[Case], directory: Path) -> Mapping[tuple[int, int], Task]:
    """The certificate, and the tasks by content length and piece length, each in a directory of its own."""
    make_certificate(directory)
    for length in {case.content_length for case in cases}:
        make_file(directory / f"{length}", length)
    tasks = {}
    for length, piece_length in sorted({(case.content_length, case.piece_length) for case in cases}):
        place = directory / f"{length}-{piece_length}"
        place.mkdir()
        (place / "file").hardlink_to(directory / f"{length}")
        tasks[length, piece_length] = import_file(place / "file", piece_length, place / "storage")
    return tasks


def take_turn(case: Case, tasks: Mapping[tuple[int, int], Task], run: Path) -> Sample:
    """
    One download, from a parent that has done nothing yet.

    :param tasks: by content length and piece length.
    :param run: what ``$run`` stands for; the turn's own directory is made in it, and deleted again.
    :returns: the case, and ``seconds``: the child's life, from its start to its end; ``parent_processor`` and
        ``child_processor``: seconds of processor time, the parent's while the child lived; ``parent_peak`` and
        ``child_peak``: the most bytes of memory, of a parent's processes the sum, of a child's commands the most;
        ``others``: processor seconds that the machine spent meanwhile on anything else.
    :raises DidNotWork: a program failed, or bytes came that are not the source's.
    """
    contestant, task = CONTESTANTS[case.contestant], tasks[case.content_length, case.piece_length]
    with TemporaryDirectory(prefix="turn-", dir=run) as name:
        turn = Path(name)
        values: dict[str, object] = {
            **case.values,
            "run": run,
            "turn": turn,
            "task": task.source.parent,
            "task_id": task.task_id,
            "port": free_port(),
            "user": pwd.getpwuid(os.geteuid()).pw_name,
            "group": grp.getgrgid(os.getegid()).gr_name,
        }
        for file, text in contestant.parent.files.items():
            (turn / file).write_text(fill(text, values), encoding="utf-8")
        commands = [_command(command, values) for command in contestant.child]
        with Server(_command(contestant.parent.command, values), turn, contestant.parent.says) as parent:
            _make_ready(turn, task, case.content_length)
            before, all_before = processor_of_family(parent.pid), processor_of_all()
            child = run_in_turn(commands, ROOT, _TO_FETCH).checked(contestant.name)
            parent_processor = processor_of_family(parent.pid) - before
            used = processor_of_all() - all_before
            parent_peak = sum(peak_memory(pid) for pid in family(parent.pid))
        if contestant.writes and not filecmp.cmp(turn / "output", task.source, shallow=False):
            raise DidNotWork(f"expected the bytes of {task.source}, got others from {contestant.name}")
    return {
        **case._asdict(),
        "seconds": child.seconds,
        "parent_processor": parent_processor,
        "child_processor": child.processor,
        "parent_peak": parent_peak,
        "child_peak": child.peak,
        "others": max(0.0, used - parent_processor - child.processor),
    }


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


def _command(command: str, values: Mapping[str, object]) -> list[str | Path]:
    """A command, with the path of its program."""
    name, *arguments = words_of(command, values)
    program = find(name)
    if program is None:
        raise DidNotWork(f"expected {name} to be installed, it is not")
    return [program, *arguments]
