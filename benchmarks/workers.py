"""
Do several processes serve faster than one, and how should they share a port? ``python -m benchmarks.workers`` measures
it.

Workers can accept from one listening socket, whoever comes first or in turns, which is what a peer with
``storage.server.workers`` does; or each from a socket of its own on the same port, among which the kernel distributes
connections by a hash (SO_REUSEPORT). All are the package's own server here, and differ in nothing else. A plain reader
takes pieces over kept connections, and throws them away: in one thread, small ones with requests sent ahead, so that it
needs as little of the processor as may be.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import cast

from benchmarks.markdown import head, row
from benchmarks.material import Task, import_file, make_file
from benchmarks.measurement import Measurement
from benchmarks.processes import processor_seconds, run_to_end
from benchmarks.programs.plain import SPEECHES
from benchmarks.servers import DidNotWork
from dragonfly_vortex.peer.turns import Turns, shared_counts
from dragonfly_vortex.transport.sockets import BACKLOG

__all__ = ["MEASUREMENT", "WAYS", "Sample", "Workers", "draw", "measure", "read", "serve"]

WAYS = ("one socket, in turns", "one socket, who comes first", "SO_REUSEPORT")
"""How workers share a port."""

_MIB = 1 << 20
_KINDS = ((4 * _MIB, 1024 * _MIB), (4096, 32 * _MIB))  # bytes of a piece, bytes of the file
_QUICK_KINDS = ((_MIB, 8 * _MIB), (4096, _MIB))
_WORKERS = (1, 2, 4)
_CONNECTIONS = (4, 8, 32)
_ROUNDS, _QUICK_ROUNDS = 4, 1
_TO_READ = 120.0  # seconds that a reader has

_BUFFER = _MIB
_FIRST = 6  # bytes of a reply that tell how long its header is
_SMALL, _AHEAD = 65536, 16
"""Bytes of pieces that are asked for ahead, and how many at once: else the reader has as much to do as the parent."""
_READ, _SERVE = (f"from benchmarks.workers import {name}; {name}()" for name in ("read", "serve"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """
    One file, read once.

    :param way: one of :data:`WAYS`.
    :param workers: how many there were.
    :param connections: of the reader, each with a piece under way.
    :param piece_length: bytes.
    :param content_length: bytes of the file.
    :param seconds: from the first request to the last byte, on connections that were there before.
    :param processor_seconds: of all workers.
    :param accepted: how many connections each worker had.
    """

    way: str
    workers: int
    connections: int
    piece_length: int
    content_length: int
    seconds: float
    processor_seconds: float
    accepted: tuple[int, ...]


def measure(directory: Path, quick: bool, tell: Callable[[str], None]) -> Iterator[Sample]:
    """Read by all ways in shuffled turns, from workers that are there all the time."""
    kinds, rounds = (_QUICK_KINDS, _QUICK_ROUNDS) if quick else (_KINDS, _ROUNDS)
    tasks = {}
    for piece_length, content_length in kinds:
        tell(f"a file of {content_length // _MIB} MiB, in pieces of {piece_length // 1024} KiB")
        source = directory / f"file-{piece_length}"
        make_file(source, content_length)
        tasks[piece_length, content_length] = import_file(source, piece_length, directory / "storage")
    groups = [(way, workers) for workers in _WORKERS for way in WAYS if workers > 1 or way == WAYS[0]]
    with ExitStack() as stack:
        started = {
            (way, workers): stack.enter_context(Workers(way, workers, directory / "storage")) for way, workers in groups
        }
        turns = [
            (group, connections, kind) for group in groups for connections in _CONNECTIONS for kind in kinds
        ] * rounds
        random.Random(0).shuffle(turns)
        for turn, (group, connections, kind) in enumerate(turns):
            tell(f"{turn + 1} of {len(turns)}: {group[1]} workers, {group[0]}, {connections} connections")
            yield started[group].read(tasks[kind], connections, *kind)


def draw(samples: Sequence[Sample]) -> str:
    """The table: how connections were distributed, and for each length of pieces the rate and what it cost."""
    kinds = sorted({(each.piece_length, each.content_length) for each in samples}, reverse=True)
    names = ["workers", "on", "connections", "the busiest worker had, as a rule; at worst", "a worker had none in"]
    for piece_length, _ in kinds:
        name = f"{piece_length // 1024} KiB" if piece_length < _MIB else f"{piece_length // _MIB} MiB"
        names += [f"pieces of {name}: MB/s at best; as a rule", "parent's processor s/GB"]
    lines = [*head(*names)]
    for workers, way, connections in sorted({(each.workers, each.way, each.connections) for each in samples}):
        case = [each for each in samples if (each.workers, each.way, each.connections) == (workers, way, connections)]
        busiest = [max(each.accepted) for each in case]
        idle = sum(0 in each.accepted for each in case)
        cells = [str(workers), way if workers > 1 else "", str(connections)]
        cells += [f"{statistics.median_high(busiest)}; {max(busiest)}", f"{idle} of {len(case)}"]
        for kind in kinds:
            of_kind = [each for each in case if (each.piece_length, each.content_length) == kind]
            rates = [each.content_length / each.seconds / 10**6 for each in of_kind]
            cost = min(each.processor_seconds / each.content_length * 10**9 for each in of_kind)
            cells += [f"{max(rates):.0f}; {statistics.median(rates):.0f}", f"{cost:.2f}"]
        lines.append(row(*cells))
    return "\n".join(lines)


class Workers:
    """
    Workers that serve a storage inside the block.

    :param way: one of :data:`WAYS`.
    :param count: how many.
    :param storage: the storage's directory.
    """

    def __init__(self, way: str, count: int, storage: Path) -> None:
        self._way = way
        self._count = count
        self._storage = storage
        self._stack = ExitStack()
        self._processes: list[subprocess.Popen[str]] = []
        self._port = 0

    def __enter__(self) -> Workers:
        # Who starts them has a socket, too: the one that they share, or one that keeps their port and does not listen.
        own = self._stack.enter_context(socket.socket())
        if self._way == WAYS[2]:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        own.bind(("127.0.0.1", 0))
        self._port = own.getsockname()[1]
        if self._way != WAYS[2]:
            own.setblocking(False)
            own.listen(BACKLOG)
        counts = shared_counts(self._count)
        self._stack.callback(os.close, counts)
        with self._stack:
            for number in range(1, self._count + 1):
                self._start(number, own.fileno(), counts)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self, number: int, own: int, counts: int) -> None:
        """Start one, and wait until it serves."""
        process = subprocess.Popen(
            [sys.executable, "-c", _SERVE, self._storage, self._way, *map(str, (number, own, counts))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            pass_fds=[own, counts],
            text=True,
        )
        self._stack.enter_context(process)
        self._stack.callback(process.kill)
        if _said(process) != "serving":
            raise DidNotWork("expected a worker to serve, it ended")
        self._processes.append(process)

    def read(self, task: Task, connections: int, piece_length: int, content_length: int) -> Sample:
        """
        Read a file.

        :raises DidNotWork: it could not be read.
        """
        replies = self._storage.with_name(f"replies-{task.task_id}")
        if not replies.exists():
            lengths = _reply_lengths(self._port, task.task_id, piece_length, content_length // piece_length)
            replies.write_text(json.dumps(lengths), encoding="ascii")
        accepted, processor = self._accepted(), self._processor()
        command = [sys.executable, "-c", _READ, task.task_id]
        ahead = _AHEAD if piece_length <= _SMALL else 1
        command += map(str, (self._port, connections, ahead, piece_length, replies))
        ran = run_to_end(command, Path.cwd(), _TO_READ)
        if ran.status:
            raise DidNotWork(f"the reader exited with {ran.status}, expected 0: {ran.output}")
        return Sample(
            way=self._way,
            workers=self._count,
            connections=connections,
            piece_length=piece_length,
            content_length=content_length,
            seconds=float(ran.output),
            processor_seconds=self._processor() - processor,
            accepted=tuple(now - before for now, before in zip(self._accepted(), accepted, strict=True)),
        )

    def _processor(self) -> float:
        return sum(processor_seconds(process.pid) for process in self._processes)

    def _accepted(self) -> list[int]:
        """How many connections each worker has accepted."""
        counts = []
        for process in self._processes:
            process.send_signal(signal.SIGUSR1)
            counts.append(int(_said(process)))
        return counts


def _said(process: subprocess.Popen[str]) -> str:
    """The next line that a process writes."""
    return process.stdout.readline().strip() if process.stdout is not None else ""


def read() -> None:
    """
    Read all pieces of a task over several connections, with some requests at once on each, and write how many seconds
    it took. The arguments are the task's ID, the port, the number of connections, that of requests, the bytes of a
    piece, and a file with the bytes of each reply.
    """
    task_id = sys.argv[1]
    port, connections, ahead, piece_length = map(int, sys.argv[2:6])
    replies: list[int] = json.loads(Path(sys.argv[6]).read_text(encoding="ascii"))
    ask, buffer = SPEECHES["vortex"](task_id).ask, memoryview(bytearray(_BUFFER))
    requests = [ask(0, piece_length, number) for number in range(len(replies))]
    starts = iter(range(0, len(replies), ahead))
    sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(connections)]
    by_number = {sock.fileno(): sock for sock in sockets}
    left = dict.fromkeys(by_number, 0)  # bytes that were asked for
    epoll = select.epoll()
    began = time.monotonic()
    for sock, start in zip(sockets, starts, strict=False):
        epoll.register(sock, select.EPOLLIN)
        sock.sendall(b"".join(requests[start : start + ahead]))
        left[sock.fileno()] = sum(replies[start : start + ahead])
    while any(left.values()):
        for descriptor, _ in epoll.poll():
            sock = by_number[descriptor]
            received = sock.recv_into(buffer)
            if not received:
                raise EOFError("the parent has ended the connection")
            left[descriptor] -= received
            if not left[descriptor]:
                for start in islice(starts, 1):
                    sock.sendall(b"".join(requests[start : start + ahead]))
                    left[descriptor] = sum(replies[start : start + ahead])
    print(time.monotonic() - began)


def _reply_lengths(port: int, task_id: str, piece_length: int, count: int) -> list[int]:
    """Read all pieces once, one after the other, and give the bytes of each reply."""
    speech, buffer, lengths = SPEECHES["vortex"](task_id), memoryview(bytearray(_BUFFER)), []
    with socket.create_connection(("127.0.0.1", port)) as sock:
        for number in range(count):
            sock.sendall(speech.ask(0, piece_length, number))
            header = speech.header_length(sock.recv(_FIRST, socket.MSG_PEEK | socket.MSG_WAITALL))
            if header is None:
                raise DidNotWork("expected a reply, the parent has ended the connection")
            left = header + piece_length
            lengths.append(left)
            while left:
                left -= sock.recv_into(buffer[: min(left, _BUFFER)])
    return lengths


def serve() -> None:
    """
    Run a worker. Its arguments are a storage's directory, one of :data:`WAYS`, its number, and the descriptors of a
    socket that it shares, or whose port it shares, and of the memory of who has how many connections. It says how many
    it has accepted whenever SIGUSR1 comes.
    """
    from twisted.internet import reactor
    from twisted.internet.interfaces import IReactorFDSet

    from dragonfly_vortex.config import Config, MetricsConfig, StorageConfig, StorageServerConfig
    from dragonfly_vortex.peer.listener import SharedSocket, VortexPort
    from dragonfly_vortex.service import IPeerReactor, VortexService
    from dragonfly_vortex.transport.sockets import SocketOptions, apply_listening_options

    storage, way = sys.argv[1:3]
    number, own, counts = map(int, sys.argv[3:])
    listening = socket.socket(fileno=own)
    if way == WAYS[2]:
        port = listening.getsockname()
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.bind(port)
        listening.setblocking(False)
        listening.listen(BACKLOG)
    apply_listening_options(listening, SocketOptions())
    config = Config(
        storage=StorageConfig(dir=Path(storage), server=StorageServerConfig(protocol="tcp")),
        metrics=MetricsConfig(enable=False),
    )
    peer_reactor = cast(IPeerReactor, reactor)
    shared = SharedSocket(socket=listening, turns=Turns(counts, number) if way == WAYS[0] else None)
    VortexService(config, peer_reactor, shared=shared).startService()
    (door,) = (reader for reader in IReactorFDSet(reactor).getReaders() if isinstance(reader, VortexPort))
    signal.signal(signal.SIGUSR1, lambda *_: print(door.sessionno, flush=True))
    print("serving", flush=True)
    peer_reactor.run()


MEASUREMENT = Measurement(name="workers", sample=Sample, measure=measure, draw=draw)

if __name__ == "__main__":
    sys.exit(MEASUREMENT.main())
