"""
The contest: each contestant fetches the same file, in turns. The least start-up is taken off time and processor time,
and the length of its task off the file's. The least, because a noisy start-up must not make a quiet turn of the file
look faster than it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

from benchmarks.benchmark import Benchmark, Report, Run, Sample
from benchmarks.charts import Bar, draw_bars
from benchmarks.contestants import CONTESTANTS, GROUPS, TARGETS, Contestant
from benchmarks.tables import Spread, length, ratios, spread, spread_text, table
from benchmarks.turn import START_UP_LENGTH, Case, is_here, make_tasks, take_turn

__all__ = ["BENCHMARK", "Cell", "cases_of", "cells", "draw", "panels"]

_MIB, _GB = 2**20, 10**9
_LENGTH, _QUICK_LENGTH = _GB, 256 * 10**6
_ROUNDS, _QUICK_ROUNDS = 7, 2
_START_UPS = 2  # in each round: start-up is taken off every other figure
_OTHER_SHAPES = ((4 * _MIB, 1), (64 * _MIB, 1), (64 * _MIB, 8))  # bytes of a piece, and pieces at once
_IN_OTHER_SHAPES = ("tcp", "grpc")


def measure(run: Run) -> Iterator[Sample]:
    """Take all turns."""
    names = [name for name in CONTESTANTS if not run.options.only or name in run.options.only]
    contestants = [CONTESTANTS[name] for name in names if is_here(run, CONTESTANTS[name])]
    cases = cases_of(run, [each.name for each in contestants])
    run.entries.extend(_entry(each, cases) for each in contestants)
    run.tell(f"making files and storages in {run.directory}")
    tasks = make_tasks(cases, run.directory)
    for case in dict.fromkeys(each for each in cases if each.content_length == START_UP_LENGTH):
        take_turn(case, tasks, run.directory)  # what is loaded only once
    for number, case in run.turns(cases, _ROUNDS, _QUICK_ROUNDS):
        yield {"round": number, **take_turn(case, tasks, run.directory)}


def cases_of(run: Run, names: Sequence[str]) -> list[Case]:
    """
    What is measured in each round: the file, by some in other shapes too, and start-up.

    :param names: of the contestants.
    """
    quick = run.options.quick
    length = run.options.size or (_QUICK_LENGTH if quick else _LENGTH)
    cases = [Case(name, length) for name in names]
    if not (quick or run.options.only):
        cases += [Case(name, length, *shape) for shape in _OTHER_SHAPES for name in names if name in _IN_OTHER_SHAPES]
    return cases + [Case(name, START_UP_LENGTH) for name in names] * (1 if quick else _START_UPS)


def _entry(contestant: Contestant, cases: Sequence[Case]) -> Sample:
    """A contestant's commands as the report has them: with the figures of what is fetched, and names for paths."""
    values = next(each for each in cases if each.contestant == contestant.name).values
    return {
        "name": contestant.name,
        "title": contestant.title,
        "group": contestant.group,
        "parent": Template(contestant.parent.command).safe_substitute(values),
        "child": [Template(command).safe_substitute(values) for command in contestant.child],
        "files": dict(contestant.parent.files),
    }


class Cell(NamedTuple):
    """
    The figures of a contestant in one shape.

    :ivar shape: bytes of a piece, and pieces at once.
    :ivar seconds: how long it took.
    :ivar rate: bytes per second; None where the file is too short to be told from start-up.
    :ivar processor: of the parent and of the child, in seconds for 10⁹ bytes.
    :ivar peak: of the parent and of the child, in bytes; nothing is taken off.
    """

    contestant: str
    shape: tuple[int, int]
    seconds: Spread
    rate: Spread | None
    processor: tuple[Spread, Spread]
    peak: tuple[Spread, Spread]


def cells(report: Report) -> list[Cell]:
    """The figures of each contestant in each shape, in the order of the contestants."""
    files = [each for each in report.samples if each["content_length"] != START_UP_LENGTH]
    order = list(dict.fromkeys(each["contestant"] for each in report.samples))
    found = {(each["contestant"], (each["piece_length"], each["concurrency"])) for each in files}
    return [_cell(report, *each) for each in sorted(found, key=lambda case: (order.index(case[0]), case))]


def _cell(report: Report, contestant: str, shape: tuple[int, int]) -> Cell:
    def of(name: str, per: float = 1.0) -> Spread:
        return spread([each / per for each in _costs(report, contestant, name, shape).values()])

    size = _size(report) - START_UP_LENGTH
    seconds = of("seconds")
    taken = [each for each in _taken(report, contestant, shape) if each["content_length"] != START_UP_LENGTH]
    return Cell(
        contestant=contestant,
        shape=shape,
        seconds=seconds,
        rate=Spread(*(size / each for each in reversed(seconds))) if seconds.minimum > 0 else None,
        processor=(of("parent_processor", size / _GB), of("child_processor", size / _GB)),
        peak=(spread([each["parent_peak"] for each in taken]), spread([each["child_peak"] for each in taken])),
    )


def _costs(report: Report, contestant: str, by: str, shape: tuple[int, int] | None = None) -> dict[int, float]:
    """What the file cost in each round, less the least start-up; in the shape that all share unless one is given."""
    idle = report.values(by, contestant=contestant, content_length=START_UP_LENGTH)
    taken = _taken(report, contestant, shape or _shared_shape(report))
    return {each["round"]: each[by] - min(idle) for each in taken if each["content_length"] != START_UP_LENGTH}


def _taken(report: Report, contestant: str, shape: tuple[int, int]) -> list[Sample]:
    return report.taken(contestant=contestant, piece_length=shape[0], concurrency=shape[1])


def _shared_shape(report: Report) -> tuple[int, int]:
    """Bytes of a piece and pieces at once, as all contestants have them."""
    first = report.taken(content_length=START_UP_LENGTH)[0]
    return first["piece_length"], first["concurrency"]


def _size(report: Report) -> int:
    """Bytes of the file."""
    return max(map(int, report.values("content_length")))


def draw(report: Report) -> str:
    """The circumstances, the targets, and other shapes. The chart has each contestant's figures."""
    found = cells(report)
    legend = (
        "*Whole command*: with the file's SHA-256; *pieces*: without it; both over TCP. Start-up, the least time of a"
        f" task of {length(START_UP_LENGTH)}, is subtracted everywhere. Bold: not reached."
    )
    targets = ratios(TARGETS, lambda name, by: _costs(report, name, by))
    parts = [_circumstances(report, found), "### Targets", legend, targets]
    return "\n\n".join([*parts, *_other_shapes(report, found)])


def _circumstances(report: Report, found: Sequence[Cell]) -> str:
    """When, where and how it ran, how quiet it was, and which contestants were missing."""
    machine, (piece_length, concurrency) = report.machine, _shared_shape(report)
    noise = spread([each["others"] / (each["seconds"] * machine["cores"]) for each in report.samples])
    lines = [
        f"{report.origin}, {machine['memory'] / 10**6:,.0f} MB of memory",
        "",
        f"- {', '.join(f'{name} {version}' for name, version in {**machine['packages'], **report.versions}.items())}",
        f"- rounds: {max(each['round'] for each in report.samples) + 1}; a file of {length(_size(report))} in"
        f" {-(-_size(report) // piece_length)} pieces of {length(piece_length)}, {concurrency} at once",
        f"- noise: other programs had {noise.median:.0%} of the cores' time in the median turn, {noise.maximum:.0%} in"
        " the worst",
    ]
    scattered = [(each.seconds.maximum - each.seconds.minimum) / each.seconds.median for each in found if each.rate]
    if scattered:
        apart = spread(scattered)
        lines.append(
            f"- scatter: the rounds of a line are {apart.median:.0%} of their median apart in the median line,"
            f" {apart.maximum:.0%} in the worst"
        )
    lines += [
        f"- {program} is not installed, so these were not measured: {'; '.join(titles)}"
        for program, titles in report.absences.items()
    ]
    return "\n".join(lines)


def _other_shapes(report: Report, found: Sequence[Cell]) -> Iterator[str]:
    """The same file in other pieces, and more or fewer of them at once."""
    titles = {entry["name"]: entry["title"] for entry in report.entries}
    rows = [
        [
            length(cell.shape[0]),
            str(cell.shape[1]),
            titles[cell.contestant],
            spread_text(cell.rate, ",.0f", 10**6),
            *(f"{each.median:.3f}" for each in cell.processor),
            *(f"{each.maximum / 10**6:,.0f}" for each in cell.peak),
        ]
        for cell in sorted(found, key=lambda cell: cell.shape)
        if cell.shape != _shared_shape(report)
    ]
    if rows:
        head = ["pieces of", "at once", "", "MB/s", "s/GB, parent", "s/GB, child", "MB, parent", "MB, child"]
        yield f"### Other pieces\n\nMedian processor time, most memory.\n\n{table(head, rows)}"


def panels(report: Report) -> dict[str, list[Bar]]:
    """The bars of each panel, by its unit: contestants that fetch the file in the same shape, in the same order."""
    found = {each.contestant: each for each in cells(report) if each.shape == _shared_shape(report)}
    entries = sorted(report.entries, key=lambda entry: list(GROUPS).index(entry["group"]))
    shown = [(entry, found[entry["name"]]) for entry in entries]
    return {
        "MB/s": [_bar(entry, [cell.rate], 10**6, ",.0f") for entry, cell in shown],
        "processor s/GB, parent + child": [_bar(entry, cell.processor, 1, ".2f") for entry, cell in shown],
        "peak MB, parent + child": [_bar(entry, cell.peak, 10**6, ",.0f") for entry, cell in shown],
    }


def _bar(entry: Any, figures: Sequence[Spread | None], unit: int, show: str) -> Bar:
    """The medians behind each other; of a single one the least and the most, too."""
    single = figures[0] if len(figures) == 1 else None
    parts = tuple(0.0 if each is None else each.median / unit for each in figures)
    return Bar(
        title=entry["title"],
        group=entry["group"],
        parts=parts,
        reach=None if single is None else (single.minimum / unit, single.maximum / unit),
        label=spread_text(single, show, unit)
        if len(figures) == 1
        else " + ".join(format(part, show) for part in parts),
    )


def _draw_chart(report: Report, path: Path) -> None:
    draw_bars(panels(report), path)


BENCHMARK = Benchmark(
    name="contest",
    question="how fast does each program fetch a file, and at which cost?",
    measure=measure,
    draw=draw,
    page="performance.md",
    file="performance.json",
    chart=_draw_chart,
)
