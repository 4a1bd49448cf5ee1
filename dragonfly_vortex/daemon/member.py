"""A peer that is a member of a cluster: it announces the tasks of its storage to schedulers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from dragonfly_vortex.config import Config
from dragonfly_vortex.daemon.door import IPeerReactor
from dragonfly_vortex.daemon.downloads import Downloads, is_complete
from dragonfly_vortex.errors import StorageError
from dragonfly_vortex.storage.reactor.store import PieceStore
from dragonfly_vortex.wire import PieceKind

if TYPE_CHECKING:
    from dragonfly_vortex.cluster.membership import IMemberReactor, Membership

__all__ = ["Member"]

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

    _log = Logger()

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
        membership.start().addErrback(lambda failure: self._log.failure("schedulers cannot be asked", failure))
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
        """Something in the storage has changed."""
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
            """The next look may succeed."""
            self._has_changed = True
            if not failure.check(StorageError):
                self._log.failure("tasks cannot be announced now", failure)

        return Deferred.fromCoroutine(self._find()).addErrback(cannot)
