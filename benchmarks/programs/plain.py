"""
``python -m benchmarks.programs.plain``: read a file from a parent piece by piece, over several kept connections with a
thread for each, and throw it away. What is left is the parent's work.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from benchmarks.client import BUFFER, WIRE_FORMATS, WireFormat, connect, fetch


def _read(wire: WireFormat, port: int, content_length: int, piece_length: int, numbers: Sequence[int]) -> None:
    """Read pieces over one connection, one after the other."""
    buffer = memoryview(bytearray(BUFFER))
    with connect(port) as connection:
        for number in numbers:
            start = number * piece_length
            fetch(connection, wire, start, min(start + piece_length, content_length), number, buffer)


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.programs.plain")
    parser.add_argument("wire", choices=WIRE_FORMATS)
    parser.add_argument("target", help="a path, or a task's ID")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--content-length", metavar="BYTES", type=int, required=True)
    parser.add_argument("--piece-length", metavar="BYTES", type=int, required=True)
    parser.add_argument("--connections", metavar="N", type=int, required=True)
    given = parser.parse_args()
    wire = WIRE_FORMATS[given.wire](given.target)
    numbers = range(-(-given.content_length // given.piece_length))
    with ThreadPoolExecutor(given.connections) as threads:
        reading = [
            threads.submit(
                _read, wire, given.port, given.content_length, given.piece_length, numbers[first :: given.connections]
            )
            for first in range(given.connections)
        ]
    for each in reading:
        each.result()


if __name__ == "__main__":
    main()
