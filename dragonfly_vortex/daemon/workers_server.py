"""
A Vortex server of several processes: the listening socket that they share, and the supervision of the workers. Each
worker is started, and started again after it was ended, unless its process reported that it cannot serve.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import ClassVar

from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IAddress, IDelayedCall, IProcessTransport, IReactorProcess, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dragonfly_vortex.config import Config
from dragonfly_vortex.daemon.worker_pipes import COUNTS, LISTENING, TALLIES, Order, RelayedLog, orders
from dragonfly_vortex.deferreds import call_if_late
from dragonfly_vortex.interfaces import IServer
from dragonfly_vortex.metrics.counters import Tally, shared_tallies, tallies_in
from dragonfly_vortex.transport.socket_options import socket_options
from dragonfly_vortex.vortex.accept_balance import Turns, shared_counts
from dragonfly_vortex.vortex.server import address_of, inherited_socket, listening_socket

__all__ = ["ISupervisingReactor", "Worker", "WorkersServer"]

_FIRST_REST, _LONGEST_REST = 0.1, 30.0
"""Seconds before a worker that has ended is started again: at first, and at most; twice as long each time."""

_SETTLED = 10.0
"""Seconds after which a worker has been well, and its next end is a first one again."""

_GRACE = 2.0
"""Seconds that a worker has to end when the time of its pieces is over, before it is killed."""


class ISupervisingReactor(IReactorProcess, IReactorTime):
    """The interfaces of a reactor that the supervision of processes uses."""


@implementer(IServer)
class WorkersServer:
    """
    Has workers serve pieces over Vortex.

    This process listens, but does not accept: so an address in use is known at once, and connections that wait remain
    for the other workers when one dies. The worker with the fewest connections accepts; a full one leaves it to others.

    :param reactor: where the processes are watched.
    :param config: the peer's.
    :param failed: called with the reason, in words, when a worker cannot serve.
    :param inherited: what listens already, in place of the configuration's port; None for that port.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        reactor: ISupervisingReactor,
        config: Config,
        failed: Callable[[str], object] = lambda reason: None,
        inherited: socket.socket | None = None,
    ) -> None:
        self._inherited = inherited
        self._reactor = reactor
        self._config = config
        self._failed = failed
        self._listening: socket.socket | None = None
        self._shared: list[int] = []  # descriptors of memory
        self._turns: list[Turns] = []
        self._tallies: tuple[Tally, ...] = ()
        self._workers: list[Worker] = []

    @property
    def address(self) -> IAddress | None:
        """The address where it listens; None while it does not."""
        return address_of(self._listening) if self._listening is not None else None

    @property
    def pids(self) -> list[int | None]:
        """The workers' process IDs, None for one that is to be started again."""
        return [worker.pid for worker in self._workers]

    @property
    def tallies(self) -> tuple[Tally, ...]:
        """The counters of each worker, over all its processes; also when it has been stopped."""
        return self._tallies

    def start(self) -> IAddress:
        """See :meth:`IServer.start`. Children are accepted when the first worker is there; until then they wait."""
        server = self._config.storage.server
        options = socket_options(server.tcp)
        if self._inherited is not None:
            listening = inherited_socket(self._inherited, options)
        else:
            listening = listening_socket(server.ip, server.tcp.port, options)
        self._listening = listening
        address = address_of(listening)
        self.log.info("serving Vortex on {address}, by {count} workers", address=address, count=server.workers)
        counts, tallies = self._shared = [shared_counts(server.workers), shared_tallies(server.workers)]
        self._tallies = tallies_in(tallies)
        inherited = {LISTENING: listening.fileno(), COUNTS: counts, TALLIES: tallies}
        for order, tally in zip(orders(self._config, Path.cwd()), self._tallies, strict=True):
            turns = Turns(counts, order.number)
            self._turns.append(turns)
            worker = Worker(self._reactor, order, inherited, partial(_ended, turns, tally), self._failed)
            self._workers.append(worker)
            worker.start()
        return address

    def reload(self, config: Config) -> None:
        """Have all workers go on with their parts of another configuration."""
        self._config = config
        for worker, order in zip(self._workers, orders(config, Path.cwd()), strict=True):
            worker.reload(order)

    async def _stop(self, timeout: float) -> None:
        listening, self._listening = self._listening, None
        workers, self._workers = self._workers, []
        if listening is not None:
            listening.close()
        shared, self._shared = self._shared, []
        for descriptor in shared:
            os.close(descriptor)
        turns, self._turns = self._turns, []
        await gatherResults([worker.stop(timeout) for worker in workers])
        for each in turns:
            each.close()

    def stop(self, timeout: float) -> Deferred[None]:
        """See :meth:`IServer.stop`."""
        return Deferred.fromCoroutine(self._stop(timeout))


def _ended(turns: Turns, tally: Tally) -> None:
    """Clear the shared counts of a worker whose process has ended."""
    turns.take_none()
    tally.nothing_under_way()


class Worker:
    """
    A worker of this peer.

    :param reactor: starts processes, and reports their end, for which its signal handlers must be installed.
    :param order: what the worker is to do.
    :param inherited: the descriptors that it is given, by the numbers that they have there; they must stay open until
        :meth:`stop`.
    :param ended: called whenever a process of it has ended, for what that one may not have been able to say.
    :param failed: called with the reason, in words, when it cannot serve: its first process cannot be started, or a
        process has ended by an exit status other than 0. A process that ends by a signal, or with 0, was ended on
        purpose.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        reactor: ISupervisingReactor,
        order: Order,
        inherited: Mapping[int, int],
        ended: Callable[[], object],
        failed: Callable[[str], object],
    ) -> None:
        self._reactor = reactor
        self._order = order
        self._inherited = inherited
        self._ended = ended
        self._failed = failed
        self._was_there = False
        self._run: _Run | None = None
        self._rest: IDelayedCall | None = None
        self._next_rest = _FIRST_REST
        self._started = 0.0
        self._stopped: Deferred[None] | None = None

    @property
    def pid(self) -> int | None:
        """The worker's process ID, None while there is none."""
        return self._run.pid if self._run is not None else None

    def start(self) -> None:
        """Start its process."""
        self._rest = None
        self._started = self._reactor.seconds()
        number = self._order.number
        command = [sys.executable, "-m", "dragonfly_vortex.daemon", str(number)]
        descriptors: dict[int, str | int] = {0: "w", 1: "r", 2: "r", **self._inherited}
        run = self._run = _Run(self, self._order)
        try:
            self._reactor.spawnProcess(run, sys.executable, command, env=_environment(), childFDs=descriptors)
            self._was_there = True
        except OSError as error:
            self.ended(f"cannot be started: {error.strerror}", can_serve=self._was_there)

    def reload(self, order: Order) -> None:
        """Give other settings to the process, and to each one that is started later."""
        self._order = order
        if self._run is not None:
            self._run.tell(order)

    def stop(self, timeout: float) -> Deferred[None]:
        """
        Have it finish the pieces under way, and end.

        :param timeout: seconds that the pieces have. A worker that is still there a moment later is killed.
        :returns: fires when its process has ended.
        """
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        if self._run is None:
            return succeed(None)
        self._stopped, stopped = Deferred(), Deferred[None]()
        self._stopped.chainDeferred(stopped)  # so that it is killed, too, where this is cancelled
        self._run.signal("TERM")
        call_if_late(self._stopped, self._reactor, timeout + _GRACE, self._run_out)
        return stopped

    def ended(self, how: str, *, can_serve: bool) -> None:
        """
        Handle the end of the process, or its failure to start.

        :param how: in words.
        :param can_serve: whether it is worth starting it again.
        """
        self._run = None
        self._ended()
        number = self._order.number
        if self._stopped is not None:
            stopped, self._stopped = self._stopped, None
            stopped.callback(None)
            return
        if not can_serve:
            self.log.error("worker {number} {how}", number=number, how=how)
            self._failed(f"worker {number} {how}")
            return
        rest = _FIRST_REST if self._reactor.seconds() - self._started >= _SETTLED else self._next_rest
        self._next_rest = min(_LONGEST_REST, 2 * rest)
        self.log.error("worker {number} {how}; started again in {rest} s", number=number, how=how, rest=rest)
        self._rest = self._reactor.callLater(rest, self.start)

    def _run_out(self) -> None:
        """Kill a worker that has not ended in time."""
        if self._run is not None:
            self.log.error("worker {number} does not end, and is killed", number=self._order.number)
            self._run.signal("KILL")


class _Run(ProcessProtocol):
    """One process of a worker's: takes its order to it, and its log from it."""

    transport: IProcessTransport

    def __init__(self, worker: Worker, order: Order) -> None:
        self._worker = worker
        self._order = order
        self.pid: int | None = None
        """The process's ID."""
        self._logs = {descriptor: RelayedLog(order.number) for descriptor in (1, 2)}

    def signal(self, name: str) -> None:
        """Send it a signal, unless it has just ended."""
        try:
            self.transport.signalProcess(name)
        except ProcessExitedAlready:
            return

    def tell(self, order: Order) -> None:
        """Send it an order."""
        self.transport.writeToChild(0, order.to_bytes())

    def connectionMade(self) -> None:
        self.pid = self.transport.pid
        # The pipe stays open behind the order, for others; its end shows the worker that this process has ended.
        self.tell(self._order)

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        self._logs[childFD].data_received(data)

    def processEnded(self, reason: Failure) -> None:
        for log in self._logs.values():
            log.ended()
        number, status = getattr(reason.value, "signal", None), getattr(reason.value, "exitCode", None)
        how = f"exit status {status}" if number is None else f"signal {number}"
        self._worker.ended(f"(process {self.pid}) has ended: {how}", can_serve=number is not None or status == 0)


def _environment() -> dict[str, str]:
    """
    This process's environment, with which Python finds the modules that this process has found: a program may have put
    more into its path, and the working directory is no place for modules of a daemon (kept out from Python 3.11 on).
    """
    path = os.pathsep.join(os.path.abspath(place) for place in sys.path)
    return {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
