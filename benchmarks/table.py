"""A report as Markdown: what was measured, on what, and the tables. It draws from the report alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

from benchmarks import words
from benchmarks.figures import Cell, Spread
from benchmarks.report import Report
from benchmarks.settings import START_UP_LENGTH

__all__ = ["table"]


def table(report: Report) -> str:
    """The whole report as Markdown."""
    return "\n".join((*_circumstances(report), "", *_rates(report), "", *_costs(report), "", *_start_ups(report)))


def _circumstances(report: Report) -> Iterator[str]:
    """When, where and how, and how quiet it was."""
    machine, settings, figures = report.machine, report.settings, report.figures
    yield f"`{report.command}`, {report.date[:10]}, in {settings.rounds} rounds."
    yield ""
    yield (
        f"- {machine.kernel}, {machine.cores} cores ({machine.processor}), {words.megabytes(machine.memory)} MB of"
        f" memory, {machine.python}"
    )
    yield f"- {', '.join(f'{name} {version}' for name, version in machine.packages.items())}"
    counts = (
        f"{math.ceil(settings.content_length / length)} pieces of {words.length(length)}"
        for length in settings.piece_lengths
    )
    yield f"- a file of {words.length(settings.content_length)}: {', '.join(counts)}; more are never under way at once"
    yield (
        f"- noise: something else had {words.percent(figures.others.median)} of the cores' time in the median turn,"
        f" {words.percent(figures.others.maximum)} in the worst"
    )
    if figures.scatter is not None:
        yield (
            f"- scatter: the rounds of a line lie {words.percent(figures.scatter.median)} of their median apart in the"
            f" median line, {words.percent(figures.scatter.maximum)} in the worst"
        )


def _rates(report: Report) -> Iterator[str]:
    """How fast, and how many times as fast."""
    transports = report.settings.transports
    first, others = transports[0], transports[1:]
    yield "**Throughput**, in MB/s: median (slowest-fastest)."
    yield ""
    yield from _head(
        "pieces of",
        "at once",
        *(words.title(each) for each in transports),
        *(f"{words.title(first)} : {words.title(each)}, best by best" for each in others),
        *(f"{words.title(first)} : {words.title(each)}, median by median" for each in others),
    )
    for cells in _rows(report):
        ratios = [
            ratio
            for ratio in report.figures.ratios
            if (ratio.piece_length, ratio.concurrency) == (cells[0].piece_length, cells[0].concurrency)
        ]
        yield _row(
            *_place(cells[0]),
            *(words.with_range(cell.rate, words.rate) for cell in cells),
            *(words.times(ratio.of_minima) for ratio in ratios),
            *(words.times(ratio.of_medians) for ratio in ratios),
        )


def _costs(report: Report) -> Iterator[str]:
    """What it takes of both processes."""
    pairs = [f"{words.title(each)}, {who}" for each in report.settings.transports for who in ("parent", "child")]
    yield "**Processor time**, in seconds for a GB: median (least-most)."
    yield ""
    yield from _costs_of(report, pairs, lambda cell: (cell.parent_processor, cell.child_processor), words.seconds)
    yield ""
    yield "**Peak memory**, in MB, all of the process: median (least-most)."
    yield ""
    yield from _costs_of(report, pairs, lambda cell: (cell.parent_peak, cell.child_peak), words.megabytes)


def _costs_of(
    report: Report,
    pairs: Sequence[str],
    costs: Callable[[Cell], Sequence[Spread]],
    show: Callable[[float], str],
) -> Iterator[str]:
    """A table of two figures for each cell."""
    yield from _head("pieces of", "at once", *pairs)
    for cells in _rows(report):
        yield _row(*_place(cells[0]), *(words.with_range(each, show) for cell in cells for each in costs(cell)))


def _start_ups(report: Report) -> Iterator[str]:
    """What is taken off."""
    yield (
        f"**Start-up**: a task of {words.length(START_UP_LENGTH)}. The least of it is taken off the times and"
        " the processor times above, nothing off the memory."
    )
    yield ""
    yield from _head("", "seconds", "processor seconds, parent", "processor seconds, child", "MB, parent", "MB, child")
    for start_up in report.figures.start_ups:
        yield _row(
            words.title(start_up.transport),
            words.with_range(start_up.seconds, words.seconds),
            words.with_range(start_up.parent_processor, words.seconds),
            words.with_range(start_up.child_processor, words.seconds),
            words.with_range(start_up.parent_peak, words.megabytes),
            words.with_range(start_up.child_peak, words.megabytes),
        )


def _rows(report: Report) -> Iterator[Sequence[Cell]]:
    """The cells that stand in one row: those of all transports, in their order."""
    many = len(report.settings.transports)
    for start in range(0, len(report.figures.cells), many):
        yield report.figures.cells[start : start + many]


def _place(cell: Cell) -> tuple[str, str]:
    """What a row begins with."""
    return words.length(cell.piece_length), str(cell.concurrency)


def _head(*names: str) -> Iterable[str]:
    """A table's first two lines."""
    return _row(*names), _row(*("---" for _ in names))


def _row(*fields: str) -> str:
    """A line of a table."""
    return f"| {' | '.join(fields)} |"
