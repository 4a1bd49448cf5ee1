"""The turns themselves: for each a fresh parent, one child, what both have used, and whether the bytes are right."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.material import Task, import_file, is_same, make_file
from benchmarks.peers import TRANSPORTS, DidNotWork, Parent, fetch
from benchmarks.processes import peak_memory, processor_of_all, processor_seconds
from benchmarks.settings import START_UP_LENGTH, Case, Settings, turns

__all__ = ["Sample", "race", "take_turn"]

_DIGITS = 6
"""Decimals of a second that are kept, so that the figures can be calculated again from what is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """
    What was seen in one turn. Times are in seconds, start-up included; memory is in bytes.

    :param round: the number of the round, from 0.
    :param case: what was measured.
    :param seconds: the child's life, from its start to its end.
    :param parent_processor: processor time of the parent, while the child lived.
    :param child_processor: processor time of the child.
    :param parent_peak: the most memory that the parent has had.
    :param child_peak: the most memory that the child has had.
    :param others: processor time that the machine spent meanwhile on anything else.
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
        tasks = _make_tasks(settings, directory)
        for transport in settings.transports:  # whatever is loaded for the first time is not to be measured
            case = Case(
                transport=transport,
                content_length=settings.content_length,
                piece_length=settings.piece_lengths[0],
                concurrency=settings.concurrencies[0],
            )
            take_turn(0, case, tasks[case.content_length, case.piece_length], directory)
        order = list(turns(settings))
        for done, (number, case) in enumerate(order, start=1):
            sample = take_turn(number, case, tasks[case.content_length, case.piece_length], directory)
            tell(
                f"{done}/{len(order)}: {case.transport}, {case.content_length} bytes in pieces of {case.piece_length},"
                f" {case.concurrency} at once: {sample.seconds:.2f} s"
            )
            yield sample


def _make_tasks(settings: Settings, directory: Path) -> Mapping[tuple[int, int], Task]:
    """The tasks, by content length and piece length."""
    tasks = {}
    for content_length in (settings.content_length, START_UP_LENGTH):
        source = directory / f"{content_length}"
        make_file(source, content_length)
        for piece_length in settings.piece_lengths:
            storage = directory / f"{content_length}-{piece_length}"
            tasks[content_length, piece_length] = import_file(source, piece_length, storage)
    return tasks


def take_turn(number: int, case: Case, task: Task, directory: Path) -> Sample:
    """
    One download, from a parent that has done nothing yet.

    :param number: the number of the round.
    :param case: what is measured.
    :param task: what is fetched.
    :param directory: where the output is written, and deleted again.
    :raises DidNotWork: a program failed, or bytes came that are not the source's.
    """
    transport = TRANSPORTS[case.transport]
    output = directory / "output"
    with ExitStack() as ending:
        ending.callback(output.unlink, missing_ok=True)
        with Parent(task.storage, directory, transport) as parent:
            before, all_before = processor_seconds(parent.pid), processor_of_all()
            child = fetch(parent, transport, task.task_id, output, case.concurrency)
            parent_processor = processor_seconds(parent.pid) - before
            used = processor_of_all() - all_before
            parent_peak = peak_memory(parent.pid)
        if not is_same(output, task.source):
            raise DidNotWork(f"expected the bytes of {task.source}, got others over {transport.title}")
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
