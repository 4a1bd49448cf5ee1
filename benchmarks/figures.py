"""Calculates spreads, rates and ratios from the contest's samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.contestants import TARGETS, Target
from benchmarks.text import Spread, spread

__all__ = ["START_UP_LENGTH", "Case", "Cell", "Result", "Sample", "cells", "others", "results", "scatter"]

START_UP_LENGTH = 1_000_000
"""Bytes of the task on which start-up is measured: processes, imports, a connection, and next to no content."""

_GB = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """
    What is measured once in each round.

    :param contestant: a name in :data:`~benchmarks.contestants.CONTESTANTS`.
    :param content_length: bytes of the task.
    :param piece_length: bytes of every piece but the last.
    :param concurrency: pieces, or connections, that the child has under way at once.
    """

    contestant: str
    content_length: int
    piece_length: int
    concurrency: int

    @property
    def is_start_up(self) -> bool:
        """Whether it is start-up that is measured."""
        return self.content_length == START_UP_LENGTH


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample(Case):
    """
    What was seen in one turn. Times are in seconds, start-up included; memory is in bytes.

    :param round: the number of the round, from 0.
    :param seconds: the child's life, from its start to its end.
    :param parent_processor: processor time of the parent, while the child lived.
    :param child_processor: processor time of the child.
    :param parent_peak: the most memory that the parent has had; of several processes the sum.
    :param child_peak: the most memory that the child has had; of several commands the most.
    :param others: processor time that the machine spent meanwhile on anything else, writing back to the disk included.
    """

    round: int
    seconds: float
    parent_processor: float
    child_processor: float
    parent_peak: int
    child_peak: int
    others: float

    @property
    def case(self) -> tuple[str, int, int, int]:
        """What was measured."""
        return self.contestant, self.content_length, self.piece_length, self.concurrency


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """
    The figures of one case. The least start-up is taken off time and processor time, and the length of its task off
    the file's. The least, because a noisy start-up must not make a quiet turn of the file look faster than it was.

    :param contestant: its name.
    :param piece_length: bytes of a piece.
    :param concurrency: pieces at once.
    :param start_up: the least start-up, in seconds.
    :param seconds: how long it took.
    :param rate: bytes per second; None where the file is too short to be told from start-up.
    :param parent_processor: in seconds for 10⁹ bytes.
    :param child_processor: in seconds for 10⁹ bytes.
    :param parent_peak: in bytes; nothing is taken off.
    :param child_peak: in bytes; nothing is taken off.
    """

    contestant: str
    piece_length: int
    concurrency: int
    start_up: float
    seconds: Spread
    rate: Spread | None
    parent_processor: Spread
    child_processor: Spread
    parent_peak: Spread
    child_peak: Spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """
    A target, and the ratios. A ratio is None where a side did not take part, or cannot be told from start-up.

    :param target: what was to be reached.
    :param of_minima: the ratio of the best turns, which decides.
    :param of_rounds: the ratios of each round, whose two turns are minutes apart at most: a machine that is slower for
        a while is slower for both.
    """

    target: Target
    of_minima: float | None = None
    of_rounds: Spread | None = None

    @property
    def is_reached(self) -> bool | None:
        """Whether the ratio of the best turns is where it was to be; None where there is none."""
        if self.of_minima is None:
            return None
        if self.target.at_most is not None:
            return self.of_minima <= self.target.at_most
        return self.target.at_least is not None and self.of_minima >= self.target.at_least


def cells(samples: Sequence[Sample]) -> list[Cell]:
    """The figures of each case of the file, in the order of the contestants and, for each, of its shapes."""
    order = {name: number for number, name in enumerate(dict.fromkeys(each.contestant for each in samples))}
    found = sorted({each.case for each in samples if not each.is_start_up}, key=lambda case: (order[case[0]], case))
    return [_cell(samples, case) for case in found]


def _cell(samples: Sequence[Sample], case: tuple[str, int, int, int]) -> Cell:
    contestant, content_length, piece_length, concurrency = case
    taken = [each for each in samples if each.case == case]
    idle = [each for each in samples if each.contestant == contestant and each.is_start_up]
    length = content_length - START_UP_LENGTH
    start_up = min(each.seconds for each in idle)
    seconds = spread([each.seconds - start_up for each in taken])
    parent_idle, child_idle = min(each.parent_processor for each in idle), min(each.child_processor for each in idle)
    rate = None
    if seconds.minimum > 0:
        rate = Spread(
            minimum=length / seconds.maximum, median=length / seconds.median, maximum=length / seconds.minimum
        )
    return Cell(
        contestant=contestant,
        piece_length=piece_length,
        concurrency=concurrency,
        start_up=start_up,
        seconds=seconds,
        rate=rate,
        parent_processor=spread([(each.parent_processor - parent_idle) / length * _GB for each in taken]),
        child_processor=spread([(each.child_processor - child_idle) / length * _GB for each in taken]),
        parent_peak=spread([each.parent_peak for each in taken]),
        child_peak=spread([each.child_peak for each in taken]),
    )


def scatter(found: Sequence[Cell]) -> Spread | None:
    """How far the rounds of a cell are apart, longest less shortest time, as a part of the median; of all cells."""
    parts = [(cell.seconds.maximum - cell.seconds.minimum) / cell.seconds.median for cell in found if cell.rate]
    return spread(parts) if parts else None


def others(samples: Sequence[Sample], cores: int) -> Spread:
    """The part of the cores' time that other programs had while a child lived; of all turns."""
    return spread([each.others / (each.seconds * cores) for each in samples])


def results(samples: Sequence[Sample]) -> list[Result]:
    """What came of each target, by the turns in the shape that all contestants share."""
    shape = next((each.piece_length, each.concurrency) for each in samples if each.is_start_up)
    return [_result(target, [each for each in samples if each.case[2:] == shape]) for target in TARGETS]


def _result(target: Target, samples: Sequence[Sample]) -> Result:
    ours, other = (_taken(target, name, samples) for name in (target.ours, target.other))
    if not ours or not other:
        return Result(target=target)
    rounds = [_ratio(target, *both) for both in zip(ours, other, strict=True)]
    known = [each for each in rounds if each is not None]
    return Result(
        target=target,
        of_minima=_ratio(target, min(ours), min(other)),
        of_rounds=spread(known) if known else None,
    )


def _taken(target: Target, name: str, samples: Sequence[Sample]) -> list[float]:
    """What a target compares, of each round: the parent's processor time, or the time; less start-up."""

    def value(sample: Sample) -> float:
        return sample.seconds if target.at_most is None else sample.parent_processor

    mine = [each for each in samples if each.contestant == name]
    idle = min((value(each) for each in mine if each.is_start_up), default=0.0)
    return [value(each) - idle for each in mine if not each.is_start_up]


def _ratio(target: Target, ours: float, other: float) -> float | None:
    """How many times as long the other takes, or how many times the processor time ours takes; None without sense."""
    over, under = (ours, other) if target.at_most is not None else (other, ours)
    return None if over < 0 or under <= 0 else over / under
