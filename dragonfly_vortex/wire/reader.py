"""
A parser that cuts a stream of received bytes into packets, for either side of a connection.

Every limit is checked from the header, before a byte of the value is kept. A piece's content is counted and passed
on as it came; never more of a packet is kept than :data:`~dragonfly_vortex.wire.tags.MAX_VALUE_LENGTH` and a header.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from dragonfly_vortex.errors import LocalProtocolError, RemoteProtocolError
from dragonfly_vortex.wire.messages import (
    PieceContent,
    Vortex,
    check_value_length,
    decode_value,
)
from dragonfly_vortex.wire.metadata import (
    METADATA_LENGTH_SIZE,
    MIN_METADATA_LENGTH,
    decode_metadata,
    decode_metadata_length,
)
from dragonfly_vortex.wire.tags import HEADER, HEADER_LENGTH, KIND_OF_CONTENT

__all__ = ["ContentFinished", "ContentReceived", "Event", "PacketReader", "ReceiveBuffer"]

_LEAST_CONTENT = METADATA_LENGTH_SIZE + MIN_METADATA_LENGTH


class ContentReceived(Struct, frozen=True):
    """
    An event: a part of a piece's content was received.

    :param data: the bytes, as they came; a view is good for as long as it is held.
    """

    data: bytes | memoryview


class ContentFinished(Struct, frozen=True):
    """An event: the last byte of a piece's content was received."""


Event = Vortex | ContentReceived | ContentFinished
"""What a stream consists of. A :class:`PieceContent` here never has content: that follows as events of its own."""


class ReceiveBuffer:
    """
    The bytes that have been received and not yet read, in their order.

    A chunk that arrives while nothing is waiting is kept as it is, and what is taken from it as content is a view of
    it: a piece's bytes are not copied here. Only the rest of a chunk that ends inside a packet is copied, to be joined
    with the next.
    """

    __slots__ = ("_data", "_start", "length")

    def __init__(self) -> None:
        self.length = 0
        """How many bytes there are."""
        self._data: bytes | bytearray = b""
        self._start = 0

    def append(self, data: bytes) -> None:
        """Add what has been received."""
        if not self.length:
            self._data = data
        elif isinstance(self._data, bytearray):
            del self._data[: self._start]
            self._data += data
        else:
            self._data = bytearray(memoryview(self._data)[self._start :])
            self._data += data
        self._start = 0
        self.length += len(data)

    def take(self, length: int) -> bytes | None:
        """
        Remove and return the next ``length`` bytes. Return None, and remove none, if there are fewer.

        :param length: how many bytes.
        """
        if length > self.length:
            return None
        data = bytes(self._data[self._start : self._start + length])
        self._skip(length)
        return data

    def take_at_most(self, length: int) -> bytes | memoryview:
        """
        Up to ``length`` of the next bytes, without a copy where they came in one chunk; empty when there are none.

        :param length: how many bytes at the most.
        """
        start, end = self._start, self._start + min(length, self.length)
        taken: bytes | memoryview
        if isinstance(self._data, bytearray):  # a view would forbid it to grow
            taken = bytes(memoryview(self._data)[start:end])
        elif start == 0 and end == len(self._data):
            taken = self._data
        else:
            taken = memoryview(self._data)[start:end]
        self._skip(end - start)
        return taken

    def _skip(self, length: int) -> None:
        self.length -= length
        if self.length:
            self._start += length
        else:
            self._data, self._start = b"", 0


class PacketReader:
    """
    Turns bytes into events: call :meth:`receive_data`, then :meth:`next_event` until it returns None.

    :param max_piece_length: bytes that a piece may have at the most; None for no limit.
    """

    def __init__(self, max_piece_length: int | None = None) -> None:
        self.max_piece_length = max_piece_length
        self._buffer = ReceiveBuffer()
        # What is to be read next: a plain function, since a bound method would make a cycle and keep a reader alive.
        self._read: Callable[[PacketReader], Event | None] = PacketReader._read_header
        self._error: RemoteProtocolError | None = None
        self._packet_id = 0
        self._tag = 0
        self._length = 0
        self._metadata_length = 0
        self._content_left = 0

    @property
    def buffered(self) -> int:
        """Bytes that have been received and not yet given out as an event."""
        return self._buffer.length

    @property
    def packet_id(self) -> int:
        """
        The packet ID of the last header that was read, 0 before the first: what an error about that packet should
        carry.
        """
        return self._packet_id

    @property
    def content_left(self) -> int:
        """Bytes of the piece under way that have not been given out yet; 0 between pieces."""
        return self._content_left

    def receive_data(self, data: bytes) -> None:
        """
        Take bytes from the stream.

        :param data: the next bytes. They are dropped where the reader has ended.
        """
        if self._read is not PacketReader._read_nothing:
            self._buffer.append(data)

    def content_taken(self, length: int) -> None:
        """
        Count content that was taken from the stream past this reader; :meth:`next_event` says when it was the last.

        :param length: how many bytes.
        :raises LocalProtocolError: so much is not missing, or bytes wait here that come before them.
        """
        if self.buffered:
            raise LocalProtocolError(f"expected no bytes to wait, got {self.buffered}: they come before those taken")
        if not 0 <= length <= self._content_left:
            raise LocalProtocolError(f"expected 0 to {self._content_left} bytes of content to be taken, got {length}")
        self._content_left -= length

    def next_event(self) -> Event | None:
        """
        The next event, or None when more bytes are needed.

        :raises RemoteProtocolError: the stream is no Vortex. It stays so: the same error is raised for ever.
        """
        try:
            while True:
                read = self._read
                event = read(self)
                if event is not None or self._read is read:
                    return event
        except RemoteProtocolError as error:
            self.end(error)
            raise

    def end(self, error: RemoteProtocolError | None = None) -> None:
        """
        Read nothing more: waiting and later bytes are dropped.

        :param error: what :meth:`next_event` raises from now on; None where it shall give None.
        """
        self._read = PacketReader._read_nothing
        self._error = error
        self._buffer = ReceiveBuffer()

    # Each of these reads one part of a packet: it gives an event, or None, and has set what is to be read next where
    # it is done.

    def _read_header(self) -> Event | None:
        header = self._buffer.take(HEADER_LENGTH)
        if header is None:
            return None
        self._packet_id, self._tag, self._length = HEADER.unpack(header)
        if self._tag in KIND_OF_CONTENT and self._length >= _LEAST_CONTENT:  # which may be as long as it can say
            self._read = PacketReader._read_metadata_length
            return self._read_metadata_length()
        check_value_length(self._tag, self._length)
        self._read = PacketReader._read_value
        return self._read_value()  # which has arrived, almost always

    def _read_value(self) -> Event | None:
        value = self._buffer.take(self._length)
        if value is None:
            return None
        self._read = PacketReader._read_header
        return decode_value(self._packet_id, self._tag, value)

    def _read_metadata_length(self) -> Event | None:
        data = self._buffer.take(METADATA_LENGTH_SIZE)
        if data is None:
            return None
        self._metadata_length = decode_metadata_length(data, self._length)
        self._read = PacketReader._read_metadata
        return self._read_metadata()

    def _read_metadata(self) -> Event | None:
        data = self._buffer.take(self._metadata_length)
        if data is None:
            return None
        metadata = decode_metadata(data)
        inside = self._length - METADATA_LENGTH_SIZE - self._metadata_length
        if inside not in (0, metadata.length):
            raise RemoteProtocolError(
                f"expected no content in the packet or all {metadata.length} bytes of the piece, got {inside}"
            )
        if self.max_piece_length is not None and metadata.length > self.max_piece_length:
            raise RemoteProtocolError(
                f"expected a piece of at most {self.max_piece_length} bytes, got {metadata.length}"
            )
        self._content_left = metadata.length
        self._read = PacketReader._read_content
        return PieceContent(packet_id=self._packet_id, kind=KIND_OF_CONTENT[self._tag], metadata=metadata)

    def _read_content(self) -> Event | None:
        if not self._content_left:
            self._read = PacketReader._read_header
            return ContentFinished()
        data = self._buffer.take_at_most(self._content_left)
        if not data:
            return None
        self._content_left -= len(data)
        return ContentReceived(data)

    def _read_nothing(self) -> Event | None:
        if self._error is not None:
            raise self._error.with_traceback(None)  # which would grow with every raise
        return None
