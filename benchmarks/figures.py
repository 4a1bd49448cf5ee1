"""From what was seen in the turns to what can be said: minima, medians, maxima, ratios. Calculation only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.race import Sample
from benchmarks.settings import START_UP_LENGTH, Case, Settings

__all__ = ["Cell", "Figures", "Ratio", "Spread", "StartUp", "summarize"]

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

    :param transport: over which transport.
    :param seconds: the child's life.
    :param parent_processor: in seconds, while the child lived.
    :param child_processor: in seconds.
    :param parent_peak: in bytes.
    :param child_peak: in bytes.
    """

    transport: str
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

    :param transport: over which transport.
    :param piece_length: in pieces of so many bytes.
    :param concurrency: so many at once.
    :param seconds: how long it took.
    :param rate: bytes per second; None where the file is too short to be told from start-up.
    :param parent_processor: in seconds for 10⁹ bytes.
    :param child_processor: in seconds for 10⁹ bytes.
    :param parent_peak: in bytes, all of it.
    :param child_peak: in bytes, all of it.
    """

    transport: str
    piece_length: int
    concurrency: int
    seconds: Spread
    rate: Spread | None
    parent_processor: Spread
    child_processor: Spread
    parent_peak: Spread
    child_peak: Spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """
    How many times as long one transport takes as the first.

    :param transport: the one.
    :param first: the first.
    :param piece_length: in pieces of so many bytes.
    :param concurrency: so many at once.
    :param of_minima: the shortest time by the shortest time; None where one is too short to be told from start-up.
    :param of_medians: the median by the median, likewise.
    """

    transport: str
    first: str
    piece_length: int
    concurrency: int
    of_minima: float | None
    of_medians: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """
    All that is said about a run.

    :param start_ups: one for each transport.
    :param cells: one for each transport, piece length and concurrency.
    :param ratios: one for each cell of a transport that is not the first.
    :param scatter: how far the rounds of a cell lie apart, longest less shortest time, as a part of the median; the
        least, the middle and the most of all cells.
    :param others: the part of the cores' time that something else had while a child lived; of all turns.
    """

    start_ups: tuple[StartUp, ...]
    cells: tuple[Cell, ...]
    ratios: tuple[Ratio, ...]
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
        transport: _start_up([each for each in samples if each.case.is_start_up and each.case.transport == transport])
        for transport in settings.transports
    }
    cells = tuple(
        _cell([each for each in samples if each.case == case], case, start_ups[transport])
        for piece_length in settings.piece_lengths
        for concurrency in settings.concurrencies
        for transport in settings.transports
        for case in [
            Case(
                transport=transport,
                content_length=settings.content_length,
                piece_length=piece_length,
                concurrency=concurrency,
            )
        ]
    )
    scatters = [_part(cell.seconds.maximum - cell.seconds.minimum, cell.seconds.median) for cell in cells]
    known = [each for each in scatters if each is not None]
    return Figures(
        start_ups=tuple(start_ups.values()),
        cells=cells,
        ratios=tuple(_ratios(settings.transports[0], cells)),
        scatter=_spread(known) if known else None,
        others=_spread(each.others / (each.seconds * cores) for each in samples),
    )


def _start_up(samples: Sequence[Sample]) -> StartUp:
    """Start-up over the transport of these samples."""
    return StartUp(
        transport=samples[0].case.transport,
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
        transport=case.transport,
        piece_length=case.piece_length,
        concurrency=case.concurrency,
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


def _ratios(first: str, cells: Sequence[Cell]) -> Iterable[Ratio]:
    """Every cell of another transport by the first transport's cell of the same kind."""
    of_first = {(cell.piece_length, cell.concurrency): cell for cell in cells if cell.transport == first}
    for cell in cells:
        if cell.transport == first:
            continue
        compared = of_first[cell.piece_length, cell.concurrency]
        yield Ratio(
            transport=cell.transport,
            first=first,
            piece_length=cell.piece_length,
            concurrency=cell.concurrency,
            of_minima=_part(cell.seconds.minimum, compared.seconds.minimum),
            of_medians=_part(cell.seconds.median, compared.seconds.median),
        )


def _part(one: float, other: float) -> float | None:
    """One by the other, None where that says nothing."""
    return one / other if one >= 0 and other > 0 else None


def _spread(values: Iterable[float]) -> Spread:
    """The spread of at least one value."""
    every = sorted(values)
    return Spread(minimum=every[0], median=median(every), maximum=every[-1])
