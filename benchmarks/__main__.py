"""``python -m benchmarks``: measure, and write what came of it into ``docs/``; or draw again what was written."""

from __future__ import annotations

import dataclasses
import signal
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from types import FrameType
from typing import NoReturn

from benchmarks.chart import draw
from benchmarks.machine import this_machine
from benchmarks.options import make_parser, settings_of
from benchmarks.page import DrawnPart
from benchmarks.race import race
from benchmarks.report import Report, absences, entries, read_report, versions, write_report
from benchmarks.servers import DidNotWork
from benchmarks.settings import Settings
from benchmarks.table import table

PART = DrawnPart("performance.json", "python -m benchmarks")
"""What is drawn into docs/performance.md."""


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the command.

    :param arguments: what stands behind ``python -m benchmarks``; None for the process's own.
    :returns: the exit status; 1 when something that was to be measured did not work, and nothing is written then, or
        when the chart cannot be drawn.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = make_parser().parse_args(given)
    data = options.docs / "performance.json"
    try:
        if options.redraw:
            report = read_report(data)
        else:
            report = _measure(" ".join(["python -m benchmarks", *given]), settings_of(options), options.scratch)
        write_report(data, report)
        PART.redraw(options.docs / "performance.md", table(report))
        draw(report, options.docs / "performance.svg")
    except ImportError as error:
        print(f"benchmarks: the chart is not drawn, pip install -e '.[bench]' and --redraw: {error}", file=sys.stderr)
        return 1
    except (DidNotWork, OSError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    return 0


def _measure(command: str, settings: Settings, scratch: Path | None) -> Report:
    """Take all turns, and say what came of them."""
    machine = this_machine()
    absent = absences(settings.contestants)
    for absence in absent.values():
        _tell(f"without {absence.title}: {absence.missing} is not installed")
    settings = dataclasses.replace(
        settings, contestants=tuple(name for name in settings.contestants if name not in absent)
    )
    samples = tuple(race(settings, scratch, _tell))
    return Report(
        command=command,
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        machine=machine,
        versions=versions(settings.contestants),
        settings=settings,
        entries=entries(settings),
        absences=tuple(absent.values()),
        samples=samples,
    )


def _tell(line: str) -> None:
    """Say what is done."""
    print(line, file=sys.stderr, flush=True)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    """End as by an error, so that neither a process nor a temporary directory is left."""
    sys.exit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(main())
