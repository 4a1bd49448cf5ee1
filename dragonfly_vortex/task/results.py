"""The progress and the result of a download."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct, field

from dragonfly_vortex.task.layout import VerifiedPiece
from dragonfly_vortex.task.parent_state import STORAGE
from dragonfly_vortex.task.scheduler import Plan

__all__ = ["DownloadedTask", "ParentShare", "Progress", "share_of", "summary_of"]


class Progress(Struct, frozen=True, kw_only=True):
    """
    The progress of a download.

    :param verified_bytes: bytes of the pieces that have arrived and have their digests.
    :param verified_pieces: how many pieces these are.
    :param content_length: bytes of the whole task; None while it is unknown.
    """

    verified_bytes: int
    verified_pieces: int
    content_length: int | None

    @classmethod
    def of(cls, plan: Plan) -> Progress:
        """How far the download that follows a plan is."""
        return cls(
            verified_bytes=plan.layout.verified_length,
            verified_pieces=len(plan.layout.verified),
            content_length=plan.pieces.content_length,
        )


class ParentShare(Struct, frozen=True, kw_only=True):
    """
    The pieces and bytes that a parent has given.

    :param parent: its address, ``HOST:PORT``.
    :param piece_count: pieces of the finished file that came from it.
    :param content_length: bytes of these.
    """

    parent: str
    piece_count: int
    content_length: int


class DownloadedTask(Struct, frozen=True, kw_only=True):
    """
    A task that has been downloaded: it is at its target, and all of it is verified.

    :param content_length: bytes of it.
    :param piece_length: bytes of every piece but the last.
    :param piece_count: how many pieces it has.
    :param seconds: how long it took, publishing included.
    :param left_to_hash: bytes that had not been hashed when the last piece arrived.
    :param shares: what each parent has given, in the order in which they were named.
    :param fetched_twice: bytes that came in vain, because another parent gave their piece first.
    :param found_piece_count: pieces that no parent sent in this download: they were stored already, or came from
        another download.
    :param lies: parents that are known to have lied, by address, and what each lie was. Where there is no digest of the
        whole they only contradict the others: it is not known which of them are right.
    :param digest: the digest of the whole that it was verified against; empty where there is none, and then each piece
        was verified against the digest that its parent named.
    :param from_source: how many pieces were asked of the source, by the reasons of
        :mod:`~dragonfly_vortex.task.source_choice`.
    """

    task_id: str
    content_length: int
    piece_length: int
    piece_count: int
    seconds: float
    left_to_hash: int
    shares: tuple[ParentShare, ...]
    fetched_twice: int = 0
    found_piece_count: int = 0
    lies: Mapping[str, str] = field(default_factory=dict)
    digest: str = ""
    from_source: Mapping[str, int] = field(default_factory=dict)


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
