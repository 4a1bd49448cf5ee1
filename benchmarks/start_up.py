"""
How long does a program need to begin? ``python -m benchmarks.start_up`` measures it, as multiples of a Python that does
nothing.
"""

from __future__ import annotations

import random
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.installed import PROGRAMS
from benchmarks.markdown import head, row
from benchmarks.material import import_file, make_file
from benchmarks.measurement import Measurement
from benchmarks.peers import TRANSPORTS, Parent
from benchmarks.processes import run_to_end
from benchmarks.servers import DidNotWork

__all__ = ["MEASUREMENT", "Sample"]

_NOTHING = "`python -c pass`"

_IMPORTS = (
    "import twisted.internet.protocol",
    "import twisted.internet.reactor",
    "import dragonfly_vortex",
    "import dragonfly_vortex.wire",
    "import dragonfly_vortex.peer.client",
    "import dragonfly_vortex.peer.server",
    "import dragonfly_vortex.downloaders.factory",
    "import dragonfly_vortex.service",
    "import twisted.internet.reactor, dragonfly_vortex.service",
)

_HELPS = (
    ("dfvortex", "--version"),
    ("dfvortex", "--help"),
    ("dfvortex", "download", "--help"),
    ("twistd", "--help"),
)

_ROUNDS = 20
_QUICK_ROUNDS = 2
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


def measure(directory: Path, quick: bool, tell: Callable[[str], None]) -> Iterator[Sample]:
    """Run each program once in every round, in another order each time."""
    source = directory / "file"
    make_file(source, _LENGTH)
    task = import_file(source, _LENGTH, directory / "storage")
    chance = random.Random(0)
    with ExitStack() as stack:
        programs: dict[str, list[str | Path]] = {
            _NOTHING: [sys.executable, "-c", "pass"],
            **{f"`{statement}`": [sys.executable, "-c", statement] for statement in _IMPORTS},
            **{f"`{' '.join(words)}`": [PROGRAMS / words[0], *words[1:]] for words in _HELPS},
        }
        for name, transport in TRANSPORTS.items():
            place = directory / name
            place.mkdir()
            parent = stack.enter_context(Parent(task.storage, place, transport))
            programs[f"`dfvortex download` of 1 MB over {transport.title}"] = [
                *(PROGRAMS / "dfvortex", "download", task.task_id, "--parent", parent.address, "--protocol", name),
                *("--output", place / "output", "--overwrite"),
            ]
        rounds = _QUICK_ROUNDS if quick else _ROUNDS
        for number in range(rounds):
            tell(f"round {number + 1} of {rounds}")
            for program in chance.sample(list(programs), len(programs)):
                ran = run_to_end(programs[program], directory, _TO_END)
                if ran.status:
                    raise DidNotWork(f"{program} exited with {ran.status}, expected 0: {ran.output}")
                yield Sample(program=program, seconds=ran.seconds, processor=ran.processor)


def draw(samples: Sequence[Sample]) -> str:
    """The table: least and median, and the least as a multiple of what Python itself needs."""
    by = "by `python -c pass`"
    lines = [*head("", "ms: least, median", by, "processor ms: least, median", by)]
    order = [_NOTHING, *(f"`{statement}`" for statement in _IMPORTS), *(f"`{' '.join(words)}`" for words in _HELPS)]
    seen = {each.program for each in samples}
    idle_seconds, idle_processor = _of(_NOTHING, samples)
    for program in [*(each for each in order if each in seen), *sorted(seen.difference(order))]:
        seconds, processor = _of(program, samples)
        cells = [program, _milliseconds(seconds), f"{min(seconds) / min(idle_seconds):.1f}"]
        cells += [_milliseconds(processor), f"{min(processor) / min(idle_processor):.1f}"]
        lines.append(row(*cells))
    return "\n".join(lines)


def _of(program: str, samples: Sequence[Sample]) -> tuple[list[float], list[float]]:
    """The seconds and the processor seconds of a program, in all rounds."""
    rounds = [each for each in samples if each.program == program]
    return [each.seconds for each in rounds], [each.processor for each in rounds]


def _milliseconds(values: Sequence[float]) -> str:
    """The least and the median."""
    return f"{min(values) * 1000:.0f}, {statistics.median(values) * 1000:.0f}"


MEASUREMENT = Measurement(name="start_up", sample=Sample, measure=measure, draw=draw)

if __name__ == "__main__":
    sys.exit(MEASUREMENT.main())
