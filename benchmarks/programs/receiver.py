"""
``python -m benchmarks.programs.receiver``: fetches pieces over kept connections into one file, again and again, by a
technique of receiving, and prints the seconds and the processor seconds that it took.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IReactorTCP, IReactorTime
from twisted.internet.task import react

from dragonfly_vortex.interfaces import DownloadPieceRequest
from dragonfly_vortex.peer.client import ClientSettings, VortexClientFactory, VortexClientProtocol
from dragonfly_vortex.transport.sinks import FileSink
from dragonfly_vortex.transport.splicing import Splicer
from dragonfly_vortex.wire import PieceKind


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.programs.receiver")
    parser.add_argument("task_id")
    parser.add_argument("--port", type=int, required=True, help="of the parent, on 127.0.0.1")
    parser.add_argument("--output", metavar="PATH", type=Path, required=True)
    parser.add_argument("--piece-length", metavar="BYTES", type=int, required=True)
    parser.add_argument("--pieces", metavar="N", type=int, required=True, help="that the task has")
    parser.add_argument("--fetched", metavar="N", type=int, required=True, help="pieces to fetch in all")
    parser.add_argument("--connections", metavar="N", type=int, required=True)
    parser.add_argument("--read-size", metavar="BYTES", type=int, required=True)
    parser.add_argument("--low-water", metavar="BYTES", type=int, required=True)
    parser.add_argument("--splice", action="store_true")
    options = parser.parse_args()
    react(lambda reactor: Deferred.fromCoroutine(_receive(reactor, options)))


async def _receive(reactor: IReactorTCP, options: argparse.Namespace) -> None:
    """Connect, fetch one piece by each connection, and then take the time."""
    splicer = Splicer() if options.splice else None
    settings = ClientSettings(
        clock=IReactorTime(reactor), read_size=options.read_size, low_water=options.low_water, splicer=splicer
    )
    factory = VortexClientFactory("the parent", settings)
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", options.port)
    connections = [
        cast(VortexClientProtocol, await endpoint.connect(factory))  # what the factory makes
        for _ in range(options.connections)
    ]
    descriptor = os.open(options.output, os.O_RDWR)

    async def fetch(connection: VortexClientProtocol, numbers: Iterator[int]) -> None:
        for number in numbers:
            sink = FileSink(descriptor, number % options.pieces * options.piece_length)
            await connection.download_piece(
                DownloadPieceRequest(
                    kind=PieceKind.STANDARD, task_id=options.task_id, number=number % options.pieces, sink=sink
                )
            )

    async def fetch_all(count: int) -> None:
        numbers = iter(range(count))
        await gatherResults([Deferred.fromCoroutine(fetch(each, numbers)) for each in connections], consumeErrors=True)

    try:
        await fetch_all(options.connections)
        began, processor = time.monotonic(), time.process_time()
        await fetch_all(options.fetched)
        print(time.monotonic() - began, time.process_time() - processor)
    finally:
        for connection in connections:
            connection.close()
        if splicer is not None:
            splicer.close()


if __name__ == "__main__":
    main()
