"""The turns themselves: for each a fresh parent, one child, what both have used, and whether the bytes are right."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.certificate import make_certificate
from benchmarks.contestants import CONTESTANTS
from benchmarks.free_memory import have_free_memory
from benchmarks.installed import ROOT
from benchmarks.material import Task, import_file, is_same, make_file, read_all
from benchmarks.processes import family, peak_memory, processor_of_all, processor_of_family, run_in_turn
from benchmarks.servers import DidNotWork
from benchmarks.settings import START_UP_LENGTH, Case, Settings, cases, turns
from benchmarks.starting import command_of, parent_of, values_in, write_files

__all__ = ["Sample", "race", "take_turn"]

_DIGITS = 6
"""Decimals of a second that are kept, so that the figures can be calculated again from what is written."""

_SPARE = 256 * 10**6
"""Bytes of memory that are at hand for a turn beside those of the file."""

_TO_FETCH = 120.0
"""Seconds that each of a child's commands has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """
    What was seen in one turn. Times are in seconds, start-up included; memory is in bytes.

    :param round: the number of the round, from 0.
    :param case: what was measured.
    :param seconds: the child's life, from its start to its end.
    :param parent_processor: processor time of the parent, while the child lived.
    :param child_processor: processor time of the child.
    :param parent_peak: the most memory that the parent has had; of several processes the sum.
    :param child_peak: the most memory that the child has had; of several commands the most.
    :param others: processor time that the machine spent meanwhile on anything else, writing back to the disk included.
    """

    round: int
    case: Case
    seconds: float
    parent_processor: float
    child_processor: float
    parent_peak: int
    child_peak: int
    others: float


def race(settings: Settings, scratch: Path | None, tell: Callable[[str], object]) -> Iterator[Sample]:
    """
    Measure everything, turn by turn.

    :param scratch: where the temporary directory is made; None for the system's default.
    :param tell: is told what is done, a line at a time.
    :raises DidNotWork: a program failed, or bytes came that were wrong.
    """
    with TemporaryDirectory(prefix="dfvortex-benchmarks-", dir=scratch) as name:
        directory = Path(name).resolve()
        tell(f"making a file of {settings.content_length} bytes, and storages, in {directory}")
        make_certificate(directory)
        tasks = _make_tasks(settings, directory)
        for contestant in settings.contestants:  # whatever is loaded for the first time is not to be measured
            case = Case(contestant=contestant, content_length=START_UP_LENGTH, shape=settings.shape)
            take_turn(0, case, tasks[START_UP_LENGTH, settings.shape.piece_length], directory)
        order = list(turns(settings))
        for done, (number, case) in enumerate(order, start=1):
            sample = take_turn(number, case, tasks[case.content_length, case.shape.piece_length], directory)
            tell(
                f"{done}/{len(order)}: {case.contestant}, {case.content_length} bytes in pieces of"
                f" {case.shape.piece_length}, {case.shape.concurrency} at once: {sample.seconds:.2f} s"
            )
            yield sample


def _make_tasks(settings: Settings, directory: Path) -> Mapping[tuple[int, int], Task]:
    """The tasks, by content length and piece length."""
    wanted = {(case.content_length, case.shape.piece_length) for case in cases(settings)}
    wanted.add((START_UP_LENGTH, settings.shape.piece_length))
    for content_length in {content_length for content_length, _ in wanted}:
        make_file(directory / f"{content_length}", content_length)
    return {
        (content_length, piece_length): _make_task(
            directory / f"{content_length}", piece_length, directory / f"{content_length}-{piece_length}"
        )
        for content_length, piece_length in sorted(wanted)
    }


def _make_task(source: Path, piece_length: int, directory: Path) -> Task:
    """What ``$task`` has in it."""
    directory.mkdir()
    (directory / "file").hardlink_to(source)
    return import_file(directory / "file", piece_length, directory / "storage")


def take_turn(number: int, case: Case, task: Task, directory: Path) -> Sample:
    """
    One download, from a parent that has done nothing yet.

    :param number: the number of the round.
    :param case: what is measured.
    :param task: what is fetched, in a directory of its own.
    :param directory: what ``$run`` stands for; the turn's own directory is made in it, and deleted again.
    :raises DidNotWork: a program failed, or bytes came that are not the source's.
    """
    contestant = CONTESTANTS[case.contestant]
    with TemporaryDirectory(prefix="turn-", dir=directory) as name:
        turn = Path(name)
        values = _values(case, task, directory, turn)
        write_files(contestant.files, values, turn)
        commands = [command_of(command, values) for command in contestant.child]
        with parent_of(contestant.parent, values, turn) as parent:
            _make_ready(turn, task, case.content_length)
            before, all_before = processor_of_family(parent.pid), processor_of_all()
            child = run_in_turn(commands, ROOT, _TO_FETCH)
            parent_processor = processor_of_family(parent.pid) - before
            used = processor_of_all() - all_before
            parent_peak = sum(peak_memory(pid) for pid in family(parent.pid))
        if child.status:
            raise DidNotWork(f"{contestant.name} exited with {child.status}, expected 0: {child.output}")
        if contestant.writes and not is_same(turn / "output", task.source):
            raise DidNotWork(f"expected the bytes of {task.source}, got others from {contestant.name}")
    return Sample(
        round=number,
        case=case,
        seconds=round(child.seconds, _DIGITS),
        parent_processor=round(parent_processor, _DIGITS),
        child_processor=round(child.processor, _DIGITS),
        parent_peak=parent_peak,
        child_peak=child.peak,
        others=round(max(0.0, used - parent_processor - child.processor), _DIGITS),
    )


def _make_ready(turn: Path, task: Task, length: int) -> None:
    """
    Have the machine as every child finds it, the one that fetches next to nothing too: its time is taken off.

    :param length: bytes that it fetches.
    """
    # Nobody waits for what somebody else has left to be written to this disk.
    subprocess.run(["sync", "--file-system", turn], check=True)
    read_all(task.source.parent)  # a parent may have a copy of its own
    # The last, for a host takes free memory back soon.
    have_free_memory(length + _SPARE)


def _values(case: Case, task: Task, run: Path, turn: Path) -> Mapping[str, object]:
    """What the names in a contestant's commands and files stand for."""
    return {
        **values_in(turn, task.source.parent),
        "run": run,
        "task_id": task.task_id,
        "content_length": case.content_length,
        "piece_length": case.shape.piece_length,
        "piece_count": math.ceil(case.content_length / case.shape.piece_length),
        "concurrency": case.shape.concurrency,
    }
