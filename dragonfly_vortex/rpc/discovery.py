"""
Which pieces a parent has, by its gRPC API: :class:`PieceDiscovery` asks how long a task is, and listens to the stream
of its pieces.

The stream is read in a thread of its own, because grpcio offers no other way, and handed over in the reactor's, a
handful in each turn; while these wait, nothing more is read, and the parent waits, too. The stream has no deadline. One
that ends before the task is complete is asked for again after a while: its parent may still be downloading.
"""

from __future__ import annotations

import ipaddress
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, NamedTuple, Protocol

import grpc
from google.protobuf.message import Message
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from zope.interface import implementer

from dragonfly_vortex.interfaces import IPieceAnnouncer
from dragonfly_vortex.parents import ParentAddress
from dragonfly_vortex.rpc.client import GRPCSettings, IRPCReactor, open_channel
from dragonfly_vortex.rpc.methods import METHODS, path
from dragonfly_vortex.rpc.statuses import Status
from dragonfly_vortex.wire import PieceKind

__all__ = ["MOST_WAITING", "Announced", "PieceDiscovery", "Reader", "Stream", "tcp_address_of"]

STAT_TIMEOUT = 10.0
"""Seconds in which a parent says how long a task is."""

MAX_PIECES = 1_000_000
"""Pieces that a task can have here: of the shortest that Dragonfly makes, these are four terabytes."""

_PAUSES = (0.5, 1.0, 2.0, 4.0)
"""Seconds before a list that ended early is asked for again: the first time, the second, and so on. News begin anew."""

_MOST_FRUITLESS = 3
"""
How often a parent may answer at once and tell nothing new, until it is taken at its word: there will be no more. One
that has more to come keeps the stream open.
"""

_AT_ONCE = 2.0
"""Seconds within which an answer is given at once."""

MOST_WAITING = 1000
"""Pieces that are read ahead of what the reactor has taken."""

_TURN = 200
"""Pieces that the reactor takes in one turn."""


class Announced(NamedTuple):
    """
    What a parent says about a piece.

    :param ip: where it has it; empty where it does not say.
    :param tcp_port: of its Vortex door; 0 where it has none.
    """

    number: int
    offset: int
    length: int
    ip: str
    tcp_port: int


@implementer(IPieceAnnouncer)
class PieceDiscovery:
    """
    Ask one parent. Each task that is asked about has a channel of its own, and a thread while its stream is open.

    :param parent: its gRPC address.
    :param settings: the reactor, the credentials, and the options of channels.
    :param offer_tcp: called in the reactor's thread with the parent's TCP address, as soon as it is known, before the
        piece with which it came is told, and again when it has changed.
    """

    def __init__(self, parent: ParentAddress, settings: GRPCSettings, offer_tcp: Callable[[str], None]) -> None:
        self.parent = parent
        self._settings = settings
        self._offer_tcp = offer_tcp
        self._offered = ""

    def start(
        self,
        kind: PieceKind,
        task_id: str,
        on_layout: Callable[[int | None, int | None], None],
        on_piece: Callable[[int, int, int], None],
        on_end: Callable[[bool], None],
    ) -> Callable[[], None]:
        def tell_piece(piece: Announced) -> None:
            offered = tcp_address_of(self.parent, piece.ip, piece.tcp_port)
            if offered is not None and offered != self._offered:
                self._offered = offered
                self._offer_tcp(offered)
            on_piece(piece.number, piece.offset, piece.length)

        inquiry = _Inquiry(self.parent, self._settings, kind, task_id, on_layout, tell_piece, on_end)
        inquiry.ask()
        return inquiry.stop


def tcp_address_of(parent: ParentAddress, ip: str, port: int) -> str | None:
    """
    Where a parent offers Vortex, as :meth:`~dragonfly_vortex.parents.ParentAddress.from_text` reads it.

    An address that is only good on the parent's own machine, or none, means the host of its gRPC address. So it is
    under TLS, where a certificate is for the name that the parent is called by.

    :param parent: its gRPC address.
    :param ip: the address that it gives.
    :param port: the port that it gives.
    :returns: None where that is no port.
    """
    if not 0 < port <= 65535:
        return None
    is_secure = parent.scheme == "grpcs"
    is_useful = (isIPAddress(ip) or isIPv6Address(ip)) and not _is_local(ip)
    host = ip if is_useful and not is_secure else parent.host
    return str(ParentAddress(scheme="tls" if is_secure else "tcp", host=host, port=port))


def _is_local(ip: str) -> bool:
    """Whether an address means the machine that says it: the loopback's, or that of no interface."""
    address = ipaddress.ip_address(ip)
    return address.is_loopback or address.is_unspecified


class Stream(Protocol):
    """A call that answers with many messages, as far as it is used."""

    def __iter__(self) -> Iterator[Any]:
        """Wait for each message."""

    def cancel(self) -> bool:
        """End it."""


class _Inquiry:
    """
    What is asked of one parent about one task, over and over until there is nothing more to be learnt. All in the
    reactor's thread.
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
    ) -> None:
        self._parent = parent
        self._reactor = settings.reactor
        self._row = METHODS[kind]
        self._task_id = task_id
        self._on_layout = on_layout
        self._on_piece = on_piece
        self._on_end = on_end
        self._channel = open_channel(str(parent), settings)
        self._layout: tuple[int | None, int | None] = (None, None)
        self._piece_count: int | None = None
        self._told: dict[int, int] = {}  # the length of each piece that has been told, by number
        self._told_length = 0
        self._is_new = False  # whether the stream has told anything new
        self._asked_at = 0.0
        self._pauses = 0
        self._fruitless = 0
        self._again: IDelayedCall | None = None
        self._stat: grpc.Future[Any] | None = None
        self._reader: Reader | None = None
        self._is_over = False

    def ask(self) -> None:
        """Ask how long the task is; the rest follows."""
        self._again = None
        stat = self._channel.unary_unary(
            path(self._row.stat),
            request_serializer=_serialized,
            response_deserializer=self._row.stat_reply.FromString,
        )
        self._stat = stat.future(self._row.stat_request(**{"task_id": self._task_id}), timeout=STAT_TIMEOUT)
        self._stat.add_done_callback(lambda done: self._reactor.callFromThread(self._stated, done))

    def stop(self) -> None:
        """Tell nothing more, and leave no call, no thread and no channel."""
        if self._is_over:
            return
        self._is_over = True
        if self._again is not None:
            self._again.cancel()
        if self._stat is not None:
            self._stat.cancel()
        if self._reader is not None:
            self._reader.stop()
        self._channel.close()

    # -- how long it is

    def _stated(self, done: grpc.Future[Any]) -> None:
        if self._is_over:
            return
        error = done.exception()
        if error is None:
            self._learn_layout(done.result())
        elif (status := _status_of(error)).code is grpc.StatusCode.NOT_FOUND:
            self._end(True, status)
            return
        elif status.code in _UNREACHABLE:
            self._end(False, status)
            return
        # Any other status is that of a parent which does not tell this, but may well tell its pieces.
        self._listen()

    def _learn_layout(self, reply: Any) -> None:
        """What a task's length is; the message of some kinds has no field for the length of its pieces."""
        fields = reply.DESCRIPTOR.fields_by_name
        count = getattr(reply, "piece_count", 0)
        # Where a field cannot be absent, a length of 0 is known to be meant where there is a piece nevertheless.
        is_known = reply.HasField("content_length") if fields["content_length"].has_presence else count > 0
        content_length = reply.content_length if is_known or reply.content_length else None
        piece_length = getattr(reply, "piece_length", 0) or None
        if content_length is not None and piece_length is not None:
            count = max(1, -(-content_length // piece_length))
        self._piece_count = count if 0 < count <= MAX_PIECES else None
        if (content_length, piece_length) != self._layout:
            self._layout = content_length, piece_length
            self._on_layout(content_length, piece_length)

    # -- which pieces there are

    def _listen(self) -> None:
        """Listen to the stream of pieces."""
        if self._is_over:  # by what the layout was good for
            return
        sync: Callable[[Message], Stream] = self._channel.unary_stream(
            path(self._row.sync),
            request_serializer=_serialized,
            response_deserializer=self._row.sync_reply.FromString,
        )
        # The reference tells of the pieces that it is asked for, and of none where it is asked for none.
        wanted = [number for number in range(self._piece_count or 0) if number not in self._told]
        request = self._row.sync_request(**{"task_id": self._task_id, self._row.interested: wanted})
        self._is_new = False
        self._asked_at = self._reactor.seconds()
        self._reader = Reader(sync(request), self._reactor, self._hear, self._fall_silent)
        self._reader.start()

    def _hear(self, piece: Announced) -> None:
        if self._is_over:
            return
        if piece.number not in self._told:
            if len(self._told) >= MAX_PIECES:
                self._end(False, Status(grpc.StatusCode.OUT_OF_RANGE, f"more than {MAX_PIECES} pieces"))
                return
            self._told[piece.number] = piece.length
            self._told_length += piece.length
            self._is_new = True
        self._on_piece(piece)
        if self._is_complete and not self._is_over:
            self._end(True, Status(grpc.StatusCode.OK, "complete"))

    @property
    def _is_complete(self) -> bool:
        """Whether all pieces have been told. A piece of no bytes is all that an empty task has."""
        content_length = self._layout[0]
        if not content_length:
            return self._told.get(0) == 0
        return self._told_length >= content_length

    def _fall_silent(self, status: Status) -> None:
        """The stream has ended."""
        if self._is_over:
            return
        if status.code is grpc.StatusCode.NOT_FOUND or _is_reference_not_found(status):
            self._end(True, status)
        elif status.code not in (grpc.StatusCode.OK, grpc.StatusCode.DEADLINE_EXCEEDED):
            self._end(False, status)
        else:
            self._count_fruitless(status)

    def _count_fruitless(self, status: Status) -> None:
        """Ask again after a while, unless that has turned out to be of no use."""
        if self._is_new:
            self._pauses = self._fruitless = 0
        elif self._reactor.seconds() - self._asked_at >= _AT_ONCE:
            self._fruitless = 0
        else:
            self._fruitless += 1
        if self._fruitless >= _MOST_FRUITLESS:
            self._end(True, status)
            return
        pause = _PAUSES[min(self._pauses, len(_PAUSES) - 1)]
        self._pauses += 1
        self._again = self._reactor.callLater(pause, self.ask)

    def _end(self, is_final: bool, status: Status) -> None:
        """Tell that there is nothing more to tell."""
        self.log.info(
            "parent {parent} tells no more of task {task_id}, after {count} pieces: {code} {text}",
            parent=str(self._parent),
            task_id=self._task_id,
            count=len(self._told),
            code=status.code.name,
            text=status.text,
        )
        self.stop()
        self._on_end(is_final)


_UNREACHABLE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
"""What a call ends with when nobody has answered it."""


class Reader:
    """
    Reads a stream in a thread, and tells of it in the reactor's.

    :param stream: the call.
    :param on_piece: called with each piece.
    :param on_end: called when the stream has ended and all pieces have been told.
    """

    def __init__(
        self,
        stream: Stream,
        reactor: IRPCReactor,
        on_piece: Callable[[Announced], None],
        on_end: Callable[[Status], None],
    ) -> None:
        self._stream = stream
        self._reactor = reactor
        self._on_piece = on_piece
        self._on_end = on_end
        self._changed = threading.Condition()  # guards what follows
        self._waiting: deque[Announced] = deque()
        self._ended: Status | None = None
        self._is_told = False  # whether the reactor knows that there is something to take
        self._is_stopped = False

    def start(self) -> None:
        """Begin to read."""
        threading.Thread(target=self._read, name="piece-discovery", daemon=True).start()

    def stop(self) -> None:
        """End the stream, and the thread with it. What has been read is not told any more."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify()
        self._stream.cancel()

    # -- the thread

    def _read(self) -> None:
        status = Status(grpc.StatusCode.OK, "the list has ended")
        try:
            for reply in self._stream:
                if not self._put(_announced(reply)):
                    return
        except grpc.RpcError as error:
            status = _status_of(error)
        with self._changed:
            self._ended = status
            self._tell()

    def _put(self, piece: Announced) -> bool:
        """Have a piece told, when there is room for it; whether anybody wants it."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_stopped or len(self._waiting) < MOST_WAITING)
            self._waiting.append(piece)
            self._tell()
            return not self._is_stopped

    def _tell(self) -> None:
        if not self._is_told:
            self._is_told = True
            self._reactor.callFromThread(self._take)

    # -- the reactor's thread

    def _take(self) -> None:
        """Tell what has come, as much of it as one turn is good for."""
        with self._changed:
            pieces = [self._waiting.popleft() for _ in range(min(_TURN, len(self._waiting)))]
            is_more = bool(self._waiting)
            self._is_told = is_more
            ended = None if is_more else self._ended
            self._changed.notify()
        for piece in pieces:
            if not self._is_stopped:
                self._on_piece(piece)
        if is_more:
            self._reactor.callLater(0, self._take)
        elif ended is not None and not self._is_stopped:
            self._on_end(ended)


def _announced(reply: Any) -> Announced:
    """What a reply says; that of some kinds has no address."""
    return Announced(
        number=reply.number,
        offset=reply.offset,
        length=reply.length,
        ip=getattr(reply, "ip", ""),
        tcp_port=getattr(reply, "tcp_port", 0),
    )


def _serialized(message: Message) -> bytes:
    return message.SerializeToString()


def _status_of(error: BaseException) -> Status:
    """What a call has ended with."""
    if isinstance(error, grpc.RpcError) and isinstance(error, grpc.Call):
        return Status(error.code(), error.details() or "")
    return Status(grpc.StatusCode.UNKNOWN, str(error))


def _is_reference_not_found(status: Status) -> bool:
    """How the reference says that it does not have a task (``dfdaemon_upload.rs``, ``sync_pieces``)."""
    return status.code is grpc.StatusCode.INTERNAL and "not found" in status.text
