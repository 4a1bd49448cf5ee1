"""
The metrics of the pieces of downloads, from the events of :mod:`dragonfly_vortex.events`: two under the reference's
names (dragonfly-client-metric 1.5.10, ``src/lib.rs``), and those of this package, which begin with ``dfvortex_``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from dragonfly_vortex.events import (
    DigestMismatched,
    DownloadEvent,
    DownloadFinished,
    ParentDropped,
    PieceKept,
)
from dragonfly_vortex.metrics.instruments import BoundedNames, Counter, Family, Histogram, exponential_bounds

__all__ = ["MILLISECONDS", "PREFIX", "TransferMetrics"]

PREFIX = "dragonfly_client_"

MILLISECONDS = exponential_bounds(1, 2, 24)
"""The bounds of the buckets of the reference's durations, from 1 ms to some two hours and twenty minutes."""

_SECONDS = exponential_bounds(0.001, 2, 18)
"""The bounds of the buckets of our own durations, from 1 ms to some two minutes."""

_MOST_PARENTS = 50
"""Parents that have values of their own."""

_LOCAL, _REMOTE, _SOURCE = "LOCAL_PEER", "REMOTE_PEER", "BACK_TO_SOURCE"
"""The label ``type``: names of ``common.v2.TrafficType`` in Dragonfly's API."""

_HTTP = "http"
"""The transport of sources."""

_TRANSPORTS = ("tcp", "grpc", _HTTP)


class TransferMetrics:
    """Counts. Any thread may do so."""

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
        transports = [(name,) for name in _TRANSPORTS]
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
            [("source", _HTTP)],
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
            "Bytes that came in vain in downloads that succeeded: another parent gave their piece first.",
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
        is_source = piece.transport == _HTTP
        kind = _SOURCE if is_source else _REMOTE
        self._traffic.add(kind, amount=piece.length)
        self._took.observe(kind, amount=int(piece.seconds * 1000))
        self._seconds.observe(piece.transport, amount=piece.seconds)
        # The name of a source is a URL, of which there may be any number.
        (parent,) = ("source",) if is_source else self._parents.admit(piece.parent)
        self._bytes.add(parent, piece.transport, amount=piece.length)
        self._throttled.add(amount=piece.throttled)
