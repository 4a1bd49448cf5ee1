"""A Vortex server of several processes: the listening socket that they share, and the workers."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import ClassVar

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IAddress
from twisted.logger import Logger
from zope.interface import implementer

from dragonfly_vortex.config import Config
from dragonfly_vortex.daemon.supervisor import ISupervisingReactor, Worker
from dragonfly_vortex.daemon.worker_pipes import COUNTS, LISTENING, TALLIES, orders
from dragonfly_vortex.interfaces import IServer
from dragonfly_vortex.metrics.counters import Tally, shared_tallies, tallies_in
from dragonfly_vortex.transport.socket_options import socket_options
from dragonfly_vortex.vortex.accept_balance import Turns, shared_counts
from dragonfly_vortex.vortex.server import address_of, inherited_socket, listening_socket

__all__ = ["WorkersServer"]


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
        """Where it listens, None while it does not."""
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
    """A process of a worker's has ended: it has no connection any more, and sends nothing."""
    turns.take_none()
    tally.nothing_under_way()
