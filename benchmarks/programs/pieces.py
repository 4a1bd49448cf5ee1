"""
``python -m benchmarks.programs.pieces``: a task's pieces into a file, each verified, and the whole file not.

The command has no such switch, and needs none: this is for a comparison with those who do not hash the file. It is made
of what the package offers to any program: a downloader that keeps its connections, and sinks that share a file.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorTCP
from twisted.internet.task import react

from dragonfly_vortex.config import default_config
from dragonfly_vortex.downloaders.factory import DownloaderFactory
from dragonfly_vortex.interfaces import DownloadPieceRequest, IDownloader
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
    options = parser.parse_args()
    react(lambda reactor: Deferred.fromCoroutine(_fetch(reactor, options)))


async def _fetch(reactor: IReactorTCP, options: argparse.Namespace) -> None:
    """Fetch all pieces, several at once."""
    downloader = DownloaderFactory(options.protocol, default_config(), reactor=reactor).build()
    numbers = iter(range(-(-options.content_length // options.piece_length)))
    descriptor = os.open(options.output, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        os.posix_fallocate(descriptor, 0, options.content_length)  # as the reference's storage does
        lanes = [_fetch_one_by_one(downloader, options, numbers, descriptor) for _ in range(options.concurrency)]
        await gatherResults([Deferred.fromCoroutine(lane) for lane in lanes], consumeErrors=True)
        if os.fstat(descriptor).st_size != options.content_length:
            raise ValueError(f"expected {options.content_length} bytes, got {os.fstat(descriptor).st_size}")
    finally:
        await downloader.stop()
        os.close(descriptor)


async def _fetch_one_by_one(
    downloader: IDownloader, options: argparse.Namespace, numbers: Iterator[int], descriptor: int
) -> None:
    """Fetch a piece, and when it has come the next that nobody has asked for."""
    for number in numbers:
        offset = number * options.piece_length
        response = await downloader.download(
            options.parent,
            DownloadPieceRequest(
                kind=PieceKind.STANDARD,
                task_id=options.task_id,
                number=number,
                sink=FileSink(descriptor, offset),
            ),
        )
        if response.metadata.offset != offset:
            raise ValueError(f"expected piece {number} at {offset}, its parent has it at {response.metadata.offset}")


if __name__ == "__main__":
    main()
