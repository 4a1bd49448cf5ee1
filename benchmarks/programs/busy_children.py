"""
``python -m benchmarks.programs.busy_children``: fetches a task's pieces on several kept connections and drops them. It
says ``flowing`` when all connections have had their first bytes, and in the end, as JSON, what each has had.
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import socket
import sys
import time
from collections.abc import Iterator
from itertools import count

from dragonfly_vortex.wire import PieceContent, PieceKind, PieceRequest, Vortex
from dragonfly_vortex.wire.tags import HEADER_LENGTH

__all__ = ["FLOWING"]

FLOWING = "flowing"

_BUFFER = bytearray(256 * 1024)
_NICE = 5
"""Less urgent than who measures: it is not the scheduler that is to be seen."""


class _Child:
    """
    One connection.

    :param numbers: the pieces to ask for, shared by all.
    """

    def __init__(self, port: int, task_id: str, numbers: Iterator[int]) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.received = 0
        self._task_id = task_id
        self._numbers = numbers
        self._left = 0
        self._header = b""

    def ask(self) -> bool:
        """Ask for the next piece; whether there is one."""
        number = next(self._numbers, None)
        if number is None:
            return False
        packet_id = number % 256
        request = PieceRequest(packet_id=packet_id, kind=PieceKind.STANDARD, task_id=self._task_id, number=number)
        self.socket.sendall(request.to_bytes())
        return True

    def read(self) -> bool:
        """Take what has come; False when there is nothing more to come."""
        got = self.socket.recv_into(_BUFFER)
        if not got:
            raise EOFError("expected a whole piece, got the connection's end")
        self.received += got
        if not self._left:
            got = self._read_header(got)
        self._left -= got
        return self._left > 0 or bool(self._header) or self.ask()

    def _read_header(self, got: int) -> int:
        """A reply begins: how many of its content's bytes have come."""
        self._header += _BUFFER[:got]
        if len(self._header) < HEADER_LENGTH:
            return 0
        length = HEADER_LENGTH + int.from_bytes(self._header[2:HEADER_LENGTH], "big")
        if len(self._header) < length:
            return 0
        packet, behind = Vortex.from_bytes(self._header[:length]), len(self._header) - length
        if not isinstance(packet, PieceContent):
            raise EOFError(f"expected a piece, got {packet}")
        self._header = b""
        self._left = packet.metadata.length
        return behind


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.programs.busy_children")
    parser.add_argument("port", type=int)
    parser.add_argument("task_id")
    parser.add_argument("pieces", type=int, help="how many the task has")
    parser.add_argument("connections", type=int)
    parser.add_argument("--endless", action="store_true", help="from the first again, until standard input ends")
    options = parser.parse_args()
    os.nice(_NICE)
    numbers = (number % options.pieces for number in count()) if options.endless else iter(range(options.pieces))
    children = [_Child(options.port, options.task_id, numbers) for _ in range(options.connections)]
    selector = selectors.DefaultSelector()
    if options.endless:
        selector.register(sys.stdin, selectors.EVENT_READ)
    for child in children:
        if child.ask():
            selector.register(child.socket, selectors.EVENT_READ, child)
    began = time.monotonic()
    _fetch(selector, children)
    seconds = time.monotonic() - began
    print(json.dumps({"seconds": seconds, "received": [child.received for child in children]}), flush=True)


def _fetch(selector: selectors.BaseSelector, children: list[_Child]) -> None:
    """Until all is there, or standard input ends."""
    silent = len(children)
    while selector.get_map():
        for key, _ in selector.select():
            child = key.data
            if child is None:
                return
            silent -= not child.received
            if not child.read():
                selector.unregister(child.socket)
            if silent == 0:
                silent = -1
                for each in children:
                    each.received = 0
                print(FLOWING, flush=True)


if __name__ == "__main__":
    main()
