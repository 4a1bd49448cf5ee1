"""
A question that is answered by measuring: ``python -m benchmarks.<name>`` runs it, writes what was seen into
``docs/measurements/<name>.json``, and draws a table from that file into a document.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from benchmarks.machine import Machine, this_machine
from benchmarks.page import DrawnPart
from benchmarks.records import build, read_record, write_record
from benchmarks.servers import DidNotWork

__all__ = ["Measurement", "Seen"]

SampleT = TypeVar("SampleT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """
    What a run has seen.

    :param command: what made it, as it was written.
    :param date: when it ended, in UTC, as ISO 8601 has it.
    :param machine: what it ran on.
    :param samples: in the order in which they were taken.
    """

    command: str
    date: str
    machine: Machine
    samples: list[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement(Generic[SampleT]):
    """
    A question, and how it is answered.

    :param name: of its module, and of the file with its samples.
    :param sample: the dataclass of what is seen in one turn.
    :param measure: takes all turns: in an empty directory, quickly or not, telling what it does a line at a time.
    :param draw: the table, from the samples alone.
    :param page: the document that the table stands in.
    """

    name: str
    sample: type[SampleT]
    measure: Callable[[Path, bool, Callable[[str], None]], Iterable[SampleT]]
    draw: Callable[[Sequence[SampleT]], str]
    page: str = "tuning.md"

    @property
    def command(self) -> str:
        """What measures it."""
        return f"python -m benchmarks.{self.name}"

    @property
    def part(self) -> DrawnPart:
        """The part of the page that is drawn."""
        return DrawnPart(f"measurements/{self.name}.json", self.command)

    def table(self, docs: Path) -> str:
        """
        What the page has to say, from the file with the samples: the command, when and where, and the table.

        :param docs: the directory of the documents.
        """
        seen = read_record(self._samples(docs), Seen)
        machine = seen.machine
        where = f"{machine.kernel}, {machine.cores} cores ({machine.processor}), {machine.python}"
        samples = [build(self.sample, each) for each in seen.samples]
        return f"`{seen.command}`, {seen.date[:10]}, {where}\n\n{self.draw(samples)}"

    def main(self, arguments: Sequence[str] | None = None) -> int:
        """
        Run the command.

        :param arguments: what stands behind it; None for the process's own.
        :returns: the exit status; 1 when something that was to be measured did not work, and nothing is written then.
        """
        given = list(sys.argv[1:] if arguments is None else arguments)
        options = self._parser().parse_args(given)
        try:
            if not options.redraw:
                self._measure(given, options)
            self.part.redraw(options.docs / self.page, self.table(options.docs))
        except (DidNotWork, OSError) as error:
            print(f"{self.command}: {error}", file=sys.stderr)
            return 1
        return 0

    def _parser(self) -> argparse.ArgumentParser:
        parser = argparse.ArgumentParser(prog=self.command)
        parser.add_argument("--quick", action="store_true", help="less of everything: to see that it works")
        parser.add_argument("--redraw", action="store_true", help="measure nothing; draw the table again")
        parser.add_argument(
            "--docs", metavar="DIR", type=Path, default=Path("docs"), help="where the documents are; ./docs"
        )
        parser.add_argument(
            "--scratch", metavar="DIR", type=Path, help="where the temporary directory is made; the system's default"
        )
        return parser

    def _measure(self, given: Sequence[str], options: argparse.Namespace) -> None:
        """Take all turns, and write what was seen."""
        with tempfile.TemporaryDirectory(prefix="dfvortex-benchmarks-", dir=options.scratch) as directory:
            samples = list(self.measure(Path(directory).resolve(), options.quick, _tell))
        seen = Seen(
            command=" ".join([self.command, *given]),
            date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            machine=this_machine(),
            samples=[asdict(cast(Any, sample)) for sample in samples],
        )
        self._samples(options.docs).parent.mkdir(exist_ok=True)
        write_record(self._samples(options.docs), seen)

    def _samples(self, docs: Path) -> Path:
        """The file with the samples."""
        return docs / "measurements" / f"{self.name}.json"


def _tell(line: str) -> None:
    """Say what is done."""
    print(line, file=sys.stderr, flush=True)
