"""The contest's report as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.benchmark import Report
from benchmarks.figures import START_UP_LENGTH, Cell, Result, Sample, cells, others, results, scatter
from benchmarks.text import length, spread_text, table

__all__ = ["draw"]

_COSTS = ("MB/s", "s/GB, parent", "s/GB, child", "MB, parent", "MB, child")


def draw(report: Report[Sample]) -> str:
    """The circumstances, the targets, and other shapes. The chart has each contestant's figures."""
    found = cells(report.samples)
    parts = [_circumstances(report, found), _results(results(report.samples))]
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
    head = ("", "target", "best by best", "median of the rounds")
    legend = (
        "*Whole command*: with the file's SHA-256; *pieces*: without it; both over TCP. Start-up, the least time of a"
        f" task of {length(START_UP_LENGTH)}, is subtracted everywhere. Bold: not reached."
    )
    measured = [list(_result(each)) for each in found if each.of_minima is not None]
    parts = ["### Targets", legend, table(head, measured)]
    if missing := [each.target.title for each in found if each.of_minima is None]:
        parts.append(f"Not measured: {'; '.join(missing)}.")
    return "\n\n".join(parts)


def _result(result: Result) -> Iterator[str]:
    target = result.target
    yield target.title
    yield f"at least {target.at_least:g}" if target.at_least is not None else f"at most {target.at_most:g}"
    yield f"{result.of_minima:.2f}" if result.is_reached else f"**{result.of_minima:.2f}**"
    yield spread_text(result.of_rounds, ".2f")


def _costs(cell: Cell) -> Iterator[str]:
    """Rate, processor time and memory. The report has the other figures."""
    yield spread_text(cell.rate, ",.0f", 10**6)
    for processor in (cell.parent_processor, cell.child_processor):
        yield f"{processor.median:.3f}"
    for peak in (cell.parent_peak, cell.child_peak):
        yield f"{peak.maximum / 10**6:,.0f}"


def _other_shapes(report: Report[Sample], found: Sequence[Cell]) -> Iterator[str]:
    """The same file in other pieces, and more or fewer of them at once."""
    titles = {entry.name: entry.title for entry in report.entries}
    shared = _shared_shape(report)
    rows = [
        [length(cell.piece_length), str(cell.concurrency), titles[cell.contestant], *_costs(cell)]
        for cell in sorted(found, key=lambda cell: (cell.piece_length, cell.concurrency))
        if (cell.piece_length, cell.concurrency) != shared
    ]
    if rows:
        legend = "Median processor time, most memory."
        yield f"### Other pieces\n\n{legend}\n\n" + table(["pieces of", "at once", "", *_COSTS], rows)
