"""The result of a download."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dragonfly_vortex.events import DownloadedTask, ParentShare
from dragonfly_vortex.task.layout import VerifiedPiece
from dragonfly_vortex.task.parent_state import STORAGE
from dragonfly_vortex.task.scheduler import Plan

__all__ = ["share_of", "summary_of"]


def share_of(parent: str, pieces: Sequence[VerifiedPiece]) -> ParentShare:
    """Count the pieces and bytes that a parent has given."""
    lengths = [piece.length for piece in pieces if piece.parent == parent]
    return ParentShare(parent=parent, piece_count=len(lengths), content_length=sum(lengths))


def summary_of(
    plan: Plan,
    parents: Sequence[str],
    *,
    seconds: float,
    left_to_hash: int,
    lies: Mapping[str, str],
    digest: str,
    from_source: Mapping[str, int],
) -> DownloadedTask:
    """
    The result of a download.

    :param plan: the one that was followed to its end.
    :param parents: all parents that were named.
    :param digest: the digest of the whole that was expected; empty for none.
    :param from_source: how many pieces were asked of the source, by the reasons.
    """
    pieces = [plan.layout.verified[number] for number in range(plan.choice.end or 0)]
    return DownloadedTask(
        task_id=plan.task_id,
        content_length=plan.pieces.content_length or 0,
        piece_length=plan.layout.piece_length or 0,
        piece_count=len(pieces),
        seconds=seconds,
        left_to_hash=left_to_hash,
        shares=tuple(share_of(parent, pieces) for parent in parents),
        fetched_twice=plan.pieces.fetched_twice,
        found_piece_count=share_of(STORAGE, pieces).piece_count,
        lies=dict(lies),
        digest=digest,
        from_source=dict(from_source),
    )
