"""
The packets of the protocol as values: :class:`Vortex` and its five forms.

``Vortex.from_bytes(data).to_bytes() == data`` for every packet that is not refused.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from msgspec import Struct
from msgspec.structs import replace

from dragonfly_vortex.errors import LocalProtocolError, RemoteProtocolError
from dragonfly_vortex.wire.metadata import (
    MIN_METADATA_LENGTH,
    PieceMetadata,
    decode_metadata,
    decode_metadata_length,
    decode_text,
    encode_metadata,
    encode_text,
)
from dragonfly_vortex.wire.tags import (
    CLOSE_TAG,
    ERROR_TAG,
    HEADER,
    HEADER_LENGTH,
    KIND_OF_CONTENT,
    KIND_OF_REQUEST,
    MAX_VALUE_LENGTH,
    REQUEST_LENGTH,
    TASK_ID_LENGTH,
    PieceKind,
    TrafficType,
)

__all__ = [
    "Close",
    "ErrorReply",
    "PieceContent",
    "PieceRequest",
    "Reserved",
    "Vortex",
    "check_value_length",
    "decode_value",
    "printable",
]

_LENGTH = struct.Struct("!I")
_MAX_LENGTH = 0xFFFF_FFFF

_MAX_PRINTED = 200
"""Characters of a stranger's words that a message repeats."""


class Vortex(Struct, frozen=True, kw_only=True):
    """
    A packet: one of the classes below.

    :param packet_id: 0 to 255; our replies repeat that of the request. Peers must not rely on it.
    """

    packet_id: int

    @staticmethod
    def from_bytes(data: bytes) -> Vortex:
        """
        Decode a packet.

        :param data: one whole packet, header included. A piece's content that follows a packet in the deployed form
            is no part of it.
        :raises RemoteProtocolError: the bytes are not one whole packet.
        """
        if len(data) < HEADER_LENGTH:
            raise RemoteProtocolError(f"expected at least {HEADER_LENGTH} bytes for a header, got {len(data)}")
        packet_id, tag, length = HEADER.unpack_from(data)
        check_value_length(tag, length)
        if len(data) - HEADER_LENGTH != length:
            raise RemoteProtocolError(
                f"expected a value of {length} bytes, as the header says, got {len(data) - HEADER_LENGTH}"
            )
        return decode_value(packet_id, tag, data[HEADER_LENGTH:])

    def to_bytes(self) -> bytes:
        """
        The packet's bytes, header included.

        :raises LocalProtocolError: a field cannot be sent.
        """
        tag, value = self.tag, self._value()
        check_value_length(tag, len(value), LocalProtocolError)
        try:
            return HEADER.pack(self.packet_id, tag, len(value)) + value
        except struct.error as error:
            raise LocalProtocolError(f"expected a packet ID from 0 to 255 and a length below 4 GiB: {error}") from error

    @property
    def tag(self) -> int:
        """The packet's tag on the wire."""
        raise LocalProtocolError("a packet is one of the forms of Vortex, not Vortex itself")

    def _value(self) -> bytes:
        """The packet's value on the wire."""
        raise LocalProtocolError("a packet is one of the forms of Vortex, not Vortex itself")


class PieceRequest(Vortex, frozen=True, kw_only=True):
    """
    A child asks for a piece.

    :param kind: the kind of the piece.
    :param task_id: the task, 64 bytes.
    :param number: the piece's number, from 0.
    """

    kind: PieceKind
    task_id: str
    number: int

    @property
    def tag(self) -> int:
        return self.kind.request_tag

    def _value(self) -> bytes:
        task_id = encode_text(self.task_id, "task ID")
        if len(task_id) != TASK_ID_LENGTH:
            raise LocalProtocolError(
                f"expected a task ID of {TASK_ID_LENGTH} bytes, got {len(task_id)}: {self.task_id!r}"
            )
        try:
            return task_id + _LENGTH.pack(self.number)
        except struct.error as error:
            raise LocalProtocolError(f"expected a piece number from 0 to {_MAX_LENGTH}, got {self.number}") from error


class PieceContent(Vortex, frozen=True, kw_only=True):
    """
    A parent sends a piece: its metadata, and behind them ``metadata.length`` bytes of content.

    Deployed peers leave the content outside the packet's length; by the text of the specification it is inside. We
    send the first form and accept both (:meth:`Vortex.from_bytes` fills ``content`` for the second).

    :param kind: the kind of the piece.
    :param metadata: what the parent says about it.
    :param content: the content where it is part of the packet, as the specification has it; empty in the deployed form.
    """

    kind: PieceKind
    metadata: PieceMetadata
    content: bytes = b""

    @classmethod
    def of(cls, request: PieceRequest, metadata: PieceMetadata) -> PieceContent:
        """
        The reply to a request. To a child all pieces come from a remote peer.

        :param metadata: the piece's row.
        """
        if metadata.traffic_type != TrafficType.REMOTE_PEER:
            metadata = replace(metadata, traffic_type=TrafficType.REMOTE_PEER)
        return cls(packet_id=request.packet_id, kind=request.kind, metadata=metadata)

    @property
    def tag(self) -> int:
        return self.kind.content_tag

    def _value(self) -> bytes:
        if self.content and len(self.content) != self.metadata.length:
            raise LocalProtocolError(f"expected {self.metadata.length} bytes of content, got {len(self.content)}")
        metadata = encode_metadata(self.metadata)
        return _LENGTH.pack(len(metadata)) + metadata + self.content


class ErrorReply(Vortex, frozen=True, kw_only=True):
    """
    A parent cannot send the piece.

    :param code: an :class:`~dragonfly_vortex.wire.tags.ErrorCode`, or a reserved number below 256.
    :param text: what went wrong, for a person.
    """

    code: int
    text: str

    @property
    def tag(self) -> int:
        return ERROR_TAG

    def _value(self) -> bytes:
        if not 0 <= self.code <= 255:
            raise LocalProtocolError(f"expected an error code from 0 to 255, got {self.code}")
        return bytes((self.code,)) + encode_text(self.text, "text")


class Close(Vortex, frozen=True, kw_only=True):
    """
    The sender will request nothing more.

    :param value: empty when we send it; the reference accepts anything.
    """

    value: bytes = b""

    @property
    def tag(self) -> int:
        return CLOSE_TAG

    def _value(self) -> bytes:
        return self.value


class Reserved(Vortex, frozen=True, kw_only=True):
    """
    A packet whose tag has no meaning yet. It can be read and written; in a conversation it is an error.

    :param reserved_tag: 8 to 253.
    :param value: its value, not understood.
    """

    reserved_tag: int
    value: bytes = b""

    @property
    def tag(self) -> int:
        if self.reserved_tag in _MEANINGS:
            raise LocalProtocolError(f"expected a tag without a meaning, got {self.reserved_tag}")
        return self.reserved_tag

    def _value(self) -> bytes:
        return self.value


def check_value_length(
    tag: int, length: int, error: type[LocalProtocolError | RemoteProtocolError] = RemoteProtocolError
) -> None:
    """
    Refuse a value's length that cannot be right for its tag, before a byte of the value is read or kept.

    :param length: the value's length in bytes, as the header says.
    :param error: what to raise.
    """
    least, most, _ = _MEANINGS.get(tag, _RESERVED)
    if not least <= length <= most:
        wanted = f"{least}" if least == most else f"{least} to {most}"
        raise error(f"expected a value of {wanted} bytes for tag {tag}, got {length}")


def decode_value(packet_id: int, tag: int, value: bytes) -> Vortex:
    """
    Decode the packet of a header and its value.

    :param value: the whole value; its length has passed :func:`check_value_length`.
    :raises RemoteProtocolError: the value is not one of its tag.
    """
    decode = _MEANINGS.get(tag, _RESERVED)[2]
    return decode(packet_id, tag, value)


def printable(text: str) -> str:
    """A text on one line, without control characters, cut to a limited length."""
    line = "".join(character if character.isprintable() else " " for character in text).strip()
    return line if len(line) <= _MAX_PRINTED else f"{line[:_MAX_PRINTED]}…"


def _decode_request(packet_id: int, tag: int, value: bytes) -> Vortex:
    (number,) = _LENGTH.unpack_from(value, TASK_ID_LENGTH)
    task_id = decode_text(value[:TASK_ID_LENGTH], "task ID")
    return PieceRequest(packet_id=packet_id, kind=KIND_OF_REQUEST[tag], task_id=task_id, number=number)


def _decode_content(packet_id: int, tag: int, value: bytes) -> Vortex:
    end = _LENGTH.size + decode_metadata_length(value, len(value))
    metadata = decode_metadata(value[_LENGTH.size : end])
    content = value[end:]
    if content and len(content) != metadata.length:
        raise RemoteProtocolError(f"expected no content in the packet or {metadata.length} bytes, got {len(content)}")
    return PieceContent(packet_id=packet_id, kind=KIND_OF_CONTENT[tag], metadata=metadata, content=bytes(content))


def _decode_error(packet_id: int, tag: int, value: bytes) -> Vortex:
    return ErrorReply(packet_id=packet_id, code=value[0], text=decode_text(value[1:], "text"))


def _decode_close(packet_id: int, tag: int, value: bytes) -> Vortex:
    return Close(packet_id=packet_id, value=bytes(value))


def _decode_reserved(packet_id: int, tag: int, value: bytes) -> Vortex:
    return Reserved(packet_id=packet_id, reserved_tag=tag, value=bytes(value))


# What a tag means: the least and the most bytes of its value, and the function that reads it. The tags of requests and
# contents are in the kinds.
_Meaning = tuple[int, int, Callable[[int, int, bytes], Vortex]]
_RESERVED: _Meaning = (0, MAX_VALUE_LENGTH, _decode_reserved)
_MEANINGS: dict[int, _Meaning] = {
    CLOSE_TAG: (0, MAX_VALUE_LENGTH, _decode_close),
    ERROR_TAG: (1, MAX_VALUE_LENGTH, _decode_error),
}
_MEANINGS.update((tag, (REQUEST_LENGTH, REQUEST_LENGTH, _decode_request)) for tag in KIND_OF_REQUEST)
_MEANINGS.update((tag, (_LENGTH.size + MIN_METADATA_LENGTH, _MAX_LENGTH, _decode_content)) for tag in KIND_OF_CONTENT)
