"""
The events of a download, for progress bars, JSON lines, logs, metrics and pages. All are frozen values; this module
imports nothing of Twisted.

Each event can be used alone: a piece says how much is there with it. As JSON (:func:`as_json`) an event has its type's
name in the field ``event``.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping

import msgspec
from msgspec import Struct, field

__all__ = [
    "DigestMismatched",
    "DownloadEvent",
    "DownloadFailed",
    "DownloadFinished",
    "DownloadedTask",
    "LayoutFound",
    "OnEvent",
    "ParentAdded",
    "ParentDropped",
    "ParentShare",
    "PieceKept",
    "PieceUnderWay",
    "PiecesDropped",
    "WaitReason",
    "Waiting",
    "as_json",
]


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
    :param fetched_twice: bytes that arrived twice, because another parent gave their piece first.
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


class PieceUnderWay(Struct, frozen=True, kw_only=True):
    """
    A request for a piece that has no answer yet. This is no event: a download is asked for these.

    :param number: of the piece.
    :param parent: the address of the parent that is asked.
    :param received: bytes of the piece that have arrived.
    """

    number: int
    parent: str
    received: int


class LayoutFound(Struct, frozen=True, kw_only=True, tag_field="event", tag="layout_found"):
    """
    The length of the task or of its pieces has become known, or has turned out to be another one.

    :param content_length: bytes of the whole task; None while it is unknown.
    :param piece_length: bytes of every piece but the last; None while it is unknown.
    """

    content_length: int | None
    piece_length: int | None


class PieceKept(Struct, frozen=True, kw_only=True, tag_field="event", tag="piece_kept"):
    """
    A piece is verified, and at the target.

    :param number: its number.
    :param offset: where it starts in the task, in bytes.
    :param length: bytes of it.
    :param digest: the digest that it was verified against; empty where there was none.
    :param parent: the parent that sent it; empty for a piece that was there, or that another download has fetched.
    :param transport: the name of the transport that carried it, ``tcp``, ``grpc`` or ``http``; empty without a parent.
    :param seconds: from the request to the verified piece.
    :param throttled: seconds of these in which this side's own limit of bytes per second delayed it.
    :param kept_bytes: bytes of all pieces that are at the target now.
    :param kept_pieces: how many pieces these are.
    :param content_length: bytes of the whole task; None while it is unknown.
    """

    number: int
    offset: int
    length: int
    digest: str = ""
    parent: str = ""
    transport: str = ""
    seconds: float = 0.0
    throttled: float = 0.0
    kept_bytes: int
    kept_pieces: int
    content_length: int | None


class PiecesDropped(Struct, frozen=True, kw_only=True, tag_field="event", tag="pieces_dropped"):
    """
    Pieces that were kept are wrong, and will be fetched again.

    :param numbers: their numbers.
    :param reason: why, in words; empty where the events of their parents tell.
    :param kept_bytes: bytes of all pieces that are at the target now.
    :param kept_pieces: how many pieces these are.
    """

    numbers: tuple[int, ...]
    reason: str = ""
    kept_bytes: int
    kept_pieces: int


class WaitReason(enum.Enum):
    """What a download waits for."""

    SILENT_PARENT = "silent_parent"
    """A parent has sent nothing for seconds, and no other one can be asked."""
    FAILED_PARENT = "failed_parent"
    """A parent has failed, and will be asked again."""
    PARENT_WITHOUT_TASK = "parent_without_task"
    """A parent does not have the task, and will be asked again."""
    PARENT_WITHOUT_NEWS = "parent_without_news"
    """A parent has announced no piece for seconds; it is asked for pieces anyway."""
    OTHER_PROCESS = "other_process"
    """Another process of this machine fetches the pieces that are missing, and does not go on."""


class Waiting(Struct, frozen=True, kw_only=True, tag_field="event", tag="waiting"):
    """
    The download waits. Each wait is reported once.

    :param reason: what it waits for.
    :param text: a line about it, for people.
    :param parent: the parent that is waited for; empty for another process.
    :param seconds: how long nothing has arrived by now.
    """

    reason: WaitReason
    text: str
    parent: str = ""
    seconds: float = 0.0


class ParentAdded(Struct, frozen=True, kw_only=True, tag_field="event", tag="parent_added"):
    """
    A parent is asked for pieces from now on, for the first time or again.

    :param parent: its address.
    """

    parent: str


class ParentDropped(Struct, frozen=True, kw_only=True, tag_field="event", tag="parent_dropped"):
    """
    A parent is asked for nothing any more, or until it is added again.

    :param parent: its address.
    :param reason: why, in words.
    :param has_lied: whether what it sent or said contradicts what is known. It is added again only where the parents
        that contradict it turn out to have lied.
    :param has_failed: whether it has lied, or has not given what it was asked for.
    :param rests: whether it is added again by itself after a pause.
    """

    parent: str
    reason: str
    has_lied: bool = False
    has_failed: bool = False
    rests: bool = False


class DigestMismatched(Struct, frozen=True, kw_only=True, tag_field="event", tag="digest_mismatched"):
    """
    A piece, or the whole task, does not have its digest.

    :param number: the piece's number; None for the whole task.
    :param parent: the parent that sent the piece; empty for the whole task.
    :param reason: what was expected and what came, in words.
    """

    number: int | None
    parent: str = ""
    reason: str = ""


class DownloadFinished(Struct, frozen=True, kw_only=True, tag_field="event", tag="finished"):
    """
    The task is at its target. This is the last event.

    :param task: the result.
    """

    task: DownloadedTask


class DownloadFailed(Struct, frozen=True, kw_only=True, tag_field="event", tag="failed"):
    """
    The download has failed, or was cancelled. This is the last event.

    :param error: the name of the error's class, such as ``NoParentLeft`` or ``CancelledError``.
    :param reason: its message.
    """

    error: str
    reason: str


DownloadEvent = (
    LayoutFound
    | PieceKept
    | PiecesDropped
    | Waiting
    | ParentAdded
    | ParentDropped
    | DigestMismatched
    | DownloadFinished
    | DownloadFailed
)
"""Any event of a download."""

OnEvent = Callable[[DownloadEvent], None]
"""The type of a listener: called in the reactor's thread. It must not block."""


def as_json(event: DownloadEvent) -> bytes:
    """An event as one line of JSON, without the end of the line."""
    return msgspec.json.encode(event)
