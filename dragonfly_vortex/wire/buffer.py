"""
The bytes that have been received and not yet read.

A chunk that arrives while nothing is waiting is kept as it is, and what is taken from it as content is a view of it:
a piece's bytes are not copied here. Only the rest of a chunk that ends inside a packet is copied, to be joined with
the next.
"""

from __future__ import annotations

__all__ = ["ReceiveBuffer"]


class ReceiveBuffer:
    """Bytes in the order in which they came."""

    __slots__ = ("_data", "_start")

    def __init__(self) -> None:
        self._data: bytes | bytearray = b""
        self._start = 0

    def __len__(self) -> int:
        return len(self._data) - self._start

    def append(self, data: bytes) -> None:
        """Add what has been received."""
        if not len(self):
            self._data = data
        elif isinstance(self._data, bytearray):
            del self._data[: self._start]
            self._data += data
        else:
            self._data = bytearray(memoryview(self._data)[self._start :])
            self._data += data
        self._start = 0

    def take(self, length: int) -> bytes | None:
        """
        The next ``length`` bytes, which are gone then; None, and all stay, when there are fewer.

        :param length: how many bytes.
        """
        end = self._start + length
        if end > len(self._data):
            return None
        data = bytes(self._data[self._start : end])
        self._skip(length)
        return data

    def take_at_most(self, length: int) -> bytes | memoryview:
        """
        Up to ``length`` of the next bytes, without a copy where they came in one chunk; empty when there are none.

        :param length: how many bytes at the most.
        """
        start, end = self._start, min(self._start + length, len(self._data))
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
        self._start += length
        if self._start == len(self._data):
            self._data = b""
            self._start = 0
