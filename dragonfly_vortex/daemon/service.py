"""
A whole peer as a Twisted service: a storage, the doors that offer it, and their metrics. Built from a
configuration, here only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from socket import socket
from typing import ClassVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IReactorTime, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from dragonfly_vortex.cluster import is_configured
from dragonfly_vortex.config import Config, check_ports, main_share, reloaded, server_tls
from dragonfly_vortex.daemon.door import Door, DoorSettings, IPeerReactor, Openings
from dragonfly_vortex.daemon.downloads import Downloads
from dragonfly_vortex.daemon.member import Advertiser, Member
from dragonfly_vortex.daemon.pages import health_server, metrics_server, start_health
from dragonfly_vortex.daemon.peer_tasks import LocalTasks
from dragonfly_vortex.deferreds import failures_of
from dragonfly_vortex.discovery import require_zeroconf
from dragonfly_vortex.errors import CannotServe
from dragonfly_vortex.interfaces import IServer
from dragonfly_vortex.metrics.counters import Tally
from dragonfly_vortex.metrics.task_metrics import TaskMetrics
from dragonfly_vortex.rpc.local_server import LocalService, SocketPlace
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.database import Access
from dragonfly_vortex.storage.policy import policy_of
from dragonfly_vortex.storage.reactor.collecting import GarbageCollection, room_for
from dragonfly_vortex.storage.reactor.rechecks import Rechecks
from dragonfly_vortex.storage.reactor.store import PieceStore
from dragonfly_vortex.transport.endpoints import Dial
from dragonfly_vortex.transport.ratelimit import UploadLimiter
from dragonfly_vortex.transport.readahead import ReadAhead
from dragonfly_vortex.transport_table import GRPC, TCP, load_code, transports_named
from dragonfly_vortex.vortex.server import SharedSocket

__all__ = ["VortexService"]

_DISK_TIMEOUT = 1.0
"""Seconds that the end of a peer waits at least for reads of the disk that are under way."""


class VortexService(Service):
    """
    Serves the pieces of a storage, by the doors of the transports that ``storage.server.protocol`` names. Nothing is
    opened before :meth:`startService`, and nothing is left after :meth:`stopService`.

    :param config: the peer's configuration.
    :param reactor: what it runs on.
    :param warnings: what reading the configuration warned of; it goes to the log when the service starts.
    :param shared: what the Vortex door of a worker accepts from, instead of listening itself. With it the service can
        be started once.
    :param tally: where the Vortex door of a worker counts what it sends; None: in one of its own.
    :param dial: makes the endpoints for the addresses of parents that are asked by Vortex; None for the usual ones.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        config: Config,
        reactor: IPeerReactor,
        warnings: tuple[str, ...] = (),
        shared: SharedSocket | None = None,
        tally: Tally | None = None,
        dial: Dial | None = None,
    ) -> None:
        self.config = config
        self.reactor = reactor
        self._warnings = warnings
        self._shared = shared
        self._tally = tally
        self._dial = dial
        self._endpoints: Sequence[IStreamServerEndpoint] | None = None  # in place of the configuration's port
        self.inherited: Mapping[int, socket] = {}
        """Listening sockets that doors take in place of opening their ports, by these ports. Each serves once."""
        self.can_do_without_health = False
        """Whether the peer starts without the pages for probes where their port is taken."""
        self._store: PieceStore | None = None
        self._read_ahead: ReadAhead | None = None
        self._rechecks: Rechecks | None = None
        self._collection: GarbageCollection | None = None
        self._doors: dict[str, Door] = {}  # by the names of their transports
        self._downloads: Downloads | None = None
        self._local_door: LocalService | None = None
        self._member: Member | None = None
        self._metrics: IServer | None = None
        self._health: IServer | None = None
        self._openings = Openings()
        self._advertiser: Advertiser | None = None
        self._limiter: UploadLimiter | None = None

    @property
    def address(self) -> IAddress | None:
        """The address where the peer listens for Vortex, None while it does not."""
        return self.address_of(TCP.name)

    @property
    def grpc_address(self) -> IAddress | None:
        """
        The address where the peer listens for gRPC, None while it does not; that door opens a moment later than the
        other.
        """
        return self.address_of(GRPC.name)

    def address_of(self, transport: str) -> IAddress | None:
        """
        The address where the peer listens for a transport, None while it does not.

        :param transport: its name.
        """
        door = self._doors.get(transport)
        return door.address if door is not None else None

    def transfer_of(self, task_id: str) -> str:
        """See :meth:`dragonfly_vortex.daemon.logs.TransferLog.id_of`."""
        return self._downloads.transfer_log.id_of(task_id) if self._downloads is not None else ""

    @property
    def local_address(self) -> IAddress | None:
        """The path where the local door listens, None while it does not."""
        return self._local_door.address if self._local_door is not None else None

    @property
    def metrics_address(self) -> IAddress | None:
        """The address of the page of metrics, None while it is not served."""
        address: IAddress | None = self._metrics.address if self._metrics is not None else None
        return address

    @property
    def health_address(self) -> IAddress | None:
        """The address of the pages for probes, None while they are not served."""
        address: IAddress | None = self._health.address if self._health is not None else None
        return address

    @property
    def is_open(self) -> bool:
        """Whether the peer runs, and its storage and all doors are open."""
        return bool(self.running) and not self._openings.missing

    def missing(self) -> list[str]:
        """
        What this peer lacks to be ready: that the storage and all doors are open and, where schedulers are configured,
        that one of them serves and knows this host.

        :returns: a sentence for each thing; none when the peer is ready.
        """
        if not self.running:
            return ["the peer is not running"]
        missing = sorted(self._openings.missing)
        if is_configured(self.config) and (self._member is None or not self._member.is_registered):
            missing.append("no scheduler serves and knows this host")
        return missing

    async def ready(self) -> None:
        """
        Wait until the storage and all doors of a started peer are open.

        :raises CannotServe: one of them cannot be opened, or the peer is stopped before. An endpoint has 30 s.
        """
        reasons = await self._openings.wait()
        if not self.running:
            raise CannotServe("the peer is not running")
        if reasons:
            raise CannotServe("; ".join(reasons))

    def startService(self) -> None:
        """
        Open the storage and listen. This blocks for as long as it takes to open the storage's database, once, and to
        read the files for TLS.

        :raises DiscoveryUnavailable: the peer is to be advertised, and the package for that is not installed.
        :raises PortGivenTwice: two of the doors, the metrics and the pages for probes are to listen on one port.
        :raises CertificateUnusable: a file for TLS cannot be used.
        :raises StorageFailure: the storage cannot be opened.
        :raises twisted.internet.error.CannotListenError: the address cannot be had.
        """
        for warning in self._warnings:
            self.log.warn("{text}", text=warning)  # Twisted takes an event with a "warning" for one of Python's
        check_ports(self.config)
        if self.config.discovery.enable:
            require_zeroconf()
        # The store opens it later, in its own thread; a failure is to be reported at the start.
        with Catalog(self.config.storage.dir, Access.SERVE) as catalog:
            if catalog.read_only and self._shared is None:
                text = "the storage {directory} can only be read, and is served: {reason}"
                self.log.warn(text, directory=self.config.storage.dir, reason=catalog.read_only)
        store = PieceStore(self.config.storage.dir, self.reactor)
        limit = self._tally or Tally()
        rate = main_share(self.config).upload.bandwidth_limit
        limiter = self._limiter = UploadLimiter(rate, self.reactor, limit.waited)
        read_ahead = ReadAhead(self.reactor)
        rechecks = Rechecks(self.config.storage.dir, IReactorTime(self.reactor), read_ahead.in_thread)
        task_metrics = TaskMetrics(self.reactor.seconds)
        gc = self.config.gc
        collection = GarbageCollection(store.directory, self.reactor, gc.interval, policy_of(gc.policy))
        store.room = room_for(store.directory, self.reactor, policy_of(gc.policy), is_made=gc.enable)
        downloads = Downloads(self.config, self.reactor, store, task_metrics, self._dial)
        downloads.grpc_port = partial(self._port_of, GRPC.name)
        tasks = LocalTasks(self.config, self.reactor, store, downloads)
        settings = DoorSettings(
            config=self.config,
            reactor=self.reactor,
            store=store,
            limiter=limiter,
            read_ahead=read_ahead,
            rechecks=rechecks,
            tasks=tasks,
            identity=server_tls(self.config),
            metrics=task_metrics,
            tally=self._tally,
            shared=self._shared,
            port_of=self._port_of,
            endpoints=self._endpoints,
            inherited=self.inherited,
            failed=self._worker_failed,
        )
        doors: dict[str, Door] = {}
        for transport in transports_named(self.config.storage.server.protocol):
            doors[transport.name] = load_code(transport.door)(settings)
        local, local_door = self.config.download.server, None
        if local.socket_path is not None and self._shared is None:  # a worker has none
            place = SocketPlace(local.socket_path, local.socket_mode, local.socket_group)
            local_door = LocalService(tasks, self.reactor, place, metrics=task_metrics)
        metrics = metrics_server(self.config, self.reactor, doors, downloads, limit, store, self.missing)
        health = health_server(self.config, self.reactor, self.missing)
        # A port that cannot be had leaves no thread and no open port. No child is accepted before this returns.
        with ExitStack() as unless_opened:
            if metrics is not None:
                metrics.start()
                unless_opened.callback(metrics.stop, 0.0)
            health = start_health(health, can_do_without=self.can_do_without_health)
            if health is not None:
                unless_opened.callback(health.stop, 0.0)
            for door in reversed(doors.values()):  # the first one may start workers
                door.open()
                unless_opened.callback(door.stop, 0.0)
            if local_door is not None:
                local_door.check()
            unless_opened.pop_all()
        self._store, self._read_ahead, self._doors = store, read_ahead, doors
        self._metrics, self._health, self._rechecks = metrics, health, rechecks
        self._downloads, self._local_door, self._collection = downloads, local_door, collection
        if gc.enable:
            collection.start()
        openings = self._openings = Openings()
        openings.add("the storage", store.start()).addErrback(self._part_failed, store)
        starting = {
            transport.name: openings.add(f"the {transport.label} door", doors[transport.name].start())
            for transport in transports_named(self.config.storage.server.protocol)
        }
        if self.config.discovery.enable:
            self._advertiser = Advertiser(self.config, self.reactor, self._port_of)
            self._advertiser.start(starting)
        for name, door in doors.items():
            starting[name].addErrback(self._part_failed, door)
        if is_configured(self.config) and self._shared is None:
            self._join(starting, store, downloads)
        if local_door is not None:
            opened = openings.add("the local door", local_door.startService().addCallback(lambda _: None))
            opened.addErrback(self._part_failed, local_door)
        Service.startService(self)

    def reload(self, config: Config) -> tuple[str, ...]:
        """
        Go on with another configuration, as far as that is possible while the peer runs (see
        :func:`~dragonfly_vortex.config.peer.reloaded`). The files for TLS are read again in any case, and hold for
        new connections. This blocks for as long as they take to be read.

        :param config: the new configuration.
        :returns: the dotted keys of what holds from the next start on.
        :raises CertificateUnusable: a file for TLS cannot be used; nothing has changed then.
        """
        taken, left = reloaded(self.config, config)
        identity = server_tls(taken)
        prepared = [door.prepare_reload(taken, identity) for door in self._doors.values()]
        self.config = taken
        if self._limiter is not None:
            self._limiter.change_rate(main_share(taken).upload.bandwidth_limit)
        for take_effect in prepared:
            take_effect()
        if self._downloads is not None:
            self._downloads.reload(taken)
        if self._collection is not None:
            self._collection.change(taken.gc.interval, policy_of(taken.gc.policy))
        if self._store is not None:
            policy = policy_of(taken.gc.policy)
            self._store.room = room_for(self._store.directory, self.reactor, policy, is_made=taken.gc.enable)
        return left

    def stopService(self) -> Deferred[None]:
        """
        Stop accepting at all doors, end what is idle, finish the pieces under way for at most ``shutdown_timeout``
        seconds of the configuration; then stop the storage, and last the metrics and the pages for probes, which show
        how the others end.

        :returns: fires when everything is closed. What fails to stop keeps nothing else open: the Deferred fails with
            the first failure then, and further ones are logged.
        """
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        doors, self._doors = self._doors, {}
        store, self._store = self._store, None
        read_ahead, self._read_ahead = self._read_ahead, None
        metrics, self._metrics = self._metrics, None
        health, self._health = self._health, None
        rechecks, self._rechecks = self._rechecks, None
        advertiser, self._advertiser = self._advertiser, None
        downloads, self._downloads = self._downloads, None
        local_door, self._local_door = self._local_door, None
        collection, self._collection = self._collection, None
        member, self._member = self._member, None
        if rechecks is not None:
            rechecks.stop()
        clock = IReactorTime(self.reactor)
        until = clock.seconds() + self.config.shutdown_timeout
        stopping = [door.stop(self.config.shutdown_timeout) for door in doors.values()]
        if advertiser is not None:
            stopping.append(advertiser.stop())
        if member is not None:
            stopping.append(member.stop())
        if downloads is not None:
            stopping.append(Deferred.fromCoroutine(downloads.stop()))
        if local_door is not None:
            stopping.append(local_door.stop(self.config.shutdown_timeout))
        if collection is not None:
            stopping.append(collection.stop(self.config.shutdown_timeout))
        failures = await failures_of(stopping)
        # A disk that does not answer is not waited for much longer than a child.
        until = max(until, clock.seconds() + _DISK_TIMEOUT)
        if read_ahead is not None:
            failures += await failures_of([read_ahead.stop(until - clock.seconds())])
        if store is not None:
            failures += await failures_of([store.stop(max(0.0, until - clock.seconds()))])
        failures += await failures_of([server.stop(0.0) for server in (metrics, health) if server is not None])
        for failure in failures[1:]:
            self.log.failure("the peer could not be stopped as it should", failure)
        if failures:
            failures[0].raiseException()

    def _part_failed(self, failure: Failure, part: object) -> None:
        """Report that the storage or a door could not be opened, unless it has been closed meanwhile."""
        if all(part is not each for each in (self._store, self._local_door, *self._doors.values())):
            return
        if isinstance(part, PieceStore):
            self.log.error("the storage could not be opened: {reason}", reason=failure.getErrorMessage())
        self.door_failed(failure)

    def _join(self, starting: Mapping[str, Deferred[None]], store: PieceStore, downloads: Downloads) -> None:
        """Become a member of a cluster as soon as the gRPC door serves. Each door has a Deferred that fires then."""
        door = starting.get(GRPC.name)
        if door is None:
            self.log.error(
                "schedulers are configured, and need the gRPC door, which storage.server.protocol leaves out"
            )
            return
        member = self._member = Member(self.config, self.reactor, store, downloads, self._doors[GRPC.name].prepare)

        def join(_: None) -> None:
            port = self._port_of(GRPC.name)
            if port is not None and member is self._member:
                member.start(port)

        door.addCallback(join).addErrback(self._cannot_join, member)

    def _cannot_join(self, failure: Failure, member: Member) -> None:
        """Schedulers cannot be asked: the peer has not what its configuration says."""
        self.log.error("the peer cannot join its cluster: {reason}", reason=failure.getErrorMessage())
        if member is self._member:
            self.door_failed(failure)

    def _worker_failed(self, reason: str) -> None:
        self._openings.missing.add("a worker cannot serve")
        self.door_failed(Failure(CannotServe(reason)))

    def door_failed(self, failure: Failure) -> None:
        """
        A door, or the storage, has failed to open after :meth:`startService` had returned, or a worker cannot serve.
        The peer goes on without it; a program may override this method and end the peer.

        :param failure: which is in the log by now.
        """

    def _port_of(self, transport: str) -> int | None:
        """The port of a door, which another door announces to children."""
        port: int | None = getattr(self.address_of(transport), "port", None)
        return port
