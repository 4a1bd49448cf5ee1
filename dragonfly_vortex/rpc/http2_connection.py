"""
A connection of gRPC's server: calls over HTTP/2, by the library h2.

The protocol of the messages is https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md.
"""

from __future__ import annotations

import contextlib
import typing
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import grpc
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
)
from h2.exceptions import H2Error, ProtocolError
from hyperframe.frame import GoAwayFrame
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure

from dragonfly_vortex.interfaces import IConnectionTransport
from dragonfly_vortex.limited_log import LimitedLog
from dragonfly_vortex.rpc.event_loop import EventLoopThread
from dragonfly_vortex.rpc.http2_frames import FrameAllowance
from dragonfly_vortex.rpc.http2_openings import LATER, MAX_HEADERS, Beginning, Openings
from dragonfly_vortex.rpc.http2_stream import PATIENCE, MessageSender, ServerStream
from dragonfly_vortex.rpc.http2_writer import writer_of
from dragonfly_vortex.rpc.server_call import Answer, Metadata, ServerCall, timeout_of
from dragonfly_vortex.rpc.status import Status
from dragonfly_vortex.wire.messages import printable

__all__ = ["GRPCServerProtocol", "Server"]

_HANDSHAKE = 20.0
"""Seconds in which a connection has to begin as HTTP/2."""

_IDLE = 300.0
"""Seconds after which a connection without a call is closed."""

_SILENT = 300.0
"""Seconds without a byte from a child with an open call, after which it is asked whether it is there."""

_ANSWER = 20.0
"""Seconds in which it has to answer that. Both are the reference's (``dragonfly-client``, ``grpc/mod.rs``)."""

_BITE = 8 * 1024
"""Bytes of a connection that are looked at before the next look at what it sends."""


class Server(typing.Protocol):
    """The parts that all connections of a server share."""

    clock: IReactorTime
    thread: EventLoopThread
    limited_log: LimitedLog
    connections: set[GRPCServerProtocol]
    openings: Openings
    max_request: int
    answer_at_once: Callable[[str, Metadata, bytes], Answer | None]

    @property
    def calls(self) -> int:
        """The number of calls under way."""

    def handler_of(self, method: str, metadata: Sequence[tuple[str, str]]) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The handler of a method; None if there is none."""

    def call_begins(self, share: str) -> bool:
        """Record the beginning of a call; False where it may not be answered."""

    def call_is_over(self, share: str, *, has_handler: bool) -> None:
        """Record that a call is over for its child."""

    def call_ended(self) -> None:
        """Record the end of a call. Called in the event loop's thread."""

    def connection_lost(self, connection: GRPCServerProtocol) -> None:
        """Record that a connection has ended."""


class GRPCServerProtocol(Protocol, TimeoutMixin):
    """
    A connection from a child.

    :param server: what it belongs to.
    :param peer: where the child is, in grpcio's form.
    :param share: of the server's connections and calls, to which this one and its calls count.
    """

    transport: IConnectionTransport

    def __init__(self, server: Server, peer: str, share: str) -> None:
        self._server = server
        self.peer = peer
        self.share = share
        """The share."""
        self._streams: dict[int, ServerStream] = {}
        self._is_greeted = False
        self._is_asked = False
        self._is_draining = False
        self._is_closing = False
        self._frames = FrameAllowance(server.clock, MAX_HEADERS)
        self._beginning: Beginning | None = Beginning(server.openings)  # until the first request is there
        self._h2 = self._beginning.h2
        self._waits: IDelayedCall | None = None  # for more urgent questions of its child
        self._waiting = b""

    # -- the connection

    def connectionMade(self) -> None:
        self._writer = writer_of(self.transport)
        self._sender = MessageSender(self._writer, self._h2, self._server.clock, self._frames, self._forget)
        self._server.connections.add(self)
        self.transport.setTcpNoDelay(True)
        self._writer.begin(self._sender.resume)
        self._writer.write([self._server.openings.greeting])
        self.setTimeout(_HANDSHAKE)

    @property
    def is_busy(self) -> bool:
        """Whether a call is under way."""
        return bool(self._streams)

    def dataReceived(self, data: bytes) -> None:
        if self._is_closing:
            return
        self._is_asked = False
        if self._streams:
            self.setTimeout(_SILENT)
        if self._waits is not None:  # TLS hands over what had arrived before the pause
            self._waiting += data
            return
        if self._beginning is not None and self._beginning.can_wait(data):
            self._waiting = data
            self.transport.pauseProducing()
            self._waits = self.callLater(LATER, self._after_others)
            return
        try:
            if self._beginning is not None:
                data = self._begin_with(self._beginning, data)
            for start in range(0, len(data), _BITE):
                bite = data[start : start + _BITE]
                self._frames.add(bite)
                for event in self._h2.receive_data(bite):
                    self._on(event)
                if self._frames.are_too_many(len(bite)):
                    self._h2.close_connection(ErrorCodes.ENHANCE_YOUR_CALM)
                    raise ProtocolError("too many frames without a call")
        except (H2Error, UnicodeDecodeError):
            self._close()
            return
        self._sender.send()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._waits is not None:
            self._waits.cancel()
        self._sender.stop()
        for stream in list(self._streams.values()):
            self._forget(stream, is_cancelled=True)
        self.setTimeout(None)
        self._server.connection_lost(self)

    def timeoutConnection(self) -> None:
        if not self._is_greeted or self._is_asked or self._is_closing:
            self.transport.abortConnection()
        elif not self._streams:
            self.drain()
        else:
            self._is_asked = True
            self._h2.ping(b"are you?")
            self._sender.flush()
            self.setTimeout(_ANSWER)

    def callLater(self, period: float, func: Any) -> IDelayedCall:
        """Schedule a call; :class:`TimeoutMixin` uses this."""
        return self._server.clock.callLater(period, func)

    def drain(self) -> None:
        """Take no further call, and close the connection after those that it has."""
        if not self._is_draining:
            self._is_draining = True
            self._writer.write([GoAwayFrame(0, last_stream_id=self._h2.highest_inbound_stream_id).serialize()])
            for linger in filter(None, [stream.linger for stream in self._streams.values()]):
                linger.reset(0)
        self._close_if_drained()

    def abort(self) -> None:
        """Close the connection now."""
        self.transport.abortConnection()

    def _close_if_drained(self) -> None:
        if self._is_draining and not self._streams:
            self._close()

    def _close(self) -> None:
        """Close the connection when its child has taken what was sent. Calls that are left are cancelled."""
        if self._is_closing:
            return
        self._is_closing = True
        for stream in list(self._streams.values()):
            self._forget(stream, is_cancelled=True)
        self.setTimeout(PATIENCE)
        self._sender.flush()
        self._writer.close()

    # -- what comes

    def _after_others(self) -> None:
        """Handle the first bytes of this connection, after a wait."""
        self._waits = None
        self.transport.resumeProducing()
        self.dataReceived(self._waiting)

    def _begin_with(self, beginning: Beginning, data: bytes) -> bytes:
        """Go on with a connection of h2 that has received the same. Returns the rest of the data."""
        events, rest = beginning.recognize(data)
        self._h2 = self._sender.h2 = beginning.h2
        self._frames.add(data[: len(data) - len(rest)])
        for event in events:
            self._on(event)
        return rest

    def _on(self, event: Event) -> None:
        if isinstance(event, RequestReceived):
            self._request(event.stream_id, cast("list[tuple[str, str]]", event.headers))
        elif isinstance(event, DataReceived):
            self._h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
            if (stream := self._streams.get(event.stream_id)) is not None:
                self._body(stream, event.data or b"")
        elif isinstance(event, StreamEnded):
            if (stream := self._streams.get(event.stream_id)) is not None:
                stream.is_request_whole = True
                stream.stop_waiting()
                self._begin(stream)
        elif isinstance(event, StreamReset):
            if (stream := self._streams.get(event.stream_id)) is not None:
                self._forget(stream, is_cancelled=True)
        elif isinstance(event, RemoteSettingsChanged) and not self._is_greeted:
            self._is_greeted = True
            self.setTimeout(_SILENT if self._streams else _IDLE)
        elif isinstance(event, ConnectionTerminated):
            self.drain()

    def _request(self, number: int, headers: list[tuple[str, str]]) -> None:
        """Begin a call, or refuse it."""
        fields = dict(headers)
        stream = self._streams[number] = ServerStream(number)
        stream.patience = self.callLater(PATIENCE, lambda: self._lose_patience(stream))
        may_begin = self._server.call_begins(self.share)
        self.setTimeout(_SILENT)
        if self._is_draining:
            self._end(stream, grpc.StatusCode.UNAVAILABLE, "the peer stops")
        elif not may_begin:
            self._end(stream, grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls at once")
        elif not fields.get("content-type", "").startswith("application/grpc"):
            self._end(stream, grpc.StatusCode.UNKNOWN, "expected a call of gRPC, got another request of HTTP/2")
        elif (handler := self._server.handler_of(path := fields.get(":path", ""), headers)) is None:
            self._end(stream, grpc.StatusCode.UNIMPLEMENTED, f"no method {printable(path)}")
        else:
            stream.handler, stream.method = handler, fields[":path"]
            timeout = timeout_of(fields.get("grpc-timeout", ""))
            metadata = tuple(field for field in headers if not field[0].startswith(":"))
            take, limited_log = partial(self._take, stream), self._server.limited_log
            stream.call = ServerCall(self._server.thread, self.peer, metadata, timeout, take, limited_log)
            if timeout is not None and not handler.response_streaming:
                stream.deadline = self.callLater(timeout, lambda: self._expire(stream))

    def _body(self, stream: ServerStream, data: bytes) -> None:
        """Add a part of a request, within its limit."""
        if stream.status is not None:
            return
        stream.request += data
        most = self._server.max_request
        length = max(len(stream.request) - 5, int.from_bytes(stream.request[1:5], "big"))
        if len(stream.request) >= 5 and length > most:
            text = f"expected a request of at most {most} bytes, got {length}"
            self._end(stream, grpc.StatusCode.RESOURCE_EXHAUSTED, text)

    def _begin(self, stream: ServerStream) -> None:
        """Answer a complete request, or have its handler do so."""
        if stream.status is not None or stream.call is None or stream.handler is None:
            return
        request, stream.request = bytes(stream.request), bytearray()
        if len(request) < 5 or int.from_bytes(request[1:5], "big") != len(request) - 5:
            self._end(stream, grpc.StatusCode.INTERNAL, "expected one message")
            return
        if request[0]:
            self._end(stream, grpc.StatusCode.UNIMPLEMENTED, "expected a message without compression")
            return
        beginning, self._beginning = self._beginning, None
        answer = self._server.answer_at_once(stream.method, stream.call.invocation_metadata(), request[5:])
        if answer is None:
            stream.call.begin(stream.handler, request[5:])
            return
        if beginning is not None and stream.number == 1:  # otherwise it begins with another call
            self._server.openings.learn(beginning.came, can_wait=answer.goes_on)
        for message in answer.messages:
            stream.put(message)
        if answer.linger:
            self._to_be_sent(stream)
            rest = partial(stream.call.begin, stream.handler, request[5:]) if answer.goes_on else None
            stream.linger = self.callLater(answer.linger, lambda: self._go_on(stream, rest))
        else:
            self._end(stream, grpc.StatusCode.OK, "")

    # -- what goes

    def _take(self, stream: ServerStream) -> None:
        """Send what a handler has queued."""
        if stream.call is None or stream.number not in self._streams:
            return
        for sent in stream.call.taken():
            if isinstance(sent, Status):
                stream.status = stream.status or sent
            elif isinstance(sent, (bytes, list)):
                stream.put(sent)
            else:
                stream.metadata = sent
        self._to_be_sent(stream)
        self._sender.send()

    def _to_be_sent(self, stream: ServerStream) -> None:
        """Queue a stream that has something to send."""
        self._sender.add(stream)
        if stream.patience is None and (stream.has_content or stream.status is not None):
            stream.patience = self.callLater(PATIENCE, lambda: self._lose_patience(stream))

    def _end(self, stream: ServerStream, code: grpc.StatusCode, text: str) -> None:
        """End a call that no handler answers."""
        stream.status = Status(code, text)
        self._to_be_sent(stream)

    def _go_on(self, stream: ServerStream, rest: Callable[[], None] | None) -> None:
        """Begin the handler of a call that has been answered, or end the call, after it stayed open for a while."""
        stream.linger = None
        if rest is not None:
            rest()
        else:
            self._end(stream, grpc.StatusCode.OK, "")
            self._sender.send()

    def _expire(self, stream: ServerStream) -> None:
        """End a call with one reply at its deadline."""
        stream.deadline = None
        with contextlib.suppress(H2Error):
            if stream.has_sent:
                self._h2.reset_stream(stream.number, ErrorCodes.CANCEL)
            else:
                self._sender.send_status(stream, Status(grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline has passed"))
        self._forget(stream, is_cancelled=True)
        self._sender.flush()

    def _lose_patience(self, stream: ServerStream) -> None:
        """End a call whose child neither finishes its request nor takes the reply."""
        stream.patience = None
        with contextlib.suppress(H2Error):
            self._h2.reset_stream(stream.number, ErrorCodes.CANCEL)
        self._forget(stream, is_cancelled=True)
        self._sender.flush()

    def _forget(self, stream: ServerStream, *, is_cancelled: bool) -> None:
        """Forget a call that is over."""
        if self._streams.pop(stream.number, None) is None:
            return
        self._sender.discard(stream)
        stream.stop_timers()
        stream.chunks.clear()
        if stream.call is None or not stream.call.has_begun:
            self._server.call_is_over(self.share, has_handler=False)
        else:
            self._server.call_is_over(self.share, has_handler=True)
            stream.call.end(self._server.call_ended, is_cancelled=is_cancelled)
        if not self._streams:
            self.setTimeout(_IDLE)
            self._close_if_drained()
