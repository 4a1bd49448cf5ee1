"""
Writes the frames of a connection: straight to its socket where that is a plain one, else to the transport.

A transport puts what it is given together, and sends 128 KiB of it in a turn of the reactor. A plain socket takes the
parts of a message from where they are, as many as there is room for. What it does not take waits here, as a copy: a
part of a piece would keep the whole of it in memory, which would no longer be counted once its call is over.
"""

from __future__ import annotations

import abc
import errno
import socket
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice

from twisted.internet.interfaces import IPullProducer, IPushProducer
from zope.interface import implementer

from dragonfly_vortex.interfaces import IConnectionTransport
from dragonfly_vortex.transport.socket_options import plain_socket

__all__ = ["Writer", "writer_of"]

_MOST_PARTS = 512
"""Parts that the socket is given in one call. Linux takes twice as many."""

_FULL = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS})
"""Errors of a socket that takes more later. The last one is a Unix socket's, for which the system has no memory now."""


class Writer(abc.ABC):
    """
    The way to the other side of one connection, the only one.

    :param transport: the connection.
    """

    def __init__(self, transport: IConnectionTransport) -> None:
        self._transport = transport
        self._resumed: Callable[[], object] = lambda: None
        self.is_full = False
        """Whether nothing more should be written for now."""

    def begin(self, resumed: Callable[[], object]) -> None:
        """
        Register with the transport.

        :param resumed: called when it takes more, after it had been full.
        """
        self._resumed = resumed
        self._register()

    @abc.abstractmethod
    def write(self, parts: Sequence[bytes | memoryview]) -> None:
        """Write parts in order, with nothing between them. They must not change afterwards."""

    def close(self) -> None:
        """Close the connection when the other side has taken what was written. Nothing can be written any more."""
        self._transport.unregisterProducer()
        self._transport.loseConnection()

    def abort(self) -> None:
        """Close the connection now."""
        self._transport.abortConnection()

    def stopProducing(self) -> None:
        """Called by the transport: the connection is lost."""
        self.is_full = True

    @abc.abstractmethod
    def _register(self) -> None:
        """Register with the transport."""


@implementer(IPushProducer)
class _TransportWriter(Writer):
    """Writes to a transport, such as one under TLS, which says itself when it is full."""

    def write(self, parts: Sequence[bytes | memoryview]) -> None:
        self._transport.write(b"".join(parts))

    def pauseProducing(self) -> None:
        """Called by the transport when its buffer is full."""
        self.is_full = True

    def resumeProducing(self) -> None:
        """Called by the transport when its buffer is empty."""
        self.is_full = False
        self._resumed()

    def _register(self) -> None:
        self._transport.registerProducer(self, True)


@implementer(IPullProducer)
class _SocketWriter(Writer):
    """
    Writes to a plain socket. The transport, whose buffer is always empty, says when a full socket takes more.

    :param sock: the socket.
    """

    def __init__(self, transport: IConnectionTransport, sock: socket.socket) -> None:
        super().__init__(transport)
        self._socket = sock
        self._waiting: deque[bytes | memoryview] = deque()

    def write(self, parts: Sequence[bytes | memoryview]) -> None:
        if self.is_full:
            self._waiting.append(b"".join(parts))
            return
        self._waiting += parts
        self._send()
        if self.is_full:
            self._waiting = deque([b"".join(self._waiting)])

    def close(self) -> None:
        for part in self._waiting:
            self._transport.write(bytes(part))
        self.stopProducing()
        super().close()

    def resumeProducing(self) -> None:
        """Called by the transport when the socket takes more, and when it is registered."""
        self.is_full = False
        self._send()
        if not self.is_full:
            self._resumed()

    def stopProducing(self) -> None:
        super().stopProducing()
        self._waiting.clear()

    def _register(self) -> None:
        self._transport.registerProducer(self, False)

    def _send(self) -> None:
        """Send what waits. Where the socket does not take all of it, it is full."""
        while self._waiting and not self.is_full:
            parts = list(islice(self._waiting, _MOST_PARTS))
            try:
                sent = self._socket.sendmsg(parts)
            except OSError as error:
                if error.errno not in _FULL:  # the connection is gone
                    self.stopProducing()
                    self.abort()
                    return
                sent = 0
            for part in parts:
                if sent < len(part):
                    self.is_full = True
                    self._waiting[0] = memoryview(part)[sent:]
                    self._transport.startWriting()  # type: ignore[attr-defined]  # public in FileDescriptor, in no interface
                    break
                sent -= len(part)
                self._waiting.popleft()


def writer_of(transport: IConnectionTransport) -> Writer:
    """The fastest writer that a transport and the platform allow."""
    sock = plain_socket(transport)
    if sock is None or not hasattr(sock, "sendmsg"):
        return _TransportWriter(transport)
    return _SocketWriter(transport, sock)
