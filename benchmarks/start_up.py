"""How long does a program need to begin, beside a Python that does nothing?"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.benchmark import Benchmark, Report, Run
from benchmarks.machine import PROGRAMS
from benchmarks.material import import_file, make_file
from benchmarks.peers import Peer, download
from benchmarks.processes import run_to_end
from benchmarks.text import best_and_median, table

__all__ = ["BENCHMARK", "Sample", "draw"]

_NOTHING = "`python -c pass`"

_IMPORTS = (
    "import twisted.internet.protocol",
    "import twisted.internet.reactor",
    "import dragonfly_vortex",
    "import dragonfly_vortex.wire",
    "import dragonfly_vortex.vortex.client_protocol",
    "import dragonfly_vortex.vortex.server_protocol",
    "import dragonfly_vortex.downloaders.factory",
    "import dragonfly_vortex.daemon.service",
    "import twisted.internet.reactor, dragonfly_vortex.daemon.service",
)

_SHOWN = ("import twisted.internet.reactor", "import dragonfly_vortex", "import dragonfly_vortex.wire", _IMPORTS[-1])
"""The imports that the table has; the report has all."""

_HELPS = ("dfvortex --version", "dfvortex --help", "dfvortex download --help", "twistd --help")

_ON_STORAGE = ("list", "stat", "import")
"""Commands on a storage that has the file."""

_DOWNLOADS = {"tcp": "`dfvortex download` of 1 MB over TCP", "grpc": "`dfvortex download` of 1 MB over gRPC"}

_ROUNDS, _QUICK_ROUNDS = 20, 1
_LENGTH = 10**6  # bytes of the file that is fetched
_TO_END = 60.0  # seconds that a program has


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """
    A program that has run.

    :param program: which, in Markdown.
    :param seconds: from its start to its end.
    :param processor: seconds of processor time.
    """

    program: str
    seconds: float
    processor: float


def measure(run: Run) -> Iterator[Sample]:
    """Run each program once in every round."""
    make_file(run.directory / "file", _LENGTH)
    task = import_file(run.directory / "file", _LENGTH, run.directory / "storage")
    programs: dict[str, list[str | Path]] = {_NOTHING: [sys.executable, "-c", "pass"]}
    programs |= {f"`{statement}`": [sys.executable, "-c", statement] for statement in _IMPORTS}
    for words in _HELPS:
        program, *arguments = words.split()
        programs[f"`{words}`"] = [PROGRAMS / program, *arguments]
    with ExitStack() as stack:
        for protocol, title in _DOWNLOADS.items():
            parent = stack.enter_context(Peer(task.storage, run.directory / protocol, protocol))
            output = run.directory / protocol / "output"
            programs[title] = [PROGRAMS / "dfvortex", *download(task.task_id, parent, protocol, output)]
        operands: dict[str, list[str | Path]] = {"stat": [task.task_id], "import": [run.directory / "file"]}
        for command in _ON_STORAGE:
            arguments_of = [*operands.get(command, []), "--config", parent.config]
            programs[f"`dfvortex {command}`"] = [PROGRAMS / "dfvortex", command, *arguments_of]
        for _, title in run.turns(list(programs), _ROUNDS, _QUICK_ROUNDS):
            ran = run_to_end(programs[title], run.directory, _TO_END).checked(title)
            yield Sample(program=title, seconds=ran.seconds, processor=ran.processor)


def draw(report: Report[Sample]) -> str:
    """The least and the median time; nearly all of it is processor time, which the report has."""
    hidden = {f"`{statement}`" for statement in set(_IMPORTS).difference(_SHOWN)}
    commands = (*_SHOWN, *_HELPS, *(f"dfvortex {command}" for command in _ON_STORAGE))
    order = [_NOTHING, *(f"`{each}`" for each in commands), *_DOWNLOADS.values()]
    seen = {each.program for each in report.samples} - hidden
    rows = []
    for program in [*(each for each in order if each in seen), *sorted(seen.difference(order))]:
        times = [each.seconds * 1e3 for each in report.samples if each.program == program]
        rows.append([program, best_and_median(times, ".0f")])
    return f"{report.origin}\n\n" + table(["", "ms: least, median"], rows)


BENCHMARK = Benchmark(
    name="start_up",
    question="how long do our programs take to start?",
    sample=Sample,
    measure=measure,
    draw=draw,
)
