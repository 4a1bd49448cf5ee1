"""Processes and what they have used, as Linux counts it. A process is ended by its own ID."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "Ran",
    "family",
    "held_back",
    "peak_memory",
    "processor_of_all",
    "processor_of_family",
    "processor_seconds",
    "run_in_turn",
    "run_to_end",
    "wait_for_end",
]

_FIRST_STEP, _STEP = 0.001, 0.02
"""Seconds between two looks at a process's peak: at the first, and later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """
    A process that has ended.

    :param status: its exit status; minus the signal's number for one that was ended by a signal.
    :param output: what it wrote.
    :param seconds: from its start to its end.
    :param processor: seconds of processor time, of all its threads, in user mode and in the kernel.
    :param peak: the most bytes that it has had in memory (VmHWM), up to a moment before its end. What ``wait4`` tells
        would count from before the process has become the program that it is.
    """

    status: int
    output: str
    seconds: float
    processor: float
    peak: int


@contextmanager
def held_back(number: int) -> Iterator[None]:
    """
    Have a signal wait until the block has ended: a process is started in it, of which nobody would know if an exception
    came in the middle. Only a program's main thread is ever interrupted, so in others nothing is done.

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
    except ValueError:  # without any memory left it has no such line
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
    """A process that runs, and all that it or they have started and that run: their IDs."""
    found = [pid]
    for each in found:
        for task in Path(f"/proc/{each}/task").iterdir():
            found += map(int, (task / "children").read_text(encoding="ascii").split())
    return found


def processor_seconds(pid: int) -> float:
    """
    The processor time that a running process has had, all its threads together, those that have ended too.

    It is the process's clock (clock_getcpuclockid(3)) and not ``/proc/PID/stat``, which has the same in steps of ten
    milliseconds: a parent may need no more than twenty such steps for a file. The clock's number is Linux's own
    (``include/linux/posix-timers_types.h``): the complement of the process ID, and 2 for the scheduler's count.
    """
    return time.clock_gettime(~pid << 3 | 2)


def processor_of_family(pid: int) -> float:
    """The processor time that a running process has had, with that of all that it or they have started."""
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
