"""
Protobuf by hand, from its specification alone, so that our own messages cannot agree with themselves only.

What is written here is what a peer of before January 2026 says: field by field, in the order of their numbers.
"""

from __future__ import annotations

from typing import NamedTuple

from dragonfly_vortex.testing.pieces import SamplePiece
from dragonfly_vortex.wire import PieceKind

__all__ = ["LEGACY_PATHS", "HandMadePiece", "piece_reply", "piece_request", "read_fields", "read_reply", "varint"]

LEGACY_PATHS = {
    PieceKind.STANDARD: "/dfdaemon.v2.DfdaemonUpload/DownloadPiece",
    PieceKind.PERSISTENT: "/dfdaemon.v2.DfdaemonUpload/DownloadPersistentPiece",
    PieceKind.PERSISTENT_CACHE: "/dfdaemon.v2.DfdaemonUpload/DownloadPersistentCachePiece",
    PieceKind.CACHE: "/dfdaemon.v2.DfdaemonUpload/DownloadCachePiece",
}
"""What is asked for a piece of each kind."""


def varint(value: int) -> bytes:
    """A number, seven bits to a byte, the lowest first."""
    low, high = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + varint(high) if high else bytes([low])


def number_field(field: int, value: int) -> bytes:
    """A field with a number; proto3 leaves out one that is zero."""
    return varint(field << 3) + varint(value) if value else b""


def bytes_field(field: int, value: bytes) -> bytes:
    """A field with bytes, a text or a message."""
    return varint(field << 3 | 2) + varint(len(value)) + value


def piece_request(task_id: str, number: int, host_id: str = "") -> bytes:
    """host_id = 1, task_id = 2, piece_number = 3."""
    host = bytes_field(1, host_id.encode()) if host_id else b""
    return host + bytes_field(2, task_id.encode()) + number_field(3, number)


def piece_reply(piece: SamplePiece, *, metadata_digest: str | None = None) -> bytes:
    """
    piece = 1 {number = 1, parent_id = 2, offset = 3, length = 4, digest = 5, content = 6}, digest = 2.

    :param metadata_digest: None for none, as in a peer that does not compute it.
    """
    metadata = piece.metadata
    message = (
        number_field(1, metadata.number)
        + bytes_field(2, metadata.parent_id.encode())
        + number_field(3, metadata.offset)
        + number_field(4, metadata.length)
        + (bytes_field(5, metadata.digest.encode()) if metadata.digest else b"")
        + bytes_field(6, piece.content)
    )
    digest = bytes_field(2, metadata_digest.encode()) if metadata_digest is not None else b""
    return bytes_field(1, message) + digest


def read_fields(data: bytes) -> dict[int, int | bytes]:
    """The fields of a message; each is expected once."""
    fields: dict[int, int | bytes] = {}
    at = 0

    def take() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        tag = take()
        if tag >> 3 in fields or tag & 7 not in (0, 2):
            raise ValueError(f"expected each field once, numbers and bytes only, got tag {tag} at {at} of {data!r}")
        value = take()
        if tag & 7 == 2:
            fields[tag >> 3] = data[at : at + value]
            at += value
        else:
            fields[tag >> 3] = value
    return fields


class HandMadePiece(NamedTuple):
    """
    What a legacy child finds in a reply.

    :param metadata_digest: empty where there is none.
    """

    number: int
    offset: int
    length: int
    digest: str
    content: bytes
    metadata_digest: str


def read_reply(data: bytes) -> HandMadePiece:
    """Take a reply apart."""
    reply = read_fields(data)
    piece = read_fields(_bytes(reply.get(1)))
    return HandMadePiece(
        number=_number(piece.get(1)),
        offset=_number(piece.get(3)),
        length=_number(piece.get(4)),
        digest=_bytes(piece.get(5)).decode(),
        content=_bytes(piece.get(6)),
        metadata_digest=_bytes(reply.get(2)).decode(),
    )


def _number(value: int | bytes | None) -> int:
    if isinstance(value, bytes):
        raise ValueError(f"expected a number, got {value!r}")
    return value or 0


def _bytes(value: int | bytes | None) -> bytes:
    if isinstance(value, int):
        raise ValueError(f"expected bytes, got {value}")
    return value or b""
