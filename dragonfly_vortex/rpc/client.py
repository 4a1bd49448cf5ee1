"""
A child's client of one parent over gRPC: :class:`GRPCClient` makes one unary call for each piece.
"""

from __future__ import annotations

from collections import Counter
from typing import TypeVar

import grpc
from twisted.internet.defer import Deferred, fail, gatherResults
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

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
from dragonfly_vortex.geometry import MAX_PIECE_LENGTH
from dragonfly_vortex.interfaces import DownloadPieceRequest, IClient
from dragonfly_vortex.model import DownloadPieceResponse, piece_id
from dragonfly_vortex.rpc.channel import Channel, GRPCSettings
from dragonfly_vortex.rpc.codec import MAX_OVERHEAD, ReceivedPiece, decode_piece, metadata_digest
from dragonfly_vortex.rpc.limits import Place
from dragonfly_vortex.rpc.methods import METHODS, PieceRequest, path
from dragonfly_vortex.rpc.status import CallFailed, error_of
from dragonfly_vortex.system_calls import keep_freed_memory
from dragonfly_vortex.transport.receiver import PieceReceiver
from dragonfly_vortex.transport.sinks import MemorySink
from dragonfly_vortex.transport_table import GRPC
from dragonfly_vortex.wire.messages import printable

__all__ = ["GRPCClient"]

_UNKNOWN_LENGTH = 64 * 1024 * 1024
"""Bytes that a piece of a task may have while its length is not known: Dragonfly makes no longer pieces."""

_LEAST_LENGTH = 1024 * 1024
"""The least limit of a piece's length. Limits are this times a power of two, and each has a channel of its own."""

_TURN = 4 * 1024 * 1024
"""Bytes that are hashed and written in one turn of the reactor."""

_TURNS_PER_SECOND = 20
"""Parts of a second for which a limit lets bytes through at once."""

_LONGEST_CALL = 8
"""How many times as long as the time without progress a call may take in all. Its parent gets that deadline."""

_T = TypeVar("_T")


@implementer(IClient)
class GRPCClient:
    """
    Fetch pieces from one parent.

    A reply is in memory as a whole, so what a parent may send is limited before it sends: a channel refuses replies
    that are longer than what the piece was counted for in the memory budget.

    :param address: the parent, as for :class:`~dragonfly_vortex.rpc.channel.Channel`.
    :param settings: what all clients have in common.
    """

    def __init__(self, address: str, settings: GRPCSettings) -> None:
        self.address = address
        self._settings = settings
        self._reactor = settings.reactor
        self._channels: dict[int, Channel] = {}  # by the length that a piece may have
        self._retired: set[Channel] = set()  # those that are closed with their last call
        self._calls: Counter[Channel] = Counter()  # how many are under way
        self._under_way: set[Deferred[DownloadPieceResponse]] = set()
        self._learnt: tuple[str, int] = ("", _UNKNOWN_LENGTH)  # the last task, and the length of its pieces
        self._stopped = False
        self._heard_at = float("-inf")  # when the last piece arrived

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
        channels = [*self._channels.values(), *self._retired]
        self._channels.clear()
        self._retired.clear()
        for result in list(self._under_way):
            result.cancel()
        return gatherResults([channel.close() for channel in channels]).addCallback(lambda _: None)

    # -- one piece

    async def _download(self, request: DownloadPieceRequest, message: bytes, timeout: float) -> DownloadPieceResponse:
        longest = self._longest(request)
        try:
            return await self._fetch(request, message, longest, timeout)
        except UnexpectedPiece as error:
            is_too_long = isinstance(error.__cause__, CallFailed)
            if not is_too_long or request.announced_length is not None or longest >= _UNKNOWN_LENGTH:
                raise
        # It is longer than the last piece of this task, but no length was announced for it.
        return await self._fetch(request, message, _UNKNOWN_LENGTH, timeout)

    async def _fetch(
        self, request: DownloadPieceRequest, message: bytes, longest: int, timeout: float
    ) -> DownloadPieceResponse:
        place = await self._enter(request, longest, timeout)
        try:
            calling = Deferred.fromCoroutine(self._call(request, message, longest, timeout))
            reply = await self._in_time(calling, request, timeout, "no complete reply")
            return await self._verify(request, reply)
        finally:
            place.leave()

    def _longest(self, request: DownloadPieceRequest) -> int:
        """Bytes that a piece may have: a limit that is no less than its length, as far as that is known."""
        known, learnt = self._learnt
        length = request.announced_length
        if length is None:
            length = learnt if request.task_id == known else _UNKNOWN_LENGTH
        longest = _LEAST_LENGTH
        while longest < min(length, MAX_PIECE_LENGTH):
            longest *= 2
        return longest

    async def _enter(self, request: DownloadPieceRequest, longest: int, timeout: float) -> Place:
        """Wait for room for the piece in memory."""
        entered: Deferred[None] = Deferred(lambda _: place.leave())
        place = self._settings.budget.enter(longest, lambda: entered.callback(None), self.address)
        if not place.inside:
            await self._in_time(entered, request, timeout, "no room in memory")
        return place

    def _in_time(
        self, waiting: Deferred[_T], request: DownloadPieceRequest, timeout: float, instead: str
    ) -> Deferred[_T]:
        """
        Make a Deferred fail that does not fire in time. The progress of a piece cannot be seen, so the time counts from
        the last whole piece of this parent.

        :param instead: what came instead, for the message.
        """
        begun_at = self._reactor.seconds()
        reason = f"expected the piece, or another one from this parent, within {timeout:g} s, got {instead}"
        late = PieceLate(self.address, piece_id(request.task_id, request.number), reason)
        return add_deadline(
            waiting,
            self._reactor,
            timeout,
            since=lambda: max(begun_at, self._heard_at),
            too_late=lambda _: Failure(late),
        )

    async def _call(self, request: DownloadPieceRequest, message: bytes, longest: int, timeout: float) -> bytes:
        """Ask for a piece; the reply."""
        name = piece_id(request.task_id, request.number)
        channel = self._channel(name, longest)
        self._calls[channel] += 1
        try:
            reply = await channel.call(path(METHODS[request.kind].download), message, timeout * _LONGEST_CALL)
        except CallFailed as failed:
            if failed.status.code is grpc.StatusCode.UNAVAILABLE and self._channels.get(longest) is channel:
                # Its connection may have ended unseen, so the next piece gets another one.
                del self._channels[longest]
                self._retired.add(channel)
            raise error_of(failed.status, self.address, name) from failed
        finally:
            self._calls[channel] -= 1
            if not self._calls[channel]:
                del self._calls[channel]
                if channel in self._retired:
                    self._retired.discard(channel)
                    channel.close()
        self._heard_at = self._reactor.seconds()
        return reply

    def _channel(self, name: str, longest: int) -> Channel:
        """
        The channel for pieces of at most that length. It is made with the first one.

        :param name: the piece's name, for messages.
        """
        if longest not in self._channels:
            keep_freed_memory()  # of replies
            try:
                self._channels[longest] = Channel(self.address, self._settings, longest + MAX_OVERHEAD)
            except ValueError as error:
                raise ParentUnreachable(self.address, name, str(error)) from error
        return self._channels[longest]

    async def _verify(self, request: DownloadPieceRequest, data: bytes) -> DownloadPieceResponse:
        """Check a reply against the request and against itself, and give its content to the sink."""
        name = piece_id(request.task_id, request.number)
        received = self._decode(name, data)
        metadata = received.metadata
        if metadata.number != request.number:
            raise UnexpectedPiece(self.address, name, f"expected piece number {request.number}, got {metadata.number}")
        expected = metadata_digest(metadata)
        if received.metadata_digest not in ("", expected):
            reason = f"expected metadata with the digest {printable(received.metadata_digest)}, got {expected}"
            raise DigestMismatch(self.address, name, reason)
        if len(received.content) != metadata.length:
            reason = f"expected {metadata.length} bytes of content, got {len(received.content)}"
            raise UnexpectedPiece(self.address, name, reason)
        receiver = PieceReceiver(
            self.address,
            request.task_id,
            metadata,
            MemorySink() if request.sink is None else request.sink,
            allow_empty_digest=self._settings.allow_empty_digest or request.is_whole_verified,
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
        return DownloadPieceResponse(metadata=metadata, content=content, waited=waited, transport=GRPC.name)

    def _decode(self, name: str, data: bytes) -> ReceivedPiece:
        try:
            return decode_piece(data)
        except RemoteProtocolError as error:
            raise ParentSpokeWrongly(self.address, name, str(error)) from error

    def _closed(self) -> PoolClosed:
        return PoolClosed(f"the client of parent {self.address} has been stopped")
