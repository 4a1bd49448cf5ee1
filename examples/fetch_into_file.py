"""Fetch a piece into a file, at its place in the task: ``fetch_into_file.py HOST:PORT TASK_ID NUMBER FILE``."""

from __future__ import annotations

import os
import sys

from twisted.internet.task import react

from dragonfly_vortex import (
    DownloaderFactory,
    DownloadPieceRequest,
    FileSink,
    PieceKind,
    VortexError,
    default_config,
)


async def main(reactor, parent, task_id, number, path):
    downloader = DownloaderFactory("tcp", default_config(), reactor=reactor).build()
    try:
        with open(path, "r+b" if os.path.exists(path) else "w+b") as file:
            sink = FileSink(file.fileno(), 0)
            request = DownloadPieceRequest(kind=PieceKind.STANDARD, task_id=task_id, number=int(number), sink=sink)
            response = await downloader.download(parent, request)
        print(response.metadata.length, "bytes")
    except (VortexError, OSError, ValueError) as error:
        sys.exit(str(error))
    finally:
        await downloader.stop()


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit("usage: fetch_into_file.py HOST:PORT TASK_ID NUMBER FILE")
    react(main, sys.argv[1:])
