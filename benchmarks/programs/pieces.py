"""
``python -m benchmarks.programs.pieces``: a task's pieces into a file, each verified, and the whole file not.

The command has no such switch, and needs none: this is for a comparison with those who do not hash the file. It is made
of what the package offers to any program: a downloader that keeps its connections, and sinks that share a file.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorTCP
from twisted.internet.task import react

from dragonfly_vortex.config import default_config
from dragonfly_vortex.downloaders.factory import DownloaderFactory
from dragonfly_vortex.interfaces import DownloadPieceRequest, IDownloader
from dragonfly_vortex.transport.sinks import FileSink
from dragonfly_vortex.wire import PieceKind

__all__ = ["fetch_pieces"]


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
    """Fetch the task into a new file."""
    downloader = DownloaderFactory(options.protocol, default_config(), reactor=reactor).build()
    descriptor = os.open(options.output, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        os.posix_fallocate(descriptor, 0, options.content_length)  # as the reference's storage does
        await fetch_pieces(
            downloader,
            options.parent,
            options.task_id,
            descriptor,
            content_length=options.content_length,
            piece_length=options.piece_length,
            concurrency=options.concurrency,
        )
        if os.fstat(descriptor).st_size != options.content_length:
            raise ValueError(f"expected {options.content_length} bytes, got {os.fstat(descriptor).st_size}")
    finally:
        await downloader.stop()
        os.close(descriptor)


async def fetch_pieces(
    downloader: IDownloader,
    parent: str,
    task_id: str,
    descriptor: int,
    *,
    content_length: int,
    piece_length: int,
    concurrency: int,
) -> None:
    """
    Fetch all pieces of a task into a file, each verified, the next when one has come.

    :param parent: ``HOST:PORT``.
    :param descriptor: the file's, open for reading and writing.
    :param content_length: bytes of the task.
    :param piece_length: bytes of every piece but the last.
    :param concurrency: pieces at once.
    :raises ValueError: a piece is not where it should be.
    """
    numbers = iter(range(max(1, -(-content_length // piece_length))))

    async def fetch_one_by_one() -> None:
        for number in numbers:
            offset = number * piece_length
            sink = FileSink(descriptor, offset)
            response = await downloader.download(
                parent, DownloadPieceRequest(kind=PieceKind.STANDARD, task_id=task_id, number=number, sink=sink)
            )
            if response.metadata.offset != offset:
                raise ValueError(
                    f"expected piece {number} at {offset}, its parent has it at {response.metadata.offset}"
                )

    lanes = [Deferred.fromCoroutine(fetch_one_by_one()) for _ in range(concurrency)]
    await gatherResults(lanes, consumeErrors=True)


if __name__ == "__main__":
    main()
