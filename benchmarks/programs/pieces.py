"""
``python -m benchmarks.programs.pieces``: a task's pieces into a file, each verified, and the whole file not.

The command has no such switch: this is for a comparison with programs that do not hash the file. It uses what the
package offers to any program: a downloader that keeps its connections, and sinks that share a file.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorTCP
from twisted.internet.task import react

from dragonfly_vortex.config import default_config, load_config
from dragonfly_vortex.downloaders.factory import DownloaderFactory
from dragonfly_vortex.interfaces import DownloadPieceRequest
from dragonfly_vortex.transport.sinks import FileSink
from dragonfly_vortex.wire import PieceKind


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.programs.pieces")
    parser.add_argument("task_id")
    parser.add_argument("--parent", metavar="HOST:PORT", required=True)
    parser.add_argument("--protocol", choices=("tcp", "grpc"), required=True)
    parser.add_argument("--content-length", metavar="BYTES", type=int, required=True)
    parser.add_argument("--piece-length", metavar="BYTES", type=int, required=True)
    parser.add_argument("--concurrency", metavar="N", type=int, required=True)
    parser.add_argument("--output", metavar="PATH", type=Path, required=True)
    parser.add_argument("--config", metavar="PATH", type=Path, help="a configuration, for TLS")
    options = parser.parse_args()
    react(lambda reactor: Deferred.fromCoroutine(_fetch(reactor, options)))


async def _fetch(reactor: IReactorTCP, options: argparse.Namespace) -> None:
    """Fetch the task into a new file, verifying each piece."""
    config = default_config() if options.config is None else load_config(options.config).config
    downloader = DownloaderFactory(options.protocol, config, reactor=reactor).build()
    descriptor = os.open(options.output, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    numbers = iter(range(max(1, -(-options.content_length // options.piece_length))))

    async def fetch_one_by_one() -> None:
        for number in numbers:
            offset = number * options.piece_length
            request = DownloadPieceRequest(
                kind=PieceKind.STANDARD, task_id=options.task_id, number=number, sink=FileSink(descriptor, offset)
            )
            response = await downloader.download(options.parent, request)
            if response.metadata.offset != offset:
                raise ValueError(f"expected piece {number} at {offset}, got it at {response.metadata.offset}")

    try:
        os.posix_fallocate(descriptor, 0, options.content_length)  # as the reference's storage does
        lanes = [Deferred.fromCoroutine(fetch_one_by_one()) for _ in range(options.concurrency)]
        await gatherResults(lanes, consumeErrors=True)
        if os.fstat(descriptor).st_size != options.content_length:
            raise ValueError(f"expected {options.content_length} bytes, got {os.fstat(descriptor).st_size}")
    finally:
        await downloader.stop()
        os.close(descriptor)


if __name__ == "__main__":
    main()
