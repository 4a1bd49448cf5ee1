"""
A child whose parts are put together here, for what the command has no switch for: ``python -m benchmarks.embedded``,
followed by an :class:`Order` as JSON, prints a :class:`Done` as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from benchmarks.installed import ROOT
from benchmarks.material import import_zeros
from benchmarks.peers import TRANSPORTS, Parent
from benchmarks.processes import run_to_end
from benchmarks.programs.pieces import fetch_pieces
from benchmarks.servers import DidNotWork
from dragonfly_vortex.config import default_config
from dragonfly_vortex.downloaders.factory import DownloaderFactory
from dragonfly_vortex.interfaces import IDownloader, InThread
from dragonfly_vortex.service import IPeerReactor
from dragonfly_vortex.storage.store import PieceStore
from dragonfly_vortex.task.download import TaskDownload
from dragonfly_vortex.task.stored_target import StoredTarget
from dragonfly_vortex.task.target import IDownloadTarget, OutputTarget
from dragonfly_vortex.wire import PieceKind

__all__ = ["Done", "Order", "carry_out", "order_of_zeros"]

_PIECE_LENGTH = 4 << 20
"""Of a file that is made for an order."""

_BEAT = 0.01
"""Seconds between two beats of the reactor's heart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """
    What is to be fetched, and how.

    :param parent: the parent's address, ``HOST:PORT``.
    :param content_length: bytes of the task.
    :param piece_length: bytes of a piece.
    :param place: the file to write, or the directory of a storage.
    :param is_stored: whether it is a storage's.
    :param is_hashed: whether the whole is verified, as it always is by the program. Otherwise pieces are fetched,
        verified one by one and written, and nothing else is done.
    :param sync: see :class:`~dragonfly_vortex.task.target.OutputTarget`, as for the next two.
    :param concurrency: pieces at once.
    :param switch_interval: seconds after which a thread that wants to run may interrupt the one that does; Python's own
        where there is none.
    """

    parent: str
    task_id: str
    content_length: int
    piece_length: int
    place: str
    is_stored: bool = False
    is_hashed: bool = True
    sync: bool = True
    writes_early: bool = True
    most_unwritten: int | None = None
    concurrency: int = 8
    switch_interval: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """
    What it has cost.

    :param seconds: from the first request to the end.
    :param processor_seconds: of the whole process in that time.
    :param lateness: by how many seconds each beat of the reactor's heart came too late: one is due ten milliseconds
        after the one before.
    """

    seconds: float
    processor_seconds: float
    lateness: list[float]


@contextmanager
def order_of_zeros(directory: Path, length: int, place: Path) -> Iterator[Order]:
    """
    A parent that serves a file of zeros inside the block, and the order to fetch it as the program does.

    :param directory: where its storage, its configuration and its log are.
    :param length: bytes of the file.
    :param place: see :class:`Order`.
    """
    task = import_zeros(length, _PIECE_LENGTH, directory / "storage")
    (directory / "parent").mkdir()
    with Parent(task.storage, directory / "parent", TRANSPORTS["tcp"]) as parent:
        yield Order(
            parent=parent.address.partition("//")[2],
            task_id=task.task_id,
            content_length=length,
            piece_length=_PIECE_LENGTH,
            place=str(place),
        )


def carry_out(order: Order, timeout: float) -> Done:
    """
    Have it done in a process of its own.

    :param timeout: seconds that it has.
    :raises DidNotWork: it failed.
    """
    command = [sys.executable, "-m", "benchmarks.embedded", json.dumps(asdict(order))]
    ran = run_to_end(command, ROOT, timeout)
    if ran.status:
        raise DidNotWork(f"a download to {order.place} exited with {ran.status}, expected 0: {ran.output}")
    return Done(**json.loads(ran.output.splitlines()[-1]))


class _Heart:
    """
    Beats in the reactor, and knows how late each beat was.

    :param reactor: what is listened to.
    """

    def __init__(self, reactor: IPeerReactor) -> None:
        self.lateness: list[float] = []
        self._reactor = reactor
        self._due = 0.0
        self._is_beating = True

    def beat(self) -> None:
        """Beat, and again ten milliseconds later."""
        now = self._reactor.seconds()
        if self._due:
            self.lateness.append(max(0.0, now - self._due))
        if self._is_beating:
            self._due = now + _BEAT
            self._reactor.callLater(_BEAT, self.beat)

    def stop(self) -> None:
        """Beat once more: what has stopped the reactor until now counts."""
        self._is_beating = False


async def _fetch_all(downloader: IDownloader, order: Order) -> None:
    """Fetch all pieces into a file, as many at once as are ordered."""
    descriptor = os.open(order.place, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    try:
        await fetch_pieces(
            downloader,
            order.parent,
            order.task_id,
            descriptor,
            content_length=order.content_length,
            piece_length=order.piece_length,
            concurrency=order.concurrency,
        )
    finally:
        os.close(descriptor)


async def _download(reactor: IPeerReactor, in_thread: InThread, downloader: IDownloader, order: Order) -> None:
    """Download the task as the program does."""
    store = PieceStore(Path(order.place), reactor) if order.is_stored else None
    target: IDownloadTarget
    if store is not None:
        await store.start()
        target = StoredTarget(store, PieceKind.STANDARD, order.task_id)
    else:
        target = OutputTarget(
            Path(order.place),
            in_thread,
            overwrite=True,
            sync=order.sync,
            writes_early=order.writes_early,
            most_unwritten=order.most_unwritten,
        )
    download = TaskDownload(
        reactor,
        in_thread,
        downloader,
        kind=PieceKind.STANDARD,
        task_id=order.task_id,
        parents=[order.parent],
        target=target,
        concurrent_piece_count=order.concurrency,
    )
    try:
        await download.start()
    finally:
        if store is not None:
            await store.stop()


async def _carry_out(reactor: IPeerReactor, order: Order) -> Done:
    """Do it, in this process."""
    in_thread = partial(deferToThreadPool, reactor, reactor.getThreadPool())
    downloader = DownloaderFactory("tcp", default_config(), reactor=reactor).build()
    heart = _Heart(reactor)
    heart.beat()
    began, processor = time.monotonic(), time.process_time()
    try:
        if order.is_hashed:
            await _download(reactor, in_thread, downloader, order)
        else:
            await _fetch_all(downloader, order)
    finally:
        heart.stop()
        await downloader.stop()
    seconds, used = time.monotonic() - began, time.process_time() - processor
    return Done(seconds=seconds, processor_seconds=used, lateness=heart.lateness)


def _main(order: Order) -> int:
    """Run the reactor until it is done."""
    if order.switch_interval is not None:
        sys.setswitchinterval(order.switch_interval)
    from twisted.internet import reactor as global_reactor

    reactor = cast(IPeerReactor, global_reactor)
    outcomes: list[Done | Failure] = []

    def begin() -> None:
        doing = Deferred.fromCoroutine(_carry_out(reactor, order))
        doing.addBoth(outcomes.append).addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    reactor.run()
    (outcome,) = outcomes
    if isinstance(outcome, Failure):
        print(outcome.getErrorMessage())
        return 1
    print(json.dumps(asdict(outcome)))
    return 0


if __name__ == "__main__":
    sys.exit(_main(Order(**json.loads(sys.argv[1]))))
