"""A report as Markdown: what was measured, on what, and the tables. It draws from the report alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from benchmarks import words
from benchmarks.contestant import GROUPS
from benchmarks.figures import Cell, Result
from benchmarks.markdown import head, row
from benchmarks.report import Entry, Report
from benchmarks.settings import START_UP_LENGTH

__all__ = ["table"]


def table(report: Report) -> str:
    """The whole report as Markdown."""
    parts = (_circumstances, _results, _groups, _other_shapes, _start_ups, _commands)
    return "\n\n".join(text for text in ("\n".join(part(report)) for part in parts) if text)


def _circumstances(report: Report) -> Iterator[str]:
    """When, where and how, how quiet it was, and who was not there."""
    machine, settings, figures = report.machine, report.settings, report.figures
    yield f"`{report.command}`, {report.date[:10]}, in {settings.rounds} rounds."
    yield ""
    yield (
        f"- {machine.kernel}, {machine.cores} cores ({machine.processor}), {words.megabytes(machine.memory)} MB of"
        f" memory, {machine.python}"
    )
    packages = {**machine.packages, **report.versions}
    yield f"- {', '.join(f'{name} {version}' for name, version in packages.items())}"
    yield (
        f"- a file of {words.length(settings.content_length)} in {settings.piece_count(settings.shape)} pieces of"
        f" {words.length(settings.shape.piece_length)}, {settings.shape.concurrency} at once"
    )
    yield (
        f"- noise: something else had {words.percent(figures.others.median)} of the cores' time in the median turn,"
        f" {words.percent(figures.others.maximum)} in the worst"
    )
    if figures.scatter is not None:
        yield (
            f"- scatter: the rounds of a line lie {words.percent(figures.scatter.median)} of their median apart in the"
            f" median line, {words.percent(figures.scatter.maximum)} in the worst"
        )
    for missing in dict.fromkeys(absence.missing for absence in report.absences):
        without = "; ".join(absence.title for absence in report.absences if absence.missing == missing)
        yield f"- {missing} is not installed, so these were not measured: {without}"


def _results(report: Report) -> Iterator[str]:
    """What was to be reached."""
    yield "### What was to be reached"
    yield ""
    yield from head("", "to be reached", "best by best", "median by median", "median of the rounds", "")
    for result in report.figures.results:
        yield row(
            result.title,
            f"at least {result.at_least:g}" if result.at_least is not None else f"at most {result.at_most:g}",
            words.times(result.of_minima),
            words.times(result.of_medians),
            words.with_range(result.of_rounds, words.times),
            _verdict(result),
        )


def _verdict(result: Result) -> str:
    if result.is_reached is None:
        return "not measured"
    return "reached" if result.is_reached else "**not reached**"


def _groups(report: Report) -> Iterator[str]:
    """A table for all that do the same with the bytes."""
    yield "### Everyone"
    yield ""
    yield "Each figure is the median, with the least and the most behind it."
    titles = {entry.name: entry.title for entry in report.entries}
    for group, heading in GROUPS.items():
        cells = [
            cell
            for entry in report.entries
            for cell in report.figures.cells
            if (entry.group, entry.name, report.settings.shape) == (group, cell.contestant, cell.shape)
        ]
        if not cells:
            continue
        yield ""
        yield f"**{heading}**"
        yield ""
        yield from head("", "MB/s", "seconds", "s/GB, parent", "s/GB, child", "MB, parent", "MB, child")
        for cell in cells:
            yield row(titles[cell.contestant], words.with_range(cell.rate, words.rate), *_costs(cell))


def _costs(cell: Cell) -> Iterable[str]:
    """What it takes: time, processor time and memory."""
    return (
        words.with_range(cell.seconds, words.seconds),
        words.with_range(cell.parent_processor, words.processor),
        words.with_range(cell.child_processor, words.processor),
        words.with_range(cell.parent_peak, words.megabytes),
        words.with_range(cell.child_peak, words.megabytes),
    )


def _other_shapes(report: Report) -> Iterator[str]:
    """The same file in other pieces, and more or fewer of them at once."""
    if not report.settings.other_shapes:
        return
    titles = {entry.name: entry.title for entry in report.entries}
    yield "### Other pieces"
    yield ""
    yield from head(
        "pieces of", "at once", "", "MB/s", "seconds", "s/GB, parent", "s/GB, child", "MB, parent", "MB, child"
    )
    for cell in sorted(
        (cell for cell in report.figures.cells if cell.contestant in report.settings.in_other_shapes),
        key=lambda cell: (cell.shape.piece_length, cell.shape.concurrency),
    ):
        yield row(
            words.length(cell.shape.piece_length),
            str(cell.shape.concurrency),
            titles[cell.contestant],
            words.with_range(cell.rate, words.rate),
            *_costs(cell),
        )


def _start_ups(report: Report) -> Iterator[str]:
    """What is taken off."""
    yield "### Start-up"
    yield ""
    yield (
        f"A task of {words.length(START_UP_LENGTH)}. The least of it is taken off the times and the processor times"
        " above, nothing off the memory."
    )
    yield ""
    yield from head("", "seconds", "processor seconds, parent", "processor seconds, child", "MB, parent", "MB, child")
    titles = {entry.name: entry.title for entry in report.entries}
    for start_up in report.figures.start_ups:
        yield row(
            titles[start_up.contestant],
            words.with_range(start_up.seconds, words.seconds),
            words.with_range(start_up.parent_processor, words.processor),
            words.with_range(start_up.child_processor, words.processor),
            words.with_range(start_up.parent_peak, words.megabytes),
            words.with_range(start_up.child_peak, words.megabytes),
        )


def _commands(report: Report) -> Iterator[str]:
    """How each figure was made."""
    yield "### The commands"
    yield ""
    yield "The parent's first, then the child's, in a turn of each."
    for entry in report.entries:
        yield ""
        yield f"{entry.title}:"
        yield ""
        yield "```sh"
        yield f"{entry.parent} &"
        yield from entry.child
        yield "```"
    yield ""
    yield "The files that they name:"
    for name, text, titles in _files(report.entries):
        yield ""
        yield f"`$turn/{name}` ({'; '.join(titles)})"
        yield ""
        yield "```"
        yield from text.splitlines()
        yield "```"


def _files(entries: Iterable[Entry]) -> Iterator[tuple[str, str, list[str]]]:
    """Each file's name and text, and who has it."""
    found: dict[tuple[str, str], list[str]] = {}
    for entry in entries:
        for file in entry.files.items():
            found.setdefault(file, []).append(entry.title)
    for (name, text), titles in found.items():
        yield name, text, titles
