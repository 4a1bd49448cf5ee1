"""How a peer's processes end: in order, by whichever signal, and with the exit status that says how it went."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import ClassVar

from twisted.application.service import Service
from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IReactorCore, IReactorFromThreads
from twisted.logger import Logger

__all__ = ["ENDING_SIGNALS", "ExitBySignal", "end_with_failure"]

ENDING_SIGNALS = (
    signal.SIGTERM,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGVTALRM,
    signal.SIGPROF,
    signal.SIGIO,
    signal.SIGXCPU,
    *((signal.SIGPWR,) if sys.platform == "linux" else ()),
)
"""
The signals that end a process at once unless it has a handler, and that tell of no defect in it. SIGHUP and SIGINT are
not among them: see ``docs/command-line.md``.
"""


class ExitBySignal(Service):
    """
    Makes signals stop the reactor and nothing else.

    Twisted's own way ends in the signal being sent again, so that the process ends by it; an operator who stops a
    daemon wants it to exit with 0.

    :param reactor: what is stopped.
    :param numbers: the signals. One for which somebody else has a handler, or which is ignored, is left alone; SIGTERM
        and SIGINT, for which Twisted has handlers, are not.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(self, reactor: IReactorCore, *numbers: signal.Signals) -> None:
        self._reactor = reactor
        self._numbers = numbers

    def startService(self) -> None:
        Service.startService(self)
        # Once now: whoever reads in the log that the peer serves may end it before the reactor runs. And once more,
        # because a reactor sets its own handlers when it starts to run.
        self._install()
        self._reactor.callWhenRunning(self._install)

    def _install(self) -> None:
        for number in self._numbers:
            if number in (signal.SIGTERM, signal.SIGINT) or signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, self._end)

    def _end(self, number: int, frame: FrameType | None) -> None:
        IReactorFromThreads(self._reactor).callFromThread(self._stop, signal.Signals(number).name)

    def _stop(self, name: str) -> None:
        self.log.info("asked to end by {name}: finishing the pieces under way", name=name)
        try:
            self._reactor.stop()
        except ReactorNotRunning:
            self.log.info("already ending")


def end_with_failure(reactor: IReactorCore) -> None:
    """
    Stop the reactor, in order, and have the process end with status 1 then. A reactor that does not run yet is stopped
    as soon as it does: a worker may fail to start before that.

    ``twistd`` ends with status 0 when the reactor has been stopped, whatever the reason was, and prints a traceback for
    a SystemExit. So the status is set at the very end, behind what ``twistd`` still does.
    """
    atexit.register(_exit_with_failure)

    def stop() -> None:
        with suppress(ReactorNotRunning):  # it is ending already
            reactor.stop()

    reactor.callWhenRunning(stop)


def _exit_with_failure() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os._exit(1)
