"""
Starts programs as processes, and measures what they use.

:func:`run_to_end` runs one program, :func:`run_together` several that begin at the same moment. A :class:`Server`
serves inside a block.
"""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import randrange
from typing import Any, TypeVar

from benchmarks.machine import peak_memory

__all__ = [
    "CUE",
    "DONE",
    "READY",
    "Command",
    "DidNotWork",
    "Ran",
    "Server",
    "free_port",
    "run_in_turn",
    "run_to_end",
    "run_together",
    "started",
    "wait_for_end",
]

Command = Sequence[str | Path]
"""A program and its arguments."""

READY, CUE, DONE = "ready\n", "go\n", "done\n"
"""
For :func:`run_together`: what a program writes when it has loaded its modules, what it is sent then, and what it may
write when its work is done.
"""

_FIRST_STEP, _STEP = 0.001, 0.02
"""Seconds between two looks at a process's peak: at the first, and later."""

_TO_START, _TO_LOAD, _TO_STOP = 60.0, 120.0, 15.0
"""Seconds that a server has to listen, that programs have to load, and that a program has to end after SIGTERM."""

_PORTS = range(20_000, 32_000)
"""Ports that the kernel does not give to clients by itself (``net.ipv4.ip_local_port_range``)."""

_ServerT = TypeVar("_ServerT", bound="Server")


class DidNotWork(Exception):
    """A program did not do what was to be measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """
    A program that has ended.

    :param status: its exit status; minus the signal's number if a signal ended it.
    :param output: what it wrote.
    :param seconds: from its start to its end; for :func:`run_together` from the cue to the end of its work.
    :param processor: seconds of processor time, of all its threads, in user mode and in the kernel.
    :param peak: the most bytes that it had in memory (VmHWM), up to a moment before its end. ``wait4`` would count
        from before the process became the program that it is.
    """

    status: int
    output: str
    seconds: float
    processor: float = 0.0
    peak: int = 0

    def checked(self, what: str) -> Ran:
        """
        The same.

        :param what: what was run, for the error.
        :raises DidNotWork: it failed.
        """
        if self.status:
            raise DidNotWork(f"{what} exited with {self.status}, expected 0: {self.output}")
        return self


@contextmanager
def started(command: Command, directory: Path, **files: Any) -> Iterator[subprocess.Popen[bytes]]:
    """
    Run a program inside the block. It ends by SIGTERM, or by SIGKILL where that takes too long.

    :param directory: where it runs.
    :param files: ``stdin``, ``stdout`` and ``stderr`` as :class:`subprocess.Popen` has them.
    """
    with ExitStack() as stack:
        with _delayed(signal.SIGTERM):
            wanted = {"stdin": subprocess.DEVNULL, "stderr": subprocess.STDOUT, **files}
            process = stack.enter_context(subprocess.Popen(command, cwd=directory, **wanted))
            stack.callback(_end, process)
        yield process


@contextmanager
def _delayed(number: int) -> Iterator[None]:
    """
    Delay a signal until the block has ended: an exception while a process is started would leave it running. Only the
    main thread is interrupted by signals, so other threads do nothing here.
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


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_TO_STOP)
    except subprocess.TimeoutExpired:
        process.kill()


def run_to_end(command: Command, directory: Path, timeout: float) -> Ran:
    """
    Run a program.

    :param directory: where it runs.
    :param timeout: seconds after which it is killed.
    """
    began = time.monotonic()
    with tempfile.TemporaryFile() as output, started(command, directory, stdout=output) as process:
        peak, step = 0, _FIRST_STEP
        while not (has_ended := wait_for_end(process.pid, step)) and time.monotonic() - began < timeout:
            with suppress(ValueError):  # a process that is ending has no memory, and no such line
                peak = peak_memory(process.pid)
            step = min(2 * step, _STEP)
        seconds = time.monotonic() - began
        if not has_ended:
            process.kill()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        return Ran(
            status=process.returncode,
            output=output.read().decode("utf-8", errors="replace"),
            seconds=seconds,
            processor=usage.ru_utime + usage.ru_stime,
            peak=peak,
        )


def run_in_turn(commands: Iterable[Command], directory: Path, timeout: float) -> Ran:
    """
    Run programs one after the other, up to the first that fails.

    :param commands: at least one.
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


def run_together(
    commands: Mapping[str, Command],
    directory: Path,
    timeout: float,
    kills: Mapping[str, float] | None = None,
    on_cue: Callable[[], object] = lambda: None,
    on_kill: Callable[[str], object] = lambda name: None,
) -> dict[str, Ran]:
    """
    Run programs that begin their work at the same moment, when all have loaded their modules. Work is done when the
    program ends, or writes :data:`DONE` and reads until its standard input ends.

    :param commands: by a name.
    :param timeout: seconds from the cue after which programs are killed whose work is not done.
    :param kills: seconds from the cue after which a program is killed, by its name, if its work is not done by then.
    :param on_cue: called right before the cue.
    :param on_kill: called in a thread, with the name of a program that was killed by one of the kills.
    :raises DidNotWork: one ended before the cue, or did not load in time.
    """
    ended: dict[str, float] = {}

    def kill(name: str, tell: Callable[[str], object] = lambda name: None) -> None:
        if name not in ended:
            processes[name].kill()
            tell(name)

    def work(name: str) -> str:
        said = _read_until(processes[name], DONE)
        ended[name] = time.monotonic()
        return said

    with ExitStack() as stack:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        processes = {name: stack.enter_context(started(each, directory, **pipes)) for name, each in commands.items()}
        with _timers((_TO_LOAD, kill, (name,)) for name in commands):
            said = {name: _read_until(process, READY) for name, process in processes.items()}
        for name, text in said.items():
            if not text.endswith(READY):
                raise DidNotWork(f"expected {READY!r} from {name}, got:\n{text}")
        on_cue()
        began = time.monotonic()
        for process in processes.values():
            _write(process, CUE)
        dues = [(after, kill, (name, on_kill)) for name, after in (kills or {}).items()]
        limits = [(timeout, kill, (name,)) for name in commands]
        with _timers([*dues, *limits]), ThreadPoolExecutor(len(commands)) as threads:
            results = dict(zip(commands, threads.map(work, commands), strict=True))
        for name, process in processes.items():
            _write(process, "", is_last=True)
            with _timers([(_TO_STOP, process.kill, ())]):
                results[name] = said[name] + results[name] + _read_until(process, "")
        return {
            name: Ran(status=process.wait(), output=results[name], seconds=ended[name] - began)
            for name, process in processes.items()
        }


@contextmanager
def _timers(dues: Iterable[tuple[float, Callable[..., object], tuple[Any, ...]]]) -> Iterator[None]:
    """Call functions after some seconds each, with their arguments, unless the block has ended by then."""
    timers = [threading.Timer(*each) for each in dues]
    for timer in timers:
        timer.start()
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()
            timer.join()


def _read_until(process: subprocess.Popen[bytes], last: str) -> str:
    """What a process writes up to a line, or up to its end."""
    said = ""
    for line in process.stdout or ():
        said += line.decode("utf-8", errors="replace")
        if said.endswith(last or "\0"):
            break
    return said


def _write(process: subprocess.Popen[bytes], text: str, *, is_last: bool = False) -> None:
    """Write to a process's standard input, which may have ended."""
    if process.stdin is not None:
        with suppress(BrokenPipeError):
            process.stdin.write(text.encode())
            process.stdin.flush()
            if is_last:
                process.stdin.close()


class Server:
    """
    A program that serves inside the block. It may be started again after the block.

    :param command: the program and its arguments.
    :param directory: where it runs, and where its output is kept as ``parent.log``; it is made.
    :param says: a regular expression for what it writes when it accepts connections.
    :param places: ports of 127.0.0.1 and paths of Unix sockets at which it listens.
    :ivar pid: its process ID.
    :ivar said: the match of ``says``.
    """

    pid: int
    said: re.Match[str]

    def __init__(self, command: Command, directory: Path, says: str = "", places: Sequence[int | Path] = ()) -> None:
        self.directory = directory
        self._command = command
        self._says = says
        self._places = places
        self._stack = ExitStack()
        self._process: subprocess.Popen[bytes]

    def __enter__(self: _ServerT) -> _ServerT:
        self.directory.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            with self._path.open("wb") as output:
                process = stack.enter_context(started(self._command, self.directory, stdout=output))
            self._process, self.pid = process, process.pid
            self._wait(process)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @property
    def _path(self) -> Path:
        return self.directory / "parent.log"

    @property
    def log(self) -> str:
        """What it has written so far."""
        return self._path.read_text(encoding="utf-8", errors="replace")

    def kill(self) -> None:
        """End it as a crash does."""
        self._process.kill()

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until it accepts connections."""
        deadline = time.monotonic() + _TO_START
        places = list(self._places)
        while True:
            has_time = process.poll() is None and time.monotonic() < deadline
            said = re.search(self._says, self.log)
            while places and _is_open(places[-1]):
                places.pop()
            if said is not None and not places:
                self.said = said
                return
            if not has_time:
                expected = f"{self._says!r} in the output" if said is None else f"it to listen at {places}"
                raise DidNotWork(f"{self._command[0]}: expected {expected}, got:\n{self.log[-2000:]}")
            time.sleep(0.01)


def _is_open(place: int | Path) -> bool:
    """Whether a port of 127.0.0.1 or a Unix socket accepts connections."""
    with socket.socket(socket.AF_INET if isinstance(place, int) else socket.AF_UNIX) as sock:
        return not sock.connect_ex(("127.0.0.1", place) if isinstance(place, int) else str(place))


def wait_for_end(pid: int, timeout: float) -> bool:
    """
    Wait until a process that this one started has ended, without taking its status.

    :param timeout: seconds.
    :returns: whether it has ended.
    """
    descriptor = os.pidfd_open(pid)
    try:
        return bool(select.select([descriptor], [], [], timeout)[0])
    finally:
        os.close(descriptor)


def free_port() -> int:
    """A port of 127.0.0.1 that is free now, for a program that cannot choose one itself."""
    for _ in range(1000):
        with socket.socket() as sock:
            port = randrange(_PORTS.start, _PORTS.stop)
            with suppress(OSError):
                sock.bind(("127.0.0.1", port))
                return port
    raise DidNotWork(f"expected a free port from {_PORTS.start} to {_PORTS.stop - 1}, found none")
