"""The program of a worker: a peer in one process, on an inherited socket, which ends when its main process ends."""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import socket
import sys
from contextlib import suppress
from threading import Thread
from typing import BinaryIO, cast

from twisted.internet.error import CannotListenError, ReactorNotRunning
from twisted.logger import FileLogObserver, Logger, globalLogBeginner
from twisted.python.failure import Failure

from dragonfly_vortex.clock import use_monotonic_clock
from dragonfly_vortex.daemon.door import IPeerReactor
from dragonfly_vortex.daemon.rlimits import WORKER_DESCRIPTORS, require_descriptors, within_descriptors
from dragonfly_vortex.daemon.service import VortexService
from dragonfly_vortex.daemon.signals import ENDING_SIGNALS, ExitBySignal
from dragonfly_vortex.daemon.worker_pipes import COUNTS, LISTENING, TALLIES, Order, event_line
from dragonfly_vortex.errors import StorageError, TooFewDescriptors, UsageError
from dragonfly_vortex.metrics.counters import tallies_in
from dragonfly_vortex.vortex.accept_balance import Turns
from dragonfly_vortex.vortex.server import SharedSocket

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1  # prctl(2)


def main() -> int:
    """
    Serve until SIGTERM or SIGINT, finish the pieces under way, and end; or end at once with the main process.

    :returns: the exit status.
    """
    _end_with_main_process()
    pipe = open(0, "rb", closefd=False)  # noqa: SIM115  # to the end of the process
    order = Order.read(pipe)
    globalLogBeginner.beginLoggingTo([FileLogObserver(sys.stdout, event_line)])

    try:
        require_descriptors(WORKER_DESCRIPTORS)
    except TooFewDescriptors as error:
        Logger().critical("cannot serve: {reason}", reason=str(error))
        return 1
    from twisted.internet import reactor

    peer_reactor = cast(IPeerReactor, reactor)
    use_monotonic_clock(peer_reactor)
    for number in (signal.SIGHUP, signal.SIGUSR1):  # to all processes of a group: the main process acts on them
        signal.signal(number, signal.SIG_IGN)
    ExitBySignal(peer_reactor, signal.SIGINT, *ENDING_SIGNALS).startService()
    shared = SharedSocket(socket=socket.socket(fileno=LISTENING), turns=Turns(COUNTS, order.number))
    tally = tallies_in(TALLIES)[order.number - 1]
    peer = _Peer(within_descriptors(order.config), peer_reactor, shared=shared, tally=tally)
    try:
        peer.startService()
    except (CannotListenError, UsageError, StorageError) as error:
        Logger().critical("cannot serve: {reason}", reason=str(error))
        return 1
    Thread(target=_follow, args=(pipe, peer), daemon=True).start()
    peer_reactor.addSystemEventTrigger("before", "shutdown", peer.stopService)
    peer_reactor.run()
    return 1 if peer.has_failed else 0


class _Peer(VortexService):
    """A peer that ends the process when its storage fails: its main process sees it by the exit status."""

    has_failed = False

    def follow(self, order: Order) -> None:
        """Do as another order says, in the reactor's thread."""
        try:
            self.reload(within_descriptors(order.config))
        except UsageError as error:
            self.log.error("the configuration stays as it was: {reason}", reason=str(error))

    def door_failed(self, failure: Failure) -> None:
        """See :meth:`VortexService.door_failed`."""
        self.has_failed = True
        with suppress(ReactorNotRunning):
            self.reactor.stop()


def _end_with_main_process() -> None:
    """Have Linux kill this process when the one that started it has gone, even where it is stopped or stuck."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _follow(pipe: BinaryIO, peer: _Peer) -> None:
    """
    In a thread: read further orders, and end when no process has the other end of the pipe any more, however busy the
    reactor is.
    """
    with suppress(EOFError, pickle.UnpicklingError):  # the end, or one in the middle of an order
        while True:
            peer.reactor.callFromThread(peer.follow, Order.read(pipe))
    os._exit(1)
