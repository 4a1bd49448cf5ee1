"""
Sends replies: small ones in one write with their header, large ones through a producer.

Up to :data:`ONE_WRITE_LENGTH` bytes a copy costs less than a turn of the reactor, and header and content share a
segment. A plain socket gets them at once where nothing waits before them and nothing follows: the transport would first
have the reactor ask whether the socket can take them, which is almost always true. Larger content is never copied where
the transport is a plain socket. A small piece whose pages are not in memory goes through a producer too, which can wait
for a disk.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime

from dragonfly_vortex.errors import PieceDamaged, StorageFailure
from dragonfly_vortex.interfaces import IConnectionTransport
from dragonfly_vortex.model import FileRange, OpenPiece
from dragonfly_vortex.transport.producers import (
    CopyProducer,
    EncryptingProducer,
    FileRangeProducer,
    SendfileProducer,
)
from dragonfly_vortex.transport.ratelimit import UploadLimiter
from dragonfly_vortex.transport.readahead import Pages, ReadAhead, read_resident
from dragonfly_vortex.transport.socket_options import beneath, plain_socket
from dragonfly_vortex.transport.tls_transport import TLSTransport

__all__ = ["ONE_WRITE_LENGTH", "Sender", "duplicated"]

ONE_WRITE_LENGTH = 64 * 1024

_MAX_UNFLUSHED = 256 * 1024
"""Bytes that may go out by single writes before one reply waits for the transport's buffer: a child that asks for many
small pieces and reads none must not fill our memory."""


class Sender:
    """
    Sends one reply after the other on one connection.

    :param transport: where to.
    :param clock: for the rests that the limiter asks for.
    :param limiter: what the content's bytes are taken from, shared with other connections.
    :param progressed: called with the number of content bytes after each step.
    :param read_ahead: threads that wait for the disk; None: the reactor's thread does.
    """

    def __init__(
        self,
        transport: IConnectionTransport,
        clock: IReactorTime,
        limiter: UploadLimiter,
        progressed: Callable[[int], None],
        read_ahead: ReadAhead | None = None,
    ) -> None:
        self._transport = transport
        self._clock = clock
        self._limiter = limiter
        self._progressed = progressed
        self._read_ahead = read_ahead
        self._socket = plain_socket(transport)
        self._under_tls = plain_socket(beneath(transport)) if isinstance(transport, TLSTransport) else None
        self._unflushed = 0
        self._producer: FileRangeProducer | None = None

    @property
    def resting(self) -> bool:
        """Whether it is our own limit or our own disk, and not the other side, that a reply waits for."""
        return self._producer is not None and self._producer.resting

    def read_at_once(self, content: FileRange) -> bytearray | None:
        """
        Read small content for :meth:`send_at_once`. It counts as sent, for the limiter.

        :param content: its descriptor stays the caller's.
        :returns: None where it must be sent by :meth:`send`: it is large, or something is to be waited for, or it
            cannot be read.
        """
        length = content.length
        is_small = length <= min(ONE_WRITE_LENGTH, self._limiter.step)
        if not is_small or self._unflushed + length > _MAX_UNFLUSHED or not self._limiter.try_spend(length):
            return None
        data = read_resident(content, self._read_ahead)
        if data is None:
            self._limiter.give_back(length)
        return data

    def send_at_once(self, data: bytes, more: bool) -> None:
        """
        Send a small reply, whose content :meth:`read_at_once` has read.

        :param data: header and content.
        :param more: as for :meth:`send`.
        """
        if not more and self._socket is not None and self._all_has_gone():
            try:
                sent = self._socket.send(data)
            except OSError:  # it is full, or the connection is gone, which the transport will find out
                sent = 0
            data = data[sent:]
        if data:
            self._transport.write(data)
            self._unflushed += len(data)

    def send(
        self,
        header: bytes,
        content: FileRange | None = None,
        *,
        piece: Hashable = None,
        more: bool = False,
        at_once: bool = False,
    ) -> Deferred[None]:
        """
        Send a header and the content that follows it.

        :param content: its descriptor is closed at the end, whatever the end is. None where nothing follows: an error
            is sent so.
        :param piece: identifies the piece, for the limiter's order.
        :param more: whether another reply follows at once, so that both had better leave together.
        :param at_once: whether the socket may be given the first step of large content now; else it is given in the
            reactor's next turn.
        :returns: fires when the next reply may be sent; fails as :meth:`FileRangeProducer.send` does, and then the
            connection must be aborted: the reply is broken.
        """
        pages = Pages(content, self._read_ahead) if content is not None else None
        length = content.length if content is not None else 0
        is_small = length <= min(ONE_WRITE_LENGTH, self._limiter.step)
        has_room = self._unflushed + len(header) + length <= _MAX_UNFLUSHED
        if is_small and has_room and (not length or self._limiter.try_spend(length)):
            try:
                data = pages.read_all() if pages is not None else b""
            except (PieceDamaged, StorageFailure) as error:
                self._limiter.give_back(length)
                return fail(error)
            if data is not None:
                self.send_at_once(header + data, more)
                if data:
                    self._progressed(len(data))
                return succeed(None)
            self._limiter.give_back(length)
        self.send_at_once(header, more=not at_once)
        rest = None if self._all_has_gone() else b""
        self._unflushed = 0
        self._producer = self._make_producer()
        return self._producer.send(rest, pages, piece)

    def _make_producer(self) -> FileRangeProducer:
        """The fastest producer that the transport and the platform allow."""
        given = self._clock, self._limiter, self._progressed
        transport = self._transport
        if isinstance(transport, TLSTransport) and not transport.aggregates and self._under_tls is not None:
            return EncryptingProducer(transport, *given, self._under_tls)
        if self._socket is not None and hasattr(os, "sendfile"):
            return SendfileProducer(self._transport, *given, self._socket)
        return CopyProducer(self._transport, *given)

    def _all_has_gone(self) -> bool:
        """Whether the transport holds nothing that was sent before."""
        return not self._unflushed and not (self._producer is not None and self._producer.copies)


def duplicated(piece: OpenPiece) -> OpenPiece | None:
    """
    A piece with a descriptor of its own, for :meth:`Sender.send`.

    :param piece: its descriptor stays its owner's.
    :returns: None where the descriptor cannot be duplicated: this process can have no more.
    """
    descriptor, offset, length = piece.range
    try:
        return OpenPiece(metadata=piece.metadata, range=FileRange(os.dup(descriptor), offset, length))
    except OSError:
        return None
