"""The requests to a scheduler, and its offers, as values without gRPC."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

from dragonfly_vortex.model import Origin, StoredTask
from dragonfly_vortex.wire import PieceKind

__all__ = ["CandidateParent", "FinishedPiece", "TaskAnnouncement"]

DEFAULT_PRIORITY = 6
"""The priority of ``dfget`` where it is given none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskAnnouncement:
    """
    A task that is to be downloaded, or that this peer has.

    :param origin: what the task was made from; None where that is not known.
    :param content_length: bytes of the whole; None where that is not known. A scheduler takes the length from the first
        peer that asks, and a task without a length remains empty to it.
    :param piece_length: bytes of every piece but the last; None where it is not known.
    :param digest: the digest of the whole; empty where there is none.
    :param range: offset and length, where only a part is to be downloaded.
    :param headers: of the request to the source, for a seed that is to go there.
    :param priority: from 0 to 6, as for ``dfget``.
    :param need_back_to_source: this peer goes to the source in any case, and becomes a parent while it downloads.
    :param concurrent_piece_count: pieces that are downloaded at once; 0 for not saying it.
    :param is_replica: this peer is to keep the task: one of the replicas of a persistent kind.
    :param replica_count: how many peers are to keep a task of a persistent kind, where this one makes it known.
    :param ttl: seconds that a task of a persistent kind is kept; 0 for what is usual.
    """

    kind: PieceKind
    task_id: str
    origin: Origin | None = None
    content_length: int | None = None
    piece_length: int | None = None
    digest: str = ""
    range: tuple[int, int] | None = None
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    priority: int = DEFAULT_PRIORITY
    need_back_to_source: bool = False
    concurrent_piece_count: int = 0
    is_replica: bool = False
    replica_count: int = 1
    ttl: float = 0.0

    @classmethod
    def of_stored(cls, task: StoredTask, replica_count: int = 1) -> TaskAnnouncement:
        """The request that announces a task of the storage."""
        return cls(
            kind=task.kind,
            task_id=task.task_id,
            origin=task.origin,
            content_length=task.content_length,
            piece_length=task.piece_length,
            digest=task.digest,
            is_replica=task.is_pinned,
            replica_count=replica_count,
            ttl=math.inf if task.ttl == 0 else float(task.ttl or 0),
        )

    @property
    def piece_count(self) -> int | None:
        """How many pieces the task has for a scheduler: none where it is empty; None where that is not known."""
        if self.content_length is None or self.piece_length is None:
            return None
        return -(-self.content_length // self.piece_length)


class CandidateParent(NamedTuple):
    """
    A parent that a scheduler offers.

    :param peer_id: its ID for this task, by which the scheduler knows it.
    :param host_id: the ID of its host.
    :param ip: the IP address of its gRPC port.
    :param port: that port.
    :param state: what the scheduler says that it does, such as ``Succeeded`` or ``Running``.
    :param content_length: bytes of the task, as the scheduler knows it; 0 where it does not.
    """

    peer_id: str
    host_id: str
    ip: str
    port: int
    state: str
    content_length: int


class FinishedPiece(NamedTuple):
    """
    A piece that this peer has downloaded.

    :param parent_id: the ID of the peer that it came from; empty where no scheduler named that peer.
    :param digest: empty where the parent named none.
    :param cost: seconds that it took.
    :param created_at: when it was finished, in Unix seconds.
    :param is_from_source: it came from the source, and not from a peer.
    """

    number: int
    offset: int
    length: int
    digest: str
    cost: float
    created_at: float
    parent_id: str = ""
    is_from_source: bool = False
