"""How a peer's processes end by a signal: in order, and with exit status 0."""

from __future__ import annotations

import signal
from types import FrameType
from typing import ClassVar

from twisted.application.service import Service
from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IReactorCore, IReactorFromThreads
from twisted.logger import Logger

__all__ = ["ExitBySignal"]


class ExitBySignal(Service):
    """
    Makes signals stop the reactor and nothing else.

    Twisted's own way ends in the signal being sent again, so that the process ends by it; an operator who stops a
    daemon wants it to exit with 0.

    :param reactor: what is stopped.
    :param numbers: the signals.
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
            signal.signal(number, self._end)

    def _end(self, number: int, frame: FrameType | None) -> None:
        IReactorFromThreads(self._reactor).callFromThread(self._stop)

    def _stop(self) -> None:
        self.log.info("asked to end: finishing the pieces under way")
        try:
            self._reactor.stop()
        except ReactorNotRunning:
            self.log.info("already ending")
