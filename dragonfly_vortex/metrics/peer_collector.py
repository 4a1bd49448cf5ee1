"""
The metrics of a peer that serves, with the names, labels and help texts of the reference's.

Read from dragonfly-client-metric 1.5.10, src/lib.rs. What else there is has no counterpart here; docs/metrics.md says
what, and why. Names that begin with ``dfvortex_`` are this package's own.
"""

from __future__ import annotations

import functools
import os
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from dragonfly_vortex import __version__
from dragonfly_vortex.metrics.counters import DownloadTally, StatTally, Tally
from dragonfly_vortex.metrics.exposition import Family, Labels, family
from dragonfly_vortex.metrics.process_collector import ProcessMetrics
from dragonfly_vortex.wire import PieceKind

__all__ = ["PeerMetrics"]

_PREFIX = "dragonfly_client_"

_TASK_TYPES = {
    PieceKind.STANDARD: "0",
    PieceKind.PERSISTENT: "1",
    PieceKind.PERSISTENT_CACHE: "2",
    PieceKind.CACHE: "3",
}
"""The label ``type``: the number that each kind of task has in ``common.v2.TaskType`` of Dragonfly's API."""


class PeerMetrics:
    """
    Collects all metrics of a peer.

    :param storage: the directory of its storage.
    :param tallies: what the doors of all its processes have counted; asked each time.
    :param stats: what the gRPC door has counted besides; None where there is none.
    :param workers: the process IDs of its workers; asked each time.
    :param downloads: what the downloads of the peer count; None where it downloads nothing.
    :param from_source: how many pieces its downloads have asked of sources, by the reason; asked each time, and empty
        where it downloads nothing.
    """

    def __init__(
        self,
        *,
        storage: Path,
        tallies: Callable[[], Iterable[Tally]],
        stats: StatTally | None,
        workers: Callable[[], Iterable[int]],
        downloads: DownloadTally | None = None,
        from_source: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        self._storage = storage
        self._tallies = tallies
        self._stats = stats
        self._downloads = downloads
        self._from_source = from_source
        self._processes = ProcessMetrics(workers)

    def families(self) -> Iterator[Family]:
        """Collect all. This asks the disk, and is not for the reactor's thread; for one thread at a time."""
        yield _version()
        yield from self._uploads()
        if self._stats is not None:
            yield from _stats(self._stats)
        if self._downloads is not None:
            yield from _downloads(self._downloads)
        yield from self._sources()
        yield from self._disk()
        yield from self._processes.families()

    def _uploads(self) -> Iterator[Family]:
        tallies = list(self._tallies())
        yield family(
            f"{_PREFIX}concurrent_upload_piece_total",
            "gauge",
            "Gauge of the number of concurrent of the upload piece.",
            sum(tally.pieces_under_way for tally in tallies),
        )
        yield family(
            f"{_PREFIX}upload_traffic",
            "counter",
            "Counter of the number of the upload traffic.",
            sum(tally.bytes_sent for tally in tallies),
        )

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
        yield family(f"{_PREFIX}disk_space_total", "gauge", "Gauge of the disk space in bytes", total)
        yield family(
            f"{_PREFIX}disk_usage_space_total", "gauge", "Gauge of the disk usage space in bytes", total - available
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
    return Family(name=f"{_PREFIX}version", kind="gauge", help="Version info of the service.", samples={labels: 1})


def _stats(stats: StatTally) -> Iterator[Family]:
    """
    How often tasks were asked about: standard ones by ``StatLocalTask``, the others by the methods of their kind, which
    the reference counts apart.
    """
    others = [kind for kind in PieceKind if kind is not PieceKind.STANDARD]
    for name, kinds, words in (
        ("stat_task", others, "stat task"),
        ("stat_local_task", [PieceKind.STANDARD], "stat local task"),
    ):
        yield Family(
            name=f"{_PREFIX}{name}_total",
            kind="counter",
            help=f"Counter of the number of the {words}.",
            samples={_type(kind): stats.asked[kind] for kind in kinds},
        )
        yield Family(
            name=f"{_PREFIX}{name}_failure_total",
            kind="counter",
            help=f"Counter of the number of failed of the {words}.",
            samples={_type(kind): stats.failed[kind] for kind in kinds},
        )


def _downloads(downloads: DownloadTally) -> Iterator[Family]:
    """The requests for tasks. Tag and application are left empty: there may be any number of them."""
    for name, words, counts in (
        ("download_task_total", "Counter of the number of the download task.", downloads.begun),
        ("download_task_failure_total", "Counter of the number of failed of the download task.", downloads.failed),
        (
            "concurrent_download_task_total",
            "Gauge of the number of concurrent of the download task.",
            downloads.under_way,
        ),
    ):
        yield Family(
            name=f"{_PREFIX}{name}",
            kind="gauge" if counts is downloads.under_way else "counter",
            help=words,
            samples={
                (*_type(kind), ("tag", ""), ("app", ""), ("priority", str(priority))): count
                for (kind, priority), count in list(counts.items())
            },
        )


def _type(kind: PieceKind) -> Labels:
    return (("type", _TASK_TYPES[kind]),)
