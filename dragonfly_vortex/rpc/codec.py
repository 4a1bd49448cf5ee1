"""
Parses requests of Dragonfly's API, fills in replies, and encodes and decodes the reply of a ``Download…Piece`` method:
a piece with its content.

The content is the last field of the piece in what we send, and cut out of what we receive before the rest is given to
protobuf: protobuf would copy it twice on either side, and a piece may have 64 MiB. Both are plain protobuf on the wire,
where fields stand in any order.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple, TypeVar

from dragonfly_api import common_pb2, dfdaemon_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp

from dragonfly_vortex.digest import crc32_of
from dragonfly_vortex.errors import PieceDamaged, RemoteProtocolError, StorageFailure
from dragonfly_vortex.model import FileRange, OpenPiece
from dragonfly_vortex.rpc.limits import MAX_PLAIN_REQUEST
from dragonfly_vortex.rpc.methods import PieceReply
from dragonfly_vortex.wire import PieceMetadata

__all__ = [
    "MAX_OVERHEAD",
    "ReceivedPiece",
    "close_piece",
    "decode_piece",
    "encode_arrived",
    "encode_piece",
    "fill",
    "metadata_digest",
    "parse",
    "read_reply",
]

_M = TypeVar("_M", bound=Message)

MAX_OVERHEAD = 64 * 1024
"""Bytes that a reply may have beside the content, as the metadata in a Vortex packet may have."""

_LONGEST = (1 << 63) - 1
"""Seconds that protobuf can hold."""

_FACTS = struct.Struct("!IQQ")  # number, offset, length

_PIECE = PieceReply.PIECE_FIELD_NUMBER
_ARRIVED = dfdaemon_pb2.DownloadPieceFinishedResponse.PIECE_FIELD_NUMBER
_CONTENT = common_pb2.Piece.CONTENT_FIELD_NUMBER
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # protobuf's wire types; 3 and 4 are groups, which proto3 has not


def parse(message: type[_M], data: bytes, most: int = MAX_PLAIN_REQUEST) -> _M:
    """
    Parse a request.

    :param most: how many bytes it may have.
    :raises RemoteProtocolError: the bytes are none, or too many.
    """
    if len(data) > most:
        raise RemoteProtocolError(f"expected a {message.DESCRIPTOR.name} of at most {most} bytes, got {len(data)}")
    try:
        return message.FromString(data)
    except DecodeError as error:
        raise RemoteProtocolError(f"expected a {message.DESCRIPTOR.name} in protobuf: {error}") from error


def fill(message: type[_M], **facts: object) -> _M:
    """Fill a reply with those facts for which it has fields."""
    fields = _fields_of(message)  # type: ignore[arg-type]  # a class is hashable, which mypy does not see of a message's
    return message(**{name: fact for name, fact in facts.items() if name in fields})


@cache
def _fields_of(message: type[Message]) -> frozenset[str]:
    """The names of a message's fields. Its descriptor needs longer to look one up than a message to be filled."""
    return frozenset(message.DESCRIPTOR.fields_by_name)


class ReceivedPiece(NamedTuple):
    """
    A reply, taken apart; nothing of it has been verified.

    :param metadata: what the parent says about the piece.
    :param metadata_digest: what the parent says that the digest of that is; empty where it says nothing.
    :param content: the bytes, inside the reply's own.
    """

    metadata: PieceMetadata
    metadata_digest: str
    content: memoryview


def metadata_digest(metadata: PieceMetadata) -> str:
    """
    The digest of a piece's number, offset, length and digest, ``crc32:<decimal>``.

    As the reference computes it (``dragonfly-client-storage``, ``metadata.rs``, ``calculate_digest``): the numbers
    big-endian, the digest as text.
    """
    facts = _FACTS.pack(metadata.number, metadata.offset, metadata.length)
    return f"crc32:{crc32_of()(facts + metadata.digest.encode(), 0)}"


def encode_piece(metadata: PieceMetadata, content: bytes) -> list[bytes]:
    """
    The reply with a piece.

    :param metadata: its row; the traffic type becomes that of a peer.
    :param content: its bytes.
    :returns: the reply in parts, one of which is the content, so that it need not be copied.
    """
    piece = common_pb2.Piece(
        number=metadata.number,
        parent_id=metadata.parent_id or None,
        offset=metadata.offset,
        length=metadata.length,
        digest=metadata.digest,
        traffic_type=common_pb2.REMOTE_PEER,
        cost=Duration(seconds=min(metadata.cost, _LONGEST)),
        created_at=Timestamp(seconds=metadata.created_at),
    ).SerializeToString()
    head = piece + _prefix(_CONTENT, len(content))
    digest = metadata_digest(metadata).encode()
    return [
        _prefix(_PIECE, len(head) + len(content)) + head,
        content,
        _prefix(PieceReply.DIGEST_FIELD_NUMBER, len(digest)) + digest,
    ]


def encode_arrived(reply: Message, field: str, piece: common_pb2.Piece, content: bytes) -> bytes:
    """
    The reply with a piece of a download. The content is copied once.

    :param reply: the rest of it.
    :param field: the field for the piece, a ``DownloadPieceFinishedResponse``.
    :param piece: the piece without its content.
    :param content: its bytes.
    """
    described = piece.SerializeToString() + _prefix(_CONTENT, len(content))
    inner = _prefix(_ARRIVED, len(described) + len(content)) + described
    number = reply.DESCRIPTOR.fields_by_name[field].number
    head = reply.SerializeToString() + _prefix(number, len(inner) + len(content)) + inner
    return b"".join((head, content))


def decode_piece(data: bytes) -> ReceivedPiece:
    """
    Take a reply apart. The content is not copied.

    :raises RemoteProtocolError: it is none, or has more than :data:`MAX_OVERHEAD` bytes beside the content.
    """
    # What is walked over in Python is limited: a message can have millions of fields.
    left = MAX_OVERHEAD
    content = memoryview(b"")
    rest: list[memoryview] = []
    facts: list[memoryview] | None = None
    for field in _fields(memoryview(data)):
        if field.number != _PIECE or field.wire_type != _BYTES:
            rest.append(field.whole)
            left = _spend(left, len(field.whole))
            continue
        facts = [] if facts is None else facts
        left = _spend(left, len(field.whole) - len(field.value))
        for inner in _fields(field.value):
            if inner.number == _CONTENT and inner.wire_type == _BYTES:
                content = inner.value
                left = _spend(left, len(inner.whole) - len(inner.value))
            else:
                facts.append(inner.whole)
                left = _spend(left, len(inner.whole))
    if facts is None:
        raise RemoteProtocolError("expected a reply with a piece, got one without")
    try:
        reply = PieceReply.FromString(b"".join(rest))
        piece = common_pb2.Piece.FromString(b"".join(facts))
    except DecodeError as error:
        raise RemoteProtocolError(f"expected a reply in protobuf: {error}") from error
    metadata = PieceMetadata(
        number=piece.number,
        offset=piece.offset,
        length=piece.length,
        digest=piece.digest,
        parent_id=piece.parent_id,
        traffic_type=piece.traffic_type,
        cost=max(0, piece.cost.seconds),
        created_at=piece.created_at.seconds,
    )
    return ReceivedPiece(metadata=metadata, metadata_digest=reply.digest, content=content)


def _spend(left: int, length: int) -> int:
    if length > left:
        raise RemoteProtocolError(f"expected at most {MAX_OVERHEAD} bytes beside the content, got more")
    return left - length


# -- the little of protobuf's encoding that is needed: https://protobuf.dev/programming-guides/encoding/


class _Field(NamedTuple):
    """
    A field of a message.

    :param whole: its bytes, with tag and length.
    :param value: its bytes, without.
    """

    number: int
    wire_type: int
    whole: memoryview
    value: memoryview


def _fields(data: memoryview) -> Iterator[_Field]:
    """Walk over a message's fields."""
    at = 0
    while at < len(data):
        tag, start = _take_varint(data, at)
        wire_type = tag & 7
        if wire_type == _BYTES:
            length, start = _take_varint(data, start)
            end = start + length
        elif wire_type == _VARINT:
            _, end = _take_varint(data, start)
        elif wire_type in (_FIXED32, _FIXED64):
            end = start + (4 if wire_type == _FIXED32 else 8)
        else:
            raise RemoteProtocolError(f"expected a reply in protobuf, got a field of wire type {wire_type}")
        if end > len(data):
            raise RemoteProtocolError(f"expected a field up to byte {end} of the reply, got {len(data)} bytes in all")
        yield _Field(tag >> 3, wire_type, data[at:end], data[start:end])
        at = end


def _take_varint(data: memoryview, at: int) -> tuple[int, int]:
    """The number at a place, and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise RemoteProtocolError("expected a reply in protobuf, got a number without an end")


def _prefix(number: int, length: int) -> bytes:
    """What stands before a field of so many bytes."""
    encoded = bytearray()
    for value in (number << 3 | _BYTES, length):
        while value > 0x7F:
            encoded.append(value & 0x7F | 0x80)
            value >>= 7
        encoded.append(value)
    return bytes(encoded)


def close_piece(piece: OpenPiece) -> None:
    """Close the file of a piece."""
    os.close(piece.range.descriptor)


def read_reply(piece: OpenPiece) -> list[bytes]:
    """
    Read a piece, and close its file. Blocks.

    :returns: the reply that the piece is sent in, in parts.
    :raises PieceDamaged: the file ends before the piece does.
    :raises StorageFailure: the disk fails.
    """
    try:
        return encode_piece(piece.metadata, _read(piece.range))
    finally:
        close_piece(piece)


def _read(range: FileRange) -> bytes:
    """
    Bytes of a file, read at once wherever the system does.

    :raises PieceDamaged: the file ends before.
    :raises StorageFailure: the disk fails.
    """
    chunks: list[bytes] = []
    left = range.length
    while left:
        try:
            chunk = os.pread(range.descriptor, left, range.offset + range.length - left)
        except OSError as error:
            raise StorageFailure(f"expected {range.length} bytes at {range.offset}: {error}") from error
        if not chunk:
            raise PieceDamaged(f"expected {range.length} bytes at {range.offset}, got {range.length - left}")
        chunks.append(chunk)
        left -= len(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
