"""Processes and what they have used, as Linux counts it. A process is ended by its own ID."""

from __future__ import annotations

import os
import re
import select
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Ran", "peak_memory", "processor_of_all", "processor_seconds", "run_to_end", "wait_for_end"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """
    A process that has ended.

    :param status: its exit status; minus the signal's number for one that was ended by a signal.
    :param output: what it wrote.
    :param seconds: from its start to its end.
    :param processor: seconds of processor time, of all its threads, in user mode and in the kernel.
    :param peak: the most bytes that it has had in memory. Linux counts from before the process has become the program
        that it is, so this is never less than what the process that started it had in memory then.
    """

    status: int
    output: str
    seconds: float
    processor: float
    peak: int


def run_to_end(command: Sequence[str | Path], directory: Path, timeout: float) -> Ran:
    """
    Run a program.

    :param command: the program and its arguments. It writes little: its output is read when it has ended.
    :param directory: where it runs.
    :param timeout: seconds after which it is killed.
    """
    began = time.monotonic()
    process = subprocess.Popen(
        command, cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    with process:
        try:
            has_ended = wait_for_end(process.pid, timeout)
            seconds = time.monotonic() - began
        except BaseException:
            process.kill()
            raise
        if not has_ended:
            process.kill()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output = process.stdout.read() if process.stdout is not None else ""
    return Ran(
        status=process.returncode,
        output=output,
        seconds=seconds,
        processor=usage.ru_utime + usage.ru_stime,
        peak=usage.ru_maxrss * 1024,
    )


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


def processor_seconds(pid: int) -> float:
    """
    The processor time that a running process has had, all its threads together, those that have ended too.

    It is the process's clock (clock_getcpuclockid(3)) and not ``/proc/PID/stat``, which has the same in steps of ten
    milliseconds: a parent may need no more than twenty such steps for a file. The clock's number is Linux's own
    (``include/linux/posix-timers_types.h``): the complement of the process ID, and 2 for the scheduler's count.
    """
    return time.clock_gettime(~pid << 3 | 2)


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
