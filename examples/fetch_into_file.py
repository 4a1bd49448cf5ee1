"""Fetch a piece into a file, at its place in the task: ``fetch_into_file.py HOST:PORT TASK_ID NUMBER FILE``."""

from __future__ import annotations

import os
import sys

from twisted.internet.task import react

from dragonfly_vortex import (
    DownloaderFactory,
    DownloadPieceRequest,
    FileSink,
    PieceError,
    PieceKind,
    default_config,
)


async def main(reactor, parent, task_id, number, path):
    downloader = DownloaderFactory("tcp", default_config(), reactor=reactor).build()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        sink = FileSink(descriptor, 0)
        request = DownloadPieceRequest(kind=PieceKind.STANDARD, task_id=task_id, number=int(number), sink=sink)
        response = await downloader.download(parent, request)
        print(response.metadata.length, "bytes")
    except PieceError as error:
        sys.exit(str(error))
    finally:
        os.close(descriptor)
        await downloader.stop()


if __name__ == "__main__":
    react(lambda reactor: main(reactor, *sys.argv[1:]))
