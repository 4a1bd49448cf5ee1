"""The JSON file: everything that a run has seen and what is said about it. Table and chart are drawn from it alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

from benchmarks.contestants import CONTESTANTS
from benchmarks.figures import Figures, summarize
from benchmarks.installed import find, version_of
from benchmarks.machine import Machine
from benchmarks.race import Sample
from benchmarks.records import read_record, write_record
from benchmarks.settings import Settings

__all__ = ["Absence", "Entry", "Report", "absences", "entries", "read_report", "versions", "write_report"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """
    Who took part, and by which commands: paths and ports have their names in them, what is fetched its figures.

    :param name: as ``--only`` has it.
    :param title: what people call it.
    :param group: what is done with the bytes.
    :param parent: the command that serves.
    :param child: the commands that fetch.
    :param files: what is written before they start, by name.
    """

    name: str
    title: str
    group: str
    parent: str
    child: tuple[str, ...]
    files: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Absence:
    """
    Who was asked for and did not take part.

    :param title: what people call it.
    :param missing: the program that is not installed.
    """

    title: str
    missing: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """
    A run.

    :param command: what made it, as it was written.
    :param date: when it ended, in UTC, as ISO 8601 has it.
    :param machine: what it ran on.
    :param versions: of the programs that are not of this package, by name.
    :param settings: what was measured.
    :param entries: who took part.
    :param absences: who did not.
    :param samples: what was seen, turn by turn, in the order of the turns.
    """

    command: str
    date: str
    machine: Machine
    versions: dict[str, str]
    settings: Settings
    entries: tuple[Entry, ...]
    absences: tuple[Absence, ...]
    figures: Figures = field(init=False)
    """What is said about it: calculated from the samples, also of a report that is read."""
    samples: tuple[Sample, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "figures", summarize(self.settings, self.machine.cores, self.samples))


def entries(settings: Settings) -> tuple[Entry, ...]:
    """Who takes part in a run."""
    shown = {
        "content_length": settings.content_length,
        "piece_length": settings.shape.piece_length,
        "piece_count": settings.piece_count(settings.shape),
        "concurrency": settings.shape.concurrency,
    }
    return tuple(
        Entry(
            name=each.name,
            title=each.title,
            group=each.group,
            parent=Template(each.parent.command).safe_substitute(shown),
            child=tuple(Template(command).safe_substitute(shown) for command in each.child),
            files={**each.parent.files, **each.files},
        )
        for each in (CONTESTANTS[name] for name in settings.contestants)
    )


def absences(names: Iterable[str]) -> dict[str, Absence]:
    """
    Who cannot take part, by name.

    :param names: who is asked for.
    """
    missing = {name: [program for program in CONTESTANTS[name].programs if find(program) is None] for name in names}
    return {
        name: Absence(title=CONTESTANTS[name].title, missing=programs[0])
        for name, programs in missing.items()
        if programs
    }


def versions(names: Iterable[str]) -> dict[str, str]:
    """
    The versions of the programs that are not of this package nor the interpreter.

    :param names: who takes part.
    """
    programs = dict.fromkeys(program for name in names for program in CONTESTANTS[name].programs)
    ours = ("python", "twistd", "dfvortex")
    return {program: version_of(program) for program in programs if program not in ours}


def write_report(path: Path, report: Report) -> None:
    """Write a report."""
    write_record(path, report)


def read_report(path: Path) -> Report:
    """
    Read a report.

    :raises KeyError: something is missing in it.
    """
    return read_record(path, Report)
