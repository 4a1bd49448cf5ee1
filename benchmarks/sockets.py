"""
Which socket options, and how many connections to a parent? ``python -m benchmarks.sockets`` measures it: on the
loopback, and over a way with a round trip of 10 and of 50 ms that loses packets.

A child fetches for a short time over connections that are new, so that their beginning counts, as it does for a file.
"""

from __future__ import annotations

import json
import random
import re
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.installed import ROOT, find
from benchmarks.markdown import head, row
from benchmarks.material import Task, import_zeros
from benchmarks.measurement import Measurement
from benchmarks.network import Network, Way, why_none
from benchmarks.peers import TRANSPORTS, daemon
from benchmarks.processes import processor_seconds, run_to_end
from benchmarks.servers import DidNotWork, Server, free_port

__all__ = ["MEASUREMENT", "Sample"]

_KIB, _MIB = 1 << 10, 1 << 20
_LARGE, _SMALL = 4 * _MIB, 64 * _KIB  # bytes of a piece
_PIECES = 64  # of either task

_OPTIONS: Mapping[str, str] = {
    "defaults": "",
    "reno": "congestion_control: reno",
    "cubic": "congestion_control: cubic",
    "bbr": "congestion_control: bbr",
    "buffers of 256 KiB": "buffer_size: 256KiB",
    "buffers of 1 MiB": "buffer_size: 1MiB",
    "buffers of 4 MiB": "buffer_size: 4MiB",
    "cork": "cork: true",
    "no nodelay": "nodelay: false",
}
"""What both sides set, by what the table calls it."""

_CASES = (
    *(("defaults", connections, _LARGE) for connections in (1, 2, 4, 8, 32)),
    *((name, connections, _LARGE) for name in list(_OPTIONS)[1:-2] for connections in (1, 8)),
    *((name, 8, length) for name in ("cork", "no nodelay") for length in (_LARGE, _SMALL)),
    ("defaults", 8, _SMALL),
)
"""Options, connections, bytes of a piece."""

_QUICK_CASES = (("defaults", 2, _LARGE), ("cork", 2, _SMALL))

_IPERF = "iperf3"
_LOSS = 0.001
_RATE = 50_000_000  # bytes per second, 400 Mbit/s: what the relay can do beside two peers on two cores
_LOOPBACK = "loopback"
_NO_LIMIT = "the way without a limit"

_PLACES: Mapping[str, tuple[Way | None, float]] = {
    _LOOPBACK: (None, 0.7),
    "10 ms": (Way(round_trip=0.01, loss=_LOSS, rate=_RATE), 1.0),
    "50 ms": (Way(round_trip=0.05, loss=_LOSS, rate=_RATE), 2.0),
}
"""What is between parent and child, and for how many seconds the child fetches."""

_ROUNDS = 2
_TO_END = 60.0  # seconds that a child has, with its start


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """
    What has come in some time.

    :param system: the system's own congestion control.
    :param place: over which way.
    :param made_of: what made the way.
    :param options: which were set, or ``iperf3`` for that program in place of ours.
    :param connections: how many there were.
    :param piece_length: bytes of a piece.
    :param rate: bytes per second.
    :param parent_processor: seconds of processor time that the parent needed for 10⁹ bytes; 0 for iperf3.
    """

    system: str
    place: str
    made_of: str
    options: str
    connections: int
    piece_length: int
    rate: float
    parent_processor: float


class _Host:
    """
    Where parent and child are, and how one is reached from the other.

    :param place: what the table calls the way between them.
    :param network: what they are joined by; None: they are on this machine.
    """

    def __init__(self, place: str, network: Network | None) -> None:
        self.place = place
        self.address = network.address if network is not None else "127.0.0.1"
        self.child_address = network.child_address if network is not None else "127.0.0.1"
        self.made_of = network.made_of if network is not None else "kernel"
        self.at_parent = network.at_parent if network is not None else list[str | Path]
        self.at_child = network.at_child if network is not None else list[str | Path]


def measure(directory: Path, quick: bool, tell: Callable[[str], None]) -> Iterator[Sample]:
    """Measure on one way after the other, on each in shuffled turns."""
    tasks = {
        length: import_zeros(_PIECES * length, length, directory / f"storage-{length}") for length in (_LARGE, _SMALL)
    }
    missing = why_none()
    if missing:
        tell(f"the loopback alone: {missing}")
    for place, (way, seconds) in _PLACES.items():
        if way is not None and missing:
            continue
        with ExitStack() as stack:
            host = _Host(place, stack.enter_context(Network(way)) if way is not None else None)
            yield from _in_turns(host, tasks, seconds, directory, quick, tell)
    if not missing and find(_IPERF) is not None:
        with Network(Way(round_trip=0.0, loss=0.0, rate=None)) as network:
            yield _iperf(_Host(_NO_LIMIT, network), 8, 2.0, directory)


def draw(samples: Sequence[Sample]) -> str:
    """The table: the most and the median of each case on each way, and the least processor time on the loopback."""
    places = [place for place in _PLACES if any(each.place == place for each in samples)]
    rates_of = (f"{place}, MB/s" for place in places)
    lines = [*head("set at both sides", "connections", "pieces of", *rates_of, "parent, s/GB")]
    for options, connections, length in dict.fromkeys(
        sorted(((each.options, each.connections, each.piece_length) for each in samples), key=_order)
    ):
        cells = [options, str(connections), f"{length // _KIB} KiB" if length else "-"]
        same = [
            each
            for each in samples
            if (each.options, each.connections, each.piece_length) == (options, connections, length)
        ]
        for place in places:
            rates = [each.rate for each in same if each.place == place]
            cells.append(f"{_megabytes(max(rates))}, {_megabytes(statistics.median(rates))}" if rates else "-")
        if set(cells[3:]) != {"-"}:
            local = [each.parent_processor for each in same if each.place == _LOOPBACK and options != _IPERF]
            cells.append(f"{min(local):.2f}" if local else "-")
            lines.append(row(*cells))
    lines += ["", f"The system's own congestion control is {samples[0].system}."]
    for each in samples:
        if each.place == _NO_LIMIT:
            lines += [
                "",
                f"iperf3 over the way that is made of the {each.made_of}, without delay, loss and limit: "
                f"{_megabytes(each.rate)} MB/s.",
            ]
    return "\n".join(lines)


def _order(case: tuple[str, int, int]) -> tuple[int, int, int]:
    """Ours in the order of the options, the small pieces and iperf3 at the end."""
    options, connections, length = case
    return (-length, [*_OPTIONS, _IPERF].index(options), connections)


def _megabytes(rate: float) -> str:
    return f"{rate / 10**6:.3g}" if rate < 10**9 else f"{rate / 10**6:.0f}"


def _in_turns(
    host: _Host,
    tasks: Mapping[int, Task],
    seconds: float,
    directory: Path,
    quick: bool,
    tell: Callable[[str], None],
) -> Iterator[Sample]:
    """Take all cases on one way."""
    cases: list[tuple[str, int, int]] = list(_QUICK_CASES if quick else _CASES)
    if find(_IPERF) is not None:
        cases += [(_IPERF, 1, 0), (_IPERF, 8, 0)]
    turns = cases * (1 if quick else _ROUNDS)
    random.Random(host.place).shuffle(turns)
    with ExitStack() as stack:
        parents = {
            (name, length): stack.enter_context(_parent(host, tasks[length], _OPTIONS[name], directory))
            for name, length in dict.fromkeys((name, length) for name, _, length in cases if length)
        }
        for number, (name, connections, length) in enumerate(turns):
            tell(f"{host.place}, {number + 1} of {len(turns)}: {name}, {connections} connections")
            if name == _IPERF:
                yield _iperf(host, connections, seconds, directory)
            else:
                yield _fetch(
                    host, parents[name, length], tasks[length].task_id, name, length, connections, seconds, directory
                )


def _parent(host: _Host, task: Task, options: str, directory: Path) -> Server:
    """A parent with these options."""
    place = directory / f"parent-{random.getrandbits(64):x}"
    place.mkdir()
    config = _write_config(place, f"dir: {task.storage}, server: {{protocol: tcp, tcp: {{port: 0, {options}}}}}")
    return Server(host.at_parent(daemon(config)), place, TRANSPORTS["tcp"].door)


def _fetch(
    host: _Host,
    parent: Server,
    task_id: str,
    name: str,
    length: int,
    connections: int,
    seconds: float,
    directory: Path,
) -> Sample:
    """Have a child fetch for so long."""
    config = _write_config(directory, f"server: {{tcp: {{{_OPTIONS[name]}}}}}")
    before = processor_seconds(parent.pid)
    ran = run_to_end(
        host.at_child(
            [
                *(sys.executable, "-m", "benchmarks.programs.timed_child", f"{host.address}:{parent.said[1]}"),
                *(task_id, "--config", config, "--pieces", str(_PIECES)),
                *("--connections", str(connections), "--seconds", str(seconds)),
            ]
        ),
        ROOT,
        _TO_END,
    )
    seen = re.fullmatch(r"(\d+) ([0-9.]+)\n", ran.output)
    if ran.status or seen is None:
        raise DidNotWork(f"a child exited with {ran.status}, expected 0, bytes and seconds: {ran.output}")
    return Sample(
        system=_system(),
        place=host.place,
        made_of=host.made_of,
        options=name,
        connections=connections,
        piece_length=length,
        rate=int(seen[1]) / float(seen[2]),
        parent_processor=(processor_seconds(parent.pid) - before) / max(1, int(seen[1])) * 10**9,
    )


def _iperf(host: _Host, connections: int, seconds: float, directory: Path) -> Sample:
    """Have iperf3 send for so long, over that many connections."""
    port = str(free_port())
    receiver = host.at_child([_IPERF, "--server", "--one-off", "--forceflush", "--port", port])
    with Server(receiver, directory, "listening on"):
        ran = run_to_end(
            host.at_parent(
                [
                    *(_IPERF, "--client", host.child_address, "--port", port, "--json"),
                    *("--parallel", str(connections), "--time", str(max(1, round(seconds)))),
                ]
            ),
            directory,
            _TO_END,
        )
    if ran.status:
        raise DidNotWork(f"iperf3 exited with {ran.status}, expected 0: {ran.output}")
    return Sample(
        system=_system(),
        place=host.place,
        made_of=host.made_of,
        options=_IPERF,
        connections=connections,
        piece_length=0,
        rate=float(json.loads(ran.output)["end"]["sum_received"]["bits_per_second"]) / 8,
        parent_processor=0.0,
    )


def _system() -> str:
    """The system's own congestion control."""
    return Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text(encoding="ascii").strip()


def _write_config(directory: Path, storage: str) -> Path:
    path = directory / "config.yaml"
    path.write_text(f"storage: {{{storage}}}\nmetrics: {{enable: false}}\n", encoding="utf-8")
    return path


MEASUREMENT = Measurement(name="sockets", sample=Sample, measure=measure, draw=draw)

if __name__ == "__main__":
    sys.exit(MEASUREMENT.main())
