"""The contest's report as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.benchmark import Report
from benchmarks.contestants import GROUPS
from benchmarks.figures import START_UP_LENGTH, Cell, Result, Sample, cells, others, results, scatter
from benchmarks.text import length, spread_text, table

__all__ = ["draw"]

_COSTS = ("MB/s", "seconds", "s/GB, parent", "s/GB, child", "MB, parent", "MB, child")


def draw(report: Report[Sample]) -> str:
    """The circumstances, the targets, a table for each group, and other shapes."""
    found = cells(report.samples)
    parts = [_circumstances(report, found), _results(results(report.samples)), _groups(report, found)]
    return "\n\n".join([*parts, *_other_shapes(report, found)])


def _circumstances(report: Report[Sample], found: Sequence[Cell]) -> str:
    """When, where and how it ran, how quiet it was, and which contestants were missing."""
    machine, shared = report.machine, _shared_shape(report)
    size = max(each.content_length for each in report.samples)
    noise, apart = others(report.samples, machine.cores), scatter(found)
    packages = {**machine.packages, **report.versions}
    lines = [
        f"{report.origin}, {machine.memory / 10**6:,.0f} MB of memory",
        "",
        f"- {', '.join(f'{name} {version}' for name, version in packages.items())}",
        f"- rounds: {max(each.round for each in report.samples) + 1}; a file of {length(size)} in"
        f" {-(-size // shared[0])} pieces of {length(shared[0])}, {shared[1]} at once",
        f"- noise: other programs had {noise.median:.0%} of the cores' time in the median turn, {noise.maximum:.0%} in"
        " the worst",
    ]
    if apart is not None:
        lines.append(
            f"- scatter: the rounds of a line are {apart.median:.0%} of their median apart in the median line,"
            f" {apart.maximum:.0%} in the worst"
        )
    lines += [
        f"- {program} is not installed, so these were not measured: {'; '.join(titles)}"
        for program, titles in report.absences.items()
    ]
    return "\n".join(lines)


def _shared_shape(report: Report[Sample]) -> tuple[int, int]:
    """Bytes of a piece and pieces at once, as all contestants have them."""
    return next((each.piece_length, each.concurrency) for each in report.samples if each.is_start_up)


def _results(found: Sequence[Result]) -> str:
    head = ("", "to be reached", "best by best", "median by median", "median of the rounds", "")
    return "### What was to be reached\n\n" + table(head, [list(_result(each)) for each in found])


def _result(result: Result) -> Iterator[str]:
    target = result.target
    yield target.title
    yield f"at least {target.at_least:g}" if target.at_least is not None else f"at most {target.at_most:g}"
    for ratio in (result.of_minima, result.of_medians):
        yield "?" if ratio is None else f"{ratio:.2f}"
    yield spread_text(result.of_rounds, ".2f")
    yield {None: "not measured", True: "reached", False: "**not reached**"}[result.is_reached]


def _groups(report: Report[Sample], found: Sequence[Cell]) -> str:
    """A table for all that do the same with the bytes."""
    parts = [
        "### All contestants",
        "Each figure is the median, with the least and the most behind it. Start-up is the least time of a task of"
        f" {length(START_UP_LENGTH)}; it is taken off the time, and its processor time off the processor time.",
    ]
    for group, heading in GROUPS.items():
        rows = [
            [entry.title, *_costs(cell), f"{cell.start_up:.2f}"]
            for entry in report.entries
            for cell in found
            if (entry.group, entry.name) == (group, cell.contestant)
            and (cell.piece_length, cell.concurrency) == _shared_shape(report)
        ]
        if rows:
            parts += [f"**{heading}**", table(["", *_COSTS, "start-up, s"], rows)]
    return "\n\n".join(parts)


def _costs(cell: Cell) -> Iterator[str]:
    """Rate, time, processor time and memory."""
    yield spread_text(cell.rate, ",.0f", 10**6)
    yield spread_text(cell.seconds, ".2f")
    for processor in (cell.parent_processor, cell.child_processor):
        yield spread_text(processor, ".3f")
    for peak in (cell.parent_peak, cell.child_peak):
        yield spread_text(peak, ",.0f", 10**6)


def _other_shapes(report: Report[Sample], found: Sequence[Cell]) -> Iterator[str]:
    """The same file in other pieces, and more or fewer of them at once."""
    titles = {entry.name: entry.title for entry in report.entries}
    shared = _shared_shape(report)
    names = {cell.contestant for cell in found if (cell.piece_length, cell.concurrency) != shared}
    rows = [
        [length(cell.piece_length), str(cell.concurrency), titles[cell.contestant], *_costs(cell)]
        for cell in sorted(found, key=lambda cell: (cell.piece_length, cell.concurrency))
        if cell.contestant in names
    ]
    if rows:
        yield "### Other pieces\n\n" + table(["pieces of", "at once", "", *_COSTS], rows)
