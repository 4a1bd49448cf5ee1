"""A door: a peer's server over one transport, which the service of the peer opens, reloads and closes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from socket import socket

from msgspec import Struct, field
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import (
    IAddress,
    IReactorCore,
    IReactorFDSet,
    IReactorTCP,
    IReactorThreads,
    IStreamServerEndpoint,
)
from twisted.python.failure import Failure

from dragonfly_vortex.config import Config, TLSIdentity
from dragonfly_vortex.daemon.workers_server import ISupervisingReactor
from dragonfly_vortex.metrics.counters import Tally
from dragonfly_vortex.metrics.task_metrics import TaskMetrics
from dragonfly_vortex.rpc.peer_tasks import PeerTasks
from dragonfly_vortex.storage.reactor.rechecks import Rechecks
from dragonfly_vortex.storage.reactor.store import PieceStore
from dragonfly_vortex.transport.ratelimit import UploadLimiter
from dragonfly_vortex.transport.readahead import ReadAhead
from dragonfly_vortex.vortex.server import SharedSocket
from dragonfly_vortex.wire import PieceKind

__all__ = ["Door", "DoorSettings", "IPeerReactor", "Openings"]


class IPeerReactor(IReactorCore, IReactorFDSet, IReactorTCP, IReactorThreads, ISupervisingReactor):
    """The interfaces of a reactor that a peer uses."""


class DoorSettings(Struct, frozen=True, kw_only=True):
    """
    The arguments for the doors of a peer.

    :param config: the peer's configuration.
    :param reactor: what it runs on.
    :param store: where the pieces are.
    :param limiter: what all content is spent from.
    :param read_ahead: reads what is to be sent and is not in memory.
    :param rechecks: is called for each piece that has been sent.
    :param tasks: what is done with whole tasks.
    :param identity: the files for TLS; None for no TLS.
    :param metrics: where questions about tasks are counted.
    :param tally: where a worker counts what it sends; None: the door counts in one of its own.
    :param shared: what a worker accepts from, instead of listening itself.
    :param endpoints: where the Vortex door listens, in place of the configuration's port; None for that port.
    :param inherited: listening sockets, by their ports, which a door takes in place of opening its port.
    :param port_of: gives the port of another door, by the name of its transport; None while that does not listen.
    :param failed: called with the reason, in words, when the door cannot serve any more.
    """

    config: Config
    reactor: IPeerReactor
    store: PieceStore
    limiter: UploadLimiter
    read_ahead: ReadAhead
    rechecks: Rechecks
    tasks: PeerTasks
    identity: TLSIdentity | None
    metrics: TaskMetrics
    tally: Tally | None
    shared: SharedSocket | None
    port_of: Callable[[str], int | None]
    failed: Callable[[str], None]
    endpoints: Sequence[IStreamServerEndpoint] | None = None
    inherited: Mapping[int, socket] = field(default_factory=dict)


class Door:
    """
    The base class of all doors. The table of transports names a subclass for each transport as ``door``.

    :param settings: what it is built from.
    :raises CertificateUnusable: a file for TLS, which are read now, cannot be used.
    """

    def __init__(self, settings: DoorSettings) -> None:
        self.settings = settings

    @property
    def address(self) -> IAddress | None:
        """The address where it listens; None while it does not."""
        raise NotImplementedError

    @property
    def tallies(self) -> Sequence[Tally]:
        """The counters of what the door has sent and is sending, one for each process that serves."""
        raise NotImplementedError

    @property
    def connections(self) -> tuple[int, int]:
        """How many connections of children there are, and how many of them are idle. For any thread."""
        tallies = self.tallies
        return sum(tally.connections for tally in tallies), sum(tally.idle_connections for tally in tallies)

    @property
    def worker_pids(self) -> Sequence[int]:
        """The processes that serve in place of this one."""
        return ()

    def open(self) -> None:
        """
        Listen, or check that :meth:`start` can listen. This process accepts no connection before the reactor's next
        turn.

        :raises twisted.internet.error.CannotListenError: the address cannot be had.
        """
        raise NotImplementedError

    def start(self) -> Deferred[None]:
        """
        Serve, once the door is open and the storage is being opened.

        :returns: fires when children are served. Fails, with the failure in the log, when the door has to stay closed.
        """
        raise NotImplementedError

    def prepare_reload(self, config: Config, identity: TLSIdentity | None) -> Callable[[], None]:
        """
        Prepare to go on with another configuration. The files for TLS are read now.

        :param config: what the peer is to run with.
        :param identity: the files for TLS; None for no TLS.
        :returns: has the configuration take effect.
        :raises CertificateUnusable: a file for TLS cannot be used; nothing has changed then.
        """
        raise NotImplementedError

    def prepare(self, kind: PieceKind, task_id: str) -> None:
        """
        Prepare for children of a task.

        :param task_id: of a complete task.
        """

    def stop(self, timeout: float) -> Deferred[None]:
        """
        Stop accepting, end what is idle, finish the pieces under way.

        :param timeout: seconds after which what is still under way is aborted.
        """
        raise NotImplementedError


class Openings:
    """The parts of a peer that are not open yet, or have failed to open."""

    def __init__(self) -> None:
        self.missing: set[str] = set()
        """The sentences that say what is not open, without the reasons, which only a program gets."""
        self._reasons: dict[str, str] = {}
        self._ended: list[Deferred[None]] = []

    def add(self, subject: str, opening: Deferred[None]) -> Deferred[None]:
        """
        Add a part that is not open yet.

        :param subject: what it is, in words.
        :param opening: fires when it is open.
        :returns: the same.
        """
        sentence = f"{subject} is not open"
        self.missing.add(sentence)
        ended: Deferred[None] = Deferred()
        self._ended.append(ended)

        def end(result: Failure | None) -> Failure | None:
            if result is None:
                self.missing.discard(sentence)
            else:
                self._reasons[sentence] = result.getErrorMessage()
            ended.callback(None)
            return result

        return opening.addBoth(end)

    async def wait(self) -> list[str]:
        """Wait until each has opened or failed. Returns what is not open, with the reasons; nothing if all is."""
        await gatherResults(self._ended)
        missing = sorted(self.missing)
        return [f"{each}: {self._reasons[each]}" if each in self._reasons else each for each in missing]
