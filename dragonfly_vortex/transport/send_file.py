"""
Sends a range of a file over any Twisted transport: by ``sendfile(2)`` where the transport is a plain socket, by a copy
elsewhere.

Twisted 26.10 has no such function. How it is done, and why so, is in :mod:`~dragonfly_vortex.transport.producers`.
"""

from __future__ import annotations

import os
import stat
from typing import IO, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime, ITransport

from dragonfly_vortex.interfaces import IConnectionTransport
from dragonfly_vortex.model import FileRange
from dragonfly_vortex.transport.producers import CopyProducer, FileRangeProducer, SendfileProducer
from dragonfly_vortex.transport.ratelimit import UploadLimiter
from dragonfly_vortex.transport.readahead import Pages, ReadAhead
from dragonfly_vortex.transport.socket_options import beneath, plain_socket

__all__ = ["send_file"]

_UNLIMITED = 10**15  # bytes per second

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFDIR: "a directory",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}


def send_file(
    transport: ITransport,
    file: IO[bytes] | int,
    offset: int = 0,
    length: int | None = None,
    *,
    reactor: IReactorTime | None = None,
    read_ahead: ReadAhead | None = None,
) -> Deferred[int]:
    """
    Send a range of a file, behind all that has been written to the transport. Until the Deferred fires nothing else may
    be written to it. The transport's buffer does not grow: the next bytes are sent when the other side has taken those
    before.

    :param transport: a connected transport of TCP, of a Unix socket or under TLS, without a producer.
    :param file: a regular file, or its descriptor, open for reading. It may be closed when this has returned: a
        duplicate of the descriptor is used. Its position is neither used nor changed.
    :param offset: the first byte that is sent; at most the length that the file has now.
    :param length: bytes that are sent, all of them in the file now; None for all to its present end. What is added to
        the file later is not sent.
    :param reactor: the clock, for transports that have no ``reactor`` of their own.
    :param read_ahead: threads that wait for the disk; None: the reactor's thread does, where bytes are not in memory.
    :returns: fires with the number of bytes when the last one has been handed to the transport; then more may be
        written, or ``loseConnection`` called. It fails with :class:`~dragonfly_vortex.errors.PieceDamaged` when the
        file has become shorter meanwhile, :class:`~dragonfly_vortex.errors.StorageFailure` when it cannot be read, and
        Twisted's ``ConnectionLost`` when the connection is gone. Cancelled, it fails with
        ``CancelledError``, nothing more is sent, and the transport is free. After any failure the other side has a part
        of the range: if the protocol cannot say so, abort the connection.
    :raises ValueError: it is not a regular file with a known length, the range is not in it, or the transport has a
        producer.
    :raises OSError: the file is not open.
    """
    descriptor = file if isinstance(file, int) else file.fileno()
    length = _length_within(descriptor, offset, length)
    connection = cast(IConnectionTransport, transport)  # as every transport of a stream is
    if _has_producer(connection):
        raise ValueError("expected a transport without a producer, got one with a producer that is registered")
    clock = reactor or getattr(beneath(connection), "reactor", None)
    if clock is None:
        raise ValueError(f"expected a reactor, because the transport has none, got {transport!r}")
    producer = _producer(connection, clock)
    pages = Pages(FileRange(os.dup(descriptor), offset, length), read_ahead)

    def cancel(_: Deferred[int]) -> None:
        producer.cancel(CancelledError("the transfer of a file was cancelled"))

    sent: Deferred[int] = Deferred(cancel)
    producer.send(b"", pages).addCallbacks(lambda _: sent.callback(length), sent.errback)
    return sent


def _length_within(descriptor: int, offset: int, length: int | None) -> int:
    """
    The length of a range of a file.

    :param length: None for all from the offset on.
    :raises ValueError: the file has no such range.
    """
    if offset < 0 or (length is not None and length < 0):
        raise ValueError(f"expected an offset and a length of at least 0, got {offset} and {length}")
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"expected a regular file, got {_KINDS.get(stat.S_IFMT(status.st_mode), 'something else')}")
    size = status.st_size
    if not size and os.pread(descriptor, 1, 0):  # of /proc, for example
        raise ValueError("expected a regular file whose length is known, got one with content and a length of 0")
    end = max(size, offset) if length is None else offset + length
    if end > size:
        raise ValueError(f"expected a range within the file's {size} bytes, got one from {offset} to {end}")
    return end - offset


def _producer(transport: IConnectionTransport, clock: IReactorTime) -> FileRangeProducer:
    """The fastest producer that the transport and the platform allow."""
    sock = plain_socket(transport)
    fastest = SendfileProducer if sock is not None and hasattr(os, "sendfile") else CopyProducer
    return fastest(transport, clock, UploadLimiter(_UNLIMITED, clock), lambda length: None, sock)


def _has_producer(transport: IConnectionTransport) -> bool:
    """Whether a producer is registered. No interface has that; TCP and TLS of Twisted name it in these ways."""
    return any(getattr(transport, name, None) is not None for name in ("producer", "_producer"))
