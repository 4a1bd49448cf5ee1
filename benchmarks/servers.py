"""A program that serves, as a process: until it can be connected to, and until it has ended."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from random import randrange
from types import TracebackType
from typing import TypeVar

from benchmarks.processes import held_back

__all__ = ["DidNotWork", "Server", "free_port"]

_TO_START = 60.0
"""Seconds that it has to listen."""

_TO_STOP = 15.0
"""Seconds that it has to end; a parent of ours gives its children ten."""

_STEP = 0.01
"""Seconds between two looks at what it has written."""

_PORTS = range(20_000, 32_000)
"""Not those that the kernel gives to whoever connects (``net.ipv4.ip_local_port_range``): they may be gone soon."""

_ServerT = TypeVar("_ServerT", bound="Server")


class DidNotWork(Exception):
    """A program did not do what was to be measured."""


class Server:
    """
    A program that serves inside the block. It ends by SIGTERM, and by SIGKILL where that takes too long.

    :param command: the program and its arguments.
    :param directory: where it runs, and where what it writes is kept as ``parent.log``.
    :param says: a regular expression for what it writes when it can be connected to.
    """

    def __init__(self, command: Sequence[str | Path], directory: Path, says: str) -> None:
        self._command = command
        self._directory = directory
        self._says = says
        self._process: subprocess.Popen[bytes] | None = None
        self._said: re.Match[str] | None = None

    @property
    def pid(self) -> int:
        """
        Its process ID.

        :raises DidNotWork: it has not been started.
        """
        if self._process is None:
            raise DidNotWork("the parent has not been started")
        return self._process.pid

    @property
    def said(self) -> re.Match[str]:
        """
        What it wrote when it could be connected to.

        :raises DidNotWork: it has not been started.
        """
        if self._said is None:
            raise DidNotWork("the parent has not been started")
        return self._said

    def __enter__(self: _ServerT) -> _ServerT:
        log = self._directory / "parent.log"
        try:
            with log.open("wb") as output, held_back(signal.SIGTERM):
                self._process = subprocess.Popen(
                    self._command,
                    cwd=self._directory,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            self._said = self._wait(self._process, log)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    def _wait(self, process: subprocess.Popen[bytes], log: Path) -> re.Match[str]:
        """Wait until it says that it can be connected to."""
        deadline = time.monotonic() + _TO_START
        while True:
            has_time = process.poll() is None and time.monotonic() < deadline
            text = log.read_text(encoding="utf-8", errors="replace")
            if (said := re.search(self._says, text)) is not None:
                return said
            if not has_time:
                raise DidNotWork(f"expected {self._says!r} in what the parent says, got:\n{text}")
            time.sleep(_STEP)

    def _stop(self) -> None:
        """End the process."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_TO_STOP)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has now, for a program that cannot choose one and say which."""
    for _ in range(1000):
        with socket.socket() as sock:
            port = randrange(_PORTS.start, _PORTS.stop)
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise DidNotWork(f"expected a free port from {_PORTS.start} to {_PORTS.stop - 1}, found none")
