"""A parent and a child as processes: the programs that are installed beside this interpreter."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from benchmarks.processes import Ran, run_to_end

__all__ = ["PROGRAMS", "TRANSPORTS", "DidNotWork", "Parent", "Transport", "fetch"]

PROGRAMS = Path(sys.executable).parent

_TO_START = 30.0
"""Seconds that a parent has to listen."""

_TO_STOP = 15.0
"""Seconds that a parent has to end; it gives its children ten."""

_TO_FETCH = 120.0
"""Seconds that a child has."""

_STEP = 0.01
"""Seconds between two looks into a parent's log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transport:
    """
    What carries the pieces.

    :param name: as ``--protocol``, ``storage.server.protocol`` and a parent's scheme have it. The parent opens this
        door alone, so that neither process has the other transport in its memory.
    :param title: as people call it.
    :param door: what a parent logs when the door is open; the pattern's group is the port.
    """

    name: str
    title: str
    door: str


TRANSPORTS = {
    each.name: each
    for each in (
        Transport(name="tcp", title="TCP", door=r"serving Vortex on .*port=(\d+)\)"),
        Transport(name="grpc", title="gRPC", door=r"serving gRPC on .*port=(\d+)\)"),
    )
}
"""What there is to compare, by name."""


class DidNotWork(Exception):
    """A program did not do what was to be measured."""


class Parent(AbstractContextManager["Parent"]):
    """
    ``twistd dfvortex``, serving inside the block. It ends by SIGTERM, and by SIGKILL where that takes too long.

    :param storage: the directory of its storage.
    :param directory: where its configuration and its log are written.
    :param transport: the one door that it opens, on a free port of 127.0.0.1.
    """

    def __init__(self, storage: Path, directory: Path, transport: Transport) -> None:
        self._storage = storage
        self._directory = directory
        self._transport = transport
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    @property
    def pid(self) -> int:
        """Its process ID."""
        if self._process is None:
            raise DidNotWork("the parent has not been started")
        return self._process.pid

    @property
    def address(self) -> str:
        """Where it listens, for ``--parent``."""
        return f"{self._transport.name}://127.0.0.1:{self._port}"

    def __enter__(self) -> Parent:
        config = self._directory / "parent.yaml"
        config.write_text(
            f"storage:\n  dir: {self._storage}\n"
            f"  server: {{protocol: {self._transport.name}, ip: 127.0.0.1, tcp: {{port: 0}}}}\n"
            "upload: {server: {ip: 127.0.0.1, port: 0}}\n",
            encoding="utf-8",
        )
        log = self._directory / "parent.log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [PROGRAMS / "twistd", "-n", "--pidfile=", "dfvortex", "--config", config],
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            self._port = self._wait_for_port(self._process, log)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    def _wait_for_port(self, process: subprocess.Popen[bytes], log: Path) -> int:
        """Wait until the door is open."""
        deadline = time.monotonic() + _TO_START
        while time.monotonic() < deadline:
            text = log.read_text(encoding="utf-8", errors="replace")
            if (match := re.search(self._transport.door, text)) is not None:
                return int(match[1])
            if process.poll() is not None:
                break
            time.sleep(_STEP)
        raise DidNotWork(f"expected {self._transport.door!r} in the parent's log, got:\n{text}")

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


def fetch(parent: Parent, transport: Transport, task_id: str, output: Path, concurrency: int) -> Ran:
    """
    ``dfvortex download``.

    :param parent: where from.
    :param output: where to.
    :param concurrency: pieces at once.
    :raises DidNotWork: it failed.
    """
    ran = run_to_end(
        [
            *(PROGRAMS / "dfvortex", "download", task_id, "--parent", parent.address, "--protocol", transport.name),
            *("--concurrency", str(concurrency), "--output", output),
        ],
        output.parent,
        _TO_FETCH,
    )
    if ran.status:
        raise DidNotWork(f"download over {transport.title} exited with {ran.status}, expected 0: {ran.output}")
    return ran
