"""
The metadata that a parent sends before a piece's content, as a value and as bytes. Texts are UTF-8.

All numbers are big-endian. ``created_at`` stays an integer, because its range is wider than that of
:class:`datetime.datetime`.
"""

from __future__ import annotations

import struct
from functools import lru_cache

from msgspec import Struct

from dragonfly_vortex.errors import LocalProtocolError, RemoteProtocolError
from dragonfly_vortex.wire.tags import MAX_VALUE_LENGTH, TrafficType

__all__ = [
    "METADATA_LENGTH_SIZE",
    "MIN_METADATA_LENGTH",
    "PieceMetadata",
    "decode_metadata",
    "decode_metadata_length",
    "decode_text",
    "encode_metadata",
    "encode_text",
]

_HEAD = struct.Struct("!IQQI")  # number, offset, length, the digest's length
_LENGTH = struct.Struct("!I")
_TAIL = struct.Struct("!BQq")  # traffic type, cost, created_at

METADATA_LENGTH_SIZE = _LENGTH.size
"""Bytes in front of metadata that say how long they are."""

MIN_METADATA_LENGTH = _HEAD.size + _LENGTH.size + _TAIL.size
"""Bytes of metadata whose two texts are empty."""

EARLIEST_CREATED_AT = -8_334_601_228_800
LATEST_CREATED_AT = 8_210_266_876_799
"""
The range of ``created_at`` in Unix seconds: the years -262143 to 262142, which the reference's ``chrono`` can hold.
"""


class PieceMetadata(Struct, frozen=True, kw_only=True):
    """
    A piece's metadata, which a parent sends before its content.

    :param number: the piece's number in its task, from 0.
    :param offset: where the piece starts in the task's content, in bytes.
    :param length: bytes of the piece's content.
    :param digest: ``crc32:<decimal>``, ``sha256:<hex>`` or ``sha512:<hex>``; may be empty on the wire.
    :param parent_id: the peer that the sender had the piece from; may be empty.
    :param traffic_type: a :class:`~dragonfly_vortex.wire.tags.TrafficType`, or another number below 256.
    :param cost: how long the sender took to get the piece, in whole seconds.
    :param created_at: when the sender got the piece, in Unix seconds.
    :param extra: bytes behind the fields above. The reference skips them when it reads, and so do we; no known peer
        sends any.
    """

    number: int
    offset: int
    length: int
    digest: str
    parent_id: str = ""
    traffic_type: int = TrafficType.REMOTE_PEER
    cost: int = 0
    created_at: int = 0
    extra: bytes = b""


@lru_cache(maxsize=1024)
def encode_metadata(metadata: PieceMetadata) -> bytes:
    """
    The bytes of a piece's metadata, without their length. Those of the last pieces are kept: a parent sends a piece to
    many children.

    :raises LocalProtocolError: a field is out of its range, or the whole is longer than the other side would take.
    """
    digest = encode_text(metadata.digest, "digest")
    parent_id = encode_text(metadata.parent_id, "parent ID")
    _check_created_at(metadata.created_at, LocalProtocolError)
    try:
        encoded = (
            _HEAD.pack(metadata.number, metadata.offset, metadata.length, len(digest))
            + digest
            + _LENGTH.pack(len(parent_id))
            + parent_id
            + _TAIL.pack(metadata.traffic_type, metadata.cost, metadata.created_at)
            + metadata.extra
        )
    except struct.error as error:
        raise LocalProtocolError(f"a field of {metadata} does not fit its place: {error}") from error
    if len(encoded) > MAX_VALUE_LENGTH:
        raise LocalProtocolError(f"expected at most {MAX_VALUE_LENGTH} bytes of metadata, got {len(encoded)}")
    return encoded


def decode_metadata_length(data: bytes, value_length: int) -> int:
    """
    The metadata's length, from the first bytes of a content packet's value.

    :param data: at least 4 bytes: the start of the value.
    :param value_length: the value's length in bytes, as the header says.
    :raises RemoteProtocolError: metadata of that length do not fit the value or the limit.
    """
    (length,) = _LENGTH.unpack_from(data)
    most = min(MAX_VALUE_LENGTH, value_length - METADATA_LENGTH_SIZE)
    if not MIN_METADATA_LENGTH <= length <= most:
        raise RemoteProtocolError(f"expected metadata of {MIN_METADATA_LENGTH} to {most} bytes, got {length}")
    return int(length)


def decode_metadata(data: bytes) -> PieceMetadata:
    """
    A piece's metadata from its bytes.

    :param data: the metadata alone, without its length.
    :raises RemoteProtocolError: the bytes are no metadata.
    """
    if len(data) < MIN_METADATA_LENGTH:
        raise RemoteProtocolError(f"expected at least {MIN_METADATA_LENGTH} bytes of metadata, got {len(data)}")
    number, offset, length, digest_length = _HEAD.unpack_from(data)
    at = _HEAD.size
    digest, at = _take_text(data, at, digest_length, "digest")
    if len(data) < at + _LENGTH.size:
        raise RemoteProtocolError(
            f"expected a parent ID's length at byte {at} of the metadata, got {len(data)} bytes in all"
        )
    (parent_id_length,) = _LENGTH.unpack_from(data, at)
    parent_id, at = _take_text(data, at + _LENGTH.size, parent_id_length, "parent ID")
    if len(data) < at + _TAIL.size:
        raise RemoteProtocolError(f"expected {_TAIL.size} bytes behind the parent ID, got {len(data) - at}")
    traffic_type, cost, created_at = _TAIL.unpack_from(data, at)
    _check_created_at(created_at, RemoteProtocolError)
    return PieceMetadata(
        number=number,
        offset=offset,
        length=length,
        digest=digest,
        parent_id=parent_id,
        traffic_type=traffic_type,
        cost=cost,
        created_at=created_at,
        extra=bytes(data[at + _TAIL.size :]),
    )


def _take_text(data: bytes, at: int, length: int, what: str) -> tuple[str, int]:
    """The text of ``length`` bytes at ``at``, and the place behind it."""
    end = at + length
    if end > len(data):
        raise RemoteProtocolError(f"expected a {what} of {length} bytes, got {len(data) - at}")
    return decode_text(data[at:end], what), end


def _check_created_at(created_at: int, error: type[LocalProtocolError | RemoteProtocolError]) -> None:
    """Refuse a time that the reference could not hold."""
    if not EARLIEST_CREATED_AT <= created_at <= LATEST_CREATED_AT:
        raise error(
            f"expected a created_at from {EARLIEST_CREATED_AT} to {LATEST_CREATED_AT} seconds, got {created_at}"
        )


def encode_text(text: str, what: str) -> bytes:
    """
    The bytes of a text.

    :param what: what to call the text in a message.
    :raises LocalProtocolError: UTF-8 has no bytes for it: a file's name that was no UTF-8, say.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise LocalProtocolError(
            f"expected a {what} that UTF-8 can hold: {error.reason} at its character {error.start}"
        ) from error


def decode_text(data: bytes, what: str) -> str:
    """
    The text of bytes.

    :param what: what to call the text in a message.
    :raises RemoteProtocolError: the bytes are no UTF-8.
    """
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError as error:
        raise RemoteProtocolError(f"expected a {what} in UTF-8: {error.reason} at its byte {error.start}") from error
