"""
How many small pieces can a parent give out in a second, and what does each cost it?
``python -m benchmarks.small_pieces`` measures it, beside nginx that gives out ranges of the same file.

The child is a plain one: sockets that are kept, requests that were made before the time is taken, replies that are only
counted. It is the same for both. Before, it has read every reply once and compared its content with the file.
"""

from __future__ import annotations

import random
import socket
import statistics
import struct
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.installed import find
from benchmarks.markdown import head, row
from benchmarks.material import import_file, make_file
from benchmarks.measurement import Measurement
from benchmarks.nginx import nginx
from benchmarks.peers import TRANSPORTS, Parent
from benchmarks.processes import processor_of_family
from benchmarks.servers import DidNotWork
from benchmarks.starting import parent_of, values_in
from dragonfly_vortex.wire import PieceContent, PieceKind, PieceRequest, Vortex
from dragonfly_vortex.wire.tags import HEADER_LENGTH

__all__ = ["MEASUREMENT", "WAYS", "Sample", "Way", "draw"]

_PIECE_LENGTH = 4096
_PIECES, _REQUESTS, _ROUNDS = 16384, 4096, 12  # twice as many pieces as a parent has rows in memory
_QUICK_PIECES, _QUICK_REQUESTS, _QUICK_ROUNDS = 64, 256, 2
_HOT_PIECES = 1024
_TO_REPLY = 30  # seconds that a server has for one reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """
    How the child asks.

    :param name: in the table.
    :param connections: connections at once.
    :param ahead: requests that are sent at once on each of them; the next are sent when all their replies are there.
    :param hot: whether the same pieces are asked for again and again. If not, each is asked for when it has long been
        forgotten: as a child asks, that wants every piece once.
    """

    name: str
    connections: int
    ahead: int
    hot: bool = True


WAYS = (
    Way(name="1 connection, one request at a time", connections=1, ahead=1),
    Way(name="8 connections, one request at a time on each", connections=8, ahead=1),
    Way(name="1 connection, 16 requests sent ahead", connections=1, ahead=16),
    Way(name="1 connection, one request at a time, each piece once", connections=1, ahead=1, hot=False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """
    What was seen in one turn.

    :param server: ``dfvortex`` or ``nginx``.
    :param way: the name of one of :data:`WAYS`.
    :param requests: how many were answered.
    :param seconds: from the first to the last byte.
    :param processor: seconds of processor time of the server, of all its processes and threads.
    """

    server: str
    way: str
    requests: int
    seconds: float
    processor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Server:
    """
    Who is asked.

    :param name: in the table.
    :param pid: its process, or the one that has started it.
    :param port: on 127.0.0.1.
    :param request: the bytes that ask for a piece, by its number.
    :param split: how long a reply's header is and how long its content, from its first bytes; None where these are too
        few.
    """

    name: str
    pid: int
    port: int
    request: Callable[[int], bytes]
    split: Callable[[bytes], tuple[int, int] | None]

    def connect(self) -> socket.socket:
        """A connection."""
        connection = socket.create_connection(("127.0.0.1", self.port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Python's own time-out makes it a socket that does not block, and recv would not wait for all bytes then.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", _TO_REPLY, 0))
        return connection


@dataclass(frozen=True, slots=True, kw_only=True)
class _Exchange:
    """
    What is said and what comes back.

    :param request: bytes.
    :param length: bytes of the reply.
    """

    request: bytes
    length: int


def _measure(directory: Path, quick: bool, tell: Callable[[str], None]) -> Iterator[Sample]:
    """All ways with both servers, in shuffled turns."""
    pieces, requests, rounds = (
        (_QUICK_PIECES, _QUICK_REQUESTS, _QUICK_ROUNDS) if quick else (_PIECES, _REQUESTS, _ROUNDS)
    )
    source = directory / "file"
    make_file(source, pieces * _PIECE_LENGTH)
    content = source.read_bytes()
    with ExitStack() as stack:
        servers = _start(source, directory, stack)
        exchanges = {server.name: _read_all(server, content) for server in servers}
        for number in range(rounds):
            tell(f"round {number + 1} of {rounds}: {len(servers) * len(WAYS)} turns of {requests} requests")
            turns = [(server, way) for server in servers for way in WAYS]
            random.Random(number).shuffle(turns)
            for server, way in turns:
                yield _take_turn(server, way, _wanted(way, exchanges[server.name], number * requests), requests)


def _start(source: Path, directory: Path, stack: ExitStack) -> list[_Server]:
    """The servers, until the stack ends."""
    task = import_file(source, _PIECE_LENGTH, directory / "storage")
    parent = stack.enter_context(Parent(task.storage, directory, TRANSPORTS["tcp"]))
    servers = [
        _Server(
            name="dfvortex",
            pid=parent.pid,
            port=int(parent.address.rpartition(":")[2]),
            request=lambda number: PieceRequest(
                packet_id=number % 256, kind=PieceKind.STANDARD, task_id=task.task_id, number=number
            ).to_bytes(),
            split=_split_packet,
        )
    ]
    if find("nginx") is not None:
        place = directory / "nginx"
        place.mkdir()
        values = values_in(place, source.parent)
        other = stack.enter_context(parent_of(nginx(nopush=False), values, place))
        servers.append(
            _Server(
                name="nginx",
                pid=other.pid,
                port=int(str(values["port"])),
                request=lambda number: (
                    f"GET /{source.name} HTTP/1.1\r\nHost: parent\r\n"
                    f"Range: bytes={number * _PIECE_LENGTH}-{(number + 1) * _PIECE_LENGTH - 1}\r\n\r\n"
                ).encode(),
                split=_split_response,
            )
        )
    return servers


def _split_packet(data: bytes) -> tuple[int, int] | None:
    """Vortex's header and content."""
    if len(data) < HEADER_LENGTH:
        return None
    header = HEADER_LENGTH + int.from_bytes(data[2:HEADER_LENGTH], "big")
    if len(data) < header:
        return None
    packet = Vortex.from_bytes(data[:header])
    if not isinstance(packet, PieceContent):
        raise DidNotWork(f"expected a piece, got {packet}")
    return header, packet.metadata.length


def _split_response(data: bytes) -> tuple[int, int] | None:
    """HTTP's header and content."""
    head, end, _ = data.partition(b"\r\n\r\n")
    if not end:
        return None
    if not head.startswith(b"HTTP/1.1 206 "):
        raise DidNotWork(f"expected a range, got {head!r}")
    return len(head) + len(end), _PIECE_LENGTH


def _read_all(server: _Server, content: bytes) -> list[_Exchange]:
    """Fetch every piece once, and compare it; what was said."""
    exchanges = []
    with server.connect() as connection:
        for start in range(0, len(content), _PIECE_LENGTH):
            request = server.request(start // _PIECE_LENGTH)
            connection.sendall(request)
            reply = _read_reply(server, connection)
            if not reply.endswith(content[start : start + _PIECE_LENGTH]):
                raise DidNotWork(f"expected {server.name} to send the file's bytes from {start}, got others")
            exchanges.append(_Exchange(request=request, length=len(reply)))
    return exchanges


def _read_reply(server: _Server, connection: socket.socket) -> bytes:
    """One whole reply."""
    reply = b""
    while (parts := server.split(reply)) is None or len(reply) < sum(parts):
        data = connection.recv(2 * _PIECE_LENGTH)
        if not data:
            raise DidNotWork(f"expected a whole reply from {server.name}, got its end after {len(reply)} bytes")
        reply += data
    return reply


def _wanted(way: Way, exchanges: Sequence[_Exchange], done: int) -> Sequence[_Exchange]:
    """
    The pieces that are asked for in a turn, one after the other.

    :param done: how many were asked for in the same way before.
    """
    if way.hot:
        return exchanges[:_HOT_PIECES]
    start = done % len(exchanges)
    return [*exchanges[start:], *exchanges[:start]]


def _take_turn(server: _Server, way: Way, exchanges: Sequence[_Exchange], requests: int) -> Sample:
    """Ask for one piece after the other, and round again."""
    batches = [exchanges[start : start + way.ahead] for start in range(0, len(exchanges), way.ahead)]
    said = [b"".join(each.request for each in batch) for batch in batches]
    expected = [sum(each.length for each in batch) for batch in batches]
    buffer = bytearray(max(expected))
    with ExitStack() as stack:
        connections = [stack.enter_context(server.connect()) for _ in range(way.connections)]
        used, began = processor_of_family(server.pid), time.monotonic()
        at, answered = 0, 0
        while answered < requests:
            first = at
            for connection in connections:
                connection.sendall(said[at % len(said)])
                at += 1
            for number, connection in enumerate(connections, first):
                length = expected[number % len(said)]
                if connection.recv_into(buffer, length, socket.MSG_WAITALL) != length:
                    raise DidNotWork(f"expected {server.name} to send {length} bytes, got its end")
            answered += way.ahead * way.connections
        seconds = time.monotonic() - began
        processor = processor_of_family(server.pid) - used
    return Sample(server=server.name, way=way.name, requests=answered, seconds=seconds, processor=processor)


def draw(samples: Sequence[Sample]) -> str:
    """The table: requests per second and the processor time of one, the best and the median of each way and server."""
    lines = [
        *head("4 KiB pieces", "server", "requests/s: most, median", "processor, µs per request: least, median"),
    ]
    order = [way.name for way in WAYS]
    for way, server in sorted(
        {(sample.way, sample.server) for sample in samples}, key=lambda each: (order.index(each[0]), each[1])
    ):
        taken = [sample for sample in samples if (sample.way, sample.server) == (way, server)]
        rates = [sample.requests / sample.seconds for sample in taken]
        costs = [sample.processor / sample.requests * 1e6 for sample in taken]
        rate = f"{max(rates):,.0f}, {statistics.median(rates):,.0f}"
        lines.append(row(way, server, rate, f"{min(costs):.1f}, {statistics.median(costs):.1f}"))
    return "\n".join(lines)


MEASUREMENT = Measurement(name="small_pieces", sample=Sample, measure=_measure, draw=draw)

if __name__ == "__main__":
    sys.exit(MEASUREMENT.main())
