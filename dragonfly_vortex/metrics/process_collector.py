"""Sums up the resources of a peer's processes, as Linux reports them in ``/proc``."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from msgspec import Struct

from dragonfly_vortex.metrics.instruments import Family, family

__all__ = ["ProcessMetrics"]

_PROC = Path("/proc")


class _Process(Struct, frozen=True, kw_only=True):
    """A process at one moment; times are in ticks of the kernel's clock, memory in bytes."""

    processor: int
    started: int
    threads: int
    virtual: int
    resident: int
    open_files: int
    most_files: int


class ProcessMetrics:
    """
    Prometheus's usual metrics of a process, of all processes of a peer together. Where there is no ``/proc`` there are
    none, as in the reference.

    :param others: the process IDs of those beside this one; asked each time.
    """

    def __init__(self, others: Callable[[], Iterable[int]]) -> None:
        self._others = others
        self._processor: dict[tuple[int, int], int] = {}  # of each process that was ever seen, also when it has gone

    def families(self) -> Iterator[Family]:
        """Look at the processes. What one took of the processor still counts when it has gone."""
        own = _look_at(os.getpid())
        if own is None:
            return
        seen = [own]
        self._processor[os.getpid(), own.started] = own.processor
        for pid in self._others():
            other = _look_at(pid)
            if other is not None:
                seen.append(other)
                self._processor[pid, other.started] = other.processor
        yield family(
            "process_cpu_seconds_total",
            "counter",
            "Total user and system CPU time spent in seconds.",
            sum(self._processor.values()) / os.sysconf("SC_CLK_TCK"),
        )
        yield family(
            "process_open_fds", "gauge", "Number of open file descriptors.", sum(each.open_files for each in seen)
        )
        yield family(
            "process_max_fds",
            "gauge",
            "Maximum number of open file descriptors.",
            sum(each.most_files for each in seen),
        )
        yield family(
            "process_virtual_memory_bytes",
            "gauge",
            "Virtual memory size in bytes.",
            sum(each.virtual for each in seen),
        )
        yield family(
            "process_resident_memory_bytes",
            "gauge",
            "Resident memory size in bytes.",
            sum(each.resident for each in seen),
        )
        boot_time = _boot_time()
        if boot_time is not None:
            yield family(
                "process_start_time_seconds",
                "gauge",
                "Start time of the process since unix epoch in seconds.",
                boot_time + own.started // os.sysconf("SC_CLK_TCK"),
            )
        yield family(
            "process_threads", "gauge", "Number of OS threads in the process.", sum(each.threads for each in seen)
        )


def _look_at(pid: int) -> _Process | None:
    """Read the figures of a process; None when it has ended."""
    try:
        # Behind the program's name, which may hold anything: proc_pid_stat(5), where the state is the third field.
        fields = _PROC.joinpath(str(pid), "stat").read_bytes().rpartition(b")")[2].split()
        return _Process(
            processor=int(fields[14 - 3]) + int(fields[15 - 3]),
            threads=int(fields[20 - 3]),
            started=int(fields[22 - 3]),
            virtual=int(fields[23 - 3]),
            resident=int(fields[24 - 3]) * resource.getpagesize(),
            open_files=len(os.listdir(_PROC / str(pid) / "fd")),
            most_files=_most_files(pid),
        )
    except OSError:
        return None


def _most_files(pid: int) -> int:
    """The soft limit of a process's open files. A sandbox may refuse prlimit(2); the file says the same."""
    for line in _PROC.joinpath(str(pid), "limits").read_text(encoding="ascii").splitlines():
        if line.startswith("Max open files"):
            soft = line.split()[3]
            return resource.RLIM_INFINITY if soft == "unlimited" else int(soft)
    return resource.RLIM_INFINITY


def _boot_time() -> int | None:
    """When the machine was started, in Unix seconds; None where that is hidden, as it may be in a container."""
    try:
        lines = _PROC.joinpath("stat").read_bytes().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith(b"btime ")), None)
