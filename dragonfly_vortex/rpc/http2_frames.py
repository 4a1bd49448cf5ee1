"""
Counts the frames that a child sends over HTTP/2, before h2 takes them apart.

h2 has events for some frames only, and keeps the headers of a call until they are complete. So a flood is seen here, by
the lengths and types of the frames (RFC 9113, section 4.1).
"""

from __future__ import annotations

from h2.exceptions import ProtocolError

__all__ = ["FrameCount"]

_PREFACE = 24
"""Bytes with which a client begins, before its first frame."""

_HEADER = 9
"""Bytes before the content of a frame."""

_BEGINS_HEADERS, _CONTINUES_HEADERS = 1, 9
"""The types of the frames that have a call's headers."""


class FrameCount:
    """
    The frames of one connection.

    :param most_headers: bytes of the headers of a call, as they are sent.
    """

    def __init__(self, most_headers: int) -> None:
        self.frames = 0
        """The frames that have begun."""
        self._most_headers = most_headers
        self._headers = 0
        self._to_skip = _PREFACE
        self._begun = b""

    def add(self, data: bytes) -> None:
        """
        Count the frames in the next bytes of the connection.

        :raises ProtocolError: the headers of a call are too long.
        """
        data = self._begun + data if self._begun else data
        at = self._to_skip
        while at + _HEADER <= len(data):
            length = int.from_bytes(data[at : at + 3], "big")
            self._one(data[at + 3], length)
            at += _HEADER + length
        self._begun = data[at:]
        self._to_skip = max(0, at - len(data))

    def _one(self, kind: int, length: int) -> None:
        """A frame begins."""
        self.frames += 1
        if kind == _BEGINS_HEADERS:
            self._headers = length
        elif kind == _CONTINUES_HEADERS:
            self._headers += length
        if kind in (_BEGINS_HEADERS, _CONTINUES_HEADERS) and self._headers > self._most_headers:
            raise ProtocolError(f"expected at most {self._most_headers} bytes of headers, got {self._headers}")
