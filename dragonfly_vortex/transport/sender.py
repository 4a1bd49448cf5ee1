"""
How a reply leaves: small ones in one write with their header, large ones through a producer.

Up to :data:`ONE_WRITE_LENGTH` bytes a copy costs less than a turn of the reactor, and header and content share a
segment. Larger content is never copied where the transport is a plain socket.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime

from dragonfly_vortex.errors import PieceDamaged, StorageFailure
from dragonfly_vortex.interfaces import FileRange, IConnectionTransport
from dragonfly_vortex.transport.producers import FileRangeProducer, producer_for
from dragonfly_vortex.transport.ratelimit import TokenBucket

__all__ = ["ONE_WRITE_LENGTH", "Sender"]

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
    :param progressed: called with the number of content bytes whenever some have gone.
    """

    def __init__(
        self,
        transport: IConnectionTransport,
        clock: IReactorTime,
        limiter: TokenBucket,
        progressed: Callable[[int], None],
    ) -> None:
        self._transport = transport
        self._clock = clock
        self._limiter = limiter
        self._progressed = progressed
        self._unflushed = 0
        self._producer: FileRangeProducer | None = None

    @property
    def resting(self) -> bool:
        """Whether it is our own limit, and not the other side, that a reply waits for."""
        return self._producer is not None and self._producer.resting

    def send(self, header: bytes, content: FileRange | None = None) -> Deferred[None]:
        """
        Send a header and the content that follows it.

        :param content: its descriptor is closed at the end, whatever the end is. None where nothing follows: an error
            is sent so.
        :returns: fires when the next reply may be sent; fails as
            :meth:`~dragonfly_vortex.transport.producers.FileRangeProducer.send` does, and then the connection must be
            aborted: the reply is broken.
        """
        length = content.length if content is not None else 0
        allowed = not length or (length <= min(ONE_WRITE_LENGTH, self._limiter.step) and not self._limiter.debt)
        if allowed and self._unflushed + len(header) + length <= _MAX_UNFLUSHED:
            return self._send_at_once(header, content)
        self._unflushed = 0
        self._producer = producer_for(self._transport, self._clock, self._limiter, self._progressed)
        return self._producer.send(header, content)

    def _send_at_once(self, header: bytes, content: FileRange | None) -> Deferred[None]:
        try:
            data = _read(content) if content is not None else b""
        except (PieceDamaged, StorageFailure) as error:
            return fail(error)
        self._transport.write(header + data)
        self._unflushed += len(header) + len(data)
        if data:
            self._limiter.spend(len(data))
            self._progressed(len(data))
        return succeed(None)


def _read(source: FileRange) -> bytes:
    """All bytes of a range, and its descriptor closed."""
    try:
        data = os.pread(source.descriptor, source.length, source.offset)
    except OSError as error:
        raise StorageFailure(f"reading a piece's file failed: {error.strerror}") from error
    finally:
        os.close(source.descriptor)
    if len(data) != source.length:
        raise PieceDamaged(f"expected {source.length} bytes at offset {source.offset} of the file, got {len(data)}")
    return data
