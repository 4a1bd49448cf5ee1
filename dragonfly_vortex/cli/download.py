"""``dfvortex download``: a whole task from its parents into a file."""

from __future__ import annotations

import signal
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import TypeVar, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from dragonfly_vortex.cli.exits import ExitStatus
from dragonfly_vortex.cli.lines import counted
from dragonfly_vortex.cli.progress import ProgressBar
from dragonfly_vortex.config import Config, default_config, load_config
from dragonfly_vortex.downloaders.factory import DownloaderFactory
from dragonfly_vortex.service import IPeerReactor
from dragonfly_vortex.task.download import DownloadedTask, Progress, TaskDownload
from dragonfly_vortex.task.target import OutputTarget

__all__ = ["download_task"]

_T = TypeVar("_T")

_STATUS_OF_SIGNAL = {signal.SIGINT: ExitStatus.INTERRUPTED, signal.SIGTERM: ExitStatus.TERMINATED}


def download_task(arguments: Namespace) -> ExitStatus:
    """``dfvortex download``: what stands at the output afterwards is complete, or not there."""
    config = default_config() if arguments.config is None else load_config(arguments.config).config
    from twisted.internet import reactor as global_reactor

    reactor = cast(IPeerReactor, global_reactor)
    with ProgressBar("downloading") as bar:
        result = _run(reactor, lambda: Deferred.fromCoroutine(_download(reactor, config, arguments, bar)))
    if isinstance(result, ExitStatus):
        return result
    print(
        f"{arguments.output}: {counted(result.content_length, 'byte')} in {counted(result.piece_count, 'piece')},"
        f" verified, in {result.seconds:.1f} s"
    )
    return ExitStatus.DONE


async def _download(reactor: IPeerReactor, config: Config, arguments: Namespace, bar: ProgressBar) -> DownloadedTask:
    """The download itself, and the end of its connections whatever comes of it."""

    def show(progress: Progress) -> None:
        bar.show(progress.verified_bytes, progress.content_length, progress.verified_pieces)

    in_thread = partial(deferToThreadPool, reactor, reactor.getThreadPool())
    downloader = DownloaderFactory(config.download.protocol, config, reactor=reactor).build()
    bar.show(0, None, 0)
    ticking = LoopingCall(bar.tick)
    ticking.clock = reactor
    ticking.start(1.0, now=False)
    try:
        download = TaskDownload(
            reactor,
            in_thread,
            downloader,
            kind=arguments.kind,
            task_id=arguments.task_id,
            parents=[str(parent) for parent in arguments.parents],
            target=OutputTarget(arguments.output, in_thread, overwrite=arguments.overwrite),
            concurrent_piece_count=arguments.concurrency or config.download.concurrent_piece_count,
            on_progress=show,
        )
        return await download.start()
    finally:
        ticking.stop()
        await downloader.stop()


def _run(reactor: IPeerReactor, work: Callable[[], Deferred[_T]]) -> _T | ExitStatus:
    """
    Run the reactor until the work is done. A signal cancels it, and it has the time to tidy up.

    :returns: what the work gave, or the status for the signal that ended it.
    :raises Exception: what the work failed with.
    """
    outcomes: list[_T | Failure] = []
    signals: list[ExitStatus] = []

    def begin() -> None:
        working = work()

        def interrupt(number: int, frame: FrameType | None) -> None:
            signals.append(_STATUS_OF_SIGNAL[signal.Signals(number)])
            reactor.callFromThread(working.cancel)

        # Not earlier: a reactor sets its own handlers when it starts to run.
        for number in _STATUS_OF_SIGNAL:
            signal.signal(number, interrupt)
        working.addBoth(outcomes.append)
        working.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    reactor.run()
    outcome = outcomes[0]
    if isinstance(outcome, Failure):
        if signals and outcome.check(CancelledError):
            return signals[0]
        outcome.raiseException()
    return outcome
