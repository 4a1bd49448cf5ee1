"""
The common part of all benchmarks: rounds in shuffled order, a report as a JSON file, and a table in a page.

A benchmark is a :class:`Benchmark`. It is run by :func:`run` in an empty directory; the samples that it yields become a
:class:`Report`, which is written to ``docs/``. :func:`redraw` draws the table from that file, and puts it between two
markers of a page.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from random import Random
from typing import Any, Generic, TypeVar, cast

from benchmarks.machine import Machine, commit, find, this_machine, version_of

__all__ = ["END", "Benchmark", "Entry", "Options", "Report", "Run", "drawn_part", "read_report", "redraw", "run"]

END = "<!-- end -->"
"""The line behind each drawn part of a page."""

_DIGITS = 6
"""Decimals of what is written: microseconds, millionths of a ratio."""

SampleT = TypeVar("SampleT")
CaseT = TypeVar("CaseT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """
    What the command line asks for.

    :param quick: less of everything, to see that it works.
    :param rounds: how often each case is measured; None for the benchmark's own number.
    :param size: bytes of the contest's file; None for the contest's own.
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
class Entry:
    """
    A row of a report that compares programs: the commands behind it, with names in place of paths and ports.

    :param name: a short name.
    :param title: the name in tables.
    :param group: what it is compared with.
    :param parent: the command that serves.
    :param child: the commands that fetch.
    :param files: the files that the commands read, by name.
    """

    name: str
    title: str
    group: str
    parent: str
    child: Sequence[str]
    files: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report(Generic[SampleT]):
    """
    What a run has seen.

    :param command: the command line.
    :param date: when it ended, in UTC, as ISO 8601 has it.
    :param commit: of the sources that ran, or of the commit that recorded the run.
    :param machine: what it ran on.
    :param versions: of the programs of others that took part, by name.
    :param absences: what was not measured, by the program that is not installed.
    :param entries: the commands of each row, where rows are programs.
    :param samples: in the order in which they were taken.
    """

    command: str
    date: str
    commit: str
    machine: Machine
    versions: dict[str, str]
    absences: dict[str, list[str]]
    entries: Sequence[Entry]
    samples: Sequence[SampleT]

    @property
    def origin(self) -> str:
        """The command, the commit, the date and the machine, in Markdown."""
        at = f" at `{self.commit}`" if self.commit else ""
        machine = self.machine
        return (
            f"`{self.command}`{at}, {self.date[:10]}, {machine.kernel}, {machine.cores} cores ({machine.processor}),"
            f" {machine.python}"
        )


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
    entries: list[Entry] = field(default_factory=list)

    def has(self, program: str, title: str) -> bool:
        """
        Whether a program of others is installed; its version, or that it is missing, goes into the report.

        :param title: what cannot be measured without it.
        """
        if find(program) is None:
            self.tell(f"without {title}: {program} is not installed")
            self.absences.setdefault(program, []).append(title)
            return False
        self.versions.setdefault(program, version_of(program))
        return True

    def turns(self, cases: Sequence[CaseT], rounds: int, quick_rounds: int) -> Iterator[tuple[int, CaseT]]:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark(Generic[SampleT]):
    """
    A question that is answered by measuring.

    :param name: on the command line.
    :param question: what is asked, for ``--help``.
    :param sample: the dataclass of what one turn shows; its fields are numbers, strings and lists of them.
    :param measure: takes all turns.
    :param draw: the table in Markdown, from the report alone.
    :param page: the document that the table is in, below ``docs/``.
    :param data: the file with the report, below ``docs/``.
    :param chart: draws a chart beside the report, with the suffix ``.svg``.
    """

    name: str
    question: str
    sample: type[SampleT]
    measure: Callable[[Run], Iterator[SampleT]]
    draw: Callable[[Report[SampleT]], str]
    page: str = "tuning.md"
    data: str = ""
    chart: Callable[[Report[SampleT], Path], None] | None = None

    @property
    def file(self) -> str:
        """The file with the report, below ``docs/``."""
        return self.data or f"measurements/{self.name}.json"

    @property
    def begin(self) -> str:
        """The line before the drawn part of the page."""
        return f"<!-- drawn from {self.file} by python -m benchmarks {self.name}: begin -->"


def run(benchmark: Benchmark[Any], command: str, options: Options, docs: Path, tell: Callable[[str], object]) -> None:
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


def redraw(benchmark: Benchmark[Any], docs: Path) -> None:
    """
    Draw a benchmark's table, and its chart, from the report that is there.

    :param docs: the directory of the documents.
    :raises ValueError: the page does not have the markers.
    :raises ImportError: the chart needs matplotlib, which is not installed; the table is drawn.
    """
    report = read_report(docs / benchmark.file, benchmark.sample)
    path = docs / benchmark.page
    page = path.read_text(encoding="utf-8")
    old = f"{benchmark.begin}\n{drawn_part(benchmark, page)}\n{END}"
    path.write_text(page.replace(old, f"{benchmark.begin}\n{benchmark.draw(report)}\n{END}"), encoding="utf-8")
    if benchmark.chart is not None:
        benchmark.chart(report, (docs / benchmark.file).with_suffix(".svg"))


def drawn_part(benchmark: Benchmark[Any], page: str) -> str:
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


def write_report(path: Path, report: Report[Any]) -> None:
    """Write a report: JSON with a line for each entry and each sample, so that two runs can be compared by lines."""
    data = _rounded(asdict(cast(Any, report)))
    lines = []
    for key, value in data.items():
        if isinstance(value, (list, tuple)) and value:
            text = "[\n" + ",\n".join(f"    {json.dumps(each)}" for each in value) + "\n  ]"
        else:
            text = json.dumps(value)
        lines.append(f"  {json.dumps(key)}: {text}")
    path.parent.mkdir(exist_ok=True)
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def read_report(path: Path, sample: type[SampleT]) -> Report[SampleT]:
    """
    Read a report.

    :param sample: the dataclass of its samples.
    :raises TypeError: something is missing in it, or has no place in it.
    """
    data = json.loads(path.read_text(encoding="utf-8"))
    data["machine"] = Machine(**data["machine"])
    data["entries"] = [Entry(**each) for each in data["entries"]]
    data["samples"] = [sample(**each) for each in data["samples"]]
    return Report(**data)


def _rounded(value: Any) -> Any:
    """The same with every fraction rounded."""
    if isinstance(value, float):
        return round(value, _DIGITS)
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(each) for each in value]
    return value
