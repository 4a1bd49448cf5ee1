"""
``python -m benchmarks.programs.timed_child``: fetches pieces of a task for some time, over and over, keeps none, and
says how many bytes have come. It is the package's own downloader by TCP, with a configuration's socket options.
"""

from __future__ import annotations

import argparse
import time
from itertools import count
from pathlib import Path
from typing import cast

from twisted.internet.defer import Deferred
from zope.interface import implementer

from dragonfly_vortex.config import load_config
from dragonfly_vortex.downloaders.factory import DownloaderFactory
from dragonfly_vortex.interfaces import DownloadPieceRequest, IPieceSink
from dragonfly_vortex.service import IPeerReactor
from dragonfly_vortex.wire import PieceKind, PieceMetadata

__all__ = ["Tally", "main"]


@implementer(IPieceSink)
class Tally:
    """Counts the bytes of all pieces, and keeps none."""

    def __init__(self) -> None:
        self.received = 0

    def begin(self, metadata: PieceMetadata) -> None:
        """See :meth:`IPieceSink.begin`."""

    def write(self, data: bytes | memoryview) -> None:
        """See :meth:`IPieceSink.write`."""
        self.received += len(data)

    def finish(self) -> None:
        """See :meth:`IPieceSink.finish`."""

    def fail(self) -> None:
        """See :meth:`IPieceSink.fail`."""


def main() -> None:
    """Fetch, and print how many bytes have come and how long that took."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.programs.timed_child")
    parser.add_argument("parent", metavar="HOST:PORT")
    parser.add_argument("task_id", metavar="TASK_ID")
    parser.add_argument("--config", metavar="FILE", type=Path, required=True)
    parser.add_argument("--pieces", metavar="N", type=int, required=True, help="how many the task has")
    parser.add_argument("--connections", metavar="N", type=int, required=True)
    parser.add_argument("--seconds", metavar="S", type=float, required=True)
    given = parser.parse_args()
    from twisted.internet import reactor as global_reactor

    reactor = cast(IPeerReactor, global_reactor)
    downloader = DownloaderFactory("tcp", load_config(given.config).config, reactor=reactor).build()
    tally, numbers = Tally(), count()
    said: list[str] = []

    async def fetch() -> None:
        while True:
            request = DownloadPieceRequest(
                kind=PieceKind.STANDARD, task_id=given.task_id, number=next(numbers) % given.pieces, sink=tally
            )
            await downloader.download(given.parent, request)

    def begin() -> None:
        began = time.monotonic()
        for _ in range(given.connections):
            Deferred.fromCoroutine(fetch()).addErrback(lambda failure: end(failure.getErrorMessage()))
        reactor.callLater(given.seconds, lambda: end(f"{tally.received} {time.monotonic() - began}"))

    def end(what: str) -> None:
        """The first one counts: what is under way when the time is over fails then."""
        said.append(what)
        if len(said) == 1:
            reactor.stop()

    reactor.callWhenRunning(begin)
    reactor.run()
    print(said[0])


if __name__ == "__main__":
    main()
