"""
What does it cost a child to receive, by which technique? ``python -m benchmarks.receiving`` measures it.

The pieces are verified and written into a file whose pages are in memory. They come as fast as one machine can do both,
and at the pace of a network card and in its segments, where the wake-ups cost more than the copies do.
"""

from __future__ import annotations

import random
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.material import Task, import_file, make_file
from benchmarks.measurement import Measurement
from benchmarks.processes import run_to_end
from benchmarks.programs.paced_parent import SAYS
from benchmarks.servers import DidNotWork, Server

__all__ = ["MEASUREMENT", "NETWORKS", "TECHNIQUES", "Network", "Sample", "Technique", "draw"]

_PIECE_LENGTH = 4 * 2**20
_PIECES, _FETCHED, _ROUNDS = 64, 96, 5
_QUICK_PIECES, _QUICK_FETCHED, _QUICK_ROUNDS = 2, 8, 1
_TO_RECEIVE = 120.0  # seconds that a child has
_ETHERNET = 1448  # bytes of a segment on a network whose packets have 1500


@dataclass(frozen=True, slots=True, kw_only=True)
class Technique:
    """
    How a child receives.

    :param name: in the table.
    :param read_size: see :class:`~dragonfly_vortex.peer.client.ClientSettings`, as for the next two.
    :param low_water: bytes.
    :param splices: whether it has a splicer.
    """

    name: str
    read_size: int
    low_water: int = 1
    splices: bool = False


_SMALL, _LARGE = 64 * 1024, 256 * 1024

TECHNIQUES = (
    Technique(name="reads of 64 KiB", read_size=_SMALL),
    Technique(name="reads of 256 KiB", read_size=_LARGE),
    Technique(name="reads of 256 KiB, low-water mark", read_size=_LARGE, low_water=_LARGE),
    Technique(name="splice behind a read of 256 KiB", read_size=_LARGE, splices=True),
    Technique(name="splice behind a read of 64 KiB, low-water mark", read_size=_SMALL, low_water=_LARGE, splices=True),
    Technique(
        name="splice behind a read of 256 KiB, low-water mark (as built)",
        read_size=_LARGE,
        low_water=_LARGE,
        splices=True,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """
    What is between a parent and a child.

    :param name: in the table.
    :param connections: connections at once.
    :param rate: bytes per second on each of them; None for as many as there can be.
    """

    name: str
    connections: int
    rate: int | None = None


NETWORKS = (
    Network(name="1 connection, flat out", connections=1),
    Network(name="8 connections, flat out", connections=8),
    Network(name="1 connection at 1.25 GB/s", connections=1, rate=1_250_000_000),
    Network(name="8 connections at 125 MB/s", connections=8, rate=125_000_000),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """
    What was seen in one turn.

    :param network: the name of one of :data:`NETWORKS`.
    :param technique: the name of one of :data:`TECHNIQUES`.
    :param length: bytes that came.
    :param seconds: from the first request to the last byte.
    :param processor: seconds of processor time of the child.
    """

    network: str
    technique: str
    length: int
    seconds: float
    processor: float


def _measure(directory: Path, quick: bool, tell: Callable[[str], None]) -> Iterator[Sample]:
    """All techniques over all networks, in shuffled turns."""
    pieces, fetched, rounds = (_QUICK_PIECES, _QUICK_FETCHED, _QUICK_ROUNDS) if quick else (_PIECES, _FETCHED, _ROUNDS)
    source, output = directory / "file", directory / "output"
    make_file(source, pieces * _PIECE_LENGTH)
    make_file(output, pieces * _PIECE_LENGTH)
    task = import_file(source, _PIECE_LENGTH, directory / "storage")
    with ExitStack() as stack:
        ports = {network: _serve(task, network, directory, stack) for network in NETWORKS}
        for number in range(rounds):
            tell(f"round {number + 1} of {rounds}: {len(NETWORKS) * len(TECHNIQUES)} turns of {fetched} pieces")
            turns = [(network, technique) for network in NETWORKS for technique in TECHNIQUES]
            random.Random(number).shuffle(turns)
            for network, technique in turns:
                command = _command(task, network, technique, ports[network], output, pieces, fetched)
                ran = run_to_end(command, Path.cwd(), _TO_RECEIVE)
                if ran.status:
                    raise DidNotWork(f"receiving exited with {ran.status}, expected 0: {ran.output}")
                seconds, processor = map(float, ran.output.split())
                yield Sample(
                    network=network.name,
                    technique=technique.name,
                    length=fetched * _PIECE_LENGTH,
                    seconds=seconds,
                    processor=processor,
                )


def _serve(task: Task, network: Network, directory: Path, stack: ExitStack) -> int:
    """A parent behind a network, until the stack ends; its port."""
    place = directory / f"parent-{NETWORKS.index(network)}"
    place.mkdir()
    command: list[str | Path] = [sys.executable, _program("paced_parent"), task.storage]
    if network.rate is not None:
        command += ["--rate", str(network.rate), "--segment", str(_ETHERNET)]
    return int(stack.enter_context(Server(command, place, SAYS)).said[1])


def _command(
    task: Task, network: Network, technique: Technique, port: int, output: Path, pieces: int, fetched: int
) -> list[str | Path]:
    """A child that receives by a technique."""
    command: list[str | Path] = [sys.executable, _program("receiver"), task.task_id]
    command += ["--port", str(port), "--output", output]
    command += ["--piece-length", str(_PIECE_LENGTH), "--pieces", str(pieces), "--fetched", str(fetched)]
    command += ["--connections", str(network.connections)]
    command += ["--read-size", str(technique.read_size), "--low-water", str(technique.low_water)]
    return [*command, "--splice"] if technique.splices else command


def _program(name: str) -> Path:
    """The file of a program beside this one."""
    return Path(__file__).parent / "programs" / f"{name}.py"


def draw(samples: Sequence[Sample]) -> str:
    """The table: for each network and technique the rate and the child's processor, the best and the median."""
    lines = [
        "| MB/s; s/GB of the child's processor: best, median | " + " | ".join(each.name for each in NETWORKS) + " |"
    ]
    lines.append("|---" * (1 + len(NETWORKS)) + "|")
    for technique in TECHNIQUES:
        cells = [technique.name]
        for network in NETWORKS:
            mine = [each for each in samples if (each.network, each.technique) == (network.name, technique.name)]
            rates = [each.length / each.seconds / 1e6 for each in mine]
            costs = [each.processor / each.length * 1e9 for each in mine]
            rate = f"{max(rates):.0f}, {statistics.median(rates):.0f}"
            cells.append(f"{rate}; {min(costs):.2f}, {statistics.median(costs):.2f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


MEASUREMENT = Measurement(name="receiving", sample=Sample, measure=_measure, draw=draw)


if __name__ == "__main__":
    sys.exit(MEASUREMENT.main())
