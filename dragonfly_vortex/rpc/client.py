"""
The way to one parent over gRPC: :class:`GRPCClient` makes one unary call for each piece, over one channel.

A call is a future of grpcio's, made in the reactor's thread without waiting; what it ends with comes from grpcio's
thread and crosses to the reactor. There is one such thread for a channel in use, and none of the reactor's pool.
Making a call and closing a channel take less than a few milliseconds, whatever is under way.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import grpc
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from dragonfly_vortex.address import ParentAddress
from dragonfly_vortex.deferreds import add_deadline
from dragonfly_vortex.errors import (
    DigestMismatch,
    LocalProtocolError,
    ParentSpokeWrongly,
    ParentUnreachable,
    PieceLate,
    PoolClosed,
    RemoteProtocolError,
    UnexpectedPiece,
)
from dragonfly_vortex.interfaces import DownloadPieceRequest, IClient
from dragonfly_vortex.model import DownloadPieceResponse, piece_id
from dragonfly_vortex.rpc.codec import MAX_OVERHEAD, ReceivedPiece, decode_piece, metadata_digest
from dragonfly_vortex.rpc.memory_budget import Budget, Place
from dragonfly_vortex.rpc.methods import METHODS, PieceRequest, path
from dragonfly_vortex.rpc.status import Status, error_of
from dragonfly_vortex.transport.ratelimit import TokenBucket
from dragonfly_vortex.transport.receiver import PieceReceiver
from dragonfly_vortex.transport.sinks import MemorySink
from dragonfly_vortex.wire import PieceKind

__all__ = [
    "CONNECT_TIMEOUT",
    "GRPCClient",
    "GRPCSettings",
    "IRPCReactor",
    "channel_options",
    "channel_target",
    "open_channel",
]

CONNECT_TIMEOUT = 2.0
"""Seconds that connecting may take, the first words of HTTP/2 included, as over TCP."""

MAX_PIECE_LENGTH = 1024 * 1024 * 1024
"""Bytes that a piece may have. Dragonfly's own pieces end at 64 MiB."""

_UNKNOWN_LENGTH = 64 * 1024 * 1024
"""Bytes that a piece is taken to have while nothing is known of its task: as many as Dragonfly gives to any."""

_TURN = 4 * 1024 * 1024
"""Bytes that are hashed and written in one turn of the reactor."""

_TURNS_PER_SECOND = 20
"""Parts of a second for which a limit lets bytes through at once."""

_LONGEST_CALL = 8
"""How many times as long as the time without progress a call may take in all, which its parent is told."""


_T = TypeVar("_T")


class IRPCReactor(IReactorTime, IReactorFromThreads):
    """What a client needs of a reactor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GRPCSettings:
    """
    What the clients of all parents have in common.

    :param reactor: where pieces are verified and Deferreds fire.
    :param budget: what all pieces in memory are taken from; a parent that does not answer leaves room for others.
    :param credentials: for parents that speak TLS, ``grpcs://…``; None where there are none.
    :param receive_limiter: what all content is spent from; None for no limit.
    :param allow_empty_digest: take pieces whose parent names no digest.
    :param max_piece_length: bytes that a piece may have.
    :param connect_timeout: seconds that connecting may take.
    """

    reactor: IRPCReactor
    budget: Budget = field(default_factory=lambda: Budget(fair=True))
    credentials: grpc.ChannelCredentials | None = None
    receive_limiter: TokenBucket | None = None
    allow_empty_digest: bool = False
    max_piece_length: int = MAX_PIECE_LENGTH
    connect_timeout: float = CONNECT_TIMEOUT


def channel_options(settings: GRPCSettings) -> list[tuple[str, int]]:
    """
    The options of a channel. Keepalive is the reference's (``dragonfly-client``, ``grpc/mod.rs``); the limits of
    messages, 4 MiB by default, are the longest piece's.
    """
    connect_timeout = int(settings.connect_timeout * 1000)
    return [
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", settings.max_piece_length + MAX_OVERHEAD),
        ("grpc.keepalive_time_ms", 300_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        # An attempt to connect may take as long as the shortest pause before the next one.
        ("grpc.min_reconnect_backoff_ms", connect_timeout),
        # A parent that has come back is seen soon; calls fail at once while it is known to be away.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", connect_timeout),
        # Two clients of one address have nothing in common: stopping one ends its connection.
        ("grpc.use_local_subchannel_pool", 1),
        # A proxy from the environment has nothing to do with peers.
        ("grpc.enable_http_proxy", 0),
    ]


def channel_target(address: str) -> str:
    """
    An address as grpcio's name for it. Without a scheme, an address that a stranger gave could name something else.

    :param address: ``HOST:PORT``, ``grpc://HOST:PORT`` or ``grpcs://HOST:PORT``.
    :raises ValueError: it is not like that.
    """
    parent = _parsed(address)
    if isIPAddress(parent.host):
        return f"ipv4:{parent.host_and_port}"
    if isIPv6Address(parent.host):
        return f"ipv6:{parent.host_and_port.replace('%', '%25')}"  # a zone, in a URI
    return f"dns:///{parent.host_and_port}"


def open_channel(address: str, settings: GRPCSettings) -> grpc.Channel:
    """
    A channel to a parent, which connects when it is first used; whoever has it closes it.

    :param address: as for :func:`channel_target`. With ``grpcs://`` it is under TLS, otherwise not.
    :raises ValueError: it is not like that, or there are no credentials for TLS.
    """
    target, options = channel_target(address), channel_options(settings)
    if _parsed(address).scheme != "grpcs":
        return grpc.insecure_channel(target, options)
    if settings.credentials is None:
        raise ValueError(f"expected credentials for TLS with {address}, got none")
    return grpc.secure_channel(target, settings.credentials, options)


def _parsed(address: str) -> ParentAddress:
    parent = ParentAddress.from_text(address)
    if parent.scheme == "tls":
        raise ValueError(f"expected an address of gRPC, got {address!r}")
    return parent


class _Method(Protocol):
    """A unary method of a channel, as far as it is used."""

    def future(self, request: bytes, timeout: float | None = None) -> grpc.Future[bytes]:
        """Call it."""


@implementer(IClient)
class GRPCClient:
    """
    Fetch pieces from one parent.

    :param address: the parent, as for :func:`open_channel`.
    :param settings: what all clients have in common.
    """

    def __init__(self, address: str, settings: GRPCSettings) -> None:
        self.address = address
        self._settings = settings
        self._reactor = settings.reactor
        self._channel: grpc.Channel | None = None
        self._calls: Counter[grpc.Channel | None] = Counter()
        self._methods: dict[PieceKind, _Method] = {}
        self._under_way: set[Deferred[DownloadPieceResponse]] = set()
        self._learnt: tuple[str, int] = ("", _UNKNOWN_LENGTH)  # the last task, and the length of its pieces
        self._stopped = False
        self._heard_at = float("-inf")  # when a piece has come last

    def download_piece(self, request: DownloadPieceRequest, timeout: float) -> Deferred[DownloadPieceResponse]:
        if self._stopped:
            return fail(self._closed())
        try:
            message = PieceRequest(
                host_id=request.host_id, task_id=request.task_id, piece_number=request.number
            ).SerializeToString()
        except ValueError as error:
            return fail(LocalProtocolError(f"expected a request that protobuf can hold: {error}"))

        def ended(outcome: DownloadPieceResponse | Failure) -> DownloadPieceResponse | Failure:
            self._under_way.discard(result)
            return Failure(self._closed()) if self._stopped else outcome

        result = Deferred.fromCoroutine(self._download(request, message, timeout))
        self._under_way.add(result)
        return result.addBoth(ended)

    def stop(self) -> Deferred[None]:
        self._stopped = True
        for result in list(self._under_way):
            result.cancel()
        channel, self._channel = self._channel, None
        self._methods.clear()
        if channel is not None:
            channel.close()
        return succeed(None)

    # -- one piece

    async def _download(self, request: DownloadPieceRequest, message: bytes, timeout: float) -> DownloadPieceResponse:
        place = await self._enter(request, timeout)
        try:
            return await self._verify(request, await self._call_in_time(request, message, timeout))
        finally:
            place.leave()

    def _call_in_time(self, request: DownloadPieceRequest, message: bytes, timeout: float) -> Deferred[bytes]:
        """
        Ask for a piece. How much of it has come cannot be seen, so the time counts from the last piece that has come
        whole from this parent.
        """
        call = self._call(request, message, timeout * _LONGEST_CALL).addCallback(self._heard)
        return self._in_time(call, request, timeout, "no complete reply")

    def _heard(self, data: bytes) -> bytes:
        """A piece has come."""
        self._heard_at = self._reactor.seconds()
        return data

    def _in_time(
        self, waiting: Deferred[_T], request: DownloadPieceRequest, timeout: float, instead: str
    ) -> Deferred[_T]:
        """
        Have something fail that does not fire in time.

        :param instead: what came instead, for the message.
        """
        begun_at = self._reactor.seconds()
        reason = f"expected the piece, or another one from there, within {timeout:g} s, got {instead}"
        late = PieceLate(self.address, piece_id(request.task_id, request.number), reason)
        return add_deadline(
            waiting,
            self._reactor,
            timeout,
            since=lambda: max(begun_at, self._heard_at),
            too_late=lambda _: Failure(late),
        )

    async def _enter(self, request: DownloadPieceRequest, timeout: float) -> Place:
        """Wait for room for the piece in memory."""
        known, length = self._learnt
        entered: Deferred[None] = Deferred(lambda _: place.leave())
        place = self._settings.budget.enter(
            length if request.task_id == known else _UNKNOWN_LENGTH, lambda: entered.callback(None), self.address
        )
        if not place.inside:
            await self._in_time(entered, request, timeout, "no room in memory")
        return place

    def _call(self, request: DownloadPieceRequest, message: bytes, timeout: float) -> Deferred[bytes]:
        """Ask for a piece; fires with the reply."""
        name = piece_id(request.task_id, request.number)
        try:
            method = self._method(request.kind)
        except ValueError as error:
            return fail(ParentUnreachable(self.address, name, str(error)))
        channel = self._channel
        call = method.future(message, timeout=timeout)
        self._calls[channel] += 1

        def cancel(_: Deferred[bytes]) -> None:
            call.cancel()

        def deliver(done: grpc.Future[bytes]) -> None:
            if done.cancelled():
                self._ended(channel, None)
                return
            error = done.exception()
            self._ended(channel, error)
            if replied.called:  # cancelled too late for the call
                return
            if error is None:
                replied.callback(done.result())
            elif isinstance(error, grpc.RpcError) and isinstance(error, grpc.Call):
                replied.errback(error_of(Status(error.code(), error.details() or ""), self.address, name))
            else:
                replied.errback(error)

        replied: Deferred[bytes] = Deferred(cancel)
        call.add_done_callback(lambda done: self._reactor.callFromThread(deliver, done))
        return replied

    def _ended(self, channel: grpc.Channel | None, error: BaseException | None) -> None:
        """
        A call has ended. One that found nobody may have been on a connection that had ended unseen: the next piece gets
        a channel of its own, and this one is closed with its last call.
        """
        if isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.UNAVAILABLE and channel is self._channel:
            self._channel = None
            self._methods.clear()
        self._calls[channel] -= 1
        if not self._calls[channel]:
            del self._calls[channel]
            if channel is not None and channel is not self._channel:
                channel.close()

    def _method(self, kind: PieceKind) -> _Method:
        """The method for a kind. The channel is made with the first one; it connects when it is first used."""
        if self._channel is None:
            self._channel = open_channel(self.address, self._settings)
        if kind not in self._methods:
            self._methods[kind] = self._channel.unary_unary(path(METHODS[kind].download))
        return self._methods[kind]

    async def _verify(self, request: DownloadPieceRequest, data: bytes) -> DownloadPieceResponse:
        """Check a reply against the request and against itself, and give its content to the sink."""
        name = piece_id(request.task_id, request.number)
        received = self._decode(name, data)
        metadata = received.metadata
        if metadata.number != request.number:
            raise UnexpectedPiece(self.address, name, f"expected piece number {request.number}, got {metadata.number}")
        expected = metadata_digest(metadata)
        if received.metadata_digest not in ("", expected):
            reason = f"expected metadata with the digest {received.metadata_digest[:100]}, got {expected}"
            raise DigestMismatch(self.address, name, reason)
        if len(received.content) != metadata.length:
            reason = f"expected {metadata.length} bytes of content, got {len(received.content)}"
            raise UnexpectedPiece(self.address, name, reason)
        receiver = PieceReceiver(
            self.address,
            name,
            metadata,
            MemorySink() if request.sink is None else request.sink,
            allow_empty_digest=self._settings.allow_empty_digest,
        )
        receiver.begin()
        limiter, waited = self._settings.receive_limiter, 0.0
        turn = _TURN if limiter is None else max(1, min(_TURN, limiter.rate // _TURNS_PER_SECOND))
        try:
            for start in range(0, metadata.length, turn):
                part = received.content[start : start + turn]
                receiver.write(part)
                rest = limiter.spend(len(part)) if limiter is not None else 0.0
                waited += rest
                if rest > 0 or start + turn < metadata.length:
                    await deferLater(self._reactor, rest)
            content = receiver.finish()
        except BaseException:
            receiver.fail()
            raise
        length = metadata.offset // metadata.number if metadata.number else metadata.length
        self._learnt = (request.task_id, max(length, metadata.length))
        return DownloadPieceResponse(metadata=metadata, content=content, waited=waited)

    def _decode(self, name: str, data: bytes) -> ReceivedPiece:
        try:
            return decode_piece(data)
        except RemoteProtocolError as error:
            raise ParentSpokeWrongly(self.address, name, str(error)) from error

    def _closed(self) -> PoolClosed:
        return PoolClosed(f"the client of parent {self.address} has been stopped")
