"""
How long do N peers need that fetch the same file at the same moment? Each has an upload limit, so that the network and
not the processor is short. A peer is what a user runs: ``twistd dfvortex``, and ``dfvortex download --store`` on the
same storage, which has the list of all other peers. libtorrent takes part under the same limits, and some peers are
killed, or lie.
"""

from __future__ import annotations

import filecmp
import os
import runpy
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from random import Random
from signal import SIGKILL

from benchmarks.benchmark import Benchmark, Run, Sample
from benchmarks.machine import processor_of_all
from benchmarks.material import Task, import_file, make_file
from benchmarks.peers import Peer, uploaded
from benchmarks.processes import Command, Ran, Server, free_port, run_together
from benchmarks.programs.torrent import make_torrent
from benchmarks.swarm_table import FORGED, KILLED, OURS, SIMULATED, TORRENT, Case, draw, draw_chart, simulated
from dragonfly_vortex.errors import NotStored
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.content import Content
from dragonfly_vortex.storage.database import Access
from dragonfly_vortex.wire import PieceKind

__all__ = ["BENCHMARK"]

_MB, _MIB = 10**6, 1 << 20
_LENGTH, _QUICK_LENGTH = 80 * _MB, 2 * _MB
_LIMIT = 10 * _MB
"""Bytes per second that each peer sends at most."""

_PIECE_LENGTHS, _QUICK_PIECE_LENGTHS = (_MIB, 4 * _MIB), (_MIB,)
_COUNTS, _QUICK_COUNTS = (1, 4, 8, 16), (1, 2)
_HARMED = 8
"""Peers of which one in four is killed, or lies."""

_ROUNDS = 3

_SLOWEST, _PATIENCE = 3.0, 60.0
"""
A turn is given up after so many times the time that the first peer alone needs to send a copy to every other, but not
before so many seconds.
"""


def measure(run: Run) -> Iterator[Sample]:
    """Each swarm in a directory of its own; see :class:`~benchmarks.swarm_table.Case` for a sample."""
    quick = run.options.quick
    source = run.directory / "file"
    make_file(source, _QUICK_LENGTH if quick else _LENGTH)
    programs = [OURS, SIMULATED, *([TORRENT] if run.has(TORRENT, "a swarm of libtorrent", is_package=True) else [])]
    counts = _QUICK_COUNTS if quick else _COUNTS
    harmed = counts[-1] if quick else _HARMED
    cases = []
    for piece_length in _QUICK_PIECE_LENGTHS if quick else _PIECE_LENGTHS:
        cases += [Case(each, count, piece_length) for count in counts for each in programs]
        cases.append(Case(OURS, harmed, piece_length, KILLED))
    harms = [FORGED] if quick else [*_faults(), FORGED]
    lies = [Case(OURS, harmed - max(1, harmed // 4), _MIB, each) for each in harms]
    for turn, (number, case) in enumerate(run.turns([*cases, *lies], _ROUNDS)):
        if number and case in lies:  # nothing but whether wrong bytes are kept is asked of these
            continue
        directory = run.directory / f"turn-{turn}"
        directory.mkdir()
        if case.program == SIMULATED:
            yield simulated(case, source.stat().st_size, _LIMIT, seed=number)
        elif case.program == TORRENT:
            yield _take_torrent_turn(case, source, directory, run)
        else:
            yield _take_turn(case, source, directory, run)
        shutil.rmtree(directory)  # the copies of all turns would fill a disk


def _faults() -> list[str]:
    """What a parent of the package's kit can do wrong."""
    from dragonfly_vortex.testing.contract_parent import Fault  # loads Twisted

    return [fault.name for fault in Fault if fault is not Fault.NONE]


class _Clock:
    """The machine's load before a turn, and the part of the cores' time that was used from the cue on."""

    def __init__(self) -> None:
        self.load = os.getloadavg()[0]

    def start(self) -> None:
        """Begin."""
        self._began, self._used = time.monotonic(), processor_of_all()

    def stop(self) -> dict[str, float]:
        """The figures of a sample."""
        cores = len(os.sched_getaffinity(0))
        busy = (processor_of_all() - self._used) / ((time.monotonic() - self._began) * cores)
        return {"load": self.load, "busy": busy}


def _take_turn(case: Case, source: Path, directory: Path, run: Run) -> Sample:
    """A swarm of ours."""
    task = import_file(source, case.piece_length, directory / "first-storage")
    copy = source.stat().st_size / _LIMIT
    names = [f"peer-{number}" for number in range(case.peers)]
    liars = [f"liar-{number}" for number in range(max(1, case.peers // 3) if case.harm not in ("", KILLED) else 0)]
    chance = Random(directory.name)
    killed = chance.sample(names, max(1, case.peers // 4)) if case.harm == KILLED else []
    with ExitStack() as stack:
        peers = {
            name: Peer(directory / f"{name}-storage", directory / name, "all", upload_limit=_LIMIT)
            for name in ("first", *names)
        }
        with ThreadPoolExecutor() as threads:
            list(threads.map(stack.enter_context, peers.values()))
        addresses = {name: peer.address for name, peer in peers.items()}
        addresses |= {name: _start_liar(case, task, directory / name, stack) for name in liars}
        clock, gone = _Clock(), set[str]()

        def kill(name: str) -> None:
            os.kill(peers[name].pid, SIGKILL)
            gone.add(name)

        done = run_together(
            {name: _download(task.task_id, name, peers[name], addresses) for name in names},
            directory,
            max(_PATIENCE, _SLOWEST * copy * len(addresses)),
            {name: chance.uniform(0.0, copy) for name in killed},
            on_cue=clock.start,
            on_kill=kill,
        )
        figures = clock.stop()
        lived = {name: each for name, each in done.items() if name not in gone}
        sent = {name: uploaded(peers[name].metrics_port) for name in ("first", *lived)}
        return {
            **case.sample(source.stat().st_size, _LIMIT),
            "seconds": max((each.seconds for each in lived.values() if not each.status), default=0.0),
            "unfinished": _count_unfinished(run, lived),
            "first_sent": sent["first"],
            "sent": sum(sent.values()),
            "wrong": sum(_wrong_bytes(directory / f"{name}-storage", task) for name in names),
            **figures,
        }


def _download(task_id: str, name: str, peer: Peer, addresses: Mapping[str, str]) -> list[str | Path]:
    """The command of a peer: a download into its storage from all others."""
    parents = [word for other, address in addresses.items() if other != name for word in ("--parent", address)]
    program = [sys.executable, "-m", "benchmarks.programs.download", task_id, "--store", "--config"]
    return [*program, peer.config, *parents]


def _start_liar(case: Case, task: Task, directory: Path, stack: ExitStack) -> str:
    """Start a parent that lies, until the stack ends; its address."""
    program: list[str | Path] = [sys.executable, "-m", "benchmarks.programs.liar", case.harm]
    command = [*program, task.source, str(case.piece_length), task.task_id]
    liar = stack.enter_context(Server(command, directory, r"serving on (\d+)"))
    return f"tcp://127.0.0.1:{liar.said[1]}"


def _count_unfinished(run: Run, lived: Mapping[str, Ran]) -> int:
    """How many peers did not get the file; their output is logged."""
    failed = {name: each for name, each in lived.items() if each.status}
    for name, each in failed.items():
        run.tell(f"{name} exited with {each.status}: {each.output}")
    return len(failed)


def _wrong_bytes(storage: Path, task: Task) -> int:
    """Bytes of the pieces which a storage offers that are not the file's."""
    wrong = 0
    with Catalog(storage, Access.READ) as catalog, task.source.open("rb") as source:
        try:
            pieces = catalog.get_pieces(PieceKind.STANDARD, task.task_id)
        except NotStored:
            return 0
        if not pieces:
            return 0
        with open(Content(storage).open(PieceKind.STANDARD, task.task_id), "rb") as content:
            for piece in pieces:
                offset, size = piece.metadata.offset, piece.metadata.length
                source.seek(offset)
                if not piece.damage and os.pread(content.fileno(), size, offset) != source.read(size):
                    wrong += size
    return wrong


def _take_torrent_turn(case: Case, source: Path, directory: Path, run: Run) -> Sample:
    """A swarm of libtorrent."""
    torrent = directory / "torrent"
    make_torrent(source, case.piece_length, torrent)
    ports = {name: free_port() for name in ("first", *(f"peer-{number}" for number in range(case.peers)))}
    commands: dict[str, Command] = {}
    for name, port in ports.items():
        place = source.parent if name == "first" else directory / name
        place.mkdir(exist_ok=True)
        peers = [word for other, at in ports.items() if other != name for word in ("--peer", str(at))]
        program = [sys.executable, "-m", "benchmarks.programs.torrent", "swarm"]
        commands[name] = [
            *program,
            torrent,
            place / source.name,
            "--port",
            str(port),
            "--upload-limit",
            str(_LIMIT),
            *peers,
        ]
    clock = _Clock()
    longest = max(_PATIENCE, _SLOWEST * source.stat().st_size / _LIMIT * len(ports))
    done = run_together(commands, directory, longest, on_cue=clock.start)
    figures = clock.stop()
    unfinished = _count_unfinished(run, done)
    sent = {name: int(each.output.splitlines()[-1]) for name, each in done.items()}
    return {
        **case.sample(source.stat().st_size, _LIMIT),
        "seconds": max(each.seconds for each in done.values()),
        "unfinished": unfinished,
        "first_sent": sent["first"],
        "sent": sum(sent.values()),
        "wrong": sum(
            not filecmp.cmp(source, directory / name / source.name, shallow=False) for name in done if name != "first"
        ),
        **figures,
    }


BENCHMARK = Benchmark(
    name="swarm",
    question="how long do N peers need that start together, each with an upload limit?",
    measure=measure,
    draw=draw,
    page="performance.md",
    file="swarm.json",
    chart=draw_chart,
)


if __name__ == "__main__":
    sys.argv.insert(1, BENCHMARK.name)
    runpy.run_module("benchmarks", run_name="__main__")
