"""
The project's programs as processes: ``dfvortex``, and ``twistd dfvortex`` with what it logs.

They are the ones installed beside this interpreter. Nothing here sleeps: a daemon is waited for by its log.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.storage import importer
from dragonfly_vortex.wire import ContentFinished, ContentReceived, Event, PacketReader, PieceKind, PieceRequest
from test.forks import PROGRAMS, Fork, can_fork
from test.template import HEEDED

__all__ = [
    "PROGRAMS",
    "TWISTD",
    "Child",
    "Daemon",
    "dfvortex",
    "heed_signals",
    "import_file",
    "peak_memory",
    "run",
    "start",
    "wait_until_open",
    "write_config",
]

TWISTD = (PROGRAMS / "twistd", "-n", "--pidfile=", "dfvortex", "--config", "tap.yaml")

_PATIENCE = 120.0  # seconds that a test waits for a process before it fails


def dfvortex(
    *arguments: str | Path, directory: Path, timeout: float = 120.0, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """
    Run the command to its end.

    :param directory: the directory to run it in.
    :param timeout: seconds after which the test fails.
    :param environment: what to add to this process's.
    """
    return run(
        [PROGRAMS / "dfvortex", *arguments],
        cwd=directory,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def start(command: Sequence[str | Path], env: Mapping[str, str] | None = None, **options: Any) -> subprocess.Popen[Any]:
    """
    Start a process. ``dfvortex`` and ``twistd`` are not loaded anew, see :mod:`test.template`.

    :param options: as :class:`subprocess.Popen` has them.
    """
    kind = Fork if can_fork(command, env) else subprocess.Popen
    return kind(command, env=env, **options)


def run(
    command: Sequence[str | Path], *, capture_output: bool = False, timeout: float | None = None, **options: Any
) -> subprocess.CompletedProcess[Any]:
    """
    Run a process as :func:`start` does, to its end.

    :param capture_output: whether to have what it writes in the result.
    :param timeout: seconds after which it is killed.
    :raises subprocess.TimeoutExpired: it was.
    """
    if capture_output:
        options.update(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with start(command, **options) as process:
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def import_file(
    path: Path, *, directory: Path, kind: PieceKind = PieceKind.STANDARD, piece_length: int | None = None
) -> str:
    """
    Import a file, in this process, into the storage of the ``tap.yaml`` that :func:`write_config` writes.

    :param directory: where that is.
    :param piece_length: in bytes; None for Dragonfly's rule.
    :returns: the task ID.
    """
    return importer.import_file(path, directory / "data", kind, piece_length).task_id


def heed_signals(case: SynchronousTestCase) -> None:
    """
    Have the programs that a test starts end by SIGINT, SIGQUIT and SIGHUP, until the test ends.

    A shell starts programs in the background with the first two ignored, ``nohup`` with SIGHUP, and each program that
    they start inherits that.
    """
    for number, handler in HEEDED:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)
            case.addCleanup(signal.signal, number, signal.SIG_IGN)


def write_config(
    directory: Path,
    *,
    port: int = 0,
    grpc_port: int = 0,
    metrics_port: int = 0,
    protocol: str = "all",
    server: str = "",
    upload: str = "",
    more: str = "",
) -> None:
    """
    Write a ``tap.yaml`` that listens on 127.0.0.1.

    :param directory: where; it is made.
    :param port: of the Vortex door, 0 for a free one.
    :param grpc_port: of the gRPC door, 0 for a free one.
    :param metrics_port: of the page of metrics, 0 for a free one.
    :param protocol: which doors there are.
    :param server: more of ``storage.server.tcp``, in YAML's flow style.
    :param upload: more of ``upload``, in YAML's flow style.
    :param more: more sections, in YAML.
    """
    directory.mkdir(parents=True, exist_ok=True)
    tcp = f"{{port: {port}, {server}}}"
    text = (
        f"storage: {{dir: data, server: {{ip: 127.0.0.1, protocol: {protocol}, tcp: {tcp}}}}}\n"
        f"upload: {{server: {{ip: 127.0.0.1, port: {grpc_port}}}, {upload}}}\n"
        f"metrics: {{server: {{ip: 127.0.0.1, port: {metrics_port}}}}}\n{more}"
    )
    if "health:" not in more:
        text += "health: {enable: false}\n"
    directory.joinpath("tap.yaml").write_text(text, encoding="utf-8")


def peak_memory(pid: int) -> int:
    """The most bytes that a running process has had in memory."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    (kilobytes,) = re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return int(kilobytes) * 1024


def wait_until_open(pid: int, path: Path, *, below: bool = False) -> None:
    """
    Wait until a process has a file open.

    :param below: wait for any file below that directory.
    """
    while True:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            try:
                there = Path(os.readlink(descriptor))
            except FileNotFoundError:
                continue
            if there == path or (below and path in there.parents):
                return


class Daemon:
    """
    ``twistd -n dfvortex``. As a context manager it serves inside the block, and is killed at its end if it still runs.

    :param directory: the directory to run it in.
    :param command: what is to run, where it is not this environment's ``twistd`` with the directory's ``tap.yaml``.
    :param environment: what to add to this process's.
    :param serving: which door is waited for, ``Vortex`` or ``gRPC``.
    """

    def __init__(
        self,
        directory: Path,
        *,
        command: Sequence[str | Path] = TWISTD,
        environment: Mapping[str, str] | None = None,
        serving: str = "Vortex",
    ) -> None:
        self.directory = directory
        self._serving = serving
        self.log = ""
        """What it has written."""
        self.port = 0
        """Where it listens."""
        self._changed = threading.Condition()
        self._has_ended = False
        self._process = start(
            command,
            cwd=directory,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its process ID."""
        return self._process.pid

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return "127.0.0.1", self.port

    @property
    def parent(self) -> str:
        """Where it listens, for ``--parent``."""
        return f"tcp://127.0.0.1:{self.port}"

    @property
    def grpc_port(self) -> int:
        """Where its gRPC door is, as soon as that is open."""
        return int(self.wait_for(r"serving gRPC on .*port=(\d+)\)")[1])

    @property
    def grpc_parent(self) -> str:
        """Where its gRPC door is, for ``--parent``."""
        return f"grpc://127.0.0.1:{self.grpc_port}"

    def wait_for(self, pattern: str, timeout: float = _PATIENCE) -> re.Match[str]:
        """
        Wait until its log has a text.

        :param pattern: a regular expression.
        :raises RuntimeError: it does not come.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while (match := re.search(pattern, self.log)) is None:
                if self._has_ended or not self._changed.wait(deadline - time.monotonic()):
                    raise RuntimeError(f"expected {pattern!r} in the daemon's log, got:\n{self.log}")
        return match

    def wait_until_serving(self, timeout: float = _PATIENCE) -> Daemon:
        """Wait until it listens."""
        self.port = int(self.wait_for(rf"serving {self._serving} on .*port=(\d+)\)", timeout)[1])
        return self

    def wait(self, timeout: float = _PATIENCE) -> int:
        """Wait until it has ended, and give its exit status."""
        status = self._process.wait(timeout)
        self._reader.join(timeout)
        return status

    def terminate(self) -> None:
        """Send it SIGTERM."""
        self._process.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """Send it SIGTERM, wait until it has ended, and give its exit status."""
        self.terminate()
        return self.wait()

    def kill(self) -> None:
        """Kill it as ``kill -9`` does, and with it what it may have started."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self.wait()

    def kill_if_running(self) -> None:
        """Kill it, unless it has ended."""
        if self._process.poll() is None:
            self.kill()

    def _read(self) -> None:
        """In a thread: read what it writes."""
        if self._process.stdout is not None:
            for line in self._process.stdout:
                with self._changed:
                    self.log += line
                    self._changed.notify_all()
            self._process.stdout.close()
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()

    def __enter__(self) -> Daemon:
        try:
            return self.wait_until_serving()
        except BaseException:
            self.kill()
            raise

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill_if_running()


class Child:
    """
    A child on a blocking socket. As a context manager it closes in the end.

    :param address: host and port of the parent.
    :param receive_buffer: bytes of the socket's receive buffer; None leaves it to the kernel.
    """

    def __init__(self, address: tuple[str, int], receive_buffer: int | None = None) -> None:
        self.socket = socket.socket()
        self.socket.settimeout(_PATIENCE)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.connect(address)
        self._reader = PacketReader()

    def ask(self, task_id: str, number: int = 0, kind: PieceKind = PieceKind.STANDARD) -> None:
        """Send a request."""
        self.socket.sendall(PieceRequest(packet_id=1, kind=kind, task_id=task_id, number=number).to_bytes())

    def next_event(self, on_data: Callable[[bytes], object] | None = None) -> Event | None:
        """
        The next thing that the parent says, None at the end of the stream.

        :param on_data: called with what was received, when something was.
        """
        while (event := self._reader.next_event()) is None:
            data = self.socket.recv(65536)
            if not data:
                return None
            if on_data is not None:
                on_data(data)
            self._reader.receive_data(data)
        return event

    def content(self) -> bytes:
        """
        The content of the piece under way, up to its end.

        :raises EOFError: the stream ends before it.
        """
        content = bytearray()
        while not isinstance(event := self.next_event(), ContentFinished):
            if not isinstance(event, ContentReceived):
                raise EOFError(f"expected more content after {len(content)} bytes, got {event}")
            content += event.data
        return bytes(content)

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.socket.close()
