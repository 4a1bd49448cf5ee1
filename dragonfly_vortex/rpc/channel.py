"""
A child's connection to one parent over gRPC: :class:`Channel` makes calls on it and reads streams of messages.

All channels use one event loop in one thread, from the first call to the reactor's end. Callers stay in the reactor's
thread.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, NoReturn, TypeVar, cast

import grpc
from msgspec import Struct, field
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from dragonfly_vortex.address import CONNECT_TIMEOUT, ParentAddress
from dragonfly_vortex.peer_exchange import Metadata
from dragonfly_vortex.rpc.event_loop import (
    EventLoopEnded,
    EventLoopThread,
    ILoopReactor,
    shared_event_loop,
    start_grpcio,
)
from dragonfly_vortex.rpc.limits import Budget
from dragonfly_vortex.rpc.status import CallFailed, Status
from dragonfly_vortex.transport.ratelimit import TokenBucket
from dragonfly_vortex.transport_table import GRPC

__all__ = ["Channel", "GRPCSettings", "IRPCReactor", "TwoWayCall", "channel_target"]

_READ_AHEAD = 200
"""Messages of a stream that wait for the reactor before no more is read. One turn of the reactor takes all of them."""

_READ_AHEAD_LENGTH = 256 * 1024
"""Bytes of such messages: a parent may send longer ones than are needed."""


_NO_THREAD = Status(grpc.StatusCode.UNAVAILABLE, "the system starts no further thread")
"""The status of a call without a thread to make it. From Python 3.12 on no thread starts while the interpreter ends."""

_T = TypeVar("_T")


class IRPCReactor(IReactorTime, ILoopReactor):
    """The interfaces of a reactor that a child uses."""


class GRPCSettings(Struct, frozen=True, kw_only=True):
    """
    The settings that the channels and clients of all parents share.

    :param reactor: where pieces are verified and Deferreds fire.
    :param budget: the memory for all pieces; a parent that does not answer leaves room for others.
    :param credentials: for parents that speak TLS, ``grpcs://…``; None where there are none.
    :param receive_limiter: limits the rate of all content; None for no limit.
    :param allow_empty_digest: take pieces whose parent names no digest.
    :param connect_timeout: seconds that connecting may take.
    :param host_id: the ID by which schedulers know this host, for parents that are asked which pieces they have; empty
        for a host that no scheduler knows.
    """

    reactor: IRPCReactor
    budget: Budget = field(default_factory=lambda: Budget(fair=True))
    credentials: grpc.ChannelCredentials | None = None
    receive_limiter: TokenBucket | None = None
    allow_empty_digest: bool = False
    connect_timeout: float = CONNECT_TIMEOUT
    host_id: str = ""


class Channel:
    """
    A channel to a parent. It connects with its first call. :meth:`close` must be called in the end.

    :param address: ``HOST:PORT``, ``grpc://HOST:PORT`` or ``grpcs://HOST:PORT``. With ``grpcs://`` it uses TLS.
    :param settings: the event loop, the credentials, and the time for connecting.
    :param longest: bytes that a message from the parent may have. A longer one ends its call with
        ``RESOURCE_EXHAUSTED`` when its length arrives, before its content.
    :param options: further options of grpcio.
    :raises ValueError: the address has another form, or there are no credentials for TLS.
    """

    def __init__(
        self, address: str, settings: GRPCSettings, longest: int, options: Sequence[tuple[str, int]] = ()
    ) -> None:
        self._target = channel_target(address)
        self._options = [*_options(settings, longest), *options]
        is_secure = _parsed(address).is_secure
        self._credentials = settings.credentials if is_secure else None
        if is_secure and self._credentials is None:
            raise ValueError(f"expected credentials for TLS with {address}, got none")
        self._loop = shared_event_loop(settings.reactor)
        self._thread: EventLoopThread | None = None  # from the first call on
        self._is_closed = False
        self._channel: grpc.aio.Channel | None = None  # used in the event loop's thread alone

    def call(self, method: str, request: bytes, timeout: float) -> Deferred[bytes]:
        """
        Make a call that has one reply. Cancelling the Deferred cancels the call.

        :param method: the method's path.
        :param timeout: seconds; also sent to the parent.
        :returns: fires with the reply; fails with :class:`CallFailed`.
        """

        async def call(_: EventLoopThread) -> bytes:
            asked: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._opened().unary_unary(method)
            return await asked(request, timeout=timeout)

        return self._run(call)

    def listen(
        self,
        method: str,
        request: bytes,
        hear: Callable[[bytes], None],
        *,
        metadata: tuple[tuple[str, str], ...] = (),
        hear_metadata: Callable[[Metadata], None] | None = None,
    ) -> Deferred[None]:
        """
        Make a call that has a stream of replies. No more is read while the reactor has many of them to take.
        Cancelling the Deferred ends the stream; a few messages that have been read may still be passed on.

        :param method: the method's path.
        :param hear: called in the reactor's thread with each message.
        :param metadata: sent with the request.
        :param hear_metadata: called in the reactor's thread with the metadata that come before the first message.
        :returns: fires when the stream has ended well; fails with :class:`CallFailed`.
        """

        async def listen(thread: EventLoopThread) -> None:
            asked: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = self._opened().unary_stream(method)
            stream = asked(request, metadata=metadata)
            count = length = 0  # of the messages that may be waiting
            try:
                if hear_metadata is not None:
                    thread.tell(hear_metadata, tuple(await stream.initial_metadata()))
                async for message in stream:
                    count, length = count + 1, length + len(message)
                    if count < _READ_AHEAD and length < _READ_AHEAD_LENGTH:
                        thread.tell(hear, message)
                    else:
                        count = length = 0
                        await thread.ask(partial(maybeDeferred, hear, message))  # all are taken then
            finally:
                stream.cancel()  # grpc.aio keeps a stream open that is left early

        return self._run(listen)

    def converse(self, method: str, hear: Callable[[bytes], None]) -> TwoWayCall:
        """
        Make a call that has a stream of messages in each direction, and no deadline.

        :param method: the method's path.
        :param hear: called in the reactor's thread with each message of the other side.
        """
        call = TwoWayCall(self._enter())
        call.ended = self._run(partial(call.run, self._opened, method, hear))
        return call

    def close(self) -> Deferred[None]:
        """Cancel all calls and close the connection. To be called once. Fires when nothing is left."""
        self._is_closed = True

        async def close() -> None:
            channel, self._channel = self._channel, None
            if channel is not None:
                await channel.close()

        if self._thread is None:
            return succeed(None)
        closed: Deferred[None] = self._thread.run(close)
        return closed.addErrback(_let_end)

    def _enter(self) -> EventLoopThread | None:
        """The event loop's thread, from the first call on. None where the system starts no further thread."""
        if self._thread is None and not self._is_closed:
            with contextlib.suppress(RuntimeError):
                self._thread = self._loop.enter()
        return self._thread

    def _run(self, work: Callable[[EventLoopThread], Coroutine[Any, Any, _T]]) -> Deferred[_T]:
        """Run a call in the event loop."""
        if self._is_closed:
            return fail(CallFailed(Status(grpc.StatusCode.CANCELLED, "the channel has been closed")))
        thread = self._enter()
        if thread is None:
            return fail(CallFailed(_NO_THREAD))

        async def run() -> _T:
            try:
                return await work(thread)
            except grpc.aio.AioRpcError as error:
                raise CallFailed(Status(error.code(), error.details() or "")) from None
            except asyncio.CancelledError:  # by this side: the channel has been closed
                raise CallFailed(Status(grpc.StatusCode.CANCELLED, "")) from None

        return thread.run(run).addErrback(_cut_off)

    def _opened(self) -> grpc.aio.Channel:
        """In the event loop's thread: the channel, which is made on first use."""
        if self._channel is None:
            try:
                start_grpcio()
            except RuntimeError as error:
                raise CallFailed(Status(_NO_THREAD.code, str(error))) from None
            if self._credentials is None:
                self._channel = grpc.aio.insecure_channel(self._target, self._options)
            else:
                self._channel = grpc.aio.secure_channel(self._target, self._credentials, self._options)
        return self._channel


class TwoWayCall:
    """
    A call with a stream of messages in each direction; see :meth:`Channel.converse`.

    :param thread: where it runs; None where it cannot.
    """

    __slots__ = ("_call", "_outgoing", "_thread", "_writing", "ended")

    ended: Deferred[None]
    """Fires when the other side has ended the call well; fails with :class:`CallFailed`. Cancelling it cancels the
    call, and what was sent shortly before may be lost."""

    def __init__(self, thread: EventLoopThread | None) -> None:
        self._thread = thread
        # In the event loop's thread:
        self._call: grpc.aio.StreamStreamCall[bytes, bytes] | None = None
        self._outgoing: list[bytes] = []
        self._writing: asyncio.Task[None] | None = None

    def send(self, messages: Sequence[bytes]) -> None:
        """
        Send some messages, after those before. Messages after the end of the call are dropped. While the other side
        ends the call they can cost its status: grpcio 1.85.3 reports INTERNAL in its place, at times for a moment only.
        """
        if messages and self._thread is not None:
            self._thread.post(partial(self._queue, messages))

    async def run(
        self,
        channel: Callable[[], grpc.aio.Channel],
        method: str,
        hear: Callable[[bytes], None],
        thread: EventLoopThread,
    ) -> None:
        """In the event loop's thread: make the call, and read until it ends."""
        asked: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel().stream_stream(method)
        call = self._call = asked()
        try:
            self._write_on()
            while (message := await call.read()) is not grpc.aio.EOF:
                thread.tell(hear, cast(bytes, message))
            if await call.code() is not grpc.StatusCode.OK:
                raise CallFailed(Status(await call.code(), await call.details() or ""))
        finally:
            self._call = None
            self._outgoing.clear()
            call.cancel()

    def _queue(self, messages: Sequence[bytes]) -> None:
        self._outgoing.extend(messages)
        self._write_on()

    def _write_on(self) -> None:
        """Have what is queued written, by one task: grpcio takes one message of a call at a time."""
        if self._call is not None and self._outgoing and self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write(self._call))

    async def _write(self, call: grpc.aio.StreamStreamCall[bytes, bytes]) -> None:
        try:
            while self._outgoing:
                await call.write(self._outgoing.pop(0))
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass  # the call has ended; reading says with what
        finally:
            self._writing = None


def channel_target(address: str) -> str:
    """
    An address in grpcio's form. Without a scheme, an address that a stranger gave could mean something else.

    :param address: ``HOST:PORT``, ``grpc://HOST:PORT`` or ``grpcs://HOST:PORT``.
    :raises ValueError: the address has another form.
    """
    parent = _parsed(address)
    if isIPAddress(parent.host):
        return f"ipv4:{parent.host_and_port}"
    if isIPv6Address(parent.host):
        return f"ipv6:{parent.host_and_port.replace('%', '%25')}"  # a zone, in a URI
    return f"dns:///{parent.host_and_port}"


def _cut_off(failure: Failure) -> NoReturn:
    """A call that the end of the event loop has cut off: the reactor stops."""
    failure.trap(EventLoopEnded)
    raise CallFailed(Status(grpc.StatusCode.CANCELLED, failure.getErrorMessage())) from None


def _let_end(failure: Failure) -> None:
    """A channel that is closed behind the end of the event loop, which has closed it."""
    failure.trap(EventLoopEnded)


def _parsed(address: str) -> ParentAddress:
    parent = ParentAddress.from_text(address)
    if parent.is_secure and parent.transport.name != GRPC.name:
        raise ValueError(f"expected an address of gRPC, got {address!r}")
    return parent


def _options(settings: GRPCSettings, longest: int) -> list[tuple[str, int]]:
    """The options of a channel. Keepalive is the reference's (``dragonfly-client``, ``grpc/mod.rs``)."""
    connect_timeout = int(settings.connect_timeout * 1000)
    return [
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", longest),
        ("grpc.keepalive_time_ms", 300_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        # An attempt to connect may take as long as the shortest pause before the next one.
        ("grpc.min_reconnect_backoff_ms", connect_timeout),
        # A parent that is back is seen soon; calls fail at once while it is known to be away.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", connect_timeout),
        # Two channels to one address share no connection, so that closing one ends its connection.
        ("grpc.use_local_subchannel_pool", 1),
        # A proxy from the environment is not for peers.
        ("grpc.enable_http_proxy", 0),
    ]
