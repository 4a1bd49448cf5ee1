"""
``python -m benchmarks [NAME...]``: measure, and write reports and tables into ``docs/``; ``python -m benchmarks
cluster --bin DIR``: the same beside real Dragonfly programs.
"""

from __future__ import annotations

import argparse
import compileall
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

import dragonfly_vortex
from benchmarks import contest, fairness, growth, memory, speed, swarm, swarm_simulated, workers
from benchmarks.benchmark import Benchmark, Options, redraw, run
from benchmarks.contestants import CONTESTANTS
from benchmarks.processes import DidNotWork
from benchmarks.turn import START_UP_LENGTH
from dragonfly_vortex.config.quantities import read_size

__all__ = ["BENCHMARKS", "end_by_sigterm", "main"]

_MODULES = (contest, speed, swarm, swarm_simulated, growth, fairness, workers, memory)

BENCHMARKS: dict[str, Benchmark] = {each.BENCHMARK.name: each.BENCHMARK for each in _MODULES}
"""All benchmarks by name; the first is run where none is named."""


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the command.

    :param arguments: what stands behind ``python -m benchmarks``; None for the process's own.
    :returns: the exit status: 1 when a benchmark did not work, whose report stays as it was, or when the chart cannot
        be drawn.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["cluster"]:
        from benchmarks.cluster.__main__ import main as cluster  # loads gRPC

        return cluster(given[1:])
    parsed = vars(_parser().parse_args(given))
    names, docs, is_redraw = (parsed.pop(name) for name in ("names", "docs", "redraw"))
    # As pip does when it installs a package: otherwise some programs would be measured while they compile themselves.
    earlier = [] if parsed["against"] is None else [parsed["against"] / "dragonfly_vortex"]
    for package in (Path(dragonfly_vortex.__file__).parent, *earlier):
        compileall.compile_dir(package, quiet=1)
    status = 0
    for benchmark in names or [contest.BENCHMARK]:
        try:
            if not is_redraw:
                run(benchmark, " ".join(["python -m benchmarks", *given]), Options(**parsed), docs, _tell)
            redraw(benchmark, docs)
        except ImportError as error:
            _tell(f"{benchmark.name}: the chart is not drawn, pip install -e '.[bench]' and --redraw: {error}")
            status = 1
        except (DidNotWork, OSError) as error:
            _tell(f"{benchmark.name}: {error}")
            status = 1
    return status


def _parser() -> argparse.ArgumentParser:
    lines = [f"  {name:16}{each.question}" for name, each in BENCHMARKS.items()]
    lines.append(f"  {'cluster':16}what works beside real Dragonfly programs? It has options of its own.")
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure, and write reports and tables into docs/. Without a name the contest is run.",
        epilog="\n".join(["benchmarks:", *lines, "", f"contestants: {', '.join(CONTESTANTS)}"]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", metavar="NAME", nargs="*", type=_benchmark, help="what is measured")
    parser.add_argument("--quick", action="store_true", help="less of everything, to see that it works")
    parser.add_argument("--rounds", metavar="N", type=_count, help="how often each case is measured")
    parser.add_argument(
        "--only", metavar="NAME", nargs="+", choices=CONTESTANTS, default=(), help="some of the contestants"
    )
    parser.add_argument("--size", metavar="N", type=_length, help="bytes of the file, such as 1GB")
    parser.add_argument("--redraw", action="store_true", help="measure nothing; draw again from the reports")
    parser.add_argument("--docs", metavar="DIR", type=Path, default=Path("docs"), help="the documents; ./docs")
    parser.add_argument("--scratch", metavar="DIR", type=Path, help="where temporary directories are made")
    parser.add_argument("--against", metavar="DIR", type=Path, help="a checkout of an earlier version, for speed")
    return parser


def _benchmark(name: str) -> Benchmark:
    if name not in BENCHMARKS:
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(BENCHMARKS)}, got {name!r}")
    return BENCHMARKS[name]


def _length(text: str) -> int:
    length = read_size(text)
    if length <= START_UP_LENGTH:
        raise argparse.ArgumentTypeError(f"expected more than {START_UP_LENGTH} bytes, got {text!r}")
    return length


def _count(text: str) -> int:
    if not re.fullmatch("[1-9][0-9]{0,3}", text):
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to 9999, got {text!r}")
    return int(text)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def end_by_sigterm() -> None:
    """Have SIGTERM end this process as an error does, so that neither a process nor a temporary directory is left."""

    def end(number: int, frame: FrameType | None) -> NoReturn:
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, end)


if __name__ == "__main__":
    end_by_sigterm()
    sys.exit(main())
