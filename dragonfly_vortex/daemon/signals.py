"""
Signal handlers of a peer's processes: they end it in order, with an exit status; SIGHUP opens the log file again, and
reads configuration and certificates again.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import ClassVar

from twisted.application.service import Service
from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IReactorCore, IReactorFromThreads
from twisted.logger import Logger
from twisted.python.logfile import LogFile

from dragonfly_vortex.config import LogConfig, load_config
from dragonfly_vortex.daemon.service import VortexService
from dragonfly_vortex.errors import UsageError

__all__ = ["ENDING_SIGNALS", "ExitBySignal", "ReloadBySignal", "end_with_failure"]


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

_OF_REACTOR = frozenset((signal.SIGTERM, signal.SIGINT))
"""The signals for which a reactor sets handlers of its own."""


class ExitBySignal(Service):
    """
    Makes signals stop the reactor and nothing else.

    Twisted's own way ends in the signal being sent again, so that the process ends by it; an operator who stops a
    daemon wants it to exit with 0.

    :param reactor: what is stopped.
    :param numbers: the signals. One that is ignored, or that has a handler other than Twisted's for SIGTERM and SIGINT,
        is left alone.

    A reactor that begins to run sets its own handler for SIGTERM. A signal that came between that and the next call of
    ours would reach it. So the signal is blocked until then: the kernel delivers it when our handler is set again. It
    is blocked from the start of this service on, because a thread inherits what is blocked, and the kernel gives a
    signal to any thread that takes it. So this service is started before those that start threads.

    SIGINT that is not among the numbers keeps Twisted's handler, by which the process ends by that signal. Twisted
    calls it for each SIGINT, and logs a traceback for each one after the first: those are left out.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(self, reactor: IReactorCore, *numbers: signal.Signals) -> None:
        self._reactor = reactor
        self._numbers = numbers
        self._ending = False

    def startService(self) -> None:
        Service.startService(self)
        # Once now, for signals that are not blocked. And once more, because a reactor sets its own handlers when it
        # starts to run.
        signal.pthread_sigmask(signal.SIG_BLOCK, _OF_REACTOR.intersection(self._numbers))
        self._install()
        self._reactor.callWhenRunning(self._install_again)
        if signal.SIGINT not in self._numbers:
            self._reactor.callWhenRunning(self._interrupt_once)
        self._reactor.addSystemEventTrigger("before", "shutdown", self._is_ending)

    def _install(self) -> None:
        for number in self._numbers:
            if number in (signal.SIGTERM, signal.SIGINT) or signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, self._end)

    def _install_again(self) -> None:
        """Replace the handlers that the reactor has set."""
        self._install()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _OF_REACTOR.intersection(self._numbers))

    def _interrupt_once(self) -> None:
        """Let only the first SIGINT reach Twisted's handler, and none once the reactor is being stopped."""
        of_twisted = signal.getsignal(signal.SIGINT)
        if not callable(of_twisted):
            return

        def interrupt(number: int, frame: FrameType | None) -> None:
            if self._ending:
                self._end(number, frame)
            else:
                self._ending = True
                of_twisted(number, frame)

        signal.signal(signal.SIGINT, interrupt)

    def _is_ending(self) -> None:
        self._ending = True

    def _end(self, number: int, frame: FrameType | None) -> None:
        self._ending = True
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


class ReloadBySignal(Service):
    """
    Has SIGHUP reload, and SIGUSR1 rotate the log file, where there is one, as ``twistd`` has it.

    :param peer: what goes on with the new configuration.
    :param file: where the configuration is.
    :param log_file: what the process logs to; None where that is no file of ``twistd``'s.
    :param change_levels: called with the configuration of the log.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        peer: VortexService,
        file: str,
        log_file: LogFile | None,
        change_levels: Callable[[LogConfig], None] = lambda config: None,
    ) -> None:
        self._change_levels = change_levels
        self._peer = peer
        self._file = file
        self._log_file = log_file

    def startService(self) -> None:
        Service.startService(self)
        signal.signal(signal.SIGHUP, self._hung_up)
        if self._log_file is not None:
            signal.signal(signal.SIGUSR1, self._rotate)

    def reload(self) -> None:
        """Open the log file again, and read the configuration. A file that cannot be used changes nothing."""
        self._reopen_log()
        try:
            loaded = load_config(self._file)
            left = self._peer.reload(loaded.config)
        except UsageError as error:
            self.log.error("the configuration stays as it was: {reason}", reason=str(error))
            return
        for warning in loaded.warnings:
            self.log.warn("{text}", text=warning)
        self._change_levels(loaded.config.log)
        self.log.info("limits, levels and certificates have been read again")
        if left:
            self.log.warn("changed, and needs a restart: {keys}", keys=", ".join(left))

    def _hung_up(self, number: int, frame: FrameType | None) -> None:
        self._peer.reactor.callFromThread(self.reload)

    def _rotate(self, number: int, frame: FrameType | None) -> None:
        if self._log_file is not None:
            self._peer.reactor.callFromThread(self._log_file.rotate)

    def _reopen_log(self) -> None:
        if self._log_file is None:
            return
        path = self._log_file.path
        try:
            # LogFile closes the old one first, and could not go on with it.
            os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666))
        except OSError as error:
            self.log.error("the log file {path} cannot be opened again: {reason}", path=path, reason=error.strerror)
        else:
            self._log_file.reopen()
