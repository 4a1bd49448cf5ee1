"""Arithmetic of pieces: how a task's content is cut into them. Nothing is read or written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from dragonfly_vortex.errors import StorageError
from dragonfly_vortex.model import StoredPiece, StoredTask
from dragonfly_vortex.wire import PieceMetadata

__all__ = [
    "BLOCK_LENGTH",
    "MAX_CONTENT_LENGTH",
    "MAX_PIECE_COUNT",
    "MAX_PIECE_LENGTH",
    "SHORTEST_BY_RULE",
    "Progress",
    "check_lengths",
    "fits",
    "is_complete",
    "piece_count",
    "piece_length_for",
    "piece_span",
]

MAX_PIECE_LENGTH = 1 << 30
"""Bytes that a piece may have at the most. Dragonfly's own pieces end at 64 MiB."""

MAX_PIECE_COUNT = 1 << 20
"""
Pieces that a task may have: 4 TiB in pieces of 4 MiB, the least piece length that a user of the reference may choose
(``MIN_PIECE_LENGTH``, ``dragonfly-client-config`` 1.5.10), and 64 TiB in the longest pieces of its rule. On the wire a
number has 32 bits, but a download keeps some state for each piece.
"""

MAX_CONTENT_LENGTH = (1 << 63) - 1
"""Bytes that a task may have: no file can be longer."""

BLOCK_LENGTH = 1 << 20
"""Bytes that are read at a time: what an import or an export needs in memory."""

SHORTEST_BY_RULE = 4 << 20
"""Bytes that Dragonfly's own pieces have at the least, but for a last one."""

_LONGEST_BY_RULE = 64 << 20
_PIECES_BY_RULE = 500


class Progress(NamedTuple):
    """
    The progress of an import or an export.

    :param content_done: bytes.
    :param content_length: bytes of the whole.
    :param pieces_done: pieces.
    :param piece_count: pieces of the whole.
    """

    content_done: int
    content_length: int
    pieces_done: int
    piece_count: int


def piece_length_for(content_length: int) -> int:
    """
    The default piece length of a content, in bytes.

    Dragonfly's rule (``dragonfly-client``, ``resource/piece.rs``): a five-hundredth of the content, rounded up to a
    power of two, but at least 4 MiB and at most 64 MiB.

    :param content_length: bytes.
    """
    wanted = content_length // _PIECES_BY_RULE
    return min(max(1 << max(wanted - 1, 0).bit_length(), SHORTEST_BY_RULE), _LONGEST_BY_RULE)


def piece_count(content_length: int, piece_length: int) -> int:
    """
    How many pieces a content has. An empty one has one piece of no bytes, so that it can be requested.

    :param content_length: bytes.
    :param piece_length: bytes of every piece but the last.
    """
    return max(1, -(-content_length // piece_length))


def piece_span(number: int, content_length: int, piece_length: int) -> tuple[int, int]:
    """
    A piece's offset and length in the content, in bytes.

    :raises StorageError: the content has no piece of that number.
    """
    count = piece_count(content_length, piece_length)
    if not 0 <= number < count:
        raise StorageError(f"expected a piece number below {count}, got {number}")
    offset = number * piece_length
    return offset, min(piece_length, content_length - offset)


def fits(metadata: PieceMetadata, content_length: int | None, piece_length: int) -> bool:
    """
    Return whether the offset and the length of a piece are those that its number requires.

    :param content_length: bytes; None where that is not known, and any piece may be the last.
    :param piece_length: bytes of every piece but the last.
    """
    if content_length is None:
        return metadata.offset == metadata.number * piece_length and metadata.length <= piece_length
    return metadata.number < piece_count(content_length, piece_length) and (
        metadata.offset,
        metadata.length,
    ) == piece_span(metadata.number, content_length, piece_length)


def check_lengths(content_length: int | None, piece_length: int) -> None:
    """
    Refuse a content that cannot be stored in pieces of that length.

    :param content_length: bytes; None where that is not known yet.
    :param piece_length: bytes of every piece but the last.
    :raises StorageError: one of the two is out of its range, or there would be too many pieces.
    """
    if content_length is not None and not 0 <= content_length <= MAX_CONTENT_LENGTH:
        raise StorageError(f"expected a content of at most {MAX_CONTENT_LENGTH} bytes, got {content_length}")
    if not 1 <= piece_length <= MAX_PIECE_LENGTH:
        raise StorageError(f"expected a piece length of 1 to {MAX_PIECE_LENGTH} bytes, got {piece_length}")
    if content_length is None:
        return
    count = piece_count(content_length, piece_length)
    if count > MAX_PIECE_COUNT:
        raise StorageError(f"expected a piece length that gives at most {MAX_PIECE_COUNT} pieces, got {count} pieces")


def is_complete(task: StoredTask, pieces: Sequence[StoredPiece]) -> bool:
    """
    Whether a storage has all of a task, and none of its pieces is damaged.

    :param pieces: the rows of all pieces that it has.
    """
    if task.content_length is None or any(piece.damage for piece in pieces):
        return False
    return len(pieces) >= piece_count(task.content_length, task.piece_length)
