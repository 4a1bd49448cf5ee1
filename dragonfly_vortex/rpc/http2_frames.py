"""
Counts the frames that a child sends over HTTP/2, before h2 takes them apart.

h2 has events for some frames only, and keeps the headers of a call until they are complete. So a flood is seen here, by
the lengths and types of the frames (RFC 9113, section 4.1).
"""

from __future__ import annotations

from h2.exceptions import ProtocolError
from twisted.internet.interfaces import IReactorTime

__all__ = ["FRAME_HEADER", "HEADERS", "PREFACE", "FrameAllowance", "FrameCount"]

PREFACE = 24
"""Bytes with which a client begins, before its first frame (RFC 9113, section 3.4)."""

FRAME_HEADER = 9
"""Bytes before the content of a frame (section 4.1)."""

_MOST_IDLE_FRAMES = 5000
"""Frames beyond those that calls need, such as pings and resets, that a connection may send in :data:`_SHORT_WHILE`."""

_FRAMES_OF_A_CALL = 8
"""The frames that an answered call may need beside those for its bytes."""

_FRAME = 1024
"""Bytes for which a child may send a frame: those of its questions, and those for which it makes room."""

_SHORT_WHILE = 10.0
"""Seconds."""

HEADERS, _CONTINUES_HEADERS = 1, 9
"""The types of the frames that have a call's headers (sections 6.2 and 6.10): of the first, and of those after it."""


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
        self._to_skip = PREFACE
        self._begun = b""

    def add(self, data: bytes) -> None:
        """
        Count the frames in the next bytes of the connection.

        :raises ProtocolError: the headers of a call are too long.
        """
        data = self._begun + data if self._begun else data
        at = self._to_skip
        while at + FRAME_HEADER <= len(data):
            length = int.from_bytes(data[at : at + 3], "big")
            self._one(data[at + 3], length)
            at += FRAME_HEADER + length
        self._begun = data[at:]
        self._to_skip = max(0, at - len(data))

    def _one(self, kind: int, length: int) -> None:
        """Count a frame, and the bytes of a call's headers."""
        self.frames += 1
        if kind == HEADERS:
            self._headers = length
        elif kind == _CONTINUES_HEADERS:
            self._headers += length
        if kind in (HEADERS, _CONTINUES_HEADERS) and self._headers > self._most_headers:
            raise ProtocolError(f"expected at most {self._most_headers} bytes of headers, got {self._headers}")


class FrameAllowance:
    """
    The frames that a child may send: those that its calls need, and some more. Those of some seconds ago count no more.

    :param clock: gives the time.
    :param most_headers: bytes of the headers of a call, as they are sent.
    """

    def __init__(self, clock: IReactorTime, most_headers: int) -> None:
        self._clock = clock
        self._count = FrameCount(most_headers)
        self._before = 0  # until the beginning of this short while
        self._allowed = 0.0  # that calls needed in it
        self._counted_since = 0.0

    def add(self, data: bytes) -> None:
        """See :meth:`FrameCount.add`."""
        self._count.add(data)

    def add_sent(self, length: int) -> None:
        """Allow the frames that a child needs to take so many bytes of messages."""
        self._allowed += length / _FRAME

    def add_answered(self) -> None:
        """Allow the other frames of a call that has been answered."""
        self._allowed += _FRAMES_OF_A_CALL

    def are_too_many(self, length: int) -> bool:
        """
        Return whether the child has sent more frames than its calls need.

        :param length: bytes that have arrived.
        """
        now = self._clock.seconds()
        if now - self._counted_since > _SHORT_WHILE:
            self._counted_since, self._before, self._allowed = now, self._count.frames, 0
        self._allowed += length / _FRAME
        return self._count.frames - self._before - self._allowed > _MOST_IDLE_FRAMES
