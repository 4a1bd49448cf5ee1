"""
How others learn of a peer: as a member of a cluster it announces the tasks of its storage to schedulers, and to the
local network it is advertised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, cast

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from dragonfly_vortex.config import Config, server_tls, value_at
from dragonfly_vortex.daemon.door import IPeerReactor
from dragonfly_vortex.daemon.downloads import Downloads
from dragonfly_vortex.discovery import Advertisement, address_to_advertise
from dragonfly_vortex.errors import StorageError
from dragonfly_vortex.geometry import is_complete
from dragonfly_vortex.storage.reactor.store import PieceStore
from dragonfly_vortex.transport_table import BEST, Transport, transports_named
from dragonfly_vortex.wire import PieceKind

if TYPE_CHECKING:
    from dragonfly_vortex.cluster.membership import IMemberReactor, Membership

__all__ = ["Advertiser", "Member"]

_log = Logger()

_INTERVAL = 2.0
"""Seconds between two looks at the storage, where something has changed in it."""

_KINDS = (PieceKind.STANDARD, PieceKind.PERSISTENT, PieceKind.PERSISTENT_CACHE)
"""The kinds of task that schedulers know."""


class Member:
    """
    A member, from :meth:`start` to :meth:`stop`.

    :param config: the peer's configuration, which names schedulers.
    :param reactor: what the peer runs on.
    :param store: the peer's storage.
    :param downloads: the peer's downloads, which ask schedulers for parents from then on.
    :param prepare: called with each task that becomes complete while the peer runs: children come as soon as a
        scheduler knows of it.
    """

    def __init__(
        self,
        config: Config,
        reactor: IPeerReactor,
        store: PieceStore,
        downloads: Downloads,
        prepare: Callable[[PieceKind, str], None],
    ) -> None:
        self._config = config
        self._reactor = reactor
        self._store = store
        self._downloads = downloads
        self._prepare = prepare
        self._has_looked = False
        self._membership: Membership | None = None
        self._announced: set[tuple[PieceKind, str]] = set()
        self._has_changed = True
        self._unsubscribe: Callable[[], None] | None = None
        self._looking = LoopingCall(self._look)
        self._looking.clock = IReactorTime(reactor)

    def start(self, port: int) -> None:
        """
        Announce this host, and its tasks from then on. Blocks for as long as files of the configuration take to be
        read.

        :param port: where the gRPC door listens.
        :raises ConfigError: the file with the schedulers cannot be used.
        :raises CertificateUnusable: a file for TLS cannot be used.
        """
        from dragonfly_vortex.cluster.membership import Membership

        membership = Membership(self._config, cast("IMemberReactor", self._reactor), port)
        membership.start().addErrback(lambda failure: _log.failure("schedulers cannot be asked", failure))
        self._membership = self._downloads.membership = membership
        self._unsubscribe = self._store.subscribe(self._changed)
        self._looking.start(_INTERVAL)

    @property
    def is_registered(self) -> bool:
        """Whether a scheduler serves, and knows this host."""
        return self._membership is not None and bool(self._membership.serving)

    def stop(self) -> Deferred[None]:
        """Leave the cluster."""
        membership, self._membership = self._membership, None
        self._downloads.membership = None
        if self._looking.running:
            self._looking.stop()
        if self._unsubscribe is not None:
            self._unsubscribe()
        return succeed(None) if membership is None else membership.stop()

    def _changed(self) -> None:
        """Have the next look find what has changed in the storage."""
        self._has_changed = True

    async def _find(self) -> None:
        """Announce tasks that have become complete, and withdraw those that have gone."""
        there: set[tuple[PieceKind, str]] = set()
        for kind in _KINDS:
            for task in await self._store.list_tasks(kind):
                there.add((kind, task.task_id))
                if (kind, task.task_id) in self._announced or task.content_length is None:
                    continue
                pieces = await self._store.get_pieces(kind, task.task_id)
                if is_complete(task, pieces) and self._membership is not None:
                    self._announced.add((kind, task.task_id))
                    if self._has_looked:
                        self._prepare(kind, task.task_id)
                    self._membership.announce_stored(task)
        self._has_looked = True
        for key in self._announced - there:
            self._announced.discard(key)
            if self._membership is not None:
                self._membership.forget_stored(*key)

    def _look(self) -> Deferred[None] | None:
        """Look at the storage if it has changed."""
        if not self._has_changed:
            return None
        self._has_changed = False

        def cannot(failure: Failure) -> None:
            """Log why a look failed, and have the next one try again."""
            self._has_changed = True
            if not failure.check(StorageError):
                _log.failure("tasks cannot be announced now", failure)

        return Deferred.fromCoroutine(self._find()).addErrback(cannot)


class Advertiser:
    """
    Advertises a peer's door in the local network as soon as that serves: the first one that announces pieces, or
    else the first one.

    :param config: the peer's configuration.
    :param reactor: what the peer runs on.
    :param port_of: the port of a transport's door; None while that does not listen.
    """

    def __init__(self, config: Config, reactor: IPeerReactor, port_of: Callable[[str], int | None]) -> None:
        self._config = config
        self._reactor = reactor
        self._port_of = port_of
        self._advertisement: Advertisement | None = None

    def start(self, starting: Mapping[str, Deferred[None]]) -> None:
        """
        Wait for the door.

        :param starting: the doors, each with a Deferred that fires when it serves.
        """
        transports = [each for each in transports_named(BEST) if each.name in starting and each.port_key]
        advertised = next((each for each in transports if each.announcers), transports[0] if transports else None)
        if advertised is not None:
            starting[advertised.name].addCallback(lambda _: self._advertise(advertised))

    def stop(self) -> Deferred[None]:
        """Withdraw the advertisement."""
        return succeed(None) if self._advertisement is None else self._advertisement.stop()

    def _advertise(self, transport: Transport) -> None:
        port, discovery = self._port_of(transport.name), self._config.discovery
        if port is None:
            return  # it has been stopped since
        self._advertisement = Advertisement(
            partial(deferToThreadPool, self._reactor, self._reactor.getThreadPool()),
            interface=discovery.ip,
            name=f"{self._config.host.hostname[:50]}-{port}",
            addresses=address_to_advertise(
                value_at(self._config, transport.ip_key), discovery.ip, self._config.host.ip
            ),
            scheme=transport.schemes[server_tls(self._config) is not None],
            port=port,
        )
        where = f"{transport.label} port {port}"
        self._advertisement.start().addCallbacks(
            lambda _: _log.info("advertised on the local network: {where}", where=where),
            lambda failure: _log.error(
                "the peer is not advertised on the local network: {reason}", reason=failure.getErrorMessage()
            ),
        )
