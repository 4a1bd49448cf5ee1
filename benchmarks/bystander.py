"""
How long a small piece takes while large ones flow: the children that fetch those, in a process of their own, and the
kept connection on which the small one is asked for again and again.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from benchmarks.material import Task
from benchmarks.programs.busy_children import FLOWING
from benchmarks.programs.paced_parent import SAYS
from benchmarks.servers import DidNotWork, Server
from dragonfly_vortex.wire import ContentFinished, PacketReader, PieceKind, PieceRequest

__all__ = ["Busy", "Bystander", "Fetched", "bystander", "paced_parent", "slowest"]

_TO_REPLY = 60.0
"""Seconds that a parent has for one reply."""

_PAUSE = 0.002
"""Seconds between two requests: a bystander is no load."""


def paced_parent(storage: Path, directory: Path, *options: str) -> Server:
    """
    A parent, serving inside the block.

    :param directory: where it runs; it is made.
    :param options: of :mod:`benchmarks.programs.paced_parent`.
    """
    directory.mkdir()
    command = [sys.executable, "-m", "benchmarks.programs.paced_parent", str(storage), *options]
    return Server(command, directory, SAYS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """
    What busy children have had.

    :param seconds: from the first request, or from the moment when all had their first bytes, to the end.
    :param received: bytes on each connection.
    """

    seconds: float
    received: list[int]


class Busy:
    """
    Children that fetch large pieces inside the block, in a process of their own.

    :param port: the parent's.
    :param pieces: how many the task has.
    :param connections: how many children.
    :param endless: they go on until the block ends; else until they have fetched everything once.
    """

    def __init__(self, port: int, task: Task, pieces: int, connections: int, *, endless: bool) -> None:
        self._endless = endless
        command = [sys.executable, "-m", "benchmarks.programs.busy_children", str(port), task.task_id]
        self._command = [*command, str(pieces), str(connections), *(["--endless"] if endless else [])]
        self._process: subprocess.Popen[str] | None = None
        self._began = 0.0

    def __enter__(self) -> Busy:
        process = self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            if _line(process.stdout) != FLOWING:
                raise DidNotWork("expected bytes on all connections, got none on some")
        except BaseException:
            self._stop(process)
            raise
        self._began = time.monotonic()
        return self

    def is_over(self) -> bool:
        """Whether everything has been fetched."""
        return self._process is None or self._process.poll() is not None

    def end(self) -> Fetched:
        """Wait until everything has been fetched; endless ones stop now. What they have had."""
        process = self._process
        if process is None:
            raise DidNotWork("the children have not been started")
        if self._endless and process.stdin is not None:
            process.stdin.close()
        fetched = Fetched(**json.loads(_line(process.stdout) or "{}"))
        if self._endless:
            return Fetched(seconds=time.monotonic() - self._began, received=fetched.received)
        return fetched

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._stop(self._process)

    @staticmethod
    def _stop(process: subprocess.Popen[str]) -> None:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


class Bystander:
    """
    A child on a kept connection that asks for small pieces, one at a time.

    :param port: the parent's.
    :param task: whose pieces are small.
    """

    def __init__(self, port: int, task: Task) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=_TO_REPLY)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._request = PieceRequest(packet_id=0, kind=PieceKind.STANDARD, task_id=task.task_id, number=0).to_bytes()

    def ask(self) -> float:
        """Fetch the first piece; seconds that it took."""
        began = time.monotonic()
        self._socket.sendall(self._request)
        reader = PacketReader()
        while not isinstance(event := reader.next_event(), ContentFinished):
            if event is None:
                data = self._socket.recv(1 << 18)
                if not data:
                    raise DidNotWork("expected a small piece, got the connection's end")
                reader.receive_data(data)
        return time.monotonic() - began

    def ask_while(self, condition: Callable[[int], bool]) -> list[float]:
        """
        Fetch again and again.

        :param condition: whether to go on, by how many times that has been done.
        :returns: seconds that each took.
        """
        seconds: list[float] = []
        while condition(len(seconds)):
            seconds.append(self.ask())
            time.sleep(_PAUSE)
        return seconds

    def close(self) -> None:
        """End the connection."""
        self._socket.close()


@contextmanager
def bystander(port: int, task: Task) -> Iterator[Bystander]:
    """A bystander inside the block, who has had the piece once."""
    child = Bystander(port, task)
    try:
        child.ask()
        yield child
    finally:
        child.close()


def slowest(seconds: Sequence[float], part: float) -> float:
    """
    What that part of all took at most.

    :param seconds: what each took.
    :param part: up to 1, which gives the longest.
    """
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def _line(stream: IO[str] | None) -> str:
    return stream.readline().strip() if stream is not None else ""
