"""
A call that a child makes, as its handler sees it.

The handler runs in the event loop's thread and the connection in the reactor's. What the handler sends is put into an
outbox, from which the connection takes all of it once in a turn of the loop.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from inspect import isasyncgen
from typing import Any, NamedTuple, NoReturn, cast
from urllib.parse import quote

import grpc
from twisted.python.failure import Failure

from dragonfly_vortex.limited_log import LimitedLog
from dragonfly_vortex.rpc.event_loop import EventLoopThread
from dragonfly_vortex.rpc.status import Status

__all__ = ["REPORTED", "Answer", "Metadata", "Sent", "ServerCall", "timeout_of", "trailers_of"]

Metadata = tuple[tuple[str, str], ...]
"""Headers of the reply beside the usual ones."""


class Answer(NamedTuple):
    """
    An answer to a call, given before a handler has begun.

    :param messages: in order.
    :param linger: seconds for which the stream stays open behind the last message.
    :param goes_on: whether the handler begins after that; else the call ends.
    """

    messages: list[bytes]
    linger: float = 0.0
    goes_on: bool = False


Sent = bytes | list[bytes] | Status | Metadata
"""
What is in an outbox: a message, which a long one may be in parts; the status with which the call ends; or headers,
which come first.
"""

REPORTED = 32 * 1024
"""Bytes after which the connection says that they have been sent."""

_MOST_UNSENT = 64 * 1024
"""Bytes of a stream that may wait for a child that does not read."""

_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
"""Seconds in each unit of ``grpc-timeout``."""

_TIMEOUT = re.compile("[0-9]{1,8}[HMSmun]")


class _Aborted(Exception):
    """A handler has ended its call with an error."""


class ServerCall:
    """
    The context of a handler. It has those methods of grpcio's context that this package uses.

    :param thread: the event loop, and the way to the reactor.
    :param peer: where the child is, in grpcio's form, like ``ipv4:192.0.2.7:1234``.
    :param metadata: the headers of the call.
    :param timeout: seconds that the child says it waits; None for any time.
    :param take: called in the reactor's thread when there is something in the outbox.
    :param limited_log: for handlers that fail, which a child may cause; it is used in the reactor's thread.
    """

    def __init__(
        self,
        thread: EventLoopThread,
        peer: str,
        metadata: Metadata,
        timeout: float | None,
        take: Callable[[], None],
        limited_log: LimitedLog,
    ) -> None:
        self._thread = thread
        self._limited_log = limited_log
        self._peer = peer
        self._metadata = metadata
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._take = take
        self._encode: Callable[[Any], Any] = lambda message: message
        self._outbox: deque[Sent] = deque()
        self._is_announced = False
        self._unsent = 0
        self._is_stream = False  # whose handler may wait
        self._room: asyncio.Future[None] | None = None
        self._status = Status(grpc.StatusCode.OK, "")
        self._callbacks: list[Callable[[ServerCall], None]] = []
        self._task: asyncio.Task[None] | None = None
        self._is_done = False
        self._is_cancelled = False
        self.has_begun = False
        """Whether a handler answers the call. Belongs to the reactor's thread."""

    # -- from the reactor's thread

    def begin(self, handler: grpc.RpcMethodHandler[Any, Any], request: bytes) -> None:
        """Have the call answered."""
        self.has_begun = True
        self._is_stream = bool(handler.response_streaming)

        def in_loop() -> None:
            if not self._is_done:
                self._task = asyncio.get_running_loop().create_task(self._serve(handler, request))

        self._thread.post(in_loop)

    def taken(self) -> list[Sent]:
        """Return the next messages to send, in order."""
        self._is_announced = False  # before the outbox is emptied: what comes later is announced anew
        sent: list[Sent] = []
        while self._outbox:
            sent.append(self._outbox.popleft())
        return sent

    def sent(self, length: int) -> None:
        """Count bytes of messages that were sent. No handler waits for those of a single reply."""
        if self._is_stream:
            self._thread.post(lambda: self._make_room(length))

    def end(self, ended: Callable[[], object], *, is_cancelled: bool) -> None:
        """
        Record that a call that has begun is over for the child: it has its status, or is gone.

        :param ended: called in the event loop's thread when it is over here, too.
        """

        def in_loop() -> None:
            self._is_done, self._is_cancelled = True, is_cancelled
            if self._task is None or self._task.done():
                ended()
            else:
                self._task.add_done_callback(lambda _: ended())
                if is_cancelled:
                    self._task.cancel()
            callbacks, self._callbacks = self._callbacks, []
            for callback in callbacks:
                callback(self)

        self._thread.post(in_loop)

    # -- for the handler, in the event loop's thread

    async def send_initial_metadata(self, metadata: Sequence[tuple[str, str]]) -> None:
        """Send the headers now, before the first message."""
        self._put(tuple(metadata))

    async def write(self, message: Any) -> None:
        """Send a message of a stream. This waits while the child does not read what was sent before."""
        while self._unsent > _MOST_UNSENT:
            self._room = asyncio.get_running_loop().create_future()
            await self._room
        encoded = self._encode(message)
        self._unsent += len(encoded)
        self._put(encoded)

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> NoReturn:
        """End the call with an error. The handler goes no further."""
        self._status = Status(code, details)
        raise _Aborted(code, details)

    def set_code(self, code: grpc.StatusCode) -> None:
        """Set the status with which the call ends if its handler returns."""
        self._status = Status(code, self._status.text)

    def set_details(self, details: str) -> None:
        """Set the text of that status."""
        self._status = Status(self._status.code, details)

    def peer(self) -> str:
        """The address of the child."""
        return self._peer

    def invocation_metadata(self) -> Metadata:
        """The headers of the call."""
        return self._metadata

    def time_remaining(self) -> float | None:
        """Seconds until the child's deadline; None where it has none."""
        return None if self._deadline is None else self._deadline - time.monotonic()

    def add_done_callback(self, callback: Callable[[ServerCall], None]) -> None:
        """Have something called when the call is over, after all of it has been sent or its child has gone."""
        self._callbacks.append(callback)

    def cancelled(self) -> bool:
        """Whether the child has gone before the end."""
        return self._is_cancelled

    def done(self) -> bool:
        """Whether the call is over."""
        return self._is_done

    # -- inside

    async def _serve(self, handler: grpc.RpcMethodHandler[Any, Any], request: bytes) -> None:
        try:
            await self._answer(handler, request)
        except _Aborted:
            pass
        except asyncio.CancelledError:
            self._status = Status(grpc.StatusCode.CANCELLED, "the call was cancelled")
        except Exception:  # a defect of ours: the child is to have a status anyway
            self._thread.tell(partial(self._limited_log.failure, "a call could not be answered", Failure()))
            self._status = Status(grpc.StatusCode.UNKNOWN, "the call could not be answered")
        self._put(self._status)

    async def _answer(self, handler: grpc.RpcMethodHandler[Any, Any], request: bytes) -> None:
        # The stubs know the synchronous server's handlers, which are no coroutines.
        unary, stream = cast(Any, handler.unary_unary), cast(Any, handler.unary_stream)
        if handler.response_serializer is not None:
            self._encode = handler.response_serializer
        try:
            message = handler.request_deserializer(request) if handler.request_deserializer else request
        except Exception as error:
            await self.abort(grpc.StatusCode.INVALID_ARGUMENT, f"expected a request in protobuf: {error}")
        if not handler.response_streaming:
            reply = await unary(message, self)
            if self._status.code is grpc.StatusCode.OK:
                self._put(self._encode(reply))
            return
        replies = stream(message, self)
        if not isasyncgen(replies):
            await replies
            return
        async for reply in replies:
            await self.write(reply)

    def _put(self, sent: Sent) -> None:
        self._outbox.append(sent)
        if not self._is_announced:
            self._is_announced = True
            asyncio.get_running_loop().call_soon(self._thread.tell, self._take)

    def _make_room(self, length: int) -> None:
        self._unsent -= length
        if self._room is not None and self._unsent <= _MOST_UNSENT:
            room, self._room = self._room, None
            if not room.done():
                room.set_result(None)


def timeout_of(text: str) -> float | None:
    """
    Parse a header ``grpc-timeout``; returns seconds.

    :returns: None where it says none, or is not as the protocol has it: at most eight digits and a unit.
    """
    if _TIMEOUT.fullmatch(text) is None:
        return None
    return int(text[:-1]) * _UNITS[text[-1]]


def trailers_of(status: Status) -> list[tuple[str, str]]:
    """The headers behind the last message, which say how a call has ended. HTTP/2 has no spaces around their values."""
    trailers = [("grpc-status", str(status.code.value[0]))]
    if status.text:
        trailers.append(("grpc-message", quote(status.text.strip(), safe=" !\"#$&'()*+,/:;<=>?@[]^_`{|}~\\")))
    return trailers


def is_tonic(metadata: Iterable[tuple[str, str | bytes]]) -> bool:
    """
    Whether the caller's library is tonic, by what it says of itself.

    :param metadata: the headers of a call.
    """
    return any(name == "user-agent" and "tonic/" in str(value) for name, value in metadata)
