"""
The metrics of what a peer does with whole tasks: calls, downloads, imports and requests to sources, with the names,
labels and help texts of the reference's (dragonfly-client-metric 1.5.10, ``src/lib.rs``); and those of the pieces of
downloads, from the events of :mod:`dragonfly_vortex.events`: two under the reference's names, and those of this
package, which begin with ``dfvortex_``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from twisted.internet.defer import CancelledError

from dragonfly_vortex.events import (
    DigestMismatched,
    DownloadEvent,
    DownloadFinished,
    ParentDropped,
    PieceKept,
)
from dragonfly_vortex.metrics.instruments import BoundedNames, Counter, Family, Gauge, Histogram, exponential_bounds
from dragonfly_vortex.model import Origin, TaskRequest
from dragonfly_vortex.transport_table import BEST, HTTP, SOURCES, transports_named
from dragonfly_vortex.wire import PieceKind

__all__ = ["MILLISECONDS", "PREFIX", "TASK_TYPES", "TaskMetrics", "TransferMetrics", "size_level"]

PREFIX = "dragonfly_client_"

MILLISECONDS = exponential_bounds(1, 2, 24)
"""The bounds of the buckets of the reference's durations, from 1 ms to some two hours and twenty minutes."""

_SECONDS = exponential_bounds(0.001, 2, 18)
"""The bounds of the buckets of our own durations, from 1 ms to some two minutes."""

_MOST_PARENTS = 50
"""Parents that have values of their own."""

_LOCAL, _REMOTE, _SOURCE = "LOCAL_PEER", "REMOTE_PEER", "BACK_TO_SOURCE"
"""The label ``type``: names of ``common.v2.TrafficType`` in Dragonfly's API."""


class TransferMetrics:
    """Counts the downloads of a peer. Any thread may call its methods."""

    def __init__(self) -> None:
        self.rarest: Callable[[], Iterable[int]] = tuple
        """Gives, for each download in a swarm, how many parents have its rarest piece."""
        types = [(name,) for name in (_LOCAL, _REMOTE, _SOURCE)]
        self._traffic = Counter(
            f"{PREFIX}download_traffic", "Counter of the number of the download traffic.", ["type"], types
        )
        self._took = Histogram(
            f"{PREFIX}download_piece_duration_milliseconds",
            "Histogram of the download piece duration.",
            ["type"],
            types,
            bounds=MILLISECONDS,
        )
        transports = [(each.name,) for each in (*transports_named(BEST), *SOURCES)]
        self._seconds = Histogram(
            "dfvortex_download_piece_duration_seconds",
            "Time from the request for a piece to the verified piece.",
            ["transport"],
            transports,
            bounds=_SECONDS,
        )
        self._parents = BoundedNames(_MOST_PARENTS)
        self._bytes = Counter(
            "dfvortex_download_bytes_total",
            "Bytes of verified pieces, by the parent that sent them.",
            ["parent", "transport"],
            [("source", HTTP.name)],
        )
        self._throttled = Counter(
            "dfvortex_download_throttled_seconds_total",
            "Time for which download.bandwidth_limit delayed pieces, summed over pieces.",
        )
        self._mismatches = Counter(
            "dfvortex_digest_mismatch_total",
            "Pieces, and whole tasks, that did not have their digest.",
            ["content"],
            [("piece",), ("task",)],
        )
        self._banned = Counter(
            "dfvortex_parent_banned_total", "Parents that were excluded from a download because they lied."
        )
        self._duplicates = Counter(
            "dfvortex_swarm_duplicate_bytes_total",
            "Bytes that arrived twice in downloads that succeeded: another parent gave their piece first.",
        )

    def families(self) -> Iterator[Family]:
        """All metrics as they are now."""
        for instrument in (
            *(self._traffic, self._took, self._seconds, self._bytes, self._throttled),
            *(self._mismatches, self._banned, self._duplicates),
        ):
            yield instrument.family()
        yield Family(
            name="dfvortex_swarm_rarest_parents",
            kind="gauge",
            help="The fewest parents that have a piece which a download in a swarm lacks; 0 without such a download.",
            samples={(): min(self.rarest(), default=0)},
        )

    def found(self, length: int) -> None:
        """
        Count a piece that was in the storage when it was wanted.

        :param length: bytes of it.
        """
        self._traffic.add(_LOCAL, amount=length)
        self._took.observe(_LOCAL, amount=0)

    def on_event(self, event: DownloadEvent) -> None:
        """Count an event of a download."""
        if isinstance(event, PieceKept):
            if event.parent:
                self._count_piece(event)
            else:
                self.found(event.length)
        elif isinstance(event, DigestMismatched):
            self._mismatches.add("task" if event.number is None else "piece")
        elif isinstance(event, ParentDropped) and event.has_lied:
            self._banned.add()
        elif isinstance(event, DownloadFinished):
            self._duplicates.add(amount=event.task.fetched_twice)

    def _count_piece(self, piece: PieceKept) -> None:
        is_source = piece.transport == HTTP.name
        kind = _SOURCE if is_source else _REMOTE
        self._traffic.add(kind, amount=piece.length)
        self._took.observe(kind, amount=int(piece.seconds * 1000))
        self._seconds.observe(piece.transport, amount=piece.seconds)
        # The name of a source is a URL, of which there may be any number.
        (parent,) = ("source",) if is_source else self._parents.admit(piece.parent)
        self._bytes.add(parent, piece.transport, amount=piece.length)
        self._throttled.add(amount=piece.throttled)


TASK_TYPES = {
    PieceKind.STANDARD: "0",
    PieceKind.PERSISTENT: "1",
    PieceKind.PERSISTENT_CACHE: "2",
    PieceKind.CACHE: "3",
}
"""The label ``type``: the number that each kind of task has in ``common.v2.TaskType`` of Dragonfly's API."""

_MOST_NAMES = 100
"""Pairs of a tag and an application that have values of their own."""

_USUAL_PRIORITY = "6"
"""The priority of a download that is given none, as of ``dfget``."""

_MIB = 1024 * 1024
_GIB = 1024 * _MIB

_LEVELS = (
    *(1, _MIB, 4 * _MIB, 8 * _MIB, 16 * _MIB, 32 * _MIB, 64 * _MIB, 128 * _MIB, 256 * _MIB, 512 * _MIB),
    *(_GIB, 4 * _GIB, 8 * _GIB, 16 * _GIB, 32 * _GIB, 64 * _GIB, 128 * _GIB, 256 * _GIB, 512 * _GIB, 1024 * _GIB),
)
"""The lengths at which the levels from 1 on begin; level 0 is for a task without content."""

_CALLS = {
    "Stat": ("stat_task", "stat_task", "stat task", tuple(PieceKind)),
    "StatLocal": ("stat_local_task", "stat_local_task", "stat local task", (PieceKind.STANDARD,)),
    "ListLocal": ("list_local_tasks", "list_tasks", "list tasks", tuple(PieceKind)),
    "ListEntries": ("list_task_entries", "list_task_entries", "list task entries", (PieceKind.STANDARD,)),
    "Delete": ("delete_task", "delete_task", "delete task", tuple(PieceKind)),
    "DeleteLocal": ("delete_local_task", "delete_local_task", "delete local task", (PieceKind.STANDARD,)),
    "Update": ("update_task", "update_task", "update task", (PieceKind.PERSISTENT, PieceKind.PERSISTENT_CACHE)),
}
"""For each call: the names of its counters, that of failures being another one, what both say, and the known kinds."""


def size_level(length: int) -> str:
    """
    The label ``task_size_level`` of a content.

    :param length: in bytes.
    """
    return str(sum(length >= level for level in _LEVELS))


class TaskMetrics:
    """
    Counts the requests that concern whole tasks. Any thread may call its methods.

    :param seconds: the clock.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self.transfers = TransferMetrics()
        """The metrics of pieces."""
        self._seconds = seconds
        self._names = BoundedNames(_MOST_NAMES)
        named = ("type", "tag", "app", "priority")
        usual = [(number, "", "", _USUAL_PRIORITY) for number in TASK_TYPES.values()]
        imported = [(TASK_TYPES[kind], "", "") for kind in (PieceKind.PERSISTENT, PieceKind.PERSISTENT_CACHE)]
        self._begun = _counter("download_task_total", "the download task", named, usual)
        self._failed = _counter("download_task_failure_total", "failed of the download task", named, usual)
        self._under_way = _gauge("concurrent_download_task_total", "the download task", named, usual)
        self._took = _duration("download_task", "download task", ("task_type", "task_size_level"), ("0", "1"))
        self._prefetched = _counter("prefetch_task_total", "the prefetch task", named, usual)
        self._not_prefetched = _counter("prefetch_task_failure_total", "failed of the prefetch task", named, usual)
        self._imports = _counter("upload_task_total", "the upload task", named[:3], imported)
        self._imports_failed = _counter("upload_task_failure_total", "failed of the upload task", named[:3], imported)
        self._imports_under_way = _gauge("concurrent_upload_task_total", "the upload task", named[:3], imported)
        self._imports_took = _duration("upload_task", "upload task", ("task_type", "task_size_level"), ("2", "1"))
        blocked = "Counter of the number of {} task blocked."
        self._blocked = {
            is_import: Counter(f"{PREFIX}{act}_task_blocked_total", blocked.format(act), ["type"], types)
            for is_import, act, types in (
                (False, "download", [(number,) for number in TASK_TYPES.values()]),
                (True, "upload", [labels[:1] for labels in imported]),
            )
        }
        self._left = _counter("delete_host_total", "the delete host")
        self._not_left = _counter("delete_host_failure_total", "failed of the delete host")
        methods = [(scheme, method) for scheme in ("http", "https") for method in ("HEAD", "GET")]
        by = ("scheme", "method")
        self._asked = _counter("backend_request_total", "the backend request", by, methods)
        self._not_answered = _counter("backend_request_failure_total", "failed of the backend request", by, methods)
        self._answered = _duration("backend_request", "backend request", by, ("http", "GET"))
        self._calls: dict[str, Counter] = {}
        self._calls_failed: dict[str, Counter] = {}
        for call, (name, failure, words, kinds) in _CALLS.items():
            types = [(TASK_TYPES[kind],) for kind in kinds]
            self._calls[call] = _counter(f"{name}_total", f"the {words}", ("type",), types)
            self._calls_failed[call] = _counter(f"{failure}_failure_total", f"failed of the {words}", ("type",), types)
        # This peer is no proxy. Dragonfly's dashboards show these anyway.
        self._proxied = (
            _counter("proxy_request_total", "the proxy request", by, [("", "")]),
            _counter("proxy_request_failure_total", "failed of the proxy request"),
        )

    def families(self) -> Iterator[Family]:
        """All metrics as they are now."""
        for instrument in (
            *(self._begun, self._failed, self._under_way, self._took, self._prefetched, self._not_prefetched),
            *(self._imports, self._imports_failed, self._imports_under_way, self._imports_took),
            *(self._asked, self._not_answered, self._answered, *self._calls.values(), *self._calls_failed.values()),
            *(*self._blocked.values(), self._left, self._not_left, *self._proxied),
        ):
            yield instrument.family()
        yield from self.transfers.families()

    @contextmanager
    def call(self, call: str, kind: PieceKind) -> Iterator[None]:
        """
        Count a call, and whether it fails.

        :param call: what is done: ``Stat``, ``StatLocal``, ``ListLocal``, ``ListEntries``, ``Delete``, ``DeleteLocal``
            or ``Update``.
        :param kind: the kind of the task.
        """
        if call == "StatLocal" and kind is not PieceKind.STANDARD:
            call = "Stat"  # as the reference counts it
        number = TASK_TYPES[kind]
        self._calls[call].add(number)
        try:
            yield
        except Exception:
            self._calls_failed[call].add(number)
            raise

    @contextmanager
    def leaving(self) -> Iterator[None]:
        """Count a request to have schedulers forget this peer, and whether it fails."""
        self._left.add()
        try:
            yield
        except Exception:
            self._not_left.add()
            raise

    def download(self, request: TaskRequest) -> Callable[[int | None], None]:
        """
        Count a request for a task.

        :returns: called once at its end, with the length of the content in bytes, or with None if it has failed.
        """
        labels = self._labels_of(request)
        began = self._seconds()
        self._begun.add(*labels)
        self._under_way.add(*labels)

        def ended(length: int | None) -> None:
            self._under_way.add(*labels, amount=-1)
            if length is None:
                self._failed.add(*labels)
            else:
                self._took.observe(labels[0], size_level(length), amount=self._milliseconds_since(began))

        return ended

    def prefetch(self, request: TaskRequest) -> Callable[[], None]:
        """
        Count a download that goes on however its callers end.

        :returns: called if it fails.
        """
        labels = self._labels_of(request)
        self._prefetched.add(*labels)
        return lambda: self._not_prefetched.add(*labels)

    def upload(self, kind: PieceKind, origin: Origin) -> Callable[[int | None], None]:
        """
        Count an import, which the reference calls an upload.

        :param kind: of the task that a file becomes.
        :param origin: with the tag and the application.
        :returns: as for :meth:`download`.
        """
        labels = (TASK_TYPES[kind], *self._names.admit(origin.tag, origin.application))
        began = self._seconds()
        self._imports.add(*labels)
        self._imports_under_way.add(*labels)

        def ended(length: int | None) -> None:
            self._imports_under_way.add(*labels, amount=-1)
            if length is None:
                self._imports_failed.add(*labels)
            else:
                self._imports_took.observe(labels[0], size_level(length), amount=self._milliseconds_since(began))

        return ended

    def block(self, kind: PieceKind, *, is_import: bool) -> None:
        """
        Count a request that a block list refuses, which no other metric counts.

        :param kind: the kind of the task.
        :param is_import: whether it is for an import, and not for a download.
        """
        self._blocked[is_import].add(TASK_TYPES[kind])

    @contextmanager
    def backend_request(self, scheme: str, method: str) -> Iterator[None]:
        """
        Count a request to a source until its headers are there, and whether it fails.

        :param scheme: of its URL.
        :param method: ``HEAD`` where its content is not wanted, ``GET`` otherwise.
        """
        began = self._seconds()
        self._asked.add(scheme, method)
        try:
            yield
        except CancelledError:  # it is not wanted any more
            raise
        except Exception:
            self._not_answered.add(scheme, method)
            raise
        self._answered.observe(scheme, method, amount=self._milliseconds_since(began))

    def _labels_of(self, request: TaskRequest) -> tuple[str, ...]:
        origin = request.origin or Origin()
        tag, application = self._names.admit(origin.tag, origin.application)
        return TASK_TYPES[request.kind], tag, application, str(request.priority)

    def _milliseconds_since(self, began: float) -> int:
        return int((self._seconds() - began) * 1000)


def _counter(name: str, words: str, labels: tuple[str, ...] = (), known: Iterable[tuple[str, ...]] = ((),)) -> Counter:
    return Counter(f"{PREFIX}{name}", f"Counter of the number of {words}.", labels, known)


def _gauge(name: str, words: str, labels: tuple[str, ...], known: Iterable[tuple[str, ...]]) -> Gauge:
    return Gauge(f"{PREFIX}{name}", f"Gauge of the number of concurrent of {words}.", labels, known)


def _duration(name: str, words: str, labels: tuple[str, ...], known: tuple[str, ...]) -> Histogram:
    name, help = f"{PREFIX}{name}_duration_milliseconds", f"Histogram of the {words} duration."
    return Histogram(name, help, labels, [known], bounds=MILLISECONDS)
