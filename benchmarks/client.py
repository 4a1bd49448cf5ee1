"""
A plain client: blocking or polled sockets, requests that were made before, replies that are only counted.

It does as little as can be done with the bytes, so that a measurement shows the server's work, whichever protocol the
server speaks.
"""

from __future__ import annotations

import hashlib
import re
import select
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from benchmarks.processes import DidNotWork

__all__ = ["BUFFER", "WIRE_FORMATS", "Exchange", "Reader", "WireFormat", "batches", "connect", "fetch", "learn"]

BUFFER = 1024 * 1024
"""Bytes of a buffer."""

_HEADER = 4096
"""Bytes that are read at most before a reply's header must be complete."""

_TO_REPLY = 60
"""Seconds that a server has before the next bytes must come."""


class WireFormat(NamedTuple):
    """
    A protocol for one file.

    :ivar ask: the request for the bytes from the first number up to the second, which are the piece with the third.
    :ivar header_length: bytes of a reply before its content, from the reply's beginning; None while that is too short.
    """

    ask: Callable[[int, int, int], bytes]
    header_length: Callable[[bytes], int | None]


def _http(path: str) -> WireFormat:
    """Ranges of a file over HTTP/1.1."""

    def ask(start: int, end: int, number: int) -> bytes:
        return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nRange: bytes={start}-{end - 1}\r\n\r\n".encode("ascii")

    def header_length(reply: bytes) -> int | None:
        if not any(begin.startswith(reply[: len(begin)]) for begin in (b"HTTP/1.1 206 ", b"HTTP/1.1 200 ")):
            raise DidNotWork(f"expected a part of the file, got {reply[:40]!r}")
        end = re.search(rb"\r\n\r\n", reply)
        return None if end is None else end.end()

    return WireFormat(ask, header_length)


def _vortex(task_id: str) -> WireFormat:
    """
    Standard pieces of a task by Vortex. A request is a packet ID, tag 0, the value's length, the task's ID and the
    piece's number; the reply's header is a packet with tag 1.
    """

    def ask(start: int, end: int, number: int) -> bytes:
        return struct.pack("!BBI64sI", number & 255, 0, 68, task_id.encode("ascii"), number)

    def header_length(reply: bytes) -> int | None:
        if len(reply) < 6:
            return None
        _, tag, length = struct.unpack_from("!BBI", reply)
        if tag != 1:
            raise DidNotWork(f"expected a piece, got a packet with tag {tag}")
        return 6 + int(length)

    return WireFormat(ask, header_length)


WIRE_FORMATS: dict[str, Callable[[str], WireFormat]] = {"http": _http, "vortex": _vortex}
"""Protocols by name, each for a path or a task's ID."""


def connect(port: int) -> socket.socket:
    """A connection to a port of 127.0.0.1."""
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # Python's own time-out would ask the kernel twice for each read.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", _TO_REPLY, 0))
    return connection


def fetch(
    connection: socket.socket,
    wire: WireFormat,
    start: int,
    end: int,
    number: int,
    buffer: memoryview,
    take: Callable[[memoryview], object] = len,
) -> int:
    """
    Fetch one piece.

    :param start: the piece's first byte in the file; ``end`` is one past its last.
    :param number: the piece's number.
    :param buffer: memory of at least 4096 bytes that is used again.
    :param take: takes the content as it comes.
    :returns: the bytes of the reply, header included.
    :raises DidNotWork: the reply is an error, or the connection has ended.
    """
    connection.sendall(wire.ask(start, end, number))
    filled, header = 0, None
    while header is None or filled < header:
        if filled == _HEADER:
            raise DidNotWork(f"expected a header within {_HEADER} bytes")
        filled += _receive(connection, buffer[filled:_HEADER])
        header = wire.header_length(bytes(buffer[:filled]))
    take(buffer[header:filled])
    left = header + end - start - filled
    while left:
        received = _receive(connection, buffer[: min(left, len(buffer))])
        take(buffer[:received])
        left -= received
    return header + end - start


def _receive(connection: socket.socket, buffer: memoryview) -> int:
    received = connection.recv_into(buffer)
    if not received:
        raise DidNotWork("the server has ended the connection")
    return received


class Exchange(NamedTuple):
    """A request, or several that are sent at once, and the bytes of the whole reply."""

    request: bytes
    length: int


def learn(port: int, wire: WireFormat, content_length: int, piece_length: int, sha256: str) -> list[Exchange]:
    """
    Fetch every piece once, so that its reply's length is known.

    :param content_length: bytes of the file.
    :param piece_length: bytes of every piece but the last.
    :param sha256: the digest that the content must have, in hexadecimal.
    :raises DidNotWork: the content has another digest.
    """
    exchanges = []
    buffer, digest = memoryview(bytearray(BUFFER)), hashlib.sha256()
    with connect(port) as connection:
        for number, start in enumerate(range(0, content_length, piece_length)):
            end = min(start + piece_length, content_length)
            length = fetch(connection, wire, start, end, number, buffer, digest.update)
            exchanges.append(Exchange(wire.ask(start, end, number), length))
    if digest.hexdigest() != sha256:
        raise DidNotWork(f"expected content with the SHA-256 {sha256}, got {digest.hexdigest()}")
    return exchanges


def batches(exchanges: Sequence[Exchange], ahead: int) -> list[Exchange]:
    """Requests of which so many are sent together."""
    parts = [exchanges[start : start + ahead] for start in range(0, len(exchanges), ahead)]
    return [Exchange(b"".join(each.request for each in part), sum(each.length for each in part)) for part in parts]


class Reader(ExitStack):
    """
    Several connections in one thread, for the time of a block. Each takes the next exchange when its last is complete.

    :param port: of 127.0.0.1.
    :param connections: how many.
    :param wanted: the exchanges, which all connections share.
    :ivar received: bytes that have arrived, by connection.
    """

    def __init__(self, port: int, connections: int, wanted: Iterator[Exchange]) -> None:
        super().__init__()
        self._port = port
        self._connections = connections
        self._wanted = wanted
        self._sockets: dict[int, socket.socket] = {}
        self._left: dict[int, int] = {}  # bytes that are asked for and have not come, by descriptor
        self._buffer = memoryview(bytearray(BUFFER))
        self.received: dict[int, int] = {}

    def __enter__(self) -> Reader:
        self._poll = self.enter_context(select.epoll())
        made = [self.enter_context(connect(self._port)) for _ in range(self._connections)]
        self._sockets = {each.fileno(): each for each in made}
        self.received = dict.fromkeys(self._sockets, 0)
        return self

    def read(self, enough: Callable[[], bool] = lambda: False) -> None:
        """
        Read until all wanted replies are complete, or until there is enough; then it may be called again.

        :param enough: asked after each wake-up.
        :raises DidNotWork: a connection has ended, or nothing comes any more.
        """
        if not self._left:
            for descriptor in self._sockets:
                self._poll.register(descriptor, select.EPOLLIN)
                self._ask(descriptor)
        while any(self._left.values()) and not enough():
            ready = self._poll.poll(_TO_REPLY)
            if not ready:
                raise DidNotWork(f"expected bytes within {_TO_REPLY} s, got none")
            for descriptor, _ in ready:
                received = _receive(self._sockets[descriptor], self._buffer)
                self.received[descriptor] += received
                self._left[descriptor] -= received
                if not self._left[descriptor]:
                    self._ask(descriptor)

    def _ask(self, descriptor: int) -> None:
        """Ask for what is wanted next, if anything is."""
        exchange = next(self._wanted, None)
        self._left[descriptor] = 0
        if exchange is not None:
            self._left[descriptor] = exchange.length
            self._sockets[descriptor].sendall(exchange.request)
