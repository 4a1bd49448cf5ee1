"""
The metrics of a peer that serves, with the names, labels and help texts of the reference's; with the resources of its
processes, as Linux reports them in ``/proc``.

Read from dragonfly-client-metric 1.5.10, src/lib.rs. What else there is has no counterpart here; docs/metrics.md says
what, and why. Names that begin with ``dfvortex_`` are this package's own.
"""

from __future__ import annotations

import functools
import os
import resource
import sysconfig
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from msgspec import Struct

from dragonfly_vortex import __version__
from dragonfly_vortex.metrics.counters import Tally
from dragonfly_vortex.metrics.instruments import Family, Labels, family
from dragonfly_vortex.metrics.task_metrics import PREFIX, TASK_TYPES, TaskMetrics
from dragonfly_vortex.wire import PieceKind

__all__ = ["PeerMetrics", "ProcessMetrics"]

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
        """Read the metrics of the processes. What one took of the processor still counts when it has gone."""
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


_STORED_INTERVAL = 60.0
"""Seconds for which what the storage has is not read again."""


class PeerMetrics:
    """
    Collects all metrics of a peer.

    :param storage: the directory of its storage.
    :param tallies: what the doors of all its processes have counted; asked each time.
    :param workers: the process IDs of its workers; asked each time.
    :param tasks: what the peer has counted of whole tasks.
    :param connections: by the name of each transport, how many connections of children there are, and how many of them
        are idle; asked each time.
    :param stored: by the kind, how many tasks have pieces in the storage, and the bytes of these; asked once a minute.
    :param from_source: how many pieces its downloads have asked of sources, by the reason; asked each time, and empty
        where it downloads nothing.
    """

    def __init__(
        self,
        *,
        storage: Path,
        tallies: Callable[[], Iterable[Tally]],
        workers: Callable[[], Iterable[int]],
        tasks: TaskMetrics,
        connections: Callable[[], Mapping[str, tuple[int, int]]] = dict,
        stored: Callable[[], Mapping[PieceKind, tuple[int, int]]] = dict,
        from_source: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        self._storage = storage
        self._tallies = tallies
        self._tasks = tasks
        self._connections = connections
        self._stored = stored
        self._content: Mapping[PieceKind, tuple[int, int]] = {}
        self._content_read_at = float("-inf")
        self._from_source = from_source
        self._processes = ProcessMetrics(workers)

    def families(self) -> Iterator[Family]:
        """Collect all metrics. This asks the disk, and is not for the reactor's thread; for one thread at a time."""
        yield _version()
        yield from self._uploads()
        yield from self._tasks.families()
        yield from self._sources()
        yield from self._open_connections()
        yield from self._storage_content()
        yield from self._disk()
        yield from self._processes.families()

    def _uploads(self) -> Iterator[Family]:
        tallies = list(self._tallies())
        yield family(
            f"{PREFIX}concurrent_upload_piece_total",
            "gauge",
            "Gauge of the number of concurrent of the upload piece.",
            sum(tally.pieces_under_way for tally in tallies),
        )
        yield family(
            f"{PREFIX}upload_traffic",
            "counter",
            "Counter of the number of the upload traffic.",
            sum(tally.bytes_sent for tally in tallies),
        )
        yield family(
            "dfvortex_upload_throttled_seconds_total",
            "counter",
            "Time for which replies waited for upload.bandwidth_limit, summed over replies.",
            sum(tally.seconds_waited for tally in tallies),
        )

    def _open_connections(self) -> Iterator[Family]:
        samples: dict[Labels, float] = {}
        for transport, (count, idle) in self._connections().items():
            samples[("transport", transport), ("state", "busy")] = max(0, count - idle)
            samples[("transport", transport), ("state", "idle")] = idle
        if samples:
            help = "Connections of children: with a reply or a call under way, or without."
            yield Family(name="dfvortex_connections", kind="gauge", help=help, samples=samples)

    def _storage_content(self) -> Iterator[Family]:
        """What the storage has. That takes a while where there are many pieces, so it is not read for each page."""
        now = time.monotonic()
        if now - self._content_read_at >= _STORED_INTERVAL:
            self._content_read_at = now
            self._content = self._stored()
        for name, place, help in (
            ("dfvortex_storage_tasks", 0, "Tasks of which the storage has pieces."),
            ("dfvortex_storage_bytes", 1, "Bytes of the pieces in the storage."),
        ):
            samples: dict[Labels, float] = {
                (("type", number),): self._content.get(kind, (0, 0))[place] for kind, number in TASK_TYPES.items()
            }
            yield Family(name=name, kind="gauge", help=help, samples=samples)

    def _sources(self) -> Iterator[Family]:
        """The pieces from sources. The reference counts requests to its backends, without a reason."""
        counts = dict(self._from_source())
        if counts:
            yield Family(
                name="dfvortex_source_piece_total",
                kind="counter",
                help="Counter of the pieces that were asked of a source.",
                samples={(("reason", reason),): count for reason, count in counts.items()},
            )

    def _disk(self) -> Iterator[Family]:
        try:
            disk = os.statvfs(self._storage)
        except OSError:  # the storage's directory has gone: everything else is still reported
            return
        total, available = disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize
        yield family(f"{PREFIX}disk_space_total", "gauge", "Gauge of the disk space in bytes", total)
        yield family(
            f"{PREFIX}disk_usage_space_total", "gauge", "Gauge of the disk usage space in bytes", total - available
        )


@functools.cache
def _version() -> Family:
    # For Prometheus an empty label is one that is not there: a release says nothing of a commit.
    labels = (
        ("git_version", __version__),
        ("git_commit", ""),
        ("platform", sysconfig.get_platform()),
        ("build_time", ""),
    )
    return Family(name=f"{PREFIX}version", kind="gauge", help="Version info of the service.", samples={labels: 1})
