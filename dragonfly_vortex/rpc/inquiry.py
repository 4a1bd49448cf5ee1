"""
Asks one parent about one task over gRPC: its length, and which pieces there are.

The stream of pieces has no deadline. One that ends before the task is complete is asked for again after a pause: its
parent may still be downloading. :class:`Patience` decides when to ask again, and when the parent has no more pieces to
announce.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count, islice
from typing import Any, ClassVar, NamedTuple

import grpc
from google.protobuf.message import DecodeError
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from dragonfly_vortex.address import ParentAddress
from dragonfly_vortex.peer_exchange import Metadata, PeerExchange
from dragonfly_vortex.rpc.channel import Channel, GRPCSettings
from dragonfly_vortex.rpc.limits import MAX_NUMBERS
from dragonfly_vortex.rpc.methods import METHODS, path
from dragonfly_vortex.rpc.status import CallFailed, Status
from dragonfly_vortex.wire import PieceKind
from dragonfly_vortex.wire.messages import printable

__all__ = ["Announced", "Inquiry", "Patience"]

_MAX_REPLY = 4 * 1024 * 1024
"""Bytes that what a parent says of a task, or of a piece, may have: grpcio's own limit."""

_OPTIONS = (("grpc.http2.bdp_probe", 0),)
"""grpcio measures the bandwidth of a connection by pings, which nothing but long messages needs."""

STAT_TIMEOUT = 10.0
"""Seconds in which a parent says how long a task is."""

MAX_PIECES = 1_000_000
"""Pieces that a task can have here: of the shortest that Dragonfly makes, these are four terabytes."""

_UNKNOWN_NUMBERS = 4096
"""Pieces that a parent is asked for at once that does not know how many there are: 16 GiB in pieces of 4 MiB."""

_MOST_REPEATED = 1000
"""Pieces that a parent may announce again in one stream, beside as many as it has announced at all."""

_UNREACHABLE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
"""The statuses of a call without an answer."""

_PAUSES = (0.5, 1.0, 2.0, 4.0)
"""Seconds before a list is asked for again: the first time, the second, and so on. News begin anew."""

_MOST_FRUITLESS = 3
"""How often a parent may answer at once with nothing new."""

_AT_ONCE = 2.0
"""Seconds within which an answer is given at once."""


class Announced(NamedTuple):
    """
    A piece that a parent announces.

    :param ip: the address of its Vortex port; empty where it does not say.
    :param tcp_port: its Vortex port; 0 where it has none.
    """

    number: int
    offset: int
    length: int
    ip: str
    tcp_port: int


class Patience:
    """
    Decides when a parent is asked again after its list of pieces has ended early, and when no more pieces are expected.
    A parent that has more to come keeps the stream open.
    """

    def __init__(self) -> None:
        self._pauses = 0
        self._fruitless = 0

    def pause(self, *, is_new: bool, seconds: float) -> float | None:
        """
        Record a list that ended early, and return the pause before the next question.

        :param is_new: whether it has announced anything new.
        :param seconds: that it has taken, from the question to its end.
        :returns: seconds to wait before it is asked for again; None for never.
        """
        if is_new:
            self._pauses = self._fruitless = 0
        elif seconds >= _AT_ONCE:
            self._fruitless = 0
        else:
            self._fruitless += 1
        if self._fruitless >= _MOST_FRUITLESS:
            return None
        pause = _PAUSES[min(self._pauses, len(_PAUSES) - 1)]
        self._pauses += 1
        return pause


class Inquiry:
    """
    Asks one parent about one task, again and again until there is nothing more to be learnt. All in the reactor's
    thread.

    :param parent: its gRPC address.
    :param settings: the reactor, the event loop, the credentials, and the time for connecting.
    :param on_layout: as for :meth:`~dragonfly_vortex.interfaces.IPieceAnnouncer.start`, and so is ``on_end``.
    :param on_piece: called with each piece that is there, as often as the parent says so.
    :param exchange: what is said of this peer, and learnt of others; None for nothing.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        parent: ParentAddress,
        settings: GRPCSettings,
        kind: PieceKind,
        task_id: str,
        on_layout: Callable[[int | None, int | None], None],
        on_piece: Callable[[Announced], None],
        on_end: Callable[[bool], None],
        exchange: PeerExchange | None = None,
    ) -> None:
        self._parent = parent
        self._reactor = settings.reactor
        self._row = METHODS[kind]
        self._task_id = task_id
        self._on_layout = on_layout
        self._on_piece = on_piece
        self._on_end = on_end
        self._exchange = exchange
        self._settings = settings
        self._channel: Channel | None = None
        self._layout: tuple[int | None, int | None] = (None, None)
        self._piece_count: int | None = None
        self._told: dict[int, int] = {}  # the length of each announced piece, by number
        self._told_length = 0
        self._is_new = False  # whether the stream has told anything new
        self._repeated = 0  # how many pieces it has announced again
        self._pause: Deferred[None] | None = None
        self._is_over = False

    def ask(self) -> None:
        """
        Begin to ask.

        :raises ValueError: the parent's address needs credentials for TLS, and there are none.
        """
        self._channel = Channel(str(self._parent), self._settings, _MAX_REPLY, _OPTIONS)
        Deferred.fromCoroutine(self._ask(self._channel)).addErrback(self._fail)

    def stop(self) -> None:
        """Report nothing more, and leave no call and no channel."""
        if self._is_over:
            return
        self._is_over = True
        if self._pause is not None:
            self._pause.cancel()
        if self._channel is not None:
            self._channel.close()

    # -- what is asked

    async def _ask(self, channel: Channel) -> None:
        """Ask for the task's length and for its pieces, until there is nothing more to be learnt."""
        patience = Patience()
        while True:
            status = await self._learn_layout(channel)
            if status.code is grpc.StatusCode.NOT_FOUND or status.code in _UNREACHABLE:
                self._end(status.code is grpc.StatusCode.NOT_FOUND, status)
                return
            # After any other status the parent may well tell its pieces. A channel that was closed meanwhile fails.
            asked_at = self._reactor.seconds()
            status = await self._listen(channel)
            if self._is_over:
                return
            if status.code is grpc.StatusCode.NOT_FOUND or _is_reference_not_found(status):
                self._end(True, status)
                return
            if status.code not in (grpc.StatusCode.OK, grpc.StatusCode.DEADLINE_EXCEEDED):
                self._end(False, status)
                return
            pause = patience.pause(is_new=self._is_new, seconds=self._reactor.seconds() - asked_at)
            if pause is None:
                self._end(True, status)
                return
            self._pause = deferLater(self._reactor, pause)
            await self._pause

    async def _learn_layout(self, channel: Channel) -> Status:
        """Ask how long the task is; the message of some kinds has no field for the length of its pieces."""
        request = self._row.stat_request(**{"task_id": self._task_id}).SerializeToString()
        try:
            reply: Any = self._row.stat_reply.FromString(
                await channel.call(path(self._row.stat), request, STAT_TIMEOUT)
            )
        except CallFailed as failed:
            return failed.status
        except DecodeError as error:
            return Status(grpc.StatusCode.INTERNAL, str(error))
        if self._is_over:  # the reply had arrived when the asking was stopped
            return Status(grpc.StatusCode.CANCELLED, "")
        fields = reply.DESCRIPTOR.fields_by_name
        count = getattr(reply, "piece_count", 0)
        # Where a field cannot be absent, a length of 0 is known where there is a piece, or the task is said to be
        # complete: so it is with an empty file that dfcache has imported.
        is_complete = count > 0 or getattr(reply, "state", "") == "Succeeded"
        is_known = reply.HasField("content_length") if fields["content_length"].has_presence else is_complete
        content_length = reply.content_length if is_known or reply.content_length else None
        piece_length = getattr(reply, "piece_length", 0) or None
        if content_length is not None and piece_length is not None:
            count = max(1, -(-content_length // piece_length))
        self._piece_count = count if 0 < count <= MAX_PIECES else None
        if (content_length, piece_length) != self._layout:
            self._layout = content_length, piece_length
            self._on_layout(content_length, piece_length)
        return Status(grpc.StatusCode.OK, "")

    async def _listen(self, channel: Channel) -> Status:
        """Ask which pieces there are, and report them; returns the status of the stream's end."""
        # A parent announces the pieces that it is asked for, and none where it is asked for none. Where it does not
        # know how many there are, it is asked for some that there may be; the next question asks for those that follow.
        numbers = range(self._piece_count) if self._piece_count is not None else count()
        most = MAX_NUMBERS if self._piece_count is not None else _UNKNOWN_NUMBERS
        missing = (number for number in numbers if number not in self._told) if self._told else numbers
        wanted = list(islice(missing, most))
        said = {"host_id": self._settings.host_id, "task_id": self._task_id}
        request = self._row.sync_request(**said, **{self._row.interested: wanted})
        self._is_new, self._repeated = False, 0
        try:
            await channel.listen(
                path(self._row.sync),
                request.SerializeToString(),
                self._hear,
                metadata=() if self._exchange is None else self._exchange.question(self._parent),
                hear_metadata=None if self._exchange is None else self._hear_of_peers,
            )
        except CallFailed as failed:
            return failed.status
        return Status(grpc.StatusCode.OK, "the list has ended")

    def _hear_of_peers(self, metadata: Metadata) -> None:
        """Pass on the peers that the parent names, if it does."""
        if self._exchange is not None and not self._is_over:
            self._exchange.hear(self._parent, metadata)

    def _hear(self, message: bytes) -> None:
        """Handle an announcement of the parent."""
        if self._is_over:
            return
        try:
            reply: Any = self._row.sync_reply.FromString(message)
        except DecodeError as error:
            self._end(False, Status(grpc.StatusCode.INTERNAL, str(error)))
            return
        if reply.number not in self._told:
            if len(self._told) >= MAX_PIECES:
                self._end(False, Status(grpc.StatusCode.OUT_OF_RANGE, f"more than {MAX_PIECES} pieces"))
                return
            self._told[reply.number] = reply.length
            self._told_length += reply.length
            self._is_new = True
        else:
            self._repeated += 1
            if self._repeated > len(self._told) + _MOST_REPEATED:
                self._end(False, Status(grpc.StatusCode.OUT_OF_RANGE, "it announces the same pieces repeatedly"))
                return
        # The message of some kinds has no address.
        ip, tcp_port = getattr(reply, "ip", ""), getattr(reply, "tcp_port", 0)
        self._on_piece(Announced(reply.number, reply.offset, reply.length, ip, tcp_port))
        if self._is_complete and not self._is_over:
            self._end(True, Status(grpc.StatusCode.OK, "complete"))

    @property
    def _is_complete(self) -> bool:
        """Whether all pieces have been announced. An empty task has one piece of no bytes."""
        content_length = self._layout[0]
        if not content_length:
            return self._told.get(0) == 0
        return self._told_length >= content_length

    # -- the end

    def _end(self, is_final: bool, status: Status) -> None:
        """Report that the announcements have ended."""
        if self._is_over:
            return
        self.log.info(
            "the inquiry to parent {parent} about task {task_id} ended after {count} pieces: {code} {text}",
            parent=str(self._parent),
            task_id=self._task_id,
            count=len(self._told),
            code=status.code.name,
            text=printable(status.text),
        )
        self.stop()
        self._on_end(is_final)

    def _fail(self, failure: Failure) -> None:
        """End after an unexpected failure, which is logged. Nothing is done where the inquiry was stopped."""
        if not (failure.check(CancelledError) and self._is_over):
            self.log.failure("parent {parent} cannot be asked", failure, parent=str(self._parent))
            self._end(False, Status(grpc.StatusCode.INTERNAL, failure.getErrorMessage()))


def _is_reference_not_found(status: Status) -> bool:
    """How the reference says that it does not have a task (``dfdaemon_upload.rs``, ``sync_pieces``)."""
    return status.code is grpc.StatusCode.INTERNAL and "not found" in status.text
