"""
``python -m benchmarks.programs.plain``: read a file from a parent piece by piece, over several kept connections, and
throw it away. What is left is the parent's work, whichever protocol it speaks: raw blocking sockets, one thread for
each, and reads into a buffer that is used again.
"""

from __future__ import annotations

import argparse
import re
import socket
import struct
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

_BUFFER = 1024 * 1024
_HEADER = 4096
"""Bytes that are read at most before the header's length must be known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speech:
    """
    What is said to a parent, and how its answer is cut.

    :param ask: the request for the bytes from the first number up to the second, where the third is the piece's.
    :param header_length: bytes of an answer before the content, from its beginning; None while that is too short.
    """

    ask: Callable[[int, int, int], bytes]
    header_length: Callable[[bytes], int | None]


def _ask_http(path: str, start: int, end: int, number: int) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nRange: bytes={start}-{end - 1}\r\n\r\n".encode("ascii")


def _http_header_length(answer: bytes) -> int | None:
    if not any(begin.startswith(answer[: len(begin)]) for begin in (b"HTTP/1.1 206 ", b"HTTP/1.1 200 ")):
        raise ValueError(f"expected a part of the file, got {answer[:40]!r}")
    end = re.search(rb"\r\n\r\n", answer)
    return None if end is None else end.end()


def _ask_vortex(task_id: str, start: int, end: int, number: int) -> bytes:
    """A request for a standard piece: packet ID, tag 0, the value's length; the task's ID and the piece's number."""
    return struct.pack("!BBI64sI", number & 255, 0, 68, task_id.encode("ascii"), number)


def _vortex_header_length(answer: bytes) -> int | None:
    """Packet ID, tag, and a value of that length: content's metadata, behind which its bytes come (tag 1)."""
    if len(answer) < 6:
        return None
    _, tag, length = struct.unpack_from("!BBI", answer)
    if tag != 1:
        raise ValueError(f"expected a piece, got a packet with tag {tag}")
    return 6 + int(length)


SPEECHES: dict[str, Callable[[str], Speech]] = {
    "http": lambda path: Speech(ask=partial(_ask_http, path), header_length=_http_header_length),
    "vortex": lambda task_id: Speech(ask=partial(_ask_vortex, task_id), header_length=_vortex_header_length),
}
"""By name, each for what is asked for: a path, or a task's ID."""


def read_pieces(speech: Speech, port: int, content_length: int, piece_length: int, numbers: Sequence[int]) -> None:
    """
    Read pieces over one connection, one after the other.

    :param numbers: of the pieces.
    :raises EOFError: the parent has ended the connection.
    """
    buffer = memoryview(bytearray(_BUFFER))
    with socket.create_connection(("127.0.0.1", port)) as sock:
        for number in numbers:
            start = number * piece_length
            end = min(start + piece_length, content_length)
            sock.sendall(speech.ask(start, end, number))
            left = end - start - _read_header(speech, sock, buffer)
            while left:
                left -= _receive(sock, buffer[: min(left, _BUFFER)])


def _read_header(speech: Speech, sock: socket.socket, buffer: memoryview) -> int:
    """Read an answer's header; the bytes of content that came with it."""
    filled = 0
    while filled < _HEADER:
        filled += _receive(sock, buffer[filled:_HEADER])
        length = speech.header_length(bytes(buffer[:filled]))
        if length is not None:
            return filled - length
    raise ValueError(f"expected a header within {_HEADER} bytes")


def _receive(sock: socket.socket, buffer: memoryview) -> int:
    received = sock.recv_into(buffer)
    if not received:
        raise EOFError("the parent has ended the connection")
    return received


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.programs.plain")
    parser.add_argument("speech", choices=SPEECHES)
    parser.add_argument("target", help="a path, or a task's ID")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--content-length", metavar="BYTES", type=int, required=True)
    parser.add_argument("--piece-length", metavar="BYTES", type=int, required=True)
    parser.add_argument("--connections", metavar="N", type=int, required=True)
    options = parser.parse_args()
    count = -(-options.content_length // options.piece_length)
    with ThreadPoolExecutor(options.connections) as threads:
        reading = [
            threads.submit(
                read_pieces,
                SPEECHES[options.speech](options.target),
                options.port,
                options.content_length,
                options.piece_length,
                range(first, count, options.connections),
            )
            for first in range(options.connections)
        ]
    for each in reading:
        each.result()


if __name__ == "__main__":
    main()
