"""The JSON file: everything that a run has seen and what is said about it. Table and chart are drawn from it alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import Figures
from benchmarks.machine import Machine
from benchmarks.race import Sample
from benchmarks.records import read_record, write_record
from benchmarks.settings import Settings

__all__ = ["Report", "read_report", "write_report"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """
    A run.

    :param command: what made it, as it was written.
    :param date: when it ended, in UTC, as ISO 8601 has it.
    :param machine: what it ran on.
    :param settings: what was measured.
    :param figures: what is said about it.
    :param samples: what was seen, turn by turn, in the order of the turns.
    """

    command: str
    date: str
    machine: Machine
    settings: Settings
    figures: Figures
    samples: tuple[Sample, ...]


def write_report(path: Path, report: Report) -> None:
    """Write a report."""
    write_record(path, report)


def read_report(path: Path) -> Report:
    """
    Read a report.

    :raises KeyError: something is missing in it.
    """
    return read_record(path, Report)
