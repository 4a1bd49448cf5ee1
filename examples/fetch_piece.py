"""Fetch the first piece of a task into memory: ``fetch_piece.py HOST:PORT TASK_ID``."""

from __future__ import annotations

import sys

from twisted.internet.task import react

from dragonfly_vortex import DownloaderFactory, VortexError, default_config


async def main(reactor, parent, task_id):
    downloader = DownloaderFactory("tcp", default_config(), reactor=reactor).build()
    try:
        content, offset, digest = await downloader.download_piece(parent, 0, "", task_id)
        print(len(content), "bytes at", offset, "with", digest)
    except (VortexError, ValueError) as error:
        sys.exit(str(error))
    finally:
        await downloader.stop()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: fetch_piece.py HOST:PORT TASK_ID")
    react(main, sys.argv[1:])
