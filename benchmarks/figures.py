"""From what was seen in the turns to what can be said: minima, medians, maxima, ratios. Calculation only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.race import Sample
from benchmarks.settings import START_UP_LENGTH, Case, Settings, Shape, cases
from benchmarks.targets import TARGETS, Target

__all__ = ["Cell", "Figures", "Result", "Spread", "StartUp", "summarize"]

_GB = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """The least, the middle and the most of what was seen in all rounds."""

    minimum: float
    median: float
    maximum: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StartUp:
    """
    What it takes to fetch next to nothing.

    :param contestant: who.
    :param seconds: the child's life.
    :param parent_processor: in seconds, while the child lived.
    :param child_processor: in seconds.
    :param parent_peak: in bytes.
    :param child_peak: in bytes.
    """

    contestant: str
    seconds: Spread
    parent_processor: Spread
    child_processor: Spread
    parent_peak: Spread
    child_peak: Spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """
    What it takes to fetch the file, in one way. Of time and processor time the least start-up is taken off, and of the
    file's length the length of the task on which start-up was measured.

    The least, because what a noisy moment adds to start-up must not make a quiet turn of the file look faster than it
    was. So the minima are as quiet as the machine ever was, and what noise adds to start-up stays in the medians.

    :param contestant: who.
    :param shape: in which pieces, and how many at once.
    :param seconds: how long it took.
    :param rate: bytes per second; None where the file is too short to be told from start-up.
    :param parent_processor: in seconds for 10⁹ bytes.
    :param child_processor: in seconds for 10⁹ bytes.
    :param parent_peak: in bytes, all of it.
    :param child_peak: in bytes, all of it.
    """

    contestant: str
    shape: Shape
    seconds: Spread
    rate: Spread | None
    parent_processor: Spread
    child_processor: Spread
    parent_peak: Spread
    child_peak: Spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """
    What came of a target. A ratio is None where a side did not take part, or is too short to be told from start-up.

    :param title: what is compared.
    :param at_least: the least that was to be reached, None where there is a most.
    :param at_most: the most that was allowed, None where there is a least.
    :param of_minima: the ratio of the best turns.
    :param of_medians: the ratio of the median turns.
    :param of_rounds: of the ratios that each round has by itself, whose two turns are minutes apart at the most: what
        makes a machine slower for longer than that is in both.
    :param is_reached: whether the ratio of the best turns is where it was to be.
    """

    title: str
    at_least: float | None
    at_most: float | None
    of_minima: float | None
    of_medians: float | None
    of_rounds: Spread | None
    is_reached: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """
    All that is said about a run.

    :param results: one for each target.
    :param start_ups: one for each contestant.
    :param cells: one for each case.
    :param scatter: how far the rounds of a cell lie apart, longest less shortest time, as a part of the median; the
        least, the middle and the most of all cells.
    :param others: the part of the cores' time that something else had while a child lived; of all turns.
    """

    results: tuple[Result, ...]
    start_ups: tuple[StartUp, ...]
    cells: tuple[Cell, ...]
    scatter: Spread | None
    others: Spread


def summarize(settings: Settings, cores: int, samples: Sequence[Sample]) -> Figures:
    """
    The figures of a run.

    :param settings: what was measured.
    :param cores: how many the machine has.
    :param samples: what was seen in all turns.
    """
    start_ups = {
        contestant: _start_up(
            [each for each in samples if each.case.is_start_up and each.case.contestant == contestant]
        )
        for contestant in settings.contestants
    }
    cells = tuple(
        _cell([each for each in samples if each.case == case], case, start_ups[case.contestant])
        for case in cases(settings)
    )
    scatters = [_part(cell.seconds.maximum - cell.seconds.minimum, cell.seconds.median) for cell in cells]
    known = [each for each in scatters if each is not None]
    compared = {
        contestant: [
            each
            for each in samples
            if (each.case.contestant, each.case.shape, each.case.is_start_up) == (contestant, settings.shape, False)
        ]
        for contestant in settings.contestants
    }
    return Figures(
        results=tuple(_result(target, compared, start_ups) for target in TARGETS),
        start_ups=tuple(start_ups.values()),
        cells=cells,
        scatter=_spread(known) if known else None,
        others=_spread(each.others / (each.seconds * cores) for each in samples),
    )


def _start_up(samples: Sequence[Sample]) -> StartUp:
    """Start-up of the contestant of these samples."""
    return StartUp(
        contestant=samples[0].case.contestant,
        seconds=_spread(each.seconds for each in samples),
        parent_processor=_spread(each.parent_processor for each in samples),
        child_processor=_spread(each.child_processor for each in samples),
        parent_peak=_spread(each.parent_peak for each in samples),
        child_peak=_spread(each.child_peak for each in samples),
    )


def _cell(samples: Sequence[Sample], case: Case, start_up: StartUp) -> Cell:
    """The figures of one case."""
    length = case.content_length - START_UP_LENGTH
    seconds = _spread(each.seconds - start_up.seconds.minimum for each in samples)
    return Cell(
        contestant=case.contestant,
        shape=case.shape,
        seconds=seconds,
        rate=_rate(length, seconds),
        parent_processor=_spread(
            (each.parent_processor - start_up.parent_processor.minimum) / length * _GB for each in samples
        ),
        child_processor=_spread(
            (each.child_processor - start_up.child_processor.minimum) / length * _GB for each in samples
        ),
        parent_peak=_spread(each.parent_peak for each in samples),
        child_peak=_spread(each.child_peak for each in samples),
    )


def _rate(length: int, seconds: Spread) -> Spread | None:
    """Bytes per second, the slowest first."""
    if seconds.minimum <= 0:
        return None
    return Spread(minimum=length / seconds.maximum, median=length / seconds.median, maximum=length / seconds.minimum)


def _result(target: Target, compared: Mapping[str, Sequence[Sample]], start_ups: Mapping[str, StartUp]) -> Result:
    """What came of a target, by the turns of those who took part, one in each round."""
    of_minima = of_medians = of_rounds = None
    if target.ours in compared and target.other in compared:
        ours, other = (_taken(target, compared[name], start_ups[name]) for name in (target.ours, target.other))
        of_minima = _ratio(target, min(ours), min(other))
        of_medians = _ratio(target, median(ours), median(other))
        rounds = [_ratio(target, *both) for both in zip(ours, other, strict=True)]
        known = [each for each in rounds if each is not None]
        of_rounds = _spread(known) if known else None
    return Result(
        title=target.title,
        at_least=target.at_least,
        at_most=target.at_most,
        of_minima=of_minima,
        of_medians=of_medians,
        of_rounds=of_rounds,
        is_reached=None if of_minima is None else _is_reached(target, of_minima),
    )


def _taken(target: Target, samples: Sequence[Sample], start_up: StartUp) -> list[float]:
    """What each turn took of what a target compares: the parent's processor time or time, less start-up."""
    if target.at_most is not None:
        return [each.parent_processor - start_up.parent_processor.minimum for each in samples]
    return [each.seconds - start_up.seconds.minimum for each in samples]


def _ratio(target: Target, ours: float, other: float) -> float | None:
    """How much more processor time ours took, or how much longer the other side."""
    return _part(ours, other) if target.at_most is not None else _part(other, ours)


def _is_reached(target: Target, ratio: float) -> bool:
    """Whether a ratio is where it was to be."""
    if target.at_most is not None:
        return ratio <= target.at_most
    return target.at_least is not None and ratio >= target.at_least


def _part(one: float | None, other: float | None) -> float | None:
    """One by the other, None where that says nothing."""
    return None if one is None or other is None or one < 0 or other <= 0 else one / other


def _spread(values: Iterable[float]) -> Spread:
    """The spread of at least one value."""
    every = sorted(values)
    return Spread(minimum=every[0], median=median(every), maximum=every[-1])
