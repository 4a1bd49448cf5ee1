"""
Which pieces a parent announces in a stream: :class:`Reader` reads it in a thread of its own, because grpcio offers no
other way, and hands it over in the reactor's, a handful in each turn. While these wait, nothing more is read, and the
parent waits, too.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import grpc

from dragonfly_vortex.rpc.client import IRPCReactor
from dragonfly_vortex.rpc.status import Status

__all__ = ["MOST_WAITING", "Announced", "Reader", "Stream", "status_of_call"]

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


class Stream(Protocol):
    """A call that answers with many messages, as far as it is used."""

    def __iter__(self) -> Iterator[Any]:
        """Wait for each message."""

    def cancel(self) -> bool:
        """End it."""


class Reader:
    """
    Reads a stream in a thread, and tells of it in the reactor's.

    :param stream: the call.
    :param reactor: in whose thread it is told.
    :param on_piece: called with each piece.
    :param on_end: called with what the stream has ended with, when all pieces have been told.
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
            self._waiting.clear()
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
            status = status_of_call(error)
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


def status_of_call(error: BaseException) -> Status:
    """What a call has ended with."""
    if isinstance(error, grpc.RpcError) and isinstance(error, grpc.Call):
        return Status(error.code(), error.details() or "")
    return Status(grpc.StatusCode.UNKNOWN, str(error))
