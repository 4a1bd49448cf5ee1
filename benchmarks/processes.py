"""
Runs programs as processes, and measures what they use, as Linux counts it.

:func:`run_to_end` runs a program to its end; a :class:`Server` serves inside a block. A process is ended by its own ID.
"""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import randrange
from types import TracebackType
from typing import TypeVar

__all__ = [
    "DidNotWork",
    "Ran",
    "Server",
    "family",
    "free_port",
    "held_back",
    "peak_memory",
    "processor_of_all",
    "processor_of_family",
    "processor_seconds",
    "run_in_turn",
    "run_to_end",
    "running",
    "wait_for_end",
]

_FIRST_STEP, _STEP = 0.001, 0.02
"""Seconds between two looks at a process's peak: at the first, and later."""

_TO_START = 60.0
"""Seconds that a server has to listen."""

_TO_STOP = 15.0
"""Seconds that a server has to end; our daemon gives its children ten."""

_PORTS = range(20_000, 32_000)
"""Ports that the kernel does not give to clients by itself (``net.ipv4.ip_local_port_range``)."""

_ServerT = TypeVar("_ServerT", bound="Server")


class DidNotWork(Exception):
    """A program did not do what was to be measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """
    A process that has ended.

    :param status: its exit status; minus the signal's number for one that was ended by a signal.
    :param output: what it wrote.
    :param seconds: from its start to its end.
    :param processor: seconds of processor time, of all its threads, in user mode and in the kernel.
    :param peak: the most bytes that it has had in memory (VmHWM), up to a moment before its end. ``wait4`` would count
        from before the process has become the program that it is.
    """

    status: int
    output: str
    seconds: float
    processor: float
    peak: int

    def checked(self, what: str) -> Ran:
        """
        The same.

        :param what: was run, for the error.
        :raises DidNotWork: it failed.
        """
        if self.status:
            raise DidNotWork(f"{what} exited with {self.status}, expected 0: {self.output}")
        return self


@contextmanager
def held_back(number: int) -> Iterator[None]:
    """
    Delay a signal until the block has ended. A process is started in such a block: an exception in the middle would
    leave it running. Only the main thread is interrupted by signals, so other threads do nothing here.

    :param number: of the signal.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    usual = signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(number, usual)
        if came:
            signal.raise_signal(number)


def running(package: Path | None) -> list[str | Path]:
    """
    What stands before a command of ours that is to run another version.

    :param package: a checkout whose package runs; None for the one that is installed.
    """
    return [] if package is None else ["env", f"PYTHONPATH={package.resolve()}"]


def run_to_end(command: Sequence[str | Path], directory: Path, timeout: float) -> Ran:
    """
    Run a program.

    :param command: the program and its arguments. It writes little: its output is read when it has ended.
    :param directory: where it runs.
    :param timeout: seconds after which it is killed.
    """
    began = time.monotonic()
    with ExitStack() as stack:
        with held_back(signal.SIGTERM):
            process = stack.enter_context(
                subprocess.Popen(
                    command,
                    cwd=directory,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )
            stack.callback(process.kill)
        peak, seconds, step = 0, 0.0, _FIRST_STEP
        while not seconds and time.monotonic() - began < timeout:
            if wait_for_end(process.pid, step):
                seconds = time.monotonic() - began
            else:
                peak = _peak_so_far(process.pid, peak)
                step = min(2 * step, _STEP)
        if not seconds:
            process.kill()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output = process.stdout.read() if process.stdout is not None else ""
    return Ran(
        status=process.returncode,
        output=output,
        seconds=seconds or time.monotonic() - began,
        processor=usage.ru_utime + usage.ru_stime,
        peak=peak,
    )


def run_in_turn(commands: Iterable[Sequence[str | Path]], directory: Path, timeout: float) -> Ran:
    """
    Run programs one after the other, up to the first that fails.

    :param commands: at least one; for each the program and its arguments.
    :param directory: where they run.
    :param timeout: seconds after which each is killed.
    :returns: the last one's status, all that they wrote, the sum of their times, and the most of their peaks.
    """
    ran: list[Ran] = []
    for command in commands:
        ran.append(run_to_end(command, directory, timeout))
        if ran[-1].status:
            break
    return Ran(
        status=ran[-1].status,
        output="".join(each.output for each in ran),
        seconds=sum(each.seconds for each in ran),
        processor=sum(each.processor for each in ran),
        peak=max(each.peak for each in ran),
    )


def _peak_so_far(pid: int, peak: int) -> int:
    """The peak of a process that runs; the one that was seen before where it has just ended."""
    try:
        return peak_memory(pid)
    except ValueError:  # a process without memory has no such line
        return peak


def wait_for_end(pid: int, timeout: float) -> bool:
    """
    Wait until a process that this one started has ended, without taking its status.

    :param timeout: seconds.
    :returns: whether it has.
    """
    descriptor = os.pidfd_open(pid)
    try:
        readable, _, _ = select.select([descriptor], [], [], timeout)
    finally:
        os.close(descriptor)
    return bool(readable)


def family(pid: int) -> list[int]:
    """The IDs of a running process and of all its running descendants."""
    found = [pid]
    for each in found:
        for task in Path(f"/proc/{each}/task").iterdir():
            found += map(int, (task / "children").read_text(encoding="ascii").split())
    return found


def processor_seconds(pid: int) -> float:
    """
    The processor time of a running process, all its threads together, those that have ended too.

    It is the process's clock (clock_getcpuclockid(3)), because ``/proc/PID/stat`` counts in steps of ten milliseconds,
    and a parent may need no more than twenty such steps for a file. The clock's number is Linux's own
    (``include/linux/posix-timers_types.h``): the complement of the process ID, and 2 for the scheduler's count.
    """
    return time.clock_gettime(~pid << 3 | 2)


def processor_of_family(pid: int) -> float:
    """The processor time of a running process and of its running descendants."""
    return sum(processor_seconds(each) for each in family(pid))


def peak_memory(pid: int) -> int:
    """The most bytes that a running process has had in memory (VmHWM)."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    (kilobytes,) = re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return int(kilobytes) * 1024


def processor_of_all() -> float:
    """The processor seconds that the machine's cores have spent on anything since it started; proc_stat(5)."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = (
        int(ticks) for ticks in Path("/proc/stat").read_text(encoding="ascii").split(maxsplit=9)[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


class Server:
    """
    A program that serves inside the block. It ends by SIGTERM, and by SIGKILL where that takes too long.

    :param command: the program and its arguments.
    :param directory: where it runs, and where its output is kept as ``parent.log``.
    :param says: a regular expression for what it writes when it accepts connections.
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
            raise DidNotWork("the server has not been started")
        return self._process.pid

    @property
    def said(self) -> re.Match[str]:
        """
        What it wrote when it accepted connections.

        :raises DidNotWork: it has not been started.
        """
        if self._said is None:
            raise DidNotWork("the server has not been started")
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
        """Wait until it accepts connections."""
        deadline = time.monotonic() + _TO_START
        while True:
            has_time = process.poll() is None and time.monotonic() < deadline
            text = log.read_text(encoding="utf-8", errors="replace")
            if (said := re.search(self._says, text)) is not None:
                return said
            if not has_time:
                raise DidNotWork(f"expected {self._says!r} in the server's output, got:\n{text}")
            time.sleep(0.01)

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
    """A port of 127.0.0.1 that is free now, for a program that cannot choose one itself."""
    for _ in range(1000):
        with socket.socket() as sock:
            port = randrange(_PORTS.start, _PORTS.stop)
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise DidNotWork(f"expected a free port from {_PORTS.start} to {_PORTS.stop - 1}, found none")
