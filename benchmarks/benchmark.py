"""
The common part of all benchmarks: rounds in shuffled order, a report as a JSON file, and a table in a page.

A benchmark is a :class:`Benchmark`. It is run by :func:`run` in an empty directory; the samples that it yields become a
:class:`Report`, which is written to ``docs/``. :func:`redraw` draws the table from that file, and puts it between two
markers of a page.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from benchmarks.machine import commit, find, this_machine, version_of

__all__ = [
    "END",
    "Benchmark",
    "Options",
    "Report",
    "Run",
    "Sample",
    "drawn_part",
    "read_report",
    "redraw",
    "run",
    "to_json",
    "write_report",
]

END = "<!-- end -->"
"""The line behind each drawn part of a page."""

_DIGITS = 6
"""Decimals of what is written: microseconds, millionths of a ratio."""

Sample = dict[str, Any]
"""What one turn showed: what was measured, and the figures, each by its name."""

CaseT = TypeVar("CaseT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """
    What the command line asks for.

    :param quick: less of everything, to see that it works.
    :param rounds: how often each case is measured; None for the benchmark's own number.
    :param size: bytes of the file; None for the benchmark's own.
    :param only: names of the contestants that take part; all where it is empty.
    :param scratch: where temporary directories are made; None for the system's default.
    :param against: a checkout of an earlier version, for what compares versions; None for none.
    """

    quick: bool = False
    rounds: int | None = None
    size: int | None = None
    only: Sequence[str] = ()
    scratch: Path | None = None
    against: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """
    What a run has seen.

    :param command: the command line.
    :param date: when it ended, in UTC, as ISO 8601 has it.
    :param commit: of the sources that ran, or of the commit that recorded the run.
    :param machine: what it ran on, as :func:`~benchmarks.machine.this_machine` describes it.
    :param versions: of the programs of others that took part, by name.
    :param absences: what was not measured, by the program that is not installed.
    :param entries: the commands behind each row, where rows are programs.
    :param samples: in the order in which they were taken.
    """

    command: str
    date: str
    commit: str
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    absences: Mapping[str, Sequence[str]]
    entries: Sequence[Mapping[str, Any]]
    samples: Sequence[Sample]

    @property
    def origin(self) -> str:
        """The command, the commit, the date and the machine, in Markdown."""
        at = f" at `{self.commit}`" if self.commit else ""
        machine = self.machine
        return (
            f"`{self.command}`{at}, {self.date[:10]}, {machine['kernel']}, {machine['cores']} cores"
            f" ({machine['processor']}), {machine['python']}"
        )

    def taken(self, **case: object) -> list[Sample]:
        """The samples that have these values."""
        return [each for each in self.samples if all(each[name] == value for name, value in case.items())]

    def values(self, figure: str, **case: object) -> list[Any]:
        """A figure of each sample that has these values."""
        return [each[figure] for each in self.taken(**case)]

    def cases(self, *names: str, **case: object) -> list[tuple[Any, ...]]:
        """The different values that samples have under these names, in order."""
        return sorted({tuple(each[name] for name in names) for each in self.taken(**case)})


@dataclass(slots=True, kw_only=True)
class Run:
    """
    What a benchmark is given, and what it notes beside its samples.

    :param directory: an empty directory.
    :param options: what the command line asks for.
    :param tell: takes a line about what is done.
    """

    directory: Path
    options: Options
    tell: Callable[[str], object]
    versions: dict[str, str] = field(default_factory=dict)
    absences: dict[str, list[str]] = field(default_factory=dict)
    entries: list[dict[str, Any]] = field(default_factory=list)

    def has(self, program: str, title: str, *, is_package: bool = False) -> bool:
        """
        Whether a program of others is installed; its version, or that it is missing, goes into the report.

        :param title: what cannot be measured without it.
        :param is_package: whether it is a Python package.
        """
        found = _version_of_package(program) if is_package else find(program) and version_of(program)
        if found is None:
            self.tell(f"without {title}: {program} is not installed")
            self.absences.setdefault(program, []).append(title)
            return False
        self.versions.setdefault(program, str(found))
        return True

    def turns(self, cases: Sequence[CaseT], rounds: int, quick_rounds: int = 1) -> Iterator[tuple[int, CaseT]]:
        """
        Each case once in each round, with the number of the round. Every round has an order of its own: what else the
        machine does at some time is at no single case's cost.
        """
        count = self.options.rounds or (quick_rounds if self.options.quick else rounds)
        chance = Random(0)
        for number in range(count):
            for turn, case in enumerate(chance.sample(cases, len(cases)), start=1):
                self.tell(f"round {number + 1} of {count}, turn {turn} of {len(cases)}: {case}")
                yield number, case


def _version_of_package(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """
    A question that is answered by measuring.

    :param name: on the command line.
    :param question: what is asked, for ``--help``.
    :param measure: takes all turns.
    :param draw: the table in Markdown, from the report alone.
    :param page: the document that the table is in, below ``docs/``.
    :param file: the file with the report, below ``docs/``.
    :param chart: draws a chart beside the report, with the suffix ``.svg``.
    """

    name: str
    question: str
    measure: Callable[[Run], Iterator[Sample]]
    draw: Callable[[Report], str]
    page: str
    file: str
    chart: Callable[[Report, Path], None] | None = None

    @property
    def begin(self) -> str:
        """The line before the drawn part of the page."""
        return f"<!-- drawn from {self.file} by python -m benchmarks {self.name}: begin -->"


def run(benchmark: Benchmark, command: str, options: Options, docs: Path, tell: Callable[[str], object]) -> None:
    """
    Run a benchmark, and write its report.

    :param command: the command line, for the report.
    :param docs: the directory of the documents.
    :raises DidNotWork: a program did not do what was to be measured; nothing is written.
    """
    with tempfile.TemporaryDirectory(prefix="dfvortex-benchmarks-", dir=options.scratch) as directory:
        given = Run(directory=Path(directory).resolve(), options=options, tell=tell)
        samples = list(benchmark.measure(given))
    report = Report(
        command=command,
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        commit=commit(),
        machine=this_machine(),
        versions=given.versions,
        absences=given.absences,
        entries=given.entries,
        samples=samples,
    )
    write_report(docs / benchmark.file, report)


def redraw(benchmark: Benchmark, docs: Path) -> None:
    """
    Draw a benchmark's table, and its chart, from the report that is there.

    :param docs: the directory of the documents.
    :raises ValueError: the page does not have the markers.
    :raises ImportError: the chart needs matplotlib, which is not installed; the table is drawn.
    """
    report = read_report(docs / benchmark.file)
    path = docs / benchmark.page
    page = path.read_text(encoding="utf-8")
    old = f"{benchmark.begin}\n{drawn_part(benchmark, page)}\n{END}"
    path.write_text(page.replace(old, f"{benchmark.begin}\n{benchmark.draw(report)}\n{END}"), encoding="utf-8")
    if benchmark.chart is not None:
        benchmark.chart(report, (docs / benchmark.file).with_suffix(".svg"))


def drawn_part(benchmark: Benchmark, page: str) -> str:
    """
    What is between the markers.

    :param page: the document's text.
    :raises ValueError: the page does not have this part once, with its end.
    """
    _, found, after = page.partition(f"{benchmark.begin}\n")
    part, found_end, _ = after.partition(f"\n{END}")
    if not found or not found_end or benchmark.begin in after or "<!-- drawn from" in part:
        raise ValueError(f"expected {benchmark.begin!r} once, and {END!r} behind it")
    return part


def write_report(path: Path, report: Report) -> None:
    """Write a report."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(to_json(asdict(report)), encoding="utf-8")


def read_report(path: Path) -> Report:
    """
    Read a report.

    :raises TypeError: something is missing in it, or has no place in it.
    """
    return Report(**json.loads(path.read_text(encoding="utf-8")))


def to_json(data: Mapping[str, Any]) -> str:
    """JSON with rounded fractions and a line for each item of a list, so that two runs can be compared by lines."""
    rounded = json.loads(json.dumps(data), parse_float=lambda text: round(float(text), _DIGITS))
    lines = []
    for key, value in rounded.items():
        text = json.dumps(value)
        if isinstance(value, list) and value:
            text = "[\n" + ",\n".join(f"    {json.dumps(each)}" for each in value) + "\n  ]"
        lines.append(f"  {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"
