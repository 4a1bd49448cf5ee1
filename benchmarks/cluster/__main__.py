"""``python -m benchmarks.cluster --bin DIR``: start the real programs, try what works, and measure."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import NoReturn

from benchmarks.cluster.figures import FIGURES
from benchmarks.cluster.programs import Cluster
from benchmarks.cluster.report import KEPT, read, tables, words_of, write
from benchmarks.cluster.trials import TRIALS
from benchmarks.machine import version_of
from benchmarks.processes import DidNotWork

_SCHEDULER = "d7y.io/dragonfly/v2 v2.5.1"
"""The scheduler that is expected: it does not say its version."""


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the command.

    :returns: the exit status: 1 when something did not work.
    """
    parsed = _parser().parse_args(arguments)
    names = [each.__name__ for each in TRIALS] + [each.name for each in FIGURES]
    if unknown := [name for name in parsed.names if name not in names]:
        _tell(f"expected some of {', '.join(names)}, got {', '.join(unknown)}")
        return 2
    found = read(parsed.kept)
    wanted = parsed.names or names
    status = 0
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cluster", dir=parsed.scratch)))
        cluster = stack.enter_context(Cluster(parsed.bin.absolute(), place))
        found["versions"] = cluster.versions() | {"scheduler": _SCHEDULER, "redis": version_of("redis-server")}
        for trial in TRIALS:
            if trial.__name__ in wanted:
                began = time.monotonic()
                try:
                    result = ["works", trial(cluster)]
                except Exception as error:
                    result = ["does not work", " ".join(str(error).split())[:200].replace("|", "/")]
                    status = 1
                found["trials"][trial.__name__] = result
                _tell(f"{words_of(trial)}: {': '.join(filter(None, result))} ({time.monotonic() - began:.0f} s)")
        for figure in FIGURES:
            if figure.name in wanted:
                try:
                    measured = figure.measure(cluster, parsed.rounds)
                except DidNotWork as error:
                    found["figures"][figure.name] = {"failed": " ".join(str(error).split())[:200].replace("|", "/")}
                    status = 1
                else:
                    found["figures"][figure.name] = {
                        "ours": measured.ours,
                        "real": measured.real,
                        "load": measured.load,
                    }
                    _tell(f"{figure.words}: {measured.ratio:.2f}")
                    status = max(status, int(measured.ratio > figure.most))
    write(parsed.docs, found, parsed.kept)
    print(tables(found))
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cluster",
        description="Try what works between real Dragonfly programs and ours, and measure.",
    )
    parser.add_argument("names", metavar="NAME", nargs="*", help="some of the trials and figures; all without a name")
    parser.add_argument(
        "--bin",
        metavar="DIR",
        type=Path,
        required=True,
        help="a folder with dfdaemon, dfget, dfcache, dfctl, scheduler",
    )
    parser.add_argument("--rounds", metavar="N", type=int, default=5, help="how often each figure is measured; 5")
    parser.add_argument("--docs", metavar="DIR", type=Path, default=Path("docs"), help="the documents; ./docs")
    parser.add_argument("--kept", metavar="FILE", type=Path, default=KEPT, help="where results are kept")
    parser.add_argument("--scratch", metavar="DIR", type=Path, help="where the temporary directory is made")
    return parser


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    """End as by an error, so that neither a process nor the temporary directory is left."""
    sys.exit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(main())
