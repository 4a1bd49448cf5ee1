"""
The calls on a connection of HTTP/2: each has what has arrived of its request, and the messages that wait to be sent.
The sender sends the replies of all calls of the connection: in turn, as far as the child has room for them.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

import grpc
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import H2Error
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from dragonfly_vortex.rpc.http2_frames import FrameAllowance
from dragonfly_vortex.rpc.http2_writer import Writer
from dragonfly_vortex.rpc.server_call import REPORTED, Metadata, ServerCall, trailers_of
from dragonfly_vortex.rpc.status import Status

__all__ = ["PATIENCE", "MessageSender", "ServerStream"]

PATIENCE = 60.0
"""
Seconds that a child has to finish a question, to take the next part of a reply
(:data:`~dragonfly_vortex.rpc.server_call.REPORTED`) or its last one, and to take the rest when its connection is
closed. One that takes longer may never do it, and holds memory and a call.
"""

_SMALL = 16 * 1024
"""Bytes below which messages are put together."""


class ServerStream:
    """A call on a connection."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.call: ServerCall | None = None
        self.handler: grpc.RpcMethodHandler[Any, Any] | None = None
        self.method = ""
        self.request = bytearray()
        self.is_request_whole = False
        self.metadata: Metadata | None = None
        self.has_headers = False
        self.has_sent = False
        self.chunks: deque[memoryview] = deque()
        self.small = bytearray()
        self.unreported = 0
        self.status: Status | None = None
        self.deadline: IDelayedCall | None = None
        self.linger: IDelayedCall | None = None  # while it stays open behind an answer that no handler gave
        self.patience: IDelayedCall | None = None  # while the child is to do something

    def put(self, message: bytes | list[bytes]) -> None:
        """Add a message, which may be in parts, to what is to be sent. What is long is not copied."""
        parts = [message] if isinstance(message, bytes) else message
        self.small += b"\0" + sum(map(len, parts)).to_bytes(4, "big")  # not compressed
        for part in parts:
            if len(part) < _SMALL:
                self.small += part
            else:
                self._put_small()
                self.chunks.append(memoryview(part))

    def _put_small(self) -> None:
        """Add what is short to what is taken next, if there is some: an empty chunk would mean that nothing is left."""
        if self.small:
            self.chunks.append(memoryview(bytes(self.small)))
            self.small.clear()

    def take(self, most: int) -> memoryview:
        """The next bytes to be sent; none where there are none."""
        if not self.chunks:
            self._put_small()
        if not self.chunks:
            return memoryview(b"")
        chunk = self.chunks.popleft()
        if len(chunk) > most:
            self.chunks.appendleft(chunk[most:])
        return chunk[:most]

    @property
    def has_content(self) -> bool:
        """Whether there is something to be sent."""
        return bool(self.chunks or self.small)

    def stop_waiting(self) -> None:
        """Stop the timer, because the child has done what the timer waited for."""
        if self.patience is not None:
            self.patience.cancel()
            self.patience = None

    def stop_timers(self) -> None:
        """Stop all timers, because the call is over."""
        self.stop_waiting()
        for timer in (self.deadline, self.linger):
            if timer is not None:
                timer.cancel()
        self.deadline = self.linger = None


_STEP = 512 * 1024
"""Bytes of messages that a connection sends in one turn of the reactor."""

_MOST_UNREAD = 128 * 1024
"""Bytes of frames without messages that may wait for a child that reads nothing."""

_REPLY = [(":status", "200"), ("content-type", "application/grpc")]
"""The headers of a reply."""


class Forget(Protocol):
    """Called when a call is over."""

    def __call__(self, stream: ServerStream, *, is_cancelled: bool) -> None:
        """Forget it; it is cancelled, or has been answered."""


class MessageSender:
    """
    The sending side of one connection.

    :param writer: writes to the connection.
    :param h2: its state of HTTP/2.
    :param clock: for the next turn.
    :param frames: learns what has been sent, for which the child may send frames.
    :param forget: called with each call that is over, which :meth:`discard` follows.
    """

    def __init__(
        self, writer: Writer, h2: H2Connection, clock: IReactorTime, frames: FrameAllowance, forget: Forget
    ) -> None:
        self._writer = writer
        self.h2 = h2
        """Its state of HTTP/2."""
        self._clock = clock
        self._frames = frames
        self._forget = forget
        self._ready: dict[int, ServerStream] = {}  # those that have something to send
        self._parts: list[bytes | memoryview] = []  # of frames that are written together
        self._unread = 0
        self._next_turn: IDelayedCall | None = None

    def add(self, stream: ServerStream) -> None:
        """Record that a call has something to send."""
        self._ready[stream.number] = stream

    def discard(self, stream: ServerStream) -> None:
        """Send nothing more of a call."""
        self._ready.pop(stream.number, None)

    def resume(self) -> None:
        """Send again, because the writer takes more."""
        self._unread = 0
        self.send()

    def stop(self) -> None:
        """Take no further turn."""
        if self._next_turn is not None:
            self._next_turn.cancel()
            self._next_turn = None

    def send(self) -> None:
        """Send as much as may be sent in this turn."""
        left = _STEP
        has_sent = True
        while has_sent and left > 0 and not self._writer.is_full:
            has_sent = False
            for stream in list(self._ready.values()):
                if left <= 0:
                    break
                try:
                    length = self._send_some(stream, left)
                except H2Error:  # the child has closed the stream, or the connection
                    self._forget(stream, is_cancelled=True)
                    continue
                left -= length
                has_sent = has_sent or bool(length)
                if self._ready.pop(stream.number, None) is not None and stream.has_content:
                    self._ready[stream.number] = stream  # behind the others
            self.flush()
        self.flush()
        if left <= 0 and not self._writer.is_full and self._next_turn is None:
            self._next_turn = self._clock.callLater(0, self._go_on)

    def _go_on(self) -> None:
        self._next_turn = None
        self.send()

    def _send_some(self, stream: ServerStream, most: int) -> int:
        """Send what one call has, up to so many bytes and as far as its child has room. Returns how many bytes."""
        if (stream.metadata is not None or stream.has_content) and not stream.has_headers:
            stream.has_headers = True
            self.h2.send_headers(stream.number, [*_REPLY, *(stream.metadata or ())])
        length = 0
        if stream.has_content and (room := min(most, self.h2.local_flow_control_window(stream.number))) > 0:
            length = self._send_data(stream, room)
        if length and stream.call is not None:
            stream.has_sent = True
            stream.unreported += length
            self._frames.add_sent(length)
            if stream.unreported >= REPORTED:
                stream.call.sent(stream.unreported)
                stream.unreported = 0
                if stream.patience is not None:
                    stream.patience.reset(PATIENCE)
            if not stream.has_content:
                stream.stop_waiting()
        if stream.status is not None and not stream.has_content:
            self.send_status(stream, stream.status)
        return length

    def _send_data(self, stream: ServerStream, room: int) -> int:
        """
        Send messages in frames, of at most so many bytes. h2, which would copy each frame four times, learns only how
        long they are.
        """
        self._parts.append(self.h2.data_to_send())  # headers, which come first
        length = 0
        address = b"\0\0" + stream.number.to_bytes(4, "big")  # a frame of data, without flags
        while length < room and (chunk := stream.take(min(room - length, self.h2.max_outbound_frame_size))):
            self._parts += (len(chunk).to_bytes(3, "big") + address, chunk)
            length += len(chunk)
        self.h2.outbound_flow_control_window -= length
        self.h2.streams[stream.number].outbound_flow_control_window -= length
        return length

    def send_status(self, stream: ServerStream, status: Status) -> None:
        """End a call. It is over then."""
        trailers = trailers_of(status)
        headers = trailers if stream.has_headers else [*_REPLY, *trailers]
        self.h2.send_headers(stream.number, headers, end_stream=True)
        self._frames.add_answered()
        if not stream.is_request_whole:
            self.h2.reset_stream(stream.number, ErrorCodes.NO_ERROR)
        self._forget(stream, is_cancelled=False)

    def flush(self) -> None:
        """Write what is to be written. A child that reads nothing of what h2 has to send is cut off."""
        self._parts.append(data := self.h2.data_to_send())
        parts, self._parts = [part for part in self._parts if part], []
        if not parts:
            return
        if self._writer.is_full:
            self._unread += len(data)
            if self._unread > _MOST_UNREAD:
                self._writer.abort()
                return
        self._writer.write(parts)
